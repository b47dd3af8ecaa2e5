mod journal;
mod pulse;

use std::collections::VecDeque;
use std::os::unix::fs::PermissionsExt;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::*;
use crate::config::Secret;
use crate::core::actor::{Actor, Confidence};
use crate::core::event::{Event, EventKind, Response, Verdict};
use crate::core::policy::Severity;
use crate::store::Store;

pub(super) fn state() -> tempfile::TempDir {
    let dir = tempfile::tempdir().expect("temporary folder");
    std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
    dir
}

pub(super) fn event(n: usize) -> Event {
    let mut event = Event::about_fim(EventKind::Modified, "host", "lsm", 0, format!("n{n}"));
    event.set_path(format!("/etc/f{n}").as_bytes());
    event.severity = Severity::High;
    event
}

pub(super) fn events(range: std::ops::Range<usize>) -> Vec<Event> {
    range.map(event).collect()
}

/// What the server does with one request.
#[derive(Clone, Copy, Debug)]
enum Act {
    Answer(&'static str),
    /// Reads the request, then closes without a word.
    Drop,
}

const OK: Act = Act::Answer("HTTP/1.1 204 No Content\r\n\r\n");

#[derive(Clone, Debug)]
struct Request {
    head: String,
    body: Vec<u8>,
    at: Instant,
}

impl Request {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().filter_map(|l| l.split_once(": "));
        lines.into_iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    fn id(&self) -> &str {
        self.header("X-Fim-Event-Id").expect("an id")
    }
}

/// A server on loopback that follows a script and then accepts everything.
struct Server {
    url: reqwest::Url,
    seen: Arc<Mutex<Vec<Request>>>,
    task: JoinHandle<()>,
}

impl Server {
    async fn start(script: &[Act]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let url = format!("http://127.0.0.1:{port}/hook/token").parse().expect("an address");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (log, mut script) = (seen.clone(), script.iter().copied().collect::<VecDeque<_>>());
        let task = tokio::spawn(async move {
            loop {
                let (mut stream, _) = listener.accept().await.expect("accepts");
                while let Some(request) = read_request(&mut stream).await {
                    log.lock().expect("log").push(request);
                    match script.pop_front().unwrap_or(OK) {
                        Act::Answer(text) => stream.write_all(text.as_bytes()).await.expect("answered"),
                        Act::Drop => break,
                    }
                }
            }
        });
        Self { url, seen, task }
    }

    fn seen(&self) -> Vec<Request> {
        self.seen.lock().expect("log").clone()
    }

    async fn wait(&self, count: usize) -> Vec<Request> {
        until(|| self.seen().len() >= count, || format!("{} of {count} requests", self.seen().len())).await;
        self.seen()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn read_request(stream: &mut TcpStream) -> Option<Request> {
    let mut bytes = Vec::new();
    let end = loop {
        if let Some(end) = bytes.windows(4).position(|w| w == b"\r\n\r\n") {
            break end + 4;
        }
        let mut part = [0; 4096];
        match stream.read(&mut part).await {
            Ok(0) | Err(_) => return None,
            Ok(n) => bytes.extend_from_slice(&part[..n]),
        }
    };
    let head = String::from_utf8(bytes[..end].to_vec()).expect("text");
    let mut request = Request { head, body: bytes[end..].to_vec(), at: Instant::now() };
    let length: usize = request.header("content-length").expect("a length").parse().expect("a number");
    let missing = length - request.body.len();
    let mut rest = vec![0; missing];
    stream.read_exact(&mut rest).await.ok()?;
    request.body.extend(rest);
    Some(request)
}

pub(super) async fn until(mut condition: impl FnMut() -> bool, what: impl Fn() -> String) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < deadline, "in vain: {}", what());
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

fn hook(name: &str, server: &Server, min_severity: Severity) -> Webhook {
    Webhook::new(name, server.url.clone(), Some(Secret::new("key")), min_severity).expect("a client")
}

/// One sink at work, as the daemon runs it.
pub(super) struct Running {
    grown: watch::Sender<u64>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

pub(super) fn run<S: Sink>(sink: S, dir: &Path) -> Running {
    let runner = Runner::new(sink, dir).expect("a runner");
    let runner = runner.with_backoff(Backoff::new(Duration::from_millis(2), Duration::from_millis(20)));
    let (grown, stop) = (watch::Sender::new(0), watch::Sender::new(false));
    let task = tokio::spawn(runner.run(grown.subscribe(), stop.subscribe()));
    Running { grown, stop, task }
}

impl Running {
    pub(super) fn append(&self, store: &mut Store, events: &[Event]) -> Vec<Record> {
        let records = store.append(events, &[]).expect("appended");
        self.grown.send_replace(records.last().expect("records").seq);
        records
    }

