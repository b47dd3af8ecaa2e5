//! What chat services and pagers get.

use serde_json::{Value, json};

use super::super::forms::body;
use super::super::message::Names;
use super::*;
use crate::core::digest::Digest;
use crate::core::event::Record;
use crate::sink::tests::attributed;

pub fn single(record: &Record) -> Message {
    let names = Names::known([(1000, "ann".to_owned())]);
    Message::pending("chat", Digest::new(record), names)
}

pub fn many(record: &Record) -> Message {
    let mut digest = Digest::new(record);
    for seq in 0..20 {
        let mut next = record.clone();
        next.seq += seq;
        digest.add(&next);
    }
    Message::pending("chat", digest, Names::known([(1000, "ann".to_owned())]))
}

fn form(format: WebhookFormat, message: &Message) -> Value {
    body(format, message, Some(&Secret::new("r0uting")))
}

#[test]
fn slack_gets_blocks_of_plain_text() {
    let made = form(WebhookFormat::Slack, &single(&attributed()));
    assert_eq!(made["text"], "host: modified /etc/a\\x0ab");
    assert_eq!(made["blocks"][0]["type"], "header");
    let fields = made["blocks"][1]["fields"].as_array().expect("fields");
    assert!(fields.iter().all(|field| field["type"] == "plain_text"));
    assert!(
        fields.contains(&json!({ "type": "plain_text", "text": "path: /etc/a\\x0ab", "emoji": false })),
        "{fields:?}"
    );
    let long = Record {
        event: crate::core::event::Event { path: Some("<&>".repeat(2_000)), ..attributed().event },
        ..attributed()
    };
    let made = form(WebhookFormat::Slack, &single(&long));
    let blocks = made["blocks"].as_array().expect("blocks");
    assert!(blocks[0]["text"]["text"].as_str().expect("text").chars().count() <= 150);
    for field in blocks[1..].iter().flat_map(|block| block["fields"].as_array().expect("fields")) {
        assert!(field["text"].as_str().expect("text").chars().count() <= 2_000);
    }
    assert!(blocks[1..].iter().all(|block| block["fields"].as_array().expect("fields").len() <= 10));
}

#[test]
fn teams_gets_text_runs_which_know_no_markup() {
    let made = form(WebhookFormat::Teams, &many(&attributed()));
    let card = &made["attachments"][0]["content"];
    assert_eq!((&card["type"], &made["type"]), (&json!("AdaptiveCard"), &json!("message")));
    let rows = card["body"].as_array().expect("rows");
    assert!(rows.iter().all(|row| row["type"] == "RichTextBlock"), "{rows:?}");
    let texts = serde_json::to_string(rows).expect("JSON");
    assert!(texts.contains("21 records: 21 modified") && texts.contains("21x /etc/a\\\\x0ab"), "{texts}");
}

#[test]
fn discord_gets_an_embed_within_its_limits_that_mentions_nobody() {
    let made = form(WebhookFormat::Discord, &single(&attributed()));
    assert_eq!(made["allowed_mentions"], json!({ "parse": [] }));
    let embed = &made["embeds"][0];
    assert_eq!(embed["title"], "host\\: modified /etc/a\\\\x0ab");
    let long = Record {
        event: crate::core::event::Event { path: Some("_*".repeat(2_000)), ..attributed().event },
        ..attributed()
    };
    let made = form(WebhookFormat::Discord, &single(&long));
    let fields = made["embeds"][0]["fields"].as_array().expect("fields");
    let text = |value: &Value| value.as_str().expect("text").chars().count();
    assert!(
        fields.len() > 10
            && fields.iter().all(|field| text(&field["value"]) <= 1_024 && text(&field["value"]) > 0)
    );
    let all: usize = fields.iter().map(|field| text(&field["name"]) + text(&field["value"])).sum();
    assert!(all + text(&made["embeds"][0]["title"]) <= 6_000, "{all}");
}

#[test]
fn pagerduty_gets_an_event_that_a_repetition_does_not_double() {
    let record = attributed();
    let made = form(WebhookFormat::Pagerduty, &single(&record));
    assert_eq!((&made["routing_key"], &made["event_action"]), (&json!("r0uting"), &json!("trigger")));
    assert_eq!(made["dedup_key"], record.id.as_str());
    let payload = &made["payload"];
    assert_eq!(payload["summary"], "host: modified /etc/a\\x0ab");
    assert_eq!((&payload["severity"], &payload["source"]), (&json!("error"), &json!("host")));
    let who = payload["custom_details"]["who"].as_str().expect("text");
    assert!(who.contains("ann (1000)") && who.contains("/usr/bin/dash"), "{who}");
    assert_eq!(payload["custom_details"]["more"], "fim show 42");
}

#[test]
fn programs_get_the_record_itself() {
    let record = attributed();
    assert_eq!(form(WebhookFormat::Json, &single(&record)), json!(record));
    let digest = form(WebhookFormat::Json, &many(&record));
    assert_eq!((&digest["kind"], &digest["count"]), (&json!("digest"), &json!(21)));
    assert_eq!(digest["paths"], json!([{ "path": "/etc/a\\x0ab", "count": 21 }]));
    assert_eq!(digest["gravest"]["id"], record.id.as_str());
}

#[tokio::test]
async fn pagerdutys_key_is_no_signature_and_nobody_elses_stands_in_the_body() {
    for format in [WebhookFormat::Pagerduty, WebhookFormat::Slack] {
        let server = server::Server::start(&[]).await;
        webhook(&server, format).send(&single(&attributed())).await.expect("sent");
        let seen = server.seen();
        let pages = format == WebhookFormat::Pagerduty;
        assert_eq!(seen[0].header("X-Fim-Signature").is_none(), pages);
        let body: Value = serde_json::from_slice(&seen[0].body).expect("JSON");
        assert_eq!(body["routing_key"].is_string(), pages);
        assert_eq!(seen[0].header("X-Fim-Event-Id"), Some(attributed().id.as_str()));
    }
}
