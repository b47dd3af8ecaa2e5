//! Servers that stop, die, hang or come back from an older state.

use std::sync::Arc;
use std::time::Duration;

use fim::sink::Sink;

use crate::both;
use crate::server::Server;
use crate::world::{Host, events, until};

const RECORDS: usize = 3_000;

/// Two hosts write at once while the server is stopped, and then killed, in the middle of it.
#[test]
fn nothing_is_lost_or_doubled_when_the_server_goes_and_comes() {
    both(async |kind| {
        let mut server = Server::start(kind);
        let hosts: Vec<Arc<Host>> =
            ["a", "b"].into_iter().map(|name| Arc::new(Host::new(name, &server))).collect();
        let running: Vec<_> = hosts.iter().map(|host| Arc::new(host.start())).collect();
        let writers: Vec<_> = hosts
            .iter()
            .cloned()
            .zip(running.iter().cloned())
            .map(|(host, running)| {
                std::thread::spawn(move || {
                    for n in (0..RECORDS).step_by(50) {
                        host.append(&events(n..n + 50));
                        running.ring();
                        std::thread::yield_now();
                    }
                })
            })
            .collect();
        let cursors = || hosts.iter().map(|host| host.state().cursor).min().unwrap_or(0);
        until(Duration::from_secs(30), || cursors() > 300, || format!("{}", cursors())).await;
        server.stop();
        for host in &hosts {
            host.failed(&["cannot reach", "records wait in the ledger"]).await;
        }
        server.run();
        let before = cursors();
        until(Duration::from_secs(30), || cursors() > before, || format!("{}", cursors())).await;
        server.kill();
        server.run();
        writers.into_iter().for_each(|writer| writer.join().expect("wrote"));
        for (host, running) in hosts.iter().zip(&running) {
            running.ring();
            host.delivered(RECORDS as u64).await;
            assert_eq!(host.state().parked, 0);
        }
        for running in running {
            Arc::into_inner(running).expect("the last").finish().await;
        }
        for name in ["a", "b"] {
            let of = format!("FROM events WHERE host_id = '{name}'");
            assert_eq!(server.number(&format!("SELECT count(*) {of}")), RECORDS as u64);
            assert_eq!(server.number(&format!("SELECT count(DISTINCT seq) {of}")), RECORDS as u64);
            assert_eq!(server.number(&format!("SELECT max(seq) {of}")), RECORDS as u64);
        }
        assert_eq!(server.number("SELECT count(*) FROM conflicts"), 0);
        assert_eq!(server.number("SELECT count(*) FROM ledgers"), 2);
        assert_eq!(server.unsound(), 0, "each host's chain is whole in the central rows");
        for host in &hosts {
            assert_eq!(host.state().error, None, "`fim status` forgets what is over");
        }
    });
}

#[test]
fn a_server_that_stands_still_delays_nobody() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("a", &server);
        let mut central = host.central();
        central.deliver(&host.append(&events(0..10))).await.expect("delivered");
        server.freeze(true);
        let records = host.append(&events(10..20));
        let mut impatient = central.with_patience(&host.config, Duration::from_secs(1)).expect("a sink");
        let said = impatient.deliver(&records).await.expect_err("no answer").to_string();
        assert!(said.contains("gave no answer within 1 s"), "{said}");
        // Another one that still waits: the daemon's own writer goes on meanwhile.
        let running = host.start();
        running.ring();
        host.append(&events(20..30));
        assert_eq!(host.state().cursor, 0, "nobody has answered yet");
        server.freeze(false);
        running.ring();
        host.delivered(30).await;
        running.finish().await;
        assert_eq!(server.number("SELECT count(*) FROM events"), 30);
        assert_eq!(server.unsound(), 0);
    });
}

/// The administrator put back a backup of an hour ago: the host brings again what is missing.
#[test]
fn a_database_that_was_set_back_fills_itself() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("a", &server);
        let records = host.append(&events(0..600));
        let mut central = host.central();
        for batch in records.chunks(256) {
            central.deliver(batch).await.expect("delivered");
        }
        drop(central);
        server.rows("DELETE FROM events WHERE seq > 40");
        let more = host.append(&events(600..601));
        host.central().deliver(&more).await.expect("delivered");
        assert_eq!(server.number("SELECT count(*) FROM events"), 601);
        assert_eq!((server.number("SELECT count(*) FROM conflicts"), server.unsound()), (0, 0));
    });
}

/// An idle connection that the server has closed meanwhile is no failure.
#[test]
fn an_old_connection_is_replaced_without_a_word() {
    both(async |kind| {
        let mut server = Server::start(kind);
        let host = Host::new("a", &server);
        let mut central = host.central();
        central.deliver(&host.append(&events(0..1))).await.expect("delivered");
        server.stop();
        server.run();
        central.deliver(&host.append(&events(1..2))).await.expect("delivered at the first attempt");
        assert_eq!(server.number("SELECT count(*) FROM events"), 2);
    });
}
