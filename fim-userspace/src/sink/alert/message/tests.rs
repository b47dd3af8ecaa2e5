use super::*;
use crate::core::entry::FileType;
use crate::core::event::{Event, EventKind, Response, State, Verdict};
use crate::core::policy::Severity;
use crate::sink::tests::attributed;

fn state(digit: &str, time: &str) -> State {
    State {
        kind: FileType::Regular,
        sha256: Some(digit.repeat(64)),
        size: 1_234,
        mode: "0644".into(),
        uid: 0,
        gid: 7,
        mtime: Some(time.into()),
        target: None,
        flags: None,
    }
}

fn record() -> Record {
    let mut record = attributed();
    record.event.host = "web1".into();
    record.event.set_path(b"/etc/hosts");
    record.event.before = Some(state("a", "2026-11-20T10:02:00.000000Z"));
    record.event.after = Some(state("b", "2026-11-22T01:02:03.000000Z"));
    record
}

fn message(record: &Record) -> Message {
    Message::pending(
        "sms",
        Digest::new(record),
        Names::known([(1000, "ann".to_owned()), (1002, "bob".to_owned())]),
    )
}

#[test]
fn a_change_fits_into_one_short_message() {
    let text = sms::text(&message(&record()));
    assert_eq!(
        text,
        "fim web1: HIGH modified /etc/hosts by bob /usr/bin/dash, restored in 1.2 ms. Was aaaaaaaa 11-20 10:02. \
         Is bbbbbbbb 11-22 01:02. abababab fim show 42"
    );
    assert_eq!(gsm::segments(&text), 1, "{} characters", text.len());
}

#[test]
fn long_names_cost_as_few_messages_as_can_be() {
    let mut long = record();
    long.event.set_path(format!("/srv/{}/hosts", "deep/".repeat(40)).as_bytes());
    long.event.error = Some("no room ".repeat(50));
    let text = sms::text(&message(&long));
    assert!(gsm::segments(&text) <= 2, "{text}");
    assert!(text.contains("/srv/deep") && text.contains("hosts") && text.ends_with("fim show 42"), "{text}");
}

#[test]
fn foreign_letters_are_spelt_where_that_is_shorter() {
    let mut one = record();
    one.event.set_path("/etc/ж".as_bytes());
    let text = sms::text(&message(&one));
    assert!(text.contains("/etc/\\u{436} by"), "one letter is spelt: {text}");
    assert_eq!(gsm::segments(&text), 1, "{text}");
    let mut all = record();
    all.event.set_path("/srv/документы/зарплата".as_bytes());
    let text = sms::text(&message(&all));
    let spelt = escape::gsm(&Plain::new(&text));
    assert!(gsm::segments(&text) <= gsm::segments(spelt.as_str()), "{text}");
    let german = Plain::new("/etc/größe");
    assert_eq!(escape::gsm(&german), german, "the alphabet has umlauts");
}

#[test]
fn ten_thousand_records_are_one_or_two_short_messages() {
    let mut digest = Digest::new(&record());
    for n in 0..10_000 {
        let mut next = record();
        (next.seq, next.event.time) = (43 + n, "2026-11-22T02:03:04.000000Z".into());
        next.event.set_path(format!("/etc/f{}", n % 40).as_bytes());
        digest.add(&next);
    }
    let message = Message::pending("sms", digest, Names::known([(1002, "bob".to_owned())]));
    let text = sms::text(&message);
    assert!(
        text.starts_with(
            "fim web1: 10,001 records 01-01 00:00-11-22 02:03, 10,001 modified; 10,001 restored."
        ),
        "{text}"
    );
    assert!(text.contains("250x /etc/f0") && text.contains("by bob /usr/bin/dash 10,001x"), "{text}");
    assert!(gsm::segments(&text) <= 2, "{text}");
    assert_eq!(
        (message.count(), message.id.as_str()),
        (10_001, format!("{}-10042", "ab".repeat(16)).as_str())
    );
}

#[test]
fn a_record_about_fim_is_its_sentence() {
    let event = Event::about_fim(
        EventKind::Started,
        "web1",
        "lsm",
        0,
        "watching /etc (1234 entries) in the lsm tier".into(),
    );
    let text = sms::text(&message(&Record { seq: 9, id: "cd".repeat(16), event }));
    assert_eq!(text, "fim web1: started: watching /etc (1234 entries) in the lsm tier. cdcdcdcd fim show 9");
}

#[test]
fn a_card_tells_all_that_is_known() {
    let mut record = record();
    record.event.verdict = Some(Verdict::Unauthorised);
    record.event.response = Response::Restored;
    record.event.severity = Severity::Critical;
    if let Some(actor) = &mut record.event.actor {
        actor.tty = Some("pts/3".into());
        actor.ancestors = vec![crate::core::actor::Ancestor {
            pid: 99,
            start_ns: None,
            uid: Some(1000),
            comm: Some("sshd".into()),
            exe: None,
            ..crate::core::actor::Ancestor::default()
        }];
    }
    let card = card::Card::of(&message(&record));
    let fact =
        |name: &str| card.facts.iter().find(|(what, _)| *what == name).map(|(_, value)| value.to_string());
    assert_eq!(fact("host").as_deref(), Some("web1"));
    assert_eq!(fact("path").as_deref(), Some("/etc/hosts"));
    let expected = format!(
        "file of 1,234 bytes, mode 0644, owner 0:7, modified 2026-11-20T10:02:00.000000Z, sha256 {}",
        "a".repeat(64)
    );
    assert_eq!(fact("expected"), Some(expected));
    assert!(fact("present").is_some_and(|text| text.ends_with(&"b".repeat(64))));
    assert_eq!(fact("who").as_deref(), Some("ann (1000), logged in as bob (1002), /usr/bin/dash, pid 123"));
    assert_eq!(
        (fact("from").as_deref(), fact("parent").as_deref()),
        (Some("terminal pts/3"), Some("sshd, pid 99"))
    );
    assert_eq!(fact("done").as_deref(), Some("restored in 1.2 ms"));
    assert_eq!((fact("event"), fact("more").as_deref()), (Some("ab".repeat(16)), Some("fim show 42")));
    assert_eq!(card.title(100).as_str(), "web1: modified /etc/hosts");
}
