//! Many records, few messages; what waits, and what does not.

use serde_json::Value;

use super::server::{Act, OK, Server};
use super::*;
use crate::core::route::Hours;

const REFUSED: Act = Act::Answer("HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n");

fn grouped(name: &str, server: &Server, group: Duration) -> Lane {
    let route = Route { group, ..Route::default() };
    lane(name, route, webhook(server, WebhookFormat::Json))
}

fn bodies(server: &Server) -> Vec<Value> {
    server.seen().iter().map(|request| serde_json::from_slice(&request.body).expect("JSON")).collect()
}

/// Of digests the count, of records one.
fn told(server: &Server) -> u64 {
    bodies(server).iter().map(|body| body["count"].as_u64().unwrap_or(1)).sum()
}

#[tokio::test]
async fn a_burst_of_ten_thousand_is_a_handful_of_messages() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(grouped("chat", &server, Duration::from_secs(3_600)), dir.path());
    sink.append(&mut store, &events(0..1));
    server.wait(1).await;
    let window = run_states(&store);
    for part in 0..10 {
        sink.append(&mut store, &events(part * 1_000..(part + 1) * 1_000));
    }
    assert_eq!(server.seen().len(), 1, "the window holds the rest");
    assert_eq!(run_states(&store), window);
    sink.finish().await;
    let bodies = bodies(&server);
    assert_eq!(bodies.len(), 2, "at the end the window counts no more");
    assert_eq!((bodies[0]["kind"].as_str(), bodies[0]["seq"].as_u64()), (Some("modified"), Some(1)));
    let digest = &bodies[1];
    assert_eq!((digest["kind"].as_str(), digest["count"].as_u64()), (Some("digest"), Some(10_000)));
    assert_eq!((digest["first"]["seq"].as_u64(), digest["last"]["seq"].as_u64()), (Some(2), Some(10_001)));
    assert_eq!(digest["kinds"]["modified"].as_u64(), Some(10_000));
    assert_eq!(sink_state(&store, "chat").cursor, 10_001);
}

fn run_states(store: &Store) -> u64 {
    sink_state(store, "chat").cursor
}

#[tokio::test]
async fn the_window_ends_by_itself() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(grouped("chat", &server, Duration::from_millis(700)), dir.path());
    sink.append(&mut store, &events(0..1));
    server.wait(1).await;
    sink.append(&mut store, &events(1..4));
    let seen = server.wait(2).await;
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(650), "{:?}", seen[1].at - seen[0].at);
    assert_eq!(told(&server), 4);
    sink.finish().await;
}

#[tokio::test]
async fn the_window_outlasts_a_kill() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let hour = Duration::from_secs(3_600);
    let sink = run(grouped("chat", &server, hour), dir.path());
    sink.append(&mut store, &events(0..1));
    until(|| sink_state(&store, "chat").cursor == 1, || "the cursor's move".into()).await;
    sink.kill().await;
    let sink = run(grouped("chat", &server, hour), dir.path());
    sink.append(&mut store, &events(1..3));
    // A second lane beside it shows that the records have been there to read.
    let free = Server::start(&[]).await;
    let witness = run(grouped("witness", &free, Duration::ZERO), dir.path());
    witness.append(&mut store, &events(3..4));
    free.wait(1).await;
    assert_eq!(server.seen().len(), 1, "an hour is not over");
    sink.finish().await;
    assert_eq!(told(&server), 4, "nothing was lost");
    witness.finish().await;
}

#[tokio::test]
async fn quiet_hours_hold_the_rest_beside_critical_records_and_end_of_work() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    // Now lies within, whatever the time is: all of the day but a minute twelve hours away.
    let now = jiff::Zoned::now();
    let away = |minutes: i64| {
        let at = now.checked_add(jiff::Span::new().minutes(720 + minutes)).expect("a time");
        format!("{:02}:{:02}", at.hour(), at.minute())
    };
    let quiet = Hours::parse(&format!("{}-{}", away(1), away(0)));
    assert!(quiet.is_some());
    let route = Route { quiet, group: Duration::from_secs(1), ..Route::default() };
    let [mut rest, mut critical] =
        ["rest", "critical"].map(|name| lane(name, route.clone(), webhook(&server, WebhookFormat::Json)));
    (rest.plan.share, critical.plan.share) = (Share::Rest, Share::Critical);
    let (rest, critical) = (run(rest, dir.path()), run(critical, dir.path()));
    let mut list = events(0..3);
    list[1].severity = Severity::Critical;
    let sent = rest.append(&mut store, &list);
    critical.ring(3);
    server.wait(1).await;
    critical.finish().await;
    rest.finish().await;
    let bodies = bodies(&server);
    assert_eq!(bodies.len(), 1, "held, also at the end");
    assert_eq!(bodies[0]["id"].as_str(), Some(sent[1].id.as_str()));
    assert_eq!(sink_state(&store, "rest").cursor, 0, "they wait in the ledger");
    assert_eq!(sink_state(&store, "critical").cursor, 3);
}

