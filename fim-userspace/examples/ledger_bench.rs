//! How fast the ledger takes records, and answers when it is large: `cargo xtask bench ledger`.
//!
//! Arguments: a folder with room (about 1 KB a row), rows to append at full size, rows of the large ledger, rows that have
//! a path of their own each, and `keep` to leave the large ledger there and use it again.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fim::core::actor::{Actor, Ancestor, Confidence};
use fim::core::entry::FileType;
use fim::core::event::{Event, EventKind, Response, State, Verdict, rfc3339};
use fim::core::policy::Severity;
use fim::store::Store;
use fim::store::query::{Criteria, Pattern};
use rusqlite::Connection;
use sha2::{Digest, Sha256};

/// Records in one transaction: what the daemon makes of a flood.
const BATCH: u64 = 1_000;
/// Records that a query prints.
const WANTED: usize = 100;
/// 2026-01-01, nanoseconds.
const BEGIN_NS: i64 = 1_767_225_600_000_000_000;
/// Between two records, nanoseconds: ten million are about four months.
const STEP_NS: i64 = 1_000_000_000;
/// Two of them have one record in so many: what nobody should wait for either.
const RARE: u64 = 1_000_003;

fn main() -> Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let number = |i: usize, default: u64| args.get(i).map_or(Ok(default), |a| a.parse());
    let dir = args.first().context("name a folder with room for the ledgers")?;
    let (full, large) = (number(1, 1_000_000)?, number(2, 10_000_000)?);
    let (paths, keep) = (number(3, 1_000_000)?, args.get(4).is_some_and(|arg| arg == "keep"));
    if full > 0 {
        appends(&Path::new(dir).join("append"), full)?;
    }
    if large > 0 {
        queries(&Path::new(dir).join("large"), large, keep)?;
    }
    if paths > 0 {
        many_paths(&Path::new(dir).join("paths"), paths)?;
    }
    Ok(())
}

/// What some work took, by the clock and of processor time.
#[derive(Clone, Copy, Default)]
struct Took {
    wall: Duration,
    cpu: Duration,
}

impl Took {
    fn add<T>(&mut self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        let (begin, cpu) = (Instant::now(), processor_time()?);
        let out = work()?;
        self.wall += begin.elapsed();
        self.cpu += processor_time()? - cpu;
        Ok(out)
    }

    fn print(&self, name: &str, rows: u64) {
        let rate = |time: Duration| rows as f64 / time.as_secs_f64();
        println!(
            "{name:28} {:>8.2?} {:>8.0} rows/s   of processor time {:>8.2?} {:>8.0} rows/s",
            self.wall,
            rate(self.wall),
            self.cpu,
            rate(self.cpu)
        );
    }
}

/// The ledger, and what of its work no ledger could do without on this machine: hashing the same bytes, and SQLite
/// taking them into one plain table.
fn appends(dir: &Path, rows: u64) -> Result<()> {
    let mut store = Store::open(dir)?;
    let bare_dir = dir.with_extension("bare");
    std::fs::create_dir_all(&bare_dir)?;
    let mut bare = bare_table(&bare_dir)?;
    let (mut ledger, mut sqlite, mut hashing, mut bytes) = <(Took, Took, Took, usize)>::default();
    for from in (0..rows).step_by(BATCH as usize) {
        let events: Vec<Event> = (from..(from + BATCH).min(rows)).map(|n| event(n, true)).collect();
        let bodies = events.iter().map(serde_json::to_string).collect::<Result<Vec<_>, _>>()?;
        bytes += bodies.iter().map(String::len).sum::<usize>();
        ledger.add(|| Ok(store.append(&events, &[])?))?;
        let hashes = hashing.add(|| Ok(bodies.iter().map(Sha256::digest).collect::<Vec<_>>()))?;
        sqlite.add(|| insert(&mut bare, from, &bodies, &hashes))?;
    }
    println!("append, {rows} rows of {} bytes, {BATCH} at once", bytes as u64 / rows);
    ledger.print("the ledger", rows);
    sqlite.print("SQLite, the same bytes", rows);
    hashing.print("SHA-256 of them", rows);
    let limit = Took { wall: sqlite.wall + hashing.wall, cpu: sqlite.cpu + hashing.cpu };
    println!(
        "the ledger takes {:.2} times what these two take, {:.2} times by processor time",
        ledger.wall.as_secs_f64() / limit.wall.as_secs_f64(),
        ledger.cpu.as_secs_f64() / limit.cpu.as_secs_f64()
    );
    let size = std::fs::metadata(dir.join("fim.db"))?.len();
    println!("database {} MB, {} bytes a row", size >> 20, size / rows);
    drop(store);
    std::fs::remove_dir_all(dir)?;
    std::fs::remove_dir_all(bare_dir)?;
    Ok(())
}

