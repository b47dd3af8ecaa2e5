//! PagerDuty, Events API v2: <https://developer.pagerduty.com/docs/send-alert-event>.

use serde_json::{Map, Value, json};

use crate::core::policy::Severity;
use crate::sink::alert::message::card::Card;

/// Characters; PagerDuty takes 1,024.
const SUMMARY: usize = 1_000;

pub fn body(card: &Card, routing_key: &str) -> Value {
    let severity = match card.severity {
        Severity::Critical => "critical",
        Severity::High => "error",
        Severity::Medium => "warning",
        Severity::Low => "info",
    };
    // Names come more than once in a digest.
    let mut details = Map::new();
    for (what, value) in &card.facts {
        let entry = details.entry(*what).or_insert_with(|| json!([]));
        if let Value::Array(values) = entry {
            values.push(json!(value.as_str()));
        }
    }
    for value in details.values_mut() {
        if let Value::Array(values) = value
            && values.len() == 1
        {
            *value = values.remove(0);
        }
    }
    json!({
        "routing_key": routing_key,
        "event_action": "trigger",
        // A repeated message changes nothing.
        "dedup_key": card.id,
        "client": "fim",
        "payload": {
            "summary": card.title(SUMMARY).as_str(),
            "source": card.host.as_str(),
            "severity": severity,
            "timestamp": card.time,
            "component": "fim",
            "custom_details": details,
        },
    })
}