#[tokio::test]
async fn a_refusal_is_told_once_until_something_gets_through() {
    let (dir, server) = (state(), Server::start(&[REFUSED, REFUSED, OK, REFUSED]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let (report, told) = listener();
    let sink = run_telling(grouped("soc", &server, Duration::ZERO), dir.path(), report);
    sink.append(&mut store, &events(0..2));
    until(|| sink_state(&store, "soc").cursor == 2, || "two refusals".into()).await;
    let standing = sink_state(&store, "soc");
    assert_eq!(standing.parked, 2);
    let error = standing.error.expect("stands until something gets through");
    assert!(error.contains("refused for good") && error.contains("404"), "{error}");
    assert_eq!(told.lock().expect("list").len(), 1);
    sink.append(&mut store, &events(2..4));
    until(|| sink_state(&store, "soc").parked == 3, || "the third refusal".into()).await;
    sink.finish().await;
    let told = told.lock().expect("list").clone();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(
        told[0].contains("the alert \"soc\" does not get through") && told[0].contains("404"),
        "{}",
        told[0]
    );
    assert!(!told[0].contains("token"), "{}", told[0]);
}

#[tokio::test]
async fn a_long_silence_is_told_once_until_something_gets_through() {
    let dead: Act = Act::Answer("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n");
    let script = [&[dead; 40][..], &[OK], &[dead; 40]].concat();
    let (dir, server) = (state(), Server::start(&script).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let (report, told) = listener();
    let unheard = Duration::from_millis(100);
    let Lane { plan, channel } = grouped("soc", &server, Duration::ZERO);
    let lane = super::super::Lane::new(plan, channel, secrets(), dir.path(), report).expect("a lane");
    let backoff = Backoff::new(Duration::from_millis(2), Duration::from_millis(20));
    let lane = lane.with_backoff(backoff).with_unheard(unheard);
    let sink = Running::start(|grown, stop| tokio::spawn(lane.run(grown, stop)));
    sink.append(&mut store, &events(0..1));
    until(|| sink_state(&store, "soc").cursor == 1, || "the first record".into()).await;
    let list = told.lock().expect("list").clone();
    assert_eq!(list.len(), 1, "once, however often it is tried");
    for words in ["the alert \"soc\"", "503", "nothing is taken for", "tried on"] {
        assert!(list[0].contains(words), "{}", list[0]);
    }
    let seen = server.seen();
    assert!(seen[40].at - seen[0].at >= unheard, "the test is too quick: {:?}", seen[40].at - seen[0].at);
    sink.append(&mut store, &events(1..2));
    until(|| sink_state(&store, "soc").cursor == 2, || "the second record".into()).await;
    sink.finish().await;
    assert_eq!(told.lock().expect("list").len(), 2, "it had worked in between");
    assert_eq!(sink_state(&store, "soc").parked, 0);
}

#[tokio::test]
async fn two_dead_routes_do_not_tell_of_each_other_for_ever() {
    let (dir, server) = (state(), Server::start(&[REFUSED; 1_000]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let (report, told) = listener();
    let sinks = ["a", "b"]
        .map(|name| run_telling(grouped(name, &server, Duration::ZERO), dir.path(), report.clone()));
    let mut head = store.append(&events(0..1), &[]).expect("appended")[0].seq;
    let mut recorded = 0;
    // As the daemon does: each report becomes a record, and each record an alert.
    loop {
        sinks.iter().for_each(|sink| sink.ring(head));
        let arrived = || ["a", "b"].iter().all(|name| sink_state(&store, name).cursor == head);
        until(arrived, || "both cursors".into()).await;
        let list = told.lock().expect("list").clone();
        if list.len() == recorded {
            break;
        }
        for sentence in &list[recorded..] {
            let event =
                crate::core::event::Event::about_fim(EventKind::Trouble, "h", "lsm", 0, sentence.clone());
            head = store.append(&[event], &[]).expect("appended")[0].seq;
        }
        recorded = list.len();
    }
    assert_eq!(recorded, 2);
    for sink in sinks {
        sink.finish().await;
    }
}

#[tokio::test]
async fn silence_is_filled_with_heartbeats() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let route = Route { heartbeat: Some(Duration::from_millis(50)), ..Route::default() };
    let sink = run(lane("dead-man", route, webhook(&server, WebhookFormat::Json)), dir.path());
    server.wait(3).await;
    let sent = sink.append(&mut store, &events(0..1));
    until(|| sink_state(&store, "dead-man").cursor == 1, || "the cursor's move".into()).await;
    sink.finish().await;
    let bodies = bodies(&server);
    assert!(
        bodies[..3].iter().all(|body| body["kind"] == "heartbeat" && body["host"].is_string()),
        "{bodies:?}"
    );
    assert_eq!(bodies.iter().filter(|body| body["id"] == *sent[0].id).count(), 1);
    let ids: std::collections::HashSet<&str> = bodies.iter().filter_map(|body| body["id"].as_str()).collect();
    assert_eq!(ids.len(), bodies.len(), "each its own id");
}

#[tokio::test]
async fn a_new_critical_lane_takes_over_what_the_old_one_had_not_delivered() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let mut store = Store::open(dir.path()).expect("a store");
    // An alert without grouping that never got anything through.
    drop(super::super::Lane::new(
        grouped("soc", &server, Duration::ZERO).plan,
        webhook(&server, WebhookFormat::Json),
        secrets(),
        dir.path(),
        silent(),
    ));
    let mut list = events(0..2);
    list[1].severity = Severity::Critical;
    let sent = store.append(&list, &[]).expect("appended");
    let mut lane = grouped("soc:critical", &server, Duration::from_secs(60));
    (lane.plan.share, lane.plan.after) = (Share::Critical, Some("soc".into()));
    let sink = run(lane, dir.path());
    server.wait(1).await;
    sink.finish().await;
    assert_eq!(bodies(&server)[0]["id"].as_str(), Some(sent[1].id.as_str()));
}
