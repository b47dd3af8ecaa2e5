//! Which lines changed, on real servers.

use std::path::Path;

use fim::core::entry::Digest;
use fim::sink::{CentralLines, Sink};
use fim::store::lines::{Difference, Finished, Omitted, Outcome, Pair, Side, Since};

use crate::both;
use crate::server::{Kind, Server};
use crate::world::{Host, event};

fn side(line: u64, lines: u64, text: Option<&str>) -> Side {
    let digest = text.is_none().then(|| "d".repeat(64));
    Side { line, lines, text: text.map(str::to_owned), digest }
}

/// A comparison that records tell of.
fn compare(host: &Host, path: &str, number: u8, difference: Difference, seqs: &[(u64, Since)]) {
    let digest = |n| Some(Digest([n; 32]));
    let pair = Pair { path: Path::new(path).into(), before: digest(number), after: digest(number + 1) };
    let links: Vec<_> = seqs.iter().map(|(seq, since)| (*seq, *since, pair.clone())).collect();
    let encodings = Some(("UTF-8", "UTF-16LE"));
    let finished = Finished { pair, outcome: Outcome::Lines, encodings, differences: vec![difference] };
    host.store.lock().expect("unpoisoned").compare_finish(&[finished], &links).expect("written");
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
        compare(&host, "/etc/a\nb", 1, update, &[(1, Since::Approved)]);
        // Many records tell of this one, and one of them of both.
        let mut seqs: Vec<_> = (2..=18).map(|seq| (seq, Since::Approved)).collect();
        seqs.push((1, Since::Previous));
        compare(&host, "/etc/shadow", 5, secret, &seqs);
        host.store.lock().expect("unpoisoned").cursor_set("differences", 18).expect("moved");
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