/// With the same settings as the ledger's database.
fn bare_table(dir: &Path) -> Result<Connection> {
    let db = Connection::open(dir.join("bare.db"))?;
    db.pragma_update(None, "journal_mode", "wal")?;
    db.pragma_update(None, "synchronous", "normal")?;
    db.pragma_update(None, "wal_autocheckpoint", 8_192)?;
    db.pragma_update(None, "cache_size", -65_536)?;
    db.execute_batch(
        "CREATE TABLE bare (seq INTEGER PRIMARY KEY, hash BLOB NOT NULL, body TEXT NOT NULL) STRICT",
    )?;
    Ok(db)
}

fn insert(db: &mut Connection, from: u64, bodies: &[String], hashes: &[impl AsRef<[u8]>]) -> Result<()> {
    let tx = db.transaction()?;
    let mut put = tx.prepare_cached("INSERT INTO bare VALUES (?1, ?2, ?3)")?;
    for ((seq, body), hash) in (from as i64 + 1..).zip(bodies).zip(hashes) {
        put.execute(rusqlite::params![seq, hash.as_ref(), body])?;
    }
    drop(put);
    Ok(tx.commit()?)
}

/// What grows with the number of different paths.
fn many_paths(dir: &Path, rows: u64) -> Result<()> {
    let mut store = Store::open(dir)?;
    let mut took = Took::default();
    for from in (0..rows).step_by(BATCH as usize) {
        let mut events: Vec<Event> = (from..(from + BATCH).min(rows)).map(|n| event(n, false)).collect();
        for (n, event) in (from..).zip(&mut events) {
            event.set_path(format!("/srv/data/{:03x}/{:016x}.bin", mix(n) & 0xfff, mix(n + 7)).as_bytes());
        }
        took.add(|| Ok(store.append(&events, &[])?))?;
    }
    println!("\n{rows} rows, each of a path of its own");
    took.print("append", rows);
    drop(store);
    let store = Store::open_read_only(dir)?;
    println!("{:44} {:>6} {:>10} {:>10}", "query, newest 100", "found", "first", "median");
    for glob in ["/srv/data/0ab", "/srv/data/*/00*", "**/*a.bin", "/srv/data/0a?/*", "**/x*"] {
        let criteria = Criteria { paths: vec![Pattern::new(glob)?], ..Criteria::default() };
        measure(&format!("--path {glob}"), || Ok(store.records_at(&store.find(&criteria, WANTED)?)?.len()))?;
    }
    drop(store);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn queries(dir: &Path, rows: u64, keep: bool) -> Result<()> {
    let mut store = Store::open(dir)?;
    let begin = Instant::now();
    // What an earlier run left.
    let there = store.ledger_head()?.seq;
    for from in (there..rows).step_by(10 * BATCH as usize) {
        let events: Vec<Event> = (from..(from + 10 * BATCH).min(rows)).map(|n| event(n, false)).collect();
        store.append(&events, &[])?;
    }
    println!(
        "\n{rows} rows; the last {} were written in {:.0?}",
        rows.saturating_sub(there),
        begin.elapsed()
    );
    drop(store);
    let store = Store::open_read_only(dir)?;
    let middle = (BEGIN_NS + rows as i64 / 2 * STEP_NS) / 1_000;
    let path = |text: &str| Pattern::new(text).map(|p| vec![p]);
    let base = Criteria::default;
    let cases = [
        ("everything", base()),
        (
            "--since (last hour)",
            Criteria { since_us: Some(middle + rows as i64 / 2 * STEP_NS / 1_000 - 3_600_000_000), ..base() },
        ),
        (
            "--since --until (middle)",
            Criteria { since_us: Some(middle), until_us: Some(middle + 60_000_000), ..base() },
        ),
        ("--until (before all)", Criteria { until_us: Some(0), ..base() }),
        ("--path FILE", Criteria { paths: path("/srv/www/site17/page123.html")?, ..base() }),
        ("--path FILE (rare)", Criteria { paths: path("/etc/rare")?, ..base() }),
        ("--path FOLDER", Criteria { paths: path("/srv/www/site17")?, ..base() }),
        ("--path /srv/**/page12*.html", Criteria { paths: path("/srv/**/page12*.html")?, ..base() }),
        ("--path /nothing/*", Criteria { paths: path("/nothing/*")?, ..base() }),
        ("--path **/x* (nothing)", Criteria { paths: path("**/x*")?, ..base() }),
        ("--path **/oldest (the first record)", Criteria { paths: path("**/oldest")?, ..base() }),
        ("--path /srv", Criteria { paths: path("/srv")?, ..base() }),
        ("--kind deleted", Criteria { kinds: vec![EventKind::Deleted], ..base() }),
        ("--kind trouble (rare)", Criteria { kinds: vec![EventKind::Trouble], ..base() }),
        ("--user (common)", Criteria { users: vec![1_003], ..base() }),
        ("--user (rare)", Criteria { users: vec![4_242], ..base() }),
        ("--exe (glob)", Criteria { exes: path("/usr/bin/tool1*")?, ..base() }),
        ("--unauthorised", Criteria { unauthorised: true, ..base() }),
        ("--severity high", Criteria { min_severity: Some(Severity::High), ..base() }),
        ("--severity critical", Criteria { min_severity: Some(Severity::Critical), ..base() }),
        (
            "--user --kind --path --since",
            Criteria {
                users: vec![1_003],
                kinds: vec![EventKind::Deleted],
                paths: path("/srv/www/site3*/**")?,
                since_us: Some(middle),
                ..base()
            },
        ),
        (
            "--user (rare) --severity critical",
            Criteria { users: vec![4_242], min_severity: Some(Severity::Critical), ..base() },
        ),
        (
            "--user --exe --unauthorised --path (nothing)",
            Criteria {
                users: vec![1_003],
                exes: path("/usr/bin/tool1*")?,
                unauthorised: true,
                paths: path("**/oldest")?,
                ..base()
            },
        ),
        (
            "--kind --user --until (oldest tenth)",
            Criteria {
                users: vec![1_003],
                kinds: vec![EventKind::Deleted],
                until_us: Some((BEGIN_NS + rows as i64 / 10 * STEP_NS) / 1_000),
                ..base()
            },
        ),
    ];
    println!("{:44} {:>6} {:>10} {:>10}", "query, newest 100", "found", "first", "median");
    let mut worst = Duration::ZERO;
    for (name, criteria) in &cases {
        worst = worst.max(measure(name, || Ok(store.records_at(&store.find(criteria, WANTED)?)?.len()))?);
    }
    let some = store.records_at(&[rows / 3])?;
    let id = &some.first().context("a record")?.id;
    worst = worst.max(measure("ID (8 digits)", || Ok(store.find_id(&id[..8])?.len()))?);
    println!("slowest median: {worst:.1?}");
    let begin = Instant::now();
    let report = store.verify_chain()?;
    ensure!(report.fault.is_none(), "{:?}", report.fault);
    let took = begin.elapsed();
    println!(
        "verify   {} records in {took:.1?}, {:.0} a second",
        report.checked,
        rows as f64 / took.as_secs_f64()
    );
    drop(store);
    if !keep {
        std::fs::remove_dir_all(dir)?;
    }
    Ok(())
}

/// What this process has used of the processors so far.
fn processor_time() -> Result<Duration> {
    let time = nix::time::clock_gettime(nix::time::ClockId::CLOCK_PROCESS_CPUTIME_ID)?;
    Ok(time.into())
}

fn measure(name: &str, mut query: impl FnMut() -> Result<usize>) -> Result<Duration> {
    let mut times = Vec::new();
    let mut found = 0;
    for _ in 0..7 {
        let begin = Instant::now();
        found = query()?;
        times.push(begin.elapsed());
    }
    let first = times[0];
    times.sort();
    println!("{name:44} {found:6} {first:>10.1?} {:>10.1?}", times[3]);
    Ok(times[3])
}

/// Spreads numbers without a pattern that indexes could profit from.
fn mix(n: u64) -> u64 {
    let n = (n ^ (n >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let n = (n ^ (n >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    n ^ (n >> 31)
}

/// A change as a daemon records it. `full`: one of a flood, folder by folder and one program after another, with the
/// actor's ancestors and both states; otherwise all mixed, and without those.
fn event(n: u64, full: bool) -> Event {
    use EventKind::{Attributes, Created, Deleted, Modified, Trouble};
    let x = mix(n + 1);
    let rare = n % RARE == RARE - 1;
    let kind = [Modified, Modified, Modified, Created, Deleted, Attributes][(x % 6) as usize];
    let kind = if n % (2 * RARE) == 7 { Trouble } else { kind };
    let mut event =
        Event::about_fim(kind, "web1.example.org", "lsm", BEGIN_NS + n as i64 * STEP_NS, String::new());
    event.message = None;
    let path = match rare {
        _ if n == 0 && !full => "/etc/oldest".into(),
        true => "/etc/rare".into(),
        false if full => format!("/srv/www/site{}/page{}.html", n >> 10 & 63, n & 1023),
        false => format!("/srv/www/site{}/page{}.html", x >> 8 & 63, x >> 16 & 1023),
    };
    event.set_path(path.as_bytes());
    event.watch = Some("/srv/www".into());
    let authorised = x >> 40 & 1 == 0;
    event.verdict = Some(if authorised { Verdict::Authorised } else { Verdict::Unauthorised });
    event.response = if authorised { Response::None } else { Response::Restored };
    event.severity = if n % 500_009 == 11 {
        Severity::Critical
    } else {
        [Severity::Medium, Severity::High][(x >> 41 & 1) as usize]
    };
    let by = if full { mix(n >> 12) } else { x };
    event.actor = Some(actor(by, rare, full));
    if full {
        event.before = Some(state(x));
        event.after = Some(state(x + 1));
        event.latency_us.detected = Some(x >> 50);
    }
    event
}

fn actor(x: u64, rare: bool, full: bool) -> Actor {
    let uid = if rare { 4_242 } else { 1_000 + (x >> 44 & 15) as u32 };
    let exe = format!("/usr/bin/tool{}", x >> 48 & 31);
    let mut actor = Actor {
        pid: Some((x >> 20 & 0x3f_ffff) as u32),
        uid: Some(uid),
        gid: Some(uid + 1),
        euid: Some(uid),
        auid: Some(uid),
        exe: Some(exe.clone()),
        comm: Some("tool".into()),
        confidence: Confidence::Exact,
        ..Actor::unknown()
    };
    if full {
        actor.cmdline = vec![exe.clone(), "--in-place".into(), "page.html".into()];
        actor.cwd = Some("/srv/www".into());
        actor.tty = Some("pts/3".into());
        actor.ppid = Some(811);
        let ancestor = |pid, exe: &str| Ancestor {
            pid,
            start_ns: Some(x >> 3),
            uid: Some(uid),
            comm: Some("bash".into()),
            exe: Some(exe.into()),
            ..Ancestor::default()
        };
        actor.ancestors = vec![ancestor(811, "/usr/bin/bash"), ancestor(702, "/usr/sbin/sshd")];
    }
    actor
}

fn state(x: u64) -> State {
    State {
        kind: FileType::Regular,
        sha256: Some(format!("{:016x}{:016x}{:016x}{:016x}", mix(x), mix(x + 1), mix(x + 2), mix(x + 3))),
        size: x & 0xffff,
        mode: "0644".into(),
        uid: 1_001,
        gid: 1_002,
        mtime: Some(rfc3339(BEGIN_NS + (x & 0xffff_ffff) as i64)),
        flags: None,
        target: None,
    }
}
