use std::collections::{BTreeMap, BTreeSet};
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::time::Duration;

use regex::Regex;

use super::table::{ALL, Kind};
use super::*;
use crate::config::Config;
use crate::core::event::{Event, EventKind, Latency, Response, Verdict};
use crate::store::SinkState;
use crate::store::status::{AttachedHook, HookCounters, Status, WatchStatus};

const TIME: &str = "2026-11-22T01:02:03.500000Z";

/// Every metric has something to say.
fn facts() -> Facts {
    let watch = WatchStatus {
        path: "/etc".into(),
        files: 1_185,
        coverage: String::new(),
        last_scan: Some(TIME.into()),
    };
    let hook = AttachedHook { hook: "file_open".into(), state: "attached".into(), reason: None };
    let unused = AttachedHook { hook: "fork".into(), state: "unused".into(), reason: None };
    let absent = AttachedHook { hook: "unlink".into(), state: "absent".into(), reason: None };
    let status = Status {
        started: TIME.into(),
        ready: true,
        tier: "fentry".into(),
        attach: vec![hook, unused, absent],
        counters: ["file_open", "fork"]
            .map(|hook| (hook.into(), HookCounters { seen: 11, kept: 7, dropped: 3, skipped: 2 }))
            .into(),
        watches: vec![watch],
        ledger_head: 42,
        ledger_sealed: Some(TIME.into()),
        vault_bytes: 8_192,
        vault_trouble: vec!["it is full".into()],
        waiting: 5,
        unwritten: 6,
        open_changes: 9,
        self_test_passed: Some(TIME.into()),
        self_test_trouble: Some("blind".into()),
        ..Status::default()
    };
    let sink = SinkState {
        name: "soc".into(),
        cursor: 40,
        last_success: Some(TIME.into()),
        error: Some("refused".into()),
        parked: 4,
        ..SinkState::default()
    };
    Facts { status, sinks: vec![("soc".into(), sink)], ledger_rows: 30, vault_room: Some(4_096) }
}

fn metrics() -> Arc<Metrics> {
    let metrics = Metrics::new().expect("a sound table");
    metrics.attach(Box::new(facts));
    metrics
}

fn event(kind: EventKind, verdict: Option<Verdict>, response: Response, latency_us: Latency) -> Record {
    let mut event = Event::about_fim(kind, "h", "lsm", 0, String::new());
    (event.verdict, event.response, event.latency_us) = (verdict, response, latency_us);
    Record { seq: 1, id: String::new(), event }
}

fn text(metrics: &Metrics) -> String {
    metrics.page().expect("something to say").text().expect("text")
}