    pub(super) async fn finish(self) {
        self.stop.send_replace(true);
        tokio::time::timeout(Duration::from_secs(20), self.task).await.expect("ends").expect("no panic");
    }

    pub(super) async fn kill(self) {
        self.task.abort();
        assert!(self.task.await.expect_err("aborted").is_cancelled());
    }
}

pub(super) fn sink_state(store: &Store, name: &str) -> crate::store::SinkState {
    store.sink_states().expect("states").into_iter().find(|s| s.name == name).expect("known")
}

pub(super) fn ids<'a>(records: impl IntoIterator<Item = &'a Record>) -> Vec<&'a str> {
    records.into_iter().map(|r| r.id.as_str()).collect()
}

#[tokio::test]
async fn a_webhook_gets_each_record_signed_and_in_order() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    store.append(&events(0..3), &[]).expect("history before the sink was there");
    let sink = run(hook("soc", &server, Severity::Low), dir.path());
    let mut sent = sink.append(&mut store, &events(3..6));
    sent.extend(sink.append(&mut store, &events(6..9)));
    server.wait(6).await;
    sink.finish().await;
    let seen = server.seen();
    assert_eq!(seen.iter().map(Request::id).collect::<Vec<_>>(), ids(&sent), "no history, nothing twice");
    for (request, record) in seen.iter().zip(&sent) {
        assert_eq!(serde_json::from_slice::<Record>(&request.body).expect("a record"), *record);
        assert!(request.head.starts_with("POST /hook/token HTTP/1.1"), "{}", request.head);
        assert_eq!(request.header("content-type"), Some("application/json"));
        let expected = webhook::signature(&Secret::new("key"), &request.body);
        assert_eq!(request.header("X-Fim-Signature"), Some(expected.as_str()));
    }
    let state = sink_state(&store, "soc");
    assert_eq!((state.cursor, state.error, state.parked), (9, None, 0));
    assert!(state.last_success.is_some());
}

#[test]
fn the_signature_is_hmac_sha256() {
    let made = webhook::signature(&Secret::new("key"), b"The quick brown fox jumps over the lazy dog");
    assert_eq!(made, "sha256=f7bc83f430538424b13298e6aa6fb143ef4d59a14946175997479dbc2d1a3cd8");
}

