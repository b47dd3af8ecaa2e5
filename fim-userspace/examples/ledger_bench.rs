//! How fast the ledger takes records, and answers when it is large: `cargo xtask bench ledger`.
//!
//! Arguments: a folder with room (about 1 KB a row), rows to append at full size, rows of the large ledger.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use fim::core::actor::{Actor, Ancestor, Confidence};
use fim::core::entry::FileType;
use fim::core::event::{Event, EventKind, Response, State, Verdict, rfc3339};
use fim::core::policy::Severity;
use fim::store::Store;
use fim::store::query::{Criteria, Pattern};

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
    appends(&Path::new(dir).join("append"), full)?;
    queries(&Path::new(dir).join("large"), large)
}

fn appends(dir: &Path, rows: u64) -> Result<()> {
    let mut store = Store::open(dir)?;
    let (mut took, mut worked, mut bytes) = (Duration::ZERO, Duration::ZERO, 0);
    for from in (0..rows).step_by(BATCH as usize) {
        let events: Vec<Event> = (from..(from + BATCH).min(rows)).map(|n| event(n, true)).collect();
        bytes += serde_json::to_string(&events[0])?.len() as u64 * events.len() as u64;
        let (begin, cpu) = (Instant::now(), processor_time()?);
        store.append(&events, &[])?;
        took += begin.elapsed();
        worked += processor_time()? - cpu;
    }
    let rate = rows as f64 / took.as_secs_f64();
    let idle = rows as f64 / worked.as_secs_f64();
    println!("append   {rows} rows of {} bytes, {BATCH} at once: {took:.2?}, {rate:.0} rows/s", bytes / rows);
    println!(
        "         of processor time {worked:.2?}, {idle:.0} rows/s: what a machine with nothing else to do comes near"
    );
    let size = std::fs::metadata(dir.join("fim.db"))?.len();
    println!("         database {} MB, {} bytes a row", size >> 20, size / rows);
    drop(store);
    std::fs::remove_dir_all(dir)?;
    Ok(())
}

fn queries(dir: &Path, rows: u64) -> Result<()> {
    let mut store = Store::open(dir)?;
    let begin = Instant::now();
    for from in (0..rows).step_by(10 * BATCH as usize) {
        let events: Vec<Event> = (from..(from + 10 * BATCH).min(rows)).map(|n| event(n, false)).collect();
        store.append(&events, &[])?;
    }
    println!("fill     {rows} rows in {:.0?}", begin.elapsed());
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
        ("--kind deleted", Criteria { kinds: vec![EventKind::Deleted], ..base() }),
        ("--kind trouble (rare)", Criteria { kinds: vec![EventKind::Trouble], ..base() }),
        ("--user (common)", Criteria { users: vec![1_003], ..base() }),
        ("--user (rare)", Criteria { users: vec![4_242], ..base() }),
        ("--exe (glob)", Criteria { exes: path("/usr/bin/tool1*")?, ..base() }),
        ("--unauthorised", Criteria { unauthorised: true, ..base() }),
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
    ];
    println!("{:36} {:>6} {:>10} {:>10}", "query, newest 100", "found", "first", "median");
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
    std::fs::remove_dir_all(dir)?;
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
    println!("{name:36} {found:6} {first:>10.1?} {:>10.1?}", times[3]);
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
