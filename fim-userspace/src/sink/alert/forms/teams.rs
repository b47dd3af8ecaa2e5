//! Microsoft Teams, the "webhook request is received" trigger of Workflows: an adaptive card. Its text runs know no markup
//! (<https://adaptivecards.io/explorer/RichTextBlock.html>), while text blocks and facts read markdown.

use serde_json::{Value, json};

use crate::core::policy::Severity;
use crate::sink::alert::message::card::Card;

/// Characters of a value: a message may have 28 KiB.
const VALUE: usize = 600;

pub fn body(card: &Card) -> Value {
    let line = |runs: Value| json!({ "type": "RichTextBlock", "inlines": runs });
    let color = match card.severity {
        Severity::Critical | Severity::High => "attention",
        Severity::Medium => "warning",
        Severity::Low => "default",
    };
    let title = card.title(VALUE);
    let mut rows = vec![line(
        json!([{ "type": "TextRun", "text": title.as_str(), "weight": "bolder", "size": "medium", "color": color }]),
    )];
    for (what, value) in &card.facts {
        rows.push(line(json!([
            { "type": "TextRun", "text": format!("{what}: "), "weight": "bolder" },
            { "type": "TextRun", "text": value.clip(VALUE).as_str() },
        ])));
    }
    let card = json!({
        "$schema": "http://adaptivecards.io/schemas/adaptive-card.json",
        "type": "AdaptiveCard",
        "version": "1.2",
        "body": rows,
    });
    json!({
        "type": "message",
        "attachments": [{ "contentType": "application/vnd.microsoft.card.adaptive", "contentUrl": null, "content": card }],
    })
}