#[test]
fn the_page_is_what_the_table_says_and_nothing_else() {
    let text = text(&metrics());
    let told = |word: &str| -> BTreeMap<String, String> {
        let lines = text.lines().filter_map(|line| line.strip_prefix(word)?.split_once(' '));
        lines.map(|(name, rest)| (name.to_owned(), rest.to_owned())).collect()
    };
    let (help, kinds) = (told("# HELP "), told("# TYPE "));
    assert_eq!(kinds.len(), ALL.len(), "{text}");
    let label = Regex::new(r#"(\w+)="[^"]*""#).expect("an expression");
    for metric in ALL {
        assert_eq!(help.get(metric.name).map(String::as_str), Some(metric.help), "{text}");
        assert_eq!(kinds.get(metric.name).map(String::as_str), Some(metric.kind.as_str()), "{}", metric.name);
        let sample =
            Regex::new(&format!(r"(?m)^{}(?:_bucket|_sum|_count)?(?:\{{(.*)\}})? \S+$", metric.name));
        let sample = sample.expect("an expression");
        let mut samples = 0;
        for found in sample.captures_iter(&text) {
            let labels = found.get(1).map_or("", |labels| labels.as_str());
            let names: BTreeSet<&str> = label
                .captures_iter(labels)
                .filter_map(|c| c.get(1).map(|name| name.as_str()))
                .filter(|name| *name != "le")
                .collect();
            assert_eq!(names, metric.labels.iter().copied().collect(), "{}", metric.name);
            samples += 1;
        }
        assert!(samples > 0, "{} has no sample: {text}", metric.name);
    }
    for line in [
        "fim_tier_info{tier=\"fentry\"} 1",
        "fim_start_time_seconds 1795309323.5",
        "fim_hook_drops_total{hook=\"file_open\"} 3",
        "fim_hook_attached{hook=\"unlink\"} 0",
        "fim_watch_files{watch=\"1\"} 1185",
        "fim_self_test_success 0",
        "fim_queue_length{queue=\"records\"} 6",
        "fim_sink_lag_records{sink=\"soc\"} 2",
        "fim_sink_refused_records_total{sink=\"soc\"} 4",
        "fim_vault_room_bytes 4096",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in {text}");
    }
    assert!(!text.contains("/etc") && !text.contains("\"fork\""), "{text}");
}

#[test]
fn names_are_as_prometheus_wants_them_and_helps_are_sentences() {
    for metric in ALL {
        assert!(metric.name.starts_with("fim_"), "{}", metric.name);
        assert_eq!(metric.name.ends_with("_total"), metric.kind == Kind::Counter, "{}", metric.name);
        if metric.kind == Kind::Histogram {
            assert!(metric.name.ends_with("_seconds"), "{}", metric.name);
        }
        let begins = metric.help.chars().next().is_some_and(char::is_uppercase);
        assert!(begins && metric.help.ends_with('.') && !metric.help.contains('|'), "{}", metric.help);
        let bounded =
            ["kind", "verdict", "outcome", "hook", "sink", "watch", "queue", "tier", "version", "arch"];
        assert!(metric.labels.iter().all(|label| bounded.contains(label)), "{}", metric.name);
    }
}

#[test]
fn records_are_counted_by_what_they_are() {
    let metrics = metrics();
    let unauthorised = Some(Verdict::Unauthorised);
    let latency = Latency { detected: Some(400), restored: Some(1_700), done_ns: Some(5_000_000) };
    let restored = event(EventKind::Modified, unauthorised, Response::Restored, latency);
    let scanned = event(EventKind::Deleted, unauthorised, Response::Failed, Latency::default());
    let trusted = event(EventKind::Created, Some(Verdict::Authorised), Response::None, Latency::default());
    let gap = event(EventKind::CoverageGap, None, Response::None, Latency::default());
    metrics.recorded(&[restored.clone(), restored, scanned, trusted, gap], 25_000_000);
    let text = text(&metrics);
    for line in [
        "fim_events_total{kind=\"modified\",verdict=\"unauthorised\"} 2",
        "fim_events_total{kind=\"created\",verdict=\"authorised\"} 1",
        "fim_events_total{kind=\"created\",verdict=\"unauthorised\"} 0",
        "fim_events_total{kind=\"coverage_gap\",verdict=\"none\"} 1",
        "fim_responses_total{kind=\"modified\",outcome=\"restored\"} 2",
        "fim_responses_total{kind=\"deleted\",outcome=\"failed\"} 1",
        "fim_responses_total{kind=\"created\",outcome=\"quarantined\"} 0",
        "fim_coverage_gaps_total 1",
        "fim_detection_seconds_bucket{le=\"0.0005\"} 2",
        "fim_restore_seconds_bucket{le=\"0.001\"} 0",
        "fim_restore_seconds_bucket{le=\"0.0025\"} 2",
        "fim_record_seconds_sum 0.04",
        "fim_record_seconds_count 2",
    ] {
        assert!(text.lines().any(|told| told == line), "{line} in {text}");
    }
}

#[test]
fn json_has_every_sample_as_an_object_of_its_own() {
    let metrics = metrics();
    let text = text(&metrics);
    let json = metrics.page().expect("something to say").json();
    let objects: Vec<serde_json::Value> =
        json.lines().map(|line| serde_json::from_str(line).expect("an object")).collect();
    let plain = text.lines().filter(|line| !line.starts_with('#') && !line.contains("_bucket{"));
    let plain = plain.filter(|line| !line.contains("_sum ")).count();
    assert_eq!(objects.len(), plain);
    let drops = objects.iter().find(|o| o["name"] == "fim_hook_drops_total").expect("there");
    assert_eq!((&drops["labels"]["hook"], drops["value"].as_f64()), (&"file_open".into(), Some(3.0)));
}

#[test]
fn between_two_sessions_the_last_state_is_told_and_before_the_first_a_sentence() {
    let metrics = Metrics::new().expect("a sound table");
    assert!(metrics.page().is_err_and(|sentence| sentence.contains("starting")));
    metrics.attach(Box::new(facts));
    assert!(text(&metrics).contains("fim_ready 1"));
    metrics.detach();
    assert!(text(&metrics).contains("fim_ready 1"));
}

#[test]
fn the_label_of_a_sink_tells_neither_a_path_nor_a_receiver() {
    let text = "[[watch]]\npath = \"/etc\"\n[[log]]\ntype = \"file\"\npath = \"/var/log/fim.log\"\n\
        [[log]]\nname = \"archive\"\ntype = \"syslog\"\naddress = \"udp://10.1.2.3:514\"\n\
        [[alert]]\nname = \"m\"\ntype = \"email\"\nsmtp = \"smtps://h\"\nfrom = \"f@h\"\nto = [\"a@h\", \"b@h\"]\n";
    let config = Config::parse(Path::new("fim.toml"), text).expect("valid");
    let names = ["journald", "gone", "m:a@h", "m:a@h:critical", "m:b@h", "log:/var/log/fim.log", "archive"];
    let states = names.map(|name| SinkState { name: name.into(), ..SinkState::default() }).into();
    let labels = sink_labels(states, &config.alerts, &config.logs, false);
    let labels: Vec<&str> = labels.iter().map(|(label, _)| label.as_str()).collect();
    assert_eq!(labels, ["journald", "m", "m:critical", "m/2", "log/1", "archive"]);
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(name: &str) -> String {
    std::fs::read_to_string(repository().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
}

#[test]
fn the_table_in_the_docs_is_that_of_the_program() {
    let page = read("docs/metrics.md");
    let written: Vec<&str> = page.lines().filter(|line| line.starts_with("| `fim_")).collect();
    let right: Vec<String> = ALL.iter().map(|metric| metric.row()).collect();
    assert_eq!(written, right, "docs/metrics.md should have these rows:\n{}", right.join("\n"));
}

/// What stands for a metric in an expression: `fim_…`, a histogram's with what Prometheus puts behind its name.
fn named(text: &str) -> BTreeSet<String> {
    let name = Regex::new(r"\bfim_[a-z_]+\b").expect("an expression");
    name.find_iter(text).map(|found| found.as_str().to_owned()).collect()
}

fn known() -> BTreeSet<String> {
    let names = |metric: &&table::Metric| match metric.kind {
        Kind::Histogram => {
            ["_bucket", "_sum", "_count"].iter().map(|end| format!("{}{end}", metric.name)).collect()
        }
        _ => vec![metric.name.to_owned()],
    };
    ALL.iter().flat_map(names).collect()
}

#[test]
fn dashboard_and_alerting_rules_name_only_metrics_that_there_are() {
    let dashboard = read("dist/grafana/fim.json");
    let parsed: serde_json::Value = serde_json::from_str(&dashboard).expect("JSON");
    let panels = parsed["panels"].as_array().expect("panels");
    let shown = panels.iter().filter(|panel| panel["type"] != "row");
    for panel in shown {
        let targets = panel["targets"].as_array().expect("targets");
        let asks = targets.iter().all(|t| !named(t["expr"].as_str().unwrap_or_default()).is_empty());
        assert!(asks && !targets.is_empty(), "{} asks for nothing", panel["title"]);
    }
    let rules = read("dist/prometheus/fim.rules.yml");
    for (file, text) in [("dashboard", &dashboard), ("rules", &rules)] {
        let names = named(text);
        assert!(names.len() >= 8, "{file}: {names:?}");
        let known = known();
        let unknown: Vec<&String> = names.difference(&known).collect();
        assert!(unknown.is_empty(), "{file} names what there is not: {unknown:?}");
    }
}

fn ask(address: SocketAddr, request: &str) -> String {
    let mut stream = TcpStream::connect(address).expect("connects");
    stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
    // A refusal may come before all of it is written.
    let _ = stream.write_all(request.as_bytes());
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

fn port() -> (tokio::runtime::Runtime, serve::Port) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    let runtime = runtime.expect("a runtime");
    let address = "127.0.0.1:0".parse().expect("an address");
    let port = serve::Port::open(runtime.handle(), address, metrics()).expect("a port");
    (runtime, port)
}

#[test]
fn the_port_answers_one_request_and_refuses_all_others() {
    let (_runtime, port) = port();
    let answer = ask(port.address, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\nGET /metrics HTTP/1.1\r\n\r\n");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    assert!(head.starts_with("HTTP/1.1 200 OK"), "{head}");
    assert!(head.contains(serve::TEXT) && head.contains("connection: close"), "{head}");
    assert_eq!(body.matches("# TYPE fim_ready gauge").count(), 1, "{body}");
    let head = ask(port.address, "HEAD /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(head.starts_with("HTTP/1.1 200 OK") && !head.contains("# TYPE"), "{head}");
    let long = format!("GET /metrics HTTP/1.1\r\nHost: h\r\nX: {}\r\n\r\n", "x".repeat(100_000));
    for (request, code) in [
        ("GET / HTTP/1.1\r\nHost: h\r\n\r\n", " 404 "),
        ("GET /etc/passwd HTTP/1.1\r\nHost: h\r\n\r\n", " 404 "),
        ("POST /metrics HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n", " 405 "),
        ("nonsense\r\n\r\n", " 400 "),
        (&long, " 431 "),
    ] {
        let answer = ask(port.address, request);
        assert!(answer.lines().next().unwrap_or_default().contains(code), "{code}: {answer}");
    }
}

#[test]
fn readers_who_stand_still_are_sent_away_and_do_not_keep_others_out() {
    let (_runtime, port) = port();
    let still: Vec<TcpStream> =
        (0..12).map(|_| TcpStream::connect(port.address).expect("connects")).collect();
    let answer = ask(port.address, "GET /metrics HTTP/1.1\r\nHost: h\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
    for mut stream in still {
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("set");
        let mut said = Vec::new();
        // Its end, whether with words or without.
        assert!(stream.read_to_end(&mut said).is_ok() || said.is_empty());
    }
}

#[test]
fn only_loopback_is_listened_on() {
    let text = |listen: &str| format!("[[watch]]\npath = \"/etc\"\n[metrics]\nlisten = {listen}\n");
    let parse = |listen: &str| Config::parse(Path::new("fim.toml"), &text(listen));
    for (listen, address) in [("\"127.0.0.1:9184\"", "127.0.0.1:9184"), ("\"[::1]:9184\"", "[::1]:9184")] {
        let config = parse(listen).expect("valid");
        assert_eq!(config.metrics.listen.map(|a| a.to_string()).as_deref(), Some(address));
    }
    for (listen, words) in [
        ("\"0.0.0.0:9184\"", "is no address of loopback"),
        ("\"[::]:9184\"", "is no address of loopback"),
        ("\"192.0.2.7:9184\"", "is no address of loopback"),
        ("\"[::ffff:192.0.2.7]:9184\"", "is no address of loopback"),
        ("\"localhost:9184\"", "is no address and port"),
        ("\"127.0.0.1\"", "is no address and port"),
        ("\"127.0.0.1:0\"", "needs a port"),
        ("9184", "must be a text in quotes"),
    ] {
        let error = parse(listen).expect_err(listen).to_string();
        assert!(error.contains("fim.toml:4") && error.contains(words), "{listen}: {error}");
    }
    let none = Config::parse(Path::new("fim.toml"), "[[watch]]\npath = \"/etc\"\n").expect("valid");
    assert_eq!(none.metrics.listen, None);
}
