//! A process that sends alerts and is killed, again and again.

use std::collections::HashSet;
use std::process::{Command, Stdio};

use super::server::Server;
use super::*;

const STATE: &str = "FIM_TEST_ALERT_STATE";
const URL: &str = "FIM_TEST_ALERT_URL";
const ROUNDS: u64 = 100;

fn hook(name: &str, url: &str, group: Duration) -> Lane {
    let url = format!("{url}{name}").parse().expect("an address");
    let webhook = Webhook::new(url, None, WebhookFormat::Json).expect("a client");
    lane(name, Route { group, ..Route::default() }, Channel::Webhook(webhook))
}

#[tokio::test]
#[ignore = "started and killed by the test below"]
async fn sends_until_it_is_killed() {
    let (Some(state), Ok(url)) = (std::env::var_os(STATE), std::env::var(URL)) else { return };
    let single = run(hook("single", &url, Duration::ZERO), Path::new(&state));
    let grouped = run(hook("grouped", &url, Duration::from_millis(3)), Path::new(&state));
    let parent = nix::unistd::getppid();
    // Nobody may be left to kill it.
    while nix::unistd::getppid() == parent {
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    single.finish().await;
    grouped.finish().await;
}

#[tokio::test]
async fn killed_at_a_hundred_moments_every_event_arrives_in_order_with_its_id() {
    let (dir, server) = (state(), Server::start(&[]).await);
    let url = server.url.to_string();
    let mut store = Store::open(dir.path()).expect("a store");
    // New lanes begin with what happens from then on.
    for name in ["single", "grouped"] {
        run(hook(name, &url, Duration::ZERO), dir.path()).finish().await;
    }
    let mut sent = Vec::new();
    for round in 0..ROUNDS {
        let before = server.seen().len();
        sent.extend(store.append(&events(0..40), &[]).expect("appended"));
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", "sink::alert::tests::killed::sends_until_it_is_killed", "--ignored"])
            .env(STATE, dir.path())
            .env(URL, &url)
            .stdout(Stdio::null())
            .spawn()
            .expect("starts");
        until(|| server.seen().len() > before, || "a first message".into()).await;
        // The kill meets a request, an answer, the cursor's move: whatever comes then.
        tokio::time::sleep(Duration::from_micros(round * 2_654_435_761 % 9_000)).await;
        child.kill().expect("killed");
        child.wait().expect("gone");
    }
    let lanes = ["single", "grouped"].map(|name| run(hook(name, &url, Duration::ZERO), dir.path()));
    let head = sent.last().expect("records").seq;
    let arrived = || ["single", "grouped"].iter().all(|name| sink_state(&store, name).cursor == head);
    until(arrived, || "both cursors".into()).await;
    for lane in lanes {
        lane.finish().await;
    }
    let seen = server.seen();
    let to = |name: &str| {
        seen.iter().filter(|r| r.head.contains(&format!("/hook/token{name} "))).collect::<Vec<_>>()
    };
    let mut known = HashSet::new();
    let firsts: Vec<&str> = to("single").iter().map(|r| r.id()).filter(|id| known.insert(*id)).collect();
    assert_eq!(firsts, ids(&sent), "all of them, in order, repeats with the same id");
    // A digest says from where to where it goes: what is missing would be a gap.
    let mut covered = 0;
    for request in to("grouped") {
        let body: serde_json::Value = serde_json::from_slice(&request.body).expect("JSON");
        let mark = |name: &str| body[name]["seq"].as_u64().or(body["seq"].as_u64()).expect("a number");
        assert!(mark("first") <= covered + 1, "a gap after {covered}: {body}");
        covered = covered.max(mark("last"));
    }
    assert_eq!(covered, head);
}
