//! Ledgers that say something else than they said before.

use fim::sink::Sink;
use fim::store::Store;

use crate::both;
use crate::server::Server;
use crate::world::{Host, events};

fn conflicts(server: &Server) -> Vec<String> {
    server.rows("SELECT seq, reason FROM conflicts ORDER BY seq, reason")
}

/// A copy of the ledger is put back, as root could do to undo its last records.
fn set_back(host: &Host, copy: &std::path::Path) {
    *host.store.lock().expect("unpoisoned") = Store::open(copy).expect("a store");
    for name in ["fim.db", "fim.db-wal", "fim.db-shm"] {
        let _ = std::fs::remove_file(host.dir.path().join(name));
        let _ = std::fs::copy(copy.join(name), host.dir.path().join(name));
    }
    *host.store.lock().expect("unpoisoned") = Store::open(host.dir.path()).expect("a store");
}

#[test]
fn a_rewritten_ledger_shows_and_changes_nothing_that_was_delivered() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("a", &server);
        host.central().deliver(&host.append(&events(0..20))).await.expect("delivered");
        let copy = tempfile::tempdir().expect("a folder");
        for name in ["fim.db", "fim.db-wal", "fim.db-shm"] {
            let _ = std::fs::copy(host.dir.path().join(name), copy.path().join(name));
        }
        host.central().deliver(&host.append(&events(20..30))).await.expect("delivered");
        let before = server.rows("SELECT seq, id FROM events ORDER BY seq");

        set_back(&host, copy.path());
        host.central().pulse().await.expect("greeted");
        assert_eq!(conflicts(&server), ["30|missing"], "records that were delivered are gone");
        let other = host.append(&events(120..135));
        host.central().deliver(&other).await.expect("delivered");
        host.central().deliver(&other).await.expect("twice is once");
        let mut expected: Vec<String> = (21..=30).map(|seq| format!("{seq}|rewritten")).collect();
        // Once the ledger had ended there, and when it was delivered again it was another one.
        expected.insert(9, "30|missing".into());
        assert_eq!(conflicts(&server), expected);
        assert_eq!(server.rows("SELECT seq, id FROM events WHERE seq <= 30 ORDER BY seq"), before);
        assert_eq!(server.number("SELECT count(*) FROM events"), 35, "what is new is kept all the same");
        assert!(server.unsound() > 0);
        let kept = "SELECT count(*) FROM conflicts WHERE body LIKE '%n120%' AND seq = 21";
        assert_eq!(server.number(kept), 1, "the other version is evidence");
    });
}

#[test]
fn records_that_were_altered_on_the_host_show() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("a", &server);
        host.central().deliver(&host.append(&events(0..5))).await.expect("delivered");
        let records = host.append(&events(5..10));
        let raw = rusqlite::Connection::open(host.dir.path().join("fim.db")).expect("opens");
        raw.execute_batch(
            "DROP TRIGGER ledger_no_update;
             UPDATE ledger SET body = replace(body, '/etc/f7', '/etc/f0') WHERE seq = 8;
             UPDATE ledger SET body = replace(body, '/etc/f4', '/etc/f0'), hash = zeroblob(32) WHERE seq = 5;
             UPDATE ledger SET prev = zeroblob(32) WHERE seq = 6;",
        )
        .expect("altered");
        host.central().deliver(&records).await.expect("delivered");
        assert_eq!(conflicts(&server), ["5|rewritten", "6|broken_link", "6|unsound", "8|unsound"]);
        assert_eq!(server.number("SELECT count(*) FROM events WHERE path = '/etc/f4'"), 1);
    });
}

#[test]
fn a_ledger_that_was_begun_anew_is_a_second_one() {
    both(async |kind| {
        let server = Server::start(kind);
        let first = Host::new("a", &server);
        first.central().deliver(&first.append(&events(0..10))).await.expect("delivered");
        let second = Host::new("a", &server);
        second.central().deliver(&second.append(&events(50..57))).await.expect("delivered");
        assert_eq!(server.number("SELECT count(*) FROM events WHERE host_id = 'a'"), 17);
        assert_eq!(
            server.rows("SELECT last_seq FROM ledgers WHERE host_id = 'a' ORDER BY last_seq"),
            ["7", "10"]
        );
        assert_eq!(server.number("SELECT count(*) FROM hosts"), 1);
        assert_eq!((server.number("SELECT count(*) FROM conflicts"), server.unsound()), (0, 0));
    });
}
