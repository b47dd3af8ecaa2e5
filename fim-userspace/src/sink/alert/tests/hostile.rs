//! Whatever a file, a program or a user is called: no output gets a line, a header, markup or a control sequence of it.

use proptest::prelude::*;

use super::super::forms::body;
use super::super::message::card::Card;
use super::super::message::escape::{Plain, discord, slack};
use super::super::message::mail::mail;
use super::super::message::{Names, sms};
use super::forms::{many, single};
use super::*;
use crate::core::digest::Digest;
use crate::core::event::{Event, Record};
use crate::sink::tests::attributed;
use crate::sink::tests::hostile::{is_breaking, is_harmful, named, names};

fn record(name: &[u8], other: &str) -> Record {
    let mut record = attributed();
    record.event.set_path(&[b"/etc/", name].concat());
    record.event.old_path = Some(crate::core::path::escape(name));
    // What a careless place let through unescaped must still be caught here.
    record.event.error = Some(other.into());
    record.event.host = other.into();
    if let Some(actor) = &mut record.event.actor {
        (actor.exe, actor.tty, actor.container) =
            (Some(other.into()), Some(other.into()), Some(other.into()));
    }
    record
}

fn messages(name: &[u8]) -> Vec<Message> {
    let other = String::from_utf8_lossy(name).into_owned();
    let record = record(name, &other);
    let mut about = Event::about_fim(EventKind::Trouble, &other, "lsm", 0, other.clone());
    about.severity = Severity::Critical;
    let about = Record { seq: 7, id: "cd".repeat(16), event: about };
    let users = Names::known([(1000, other.clone()), (1002, other)]);
    let own = Message::pending("chat", Digest::new(&record), users);
    vec![own, single(&record), many(&record), single(&about)]
}

fn texts(value: &serde_json::Value, out: &mut Vec<String>) {
    match value {
        serde_json::Value::String(text) => out.push(text.clone()),
        serde_json::Value::Array(list) => list.iter().for_each(|value| texts(value, out)),
        serde_json::Value::Object(map) => map.values().for_each(|value| texts(value, out)),
        _ => {}
    }
}

/// `text` without what a backslash takes the meaning of.
fn unescaped(text: &str) -> String {
    let mut chars = text.chars();
    let mut rest = String::new();
    while let Some(c) = chars.next() {
        if c == '\\' {
            assert!(chars.next().is_some_and(|c| c.is_ascii_punctuation()), "a backslash alone in {text:?}");
        } else {
            rest.push(c);
        }
    }
    rest
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_short_message_is_one_line(name in names()) {
        for message in messages(&name) {
            let text = sms::text(&message);
            prop_assert!(!text.chars().any(is_harmful), "{text:?}");
            prop_assert!(text.chars().count() <= 1_600);
            prop_assert!(text.starts_with("fim "));
        }
    }

    #[test]
    fn a_mail_has_our_headers_and_lines_and_no_others(name in names()) {
        for message in messages(&name) {
            let card = Card::of(&message);
            let mail = mail(&card);
            prop_assert!(!mail.subject.chars().any(is_harmful), "{:?}", mail.subject);
            prop_assert_eq!(mail.text.lines().count(), card.facts.len() + 2);
            prop_assert!(!mail.text.replace('\n', "").chars().any(is_harmful), "{:?}", mail.text);
            // Our markup, counted; a name can neither open nor close any of it.
            let count = |what: &str| mail.html.matches(what).count();
            prop_assert_eq!((count("<tr>"), count("<td "), count("</td>")), (card.facts.len(), card.facts.len(), card.facts.len()));
            let tags = 2 * (4 + 4 + 3 * card.facts.len());
            prop_assert!(count("<") <= tags, "{}", mail.html);
            prop_assert_eq!((count("<script"), count("<img"), count("onerror=\"")), (0, 0, 0));
            prop_assert!(!mail.html.chars().any(is_harmful), "{}", mail.html);
        }
    }

    #[test]
    fn the_letter_on_the_wire_has_no_header_of_theirs(name in names()) {
        for message in messages(&name) {
            let letter = super::smtp::letter(&message);
            let head = letter.split("\r\n\r\n").next().expect("a head").to_owned();
            let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
            let names: Vec<&str> = unfolded.split("\r\n").filter_map(|line| Some(line.split_once(':')?.0)).collect();
            let known = ["From", "To", "Subject", "Message-ID", "Auto-Submitted", "X-Fim-Event-Id", "MIME-Version", "Date", "Content-Type"];
            prop_assert_eq!(names.len(), unfolded.split("\r\n").count(), "{}", head);
            prop_assert!(names.iter().all(|name| known.contains(name)), "{}", head);
            prop_assert!(names.iter().filter(|name| **name == "Subject").count() == 1);
            prop_assert!(letter.is_ascii() && !letter.replace("\r\n", "").chars().any(char::is_control), "{letter:?}");
        }
    }

    #[test]
    fn no_form_of_a_webhook_is_broken_by_a_name(name in names()) {
        let formats = [WebhookFormat::Slack, WebhookFormat::Teams, WebhookFormat::Discord, WebhookFormat::Pagerduty];
        for (message, format) in messages(&name).iter().flat_map(|m| formats.map(|f| (m, f))) {
            let mut all = Vec::new();
            texts(&body(format, message, Some(&Secret::new("k"))), &mut all);
            for text in &all {
                prop_assert!(!text.chars().any(is_harmful), "{format:?}: {text:?}");
                if format == WebhookFormat::Slack {
                    prop_assert!(!text.contains(['<', '>']), "{text:?}");
                }
            }
        }
    }

    #[test]
    fn a_program_gets_one_line_of_json_and_nothing_that_a_terminal_obeys(name in names()) {
        for message in [single(&named(&name)), many(&named(&name))] {
            let text = body(WebhookFormat::Json, &message, None).to_string();
            prop_assert!(!text.chars().any(is_breaking), "{text:?}");
            let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
            prop_assert!(read.is_object());
        }
    }

    #[test]
    fn nothing_is_markup_in_its_own_notation(name in names()) {
        let plain = Plain::new(&String::from_utf8_lossy(&name));
        let marked = slack(&plain);
        prop_assert_eq!(marked.replace("&lt;", "<").replace("&gt;", ">").replace("&amp;", "&"), plain.as_str());
        prop_assert!(!unescaped(&discord(&plain)).contains(['*', '_', '~', '`', '|', '[', ']', '(', ')', '<', '>', '#', '@', ':', '-', '\\']));
        for most in [10, 40, 100] {
            prop_assert!(plain.clip(most).as_str().chars().count() <= most);
        }
    }

    #[test]
    fn an_answer_cannot_reach_the_terminal(name in names()) {
        let answer = crate::sink::line::printable(&String::from_utf8_lossy(&name));
        prop_assert!(!answer.chars().any(|c| c.is_control()), "{answer:?}");
    }
}
