//! Records one by one, to programs.

use super::server::{Act, OK, Request, Server};
use super::*;

/// Each record its own message, signed.
fn hook(name: &str, server: &Server, min_severity: Severity) -> Lane {
    let route = Route { min_severity, ..Route::default() };
    lane(name, route, webhook(server, WebhookFormat::Json))
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
        let expected = super::super::webhook::signature(&Secret::new("key"), &request.body);
        assert_eq!(request.header("X-Fim-Signature"), Some(expected.as_str()));
    }
    let state = sink_state(&store, "soc");
    assert_eq!((state.cursor, state.error, state.parked), (9, None, 0));
    assert!(state.last_success.is_some());
}

#[test]
fn the_signature_is_hmac_sha256() {
    let made =
        super::super::webhook::signature(&Secret::new("key"), b"The quick brown fox jumps over the lazy dog");
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
    let told =
        format!("message {} was refused: the receiver refused with 400 Bad Request: no\\x1b[2J", sent[0].id);
    assert!(error.contains(&told), "{error}");
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
        sink.ring(50);
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
async fn the_configured_sinks_start_and_stop_together() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let text = format!(
        "[state]\ndir = {:?}\n[[watch]]\npath = \"/etc\"\n[[alert]]\ntype = \"webhook\"\nurl = {:?}\n\
         [[alert]]\nname = \"chat\"\ntype = \"webhook\"\nformat = \"slack\"\nmin_severity = \"critical\"\nlifecycle = false\nurl = {:?}\n",
        dir.path(),
        server.url.as_str(),
        server.url.as_str()
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let mut store = Store::open(dir.path()).expect("a store");
    let sinks = start(&Handle::current(), &config, &silent(), &crate::sink::Bell::default()).expect("start");
    store.append(&events(0..2), &[]).expect("appended");
    sinks.bell().ring();
    sinks.stop().await;
    let seen = server.seen();
    assert_eq!(seen.len(), 2, "delivered before the end");
    assert!(seen[0].header("X-Fim-Signature").is_none(), "no secret, no signature");
    let names: Vec<String> = store.sink_states().expect("states").into_iter().map(|s| s.name).collect();
    assert_eq!(names, ["chat", "chat:critical", "differences", "journald", "webhook"]);

    let bad =
        text.replace("type = \"webhook\"\nurl", "type = \"webhook\"\nsecret_file = \"/nonexistent/s\"\nurl");
    let config = Config::parse(Path::new("fim.toml"), &bad).expect("valid");
    let said = check(&config).expect_err("no secret").to_string();
    assert!(
        said.contains("the alert \"webhook\" cannot be sent") && said.contains("/nonexistent/s"),
        "{said}"
    );
}
