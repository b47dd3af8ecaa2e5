//! Slack, incoming webhooks: <https://docs.slack.dev/reference/block-kit/blocks>. Every text is `plain_text`, in which
//! nothing is markup.

use serde_json::{Value, json};

use crate::sink::alert::message::card::Card;
use crate::sink::alert::message::escape::{Plain, slack};

/// Characters of a header, of a field, fields of a section, sections: Slack's limits are 150, 2,000, 10 and 50. An escaped
/// character counts up to five.
const TITLE: usize = 140;
const FIELD: usize = 390;
const FIELDS: usize = 10;
const SECTIONS: usize = 5;

pub fn body(card: &Card) -> Value {
    let text = |text: &str| json!({ "type": "plain_text", "text": text, "emoji": false });
    // What a character becomes may make a header too long, so that it is shortened until it fits.
    let mut title = card.title(TITLE);
    while slack(&title).chars().count() > TITLE {
        title = title.clip(title.as_str().chars().count().saturating_sub(10));
    }
    let mut blocks = vec![json!({ "type": "header", "text": text(&slack(&title)) })];
    for facts in card.facts.chunks(FIELDS).take(SECTIONS) {
        let field = |(what, value): &(&str, Plain)| text(&format!("{what}: {}", slack(&value.clip(FIELD))));
        blocks.push(json!({ "type": "section", "fields": facts.iter().map(field).collect::<Vec<_>>() }));
    }
    // The text of the notification.
    json!({ "text": slack(&card.title(TITLE)), "mrkdwn": false, "blocks": blocks })
}
