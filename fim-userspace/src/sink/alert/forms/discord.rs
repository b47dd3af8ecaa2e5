//! Discord: <https://discord.com/developers/docs/resources/webhook#execute-webhook>.

use serde_json::{Value, json};

use crate::core::policy::Severity;
use crate::sink::alert::message::card::Card;
use crate::sink::alert::message::escape::discord;

/// Characters before escaping, which doubles them at most; Discord takes 256 of a title.
const TITLE: usize = 120;
/// Of a value, from generous to mean: Discord takes 1,024 each, 25 fields, and 6,000 in all.
const VALUES: [usize; 4] = [500, 250, 160, 100];
const FIELDS: usize = 25;
const ALL: usize = 5_700;

pub fn body(card: &Card) -> Value {
    let color = match card.severity {
        Severity::Critical => 0x00b0_0020,
        Severity::High => 0x00e0_5d00,
        Severity::Medium => 0x00e0_b000,
        Severity::Low => 0x0060_7d8b,
    };
    let fields = |most: usize| -> Vec<(&str, String)> {
        card.facts.iter().take(FIELDS).map(|(what, value)| (*what, discord(&value.clip(most)))).collect()
    };
    let size = |fields: &[(&str, String)]| -> usize {
        fields.iter().map(|(what, value)| what.len() + value.chars().count()).sum()
    };
    let fits = VALUES.into_iter().map(fields).find(|fields| size(fields) <= ALL);
    let fields: Vec<Value> = fits
        .unwrap_or_default()
        .iter()
        .map(|(what, value)| json!({ "name": what, "value": value, "inline": false }))
        .collect();
    json!({
        "embeds": [{ "title": discord(&card.title(TITLE)), "color": color, "timestamp": card.time, "fields": fields }],
        // No name of a file calls anybody.
        "allowed_mentions": { "parse": [] },
    })
}
