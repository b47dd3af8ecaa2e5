//! Which lines changed, on real servers.

use std::path::Path;

use fim::core::entry::Digest;
use fim::sink::{CentralLines, Sink};
use fim::store::lines::{Difference, Omitted, Outcome, Pair, Side, Since};

use crate::both;
use crate::server::{Kind, Server};
use crate::world::{Host, event};

fn side(line: u64, lines: u64, text: Option<&str>) -> Side {
    let digest = text.is_none().then(|| "d".repeat(64));
    Side { line, lines, text: text.map(str::to_owned), digest }
}

fn compare(host: &Host, path: &str, number: u8, differences: &[Difference]) -> i64 {
    let mut store = host.store.lock().expect("unpoisoned");
    let digest = |n| Some(Digest([n; 32]));
    let pair = Pair { path: Path::new(path).into(), before: digest(number), after: digest(number + 1) };
    let id = store.compare_begin(&pair).expect("begun");
    store.compare_add(id, differences).expect("written");
    store.compare_end(id, Outcome::Lines, Some(("UTF-8", "UTF-16LE"))).expect("ended");
    id
}

fn link(host: &Host, links: &[(u64, Since, i64)]) {
    let mut store = host.store.lock().expect("unpoisoned");
    store.compare_link(links).expect("linked");
    let last = links.last().map_or(0, |link| link.0);
    store.cursor_set("differences", last).expect("moved");
}

#[test]
fn lines_arrive_once_and_again_where_the_database_was_set_back() {
    both(async |kind| {
        let server = Server::start(kind);
        let host = Host::new("web-1", &server);
        let odd = "tab\tquote' \"; -- \u{e9} \u{1f512} \\x\n";
        let update = Difference {
            operation: "update".into(),
            old: side(2, 1, Some("old\n")),
            new: side(2, 1, Some(odd)),
            omitted: None,
        };
        let secret = Difference {
            operation: "insert".into(),
            old: Side { line: 4, ..Side::default() },
            new: side(5, 2, None),
            omitted: Some(Omitted::Secret),
        };
        let records = host.append(&(0..20).map(event).collect::<Vec<_>>());
        let (one, two) =
            (compare(&host, "/etc/a\nb", 1, &[update]), compare(&host, "/etc/shadow", 5, &[secret]));
        // The second one is told of by many records, and by one of them twice.
        let mut links = vec![(1, Since::Approved, one), (1, Since::Previous, two)];
        links.extend((2..=18).map(|seq| (seq, Since::Approved, two)));
        link(&host, &links);
        let sink = || CentralLines::new(&host.config, host.dir.path()).expect("a sink");
        let mut first = sink();
        let delivered = first.deliver(&records).await.expect("delivered");
        assert_eq!(delivered.count, 18, "what is not compared yet is not passed over");
        first.deliver(&records[..10]).await.expect("delivered again");
        let counts = || {
            ["comparisons", "differences", "event_comparisons"]
                .map(|table| server.number(&format!("SELECT count(*) FROM {table} WHERE host_id = 'web-1'")))
        };
        assert_eq!(counts(), [2, 2, 19]);
        let hex = match kind {
            Kind::Postgres => "encode(convert_to(new_text, 'UTF8'), 'hex')",
            Kind::Mariadb => "lower(hex(new_text))",
        };
        let row = format!(
            "SELECT operation, old_line, old_lines, new_line, new_lines, {hex} FROM differences WHERE omitted IS NULL"
        );
        let bytes: String = odd.bytes().map(|b| format!("{b:02x}")).collect();
        assert_eq!(server.rows(&row), [format!("update|2|1|2|1|{bytes}")]);
        let kept = "SELECT count(*) FROM differences WHERE omitted = 'secret' AND new_text IS NULL AND new_digest IS NOT NULL";
        assert_eq!(server.number(kept), 1);
        for table in ["event_comparisons", "differences", "comparisons"] {
            server.rows(&format!("DELETE FROM {table}"));
        }
        // A new session, with later records alone.
        sink().deliver(&records[15..]).await.expect("delivered");
        assert_eq!(counts(), [2, 2, 19]);
    });
}