#[tokio::test]
async fn failures_are_tried_again_in_order_with_the_same_id() {
    let script = [
        Act::Answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"),
        Act::Drop,
        OK,
        Act::Answer("HTTP/1.1 429 Too Many Requests\r\nContent-Length: 0\r\n\r\n"),
        Act::Answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\n\r\n\x1b["),
    ];
    let (dir, server) = (state(), Server::start(&script).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(hook("soc", &server, Severity::Low), dir.path());
    let sent = sink.append(&mut store, &events(0..3));
    server.wait(7).await;
    until(|| sink_state(&store, "soc").cursor == 3, || "the cursor's move".into()).await;
    sink.finish().await;
    let seen = server.seen();
    let tried: Vec<&str> = seen.iter().map(Request::id).collect();
    let (a, b, c) = (&*sent[0].id, &*sent[1].id, &*sent[2].id);
    assert_eq!(tried, [a, a, a, b, b, b, c]);
    let state = sink_state(&store, "soc");
    assert_eq!((state.error, state.parked), (None, 0), "over with the success");
}

#[tokio::test]
async fn what_the_receiver_refuses_for_good_is_parked_and_told() {
    let refusal = "HTTP/1.1 400 Bad Request\r\nContent-Length: 12\r\n\r\nno\x1b[2J field";
    let (dir, server) = (state(), Server::start(&[Act::Answer(refusal)]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(hook("soc", &server, Severity::Low), dir.path());
    let sent = sink.append(&mut store, &events(0..2));
    server.wait(2).await;
    until(|| sink_state(&store, "soc").cursor == 2, || "the cursor's move".into()).await;
    sink.finish().await;
    assert_eq!(server.seen().iter().map(Request::id).collect::<Vec<_>>(), ids(&sent));
    let state = sink_state(&store, "soc");
    assert_eq!(state.parked, 1);
    assert_eq!(state.error, None, "the sink itself works");
    let error = state.parked_reason.expect("told");
    assert!(error.contains("record 1 was refused with 400 Bad Request: no\\x1b[2J"), "{error}");
}

#[tokio::test]
async fn a_receiver_that_asks_for_patience_gets_it() {
    let busy = "HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n";
    let (dir, server) = (state(), Server::start(&[Act::Answer(busy)]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(hook("soc", &server, Severity::Low), dir.path());
    sink.append(&mut store, &events(0..1));
    let seen = server.wait(2).await;
    assert!(seen[1].at - seen[0].at >= Duration::from_secs(1), "{:?}", seen[1].at - seen[0].at);
    sink.finish().await;
}

#[tokio::test]
async fn a_restart_goes_on_where_the_last_run_ended() {
    let never = [Act::Answer("HTTP/1.1 502 Bad Gateway\r\nContent-Length: 0\r\n\r\n"); 10_000];
    let (dir, dead) = (state(), Server::start(&[&[OK, OK], &never[..]].concat()).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(hook("soc", &dead, Severity::Low), dir.path());
    let sent = sink.append(&mut store, &events(0..5));
    dead.wait(4).await;
    sink.kill().await;
    assert_eq!(sink_state(&store, "soc").cursor, 2);
    assert!(sink_state(&store, "soc").error.expect("told").contains("502"));
    let later = store.append(&events(5..6), &[]).expect("appended while no sink ran");

    let alive = Server::start(&[]).await;
    let sink = run(hook("soc", &alive, Severity::Low), dir.path());
    alive.wait(4).await;
    sink.finish().await;
    let seen = alive.seen();
    assert_eq!(seen.iter().map(Request::id).collect::<Vec<_>>(), ids(sent[2..].iter().chain(&later)));
    assert_eq!(sink_state(&store, "soc").error, None, "over with the success, across the restart");
}

#[tokio::test]
async fn a_dead_sink_delays_no_other_and_ends_at_once() {
    let (dir, alive) = (state(), Server::start(&[]).await);
    let gone = Server::start(&[]).await;
    gone.task.abort();
    let mut store = Store::open(dir.path()).expect("a store");
    let dead = run(hook("dead", &gone, Severity::Low), dir.path());
    let good = run(hook("good", &alive, Severity::Low), dir.path());
    let records = store.append(&events(0..50), &[]).expect("appended");
    for sink in [&dead, &good] {
        sink.grown.send_replace(50);
    }
    assert_eq!(alive.wait(50).await.len(), records.len());
    until(|| sink_state(&store, "dead").error.is_some(), || "an error".into()).await;
    let error = sink_state(&store, "dead").error.expect("told");
    assert!(error.contains("cannot connect") && !error.contains("token"), "{error}");
    dead.finish().await;
    good.finish().await;
    assert_eq!((sink_state(&store, "dead").cursor, sink_state(&store, "good").cursor), (0, 50));
}

#[tokio::test]
async fn only_what_is_severe_enough_is_sent() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(hook("soc", &server, Severity::High), dir.path());
    let mut list = events(0..4);
    list[0].severity = Severity::Low;
    list[2].severity = Severity::Critical;
    list[3].severity = Severity::Medium;
    let sent = sink.append(&mut store, &list);
    until(|| sink_state(&store, "soc").cursor == 4, || "the cursor's move".into()).await;
    sink.finish().await;
    assert_eq!(server.seen().iter().map(Request::id).collect::<Vec<_>>(), ids(&sent[1..3]));
}

#[tokio::test]
async fn what_is_muted_is_passed_over() {
    let (dir, server) =
        (state(), Server::start(&[Act::Answer("HTTP/1.1 503 Busy\r\nContent-Length: 0\r\n\r\n")]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(hook("soc", &server, Severity::Low), dir.path());
    let mut list = events(0..7);
    [0, 2, 3, 6].into_iter().for_each(|n: usize| list[n].muted = true);
    let sent = sink.append(&mut store, &list);
    until(|| sink_state(&store, "soc").cursor == 7, || "the cursor's move".into()).await;
    sink.finish().await;
    let told = [&sent[1], &sent[1], &sent[4], &sent[5]];
    assert_eq!(server.seen().iter().map(Request::id).collect::<Vec<_>>(), ids(told), "the first one twice");
}

#[tokio::test]
async fn a_log_has_what_is_muted_too() {
    let dir = state();
    let log = dir.path().join("all.ndjson");
    let text = format!(
        "[state]\ndir = {:?}\n[[watch]]\npath = \"/etc\"\n[[log]]\ntype = \"file\"\nformat = \"json\"\npath = {log:?}\n",
        dir.path()
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let mut store = Store::open(dir.path()).expect("a store");
    let sinks = start(&Handle::current(), &config).expect("start");
    let mut list = events(0..5);
    [1, 2, 4].into_iter().for_each(|n: usize| list[n].muted = true);
    let sent = store.append(&list, &[]).expect("appended");
    sinks.bell().ring();
    sinks.stop().await;
    let written = std::fs::read_to_string(&log).expect("a log");
    let seqs: Vec<u64> =
        written.lines().map(|l| serde_json::from_str::<Record>(l).expect("a record").seq).collect();
    assert_eq!(seqs, sent.iter().map(|r| r.seq).collect::<Vec<_>>());
}

#[tokio::test]
async fn the_configured_sinks_start_and_stop_together() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let text = format!(
        "[state]\ndir = {:?}\n[[watch]]\npath = \"/etc\"\n[[alert]]\ntype = \"webhook\"\nurl = {:?}\n\
         [[alert]]\nname = \"chat\"\ntype = \"webhook\"\nformat = \"slack\"\nurl = \"https://h/x\"\n",
        dir.path(),
        server.url.as_str()
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let mut store = Store::open(dir.path()).expect("a store");
    let sinks = start(&Handle::current(), &config).expect("start");
    store.append(&events(0..2), &[]).expect("appended");
    sinks.bell().ring();
    sinks.stop().await;
    let seen = server.seen();
    assert_eq!(seen.len(), 2, "delivered before the end");
    assert!(seen[0].header("X-Fim-Signature").is_none(), "no secret, no signature");
    let names: Vec<String> = store.sink_states().expect("states").into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["differences", "journald", "webhook"], "what is not sent yet has no cursor");

    let bad =
        text.replace("type = \"webhook\"\nurl", "type = \"webhook\"\nsecret_file = \"/nonexistent/s\"\nurl");
    let config = Config::parse(Path::new("fim.toml"), &bad).expect("valid");
    let said = check(&config).expect_err("no secret").to_string();
    assert!(
        said.contains("the alert \"webhook\" cannot be sent") && said.contains("/nonexistent/s"),
        "{said}"
    );
}

#[test]
fn delays_grow_and_differ() {
    let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(300));
    let delays: Vec<Duration> = (0..12).map(|_| backoff.delay()).collect();
    for (n, delay) in delays.iter().enumerate() {
        let full = Duration::from_secs((1 << n).min(300));
        assert!(*delay >= full / 2 && *delay <= full, "{n}: {delay:?}");
    }
    backoff.reset();
    assert!(backoff.delay() <= Duration::from_secs(1));
    let firsts: std::collections::HashSet<Duration> =
        (0..20).map(|_| Backoff::new(Duration::from_secs(1), Duration::MAX).delay()).collect();
    assert!(firsts.len() > 10, "{firsts:?}");
}

fn attributed() -> Record {
    let mut event = event(7);
    event.set_path(b"/etc/a\nb");
    event.message = None;
    event.verdict = Some(Verdict::Unauthorised);
    event.response = Response::Restored;
    event.latency_us.restored = Some(1_234);
    event.watch = Some("/etc".into());
    let mut actor = Actor::unknown();
    actor.pid = Some(123);
    actor.uid = Some(1000);
    actor.gid = Some(1001);
    actor.euid = Some(0);
    actor.auid = Some(1002);
    actor.comm = Some("sh".into());
    actor.exe = Some("/usr/bin/dash".into());
    actor.confidence = Confidence::Exact;
    event.actor = Some(actor);
    Record { seq: 42, id: "ab".repeat(16), event }
}

#[test]
fn a_record_reads_as_one_line() {
    let record = attributed();
    let mut name = |uid| (uid == 1000).then(|| "ann".to_owned());
    assert_eq!(
        line::line(&record, &mut name),
        "1970-01-01 00:00:00.000Z  high      modified /etc/a\\x0ab by ann (1000), logged in as uid 1002, \
         /usr/bin/dash, pid 123; restored in 1.2 ms"
    );
    let mut odd = record.clone();
    odd.event.actor = None;
    odd.event.response = Response::Failed;
    odd.event.error = Some("no\n\u{202e}room".into());
    assert_eq!(
        line::message(&odd, &mut |_| None),
        "modified /etc/a\\x0ab by nobody that was seen; the response failed after 1.2 ms: no\\x0a\\u{202e}room"
    );
    let mut dry = record.clone();
    (dry.event.response, dry.event.planned) = (Response::None, Some(Response::Restored));
    (dry.event.latency_us.restored, dry.event.actor, dry.event.muted) = (None, None, true);
    assert_eq!(
        line::message(&dry, &mut |_| None),
        "modified /etc/a\\x0ab by nobody that was seen; would be restored (dry run) [muted]"
    );
    let gap = Event::about_fim(EventKind::CoverageGap, "h", "lsm", 0, "3 reports were lost".into());
    let gap = Record { seq: 1, id: String::new(), event: gap };
    assert_eq!(line::message(&gap, &mut |_| None), "coverage_gap: 3 reports were lost");
}
