//! The report's page in a real browser: it loads nothing, runs nothing, and prints.
#![allow(clippy::expect_used, clippy::unwrap_used)]

use std::path::Path;
use std::process::Command;

use fim::config::Config;
use fim::core::actor::{Actor, Confidence};
use fim::core::change::ChangeKind;
use fim::core::event::{Event, EventKind, Response, Verdict, rfc3339};
use fim::core::policy::Severity;
use fim::report::{Period, Report, html};
use fim::store::{Store, Taken};

const DAY_NS: i64 = 86_400_000_000_000;
const HOUR_NS: i64 = DAY_NS / 24;

/// Midnight of 2026-11-01, UTC.
const BEGIN_NS: i64 = 1_793_491_200_000_000_000;

fn event(kind: EventKind, day: i64, hour: i64, message: Option<&str>) -> Event {
    let mut event =
        Event::about_fim(kind, "web-3", "lsm", BEGIN_NS + day * DAY_NS + hour * HOUR_NS, String::new());
    event.message = message.map(Into::into);
    event.watch = Some("/etc".into());
    event
}

struct Who(u32, &'static str);

fn change(day: i64, hour: i64, kind: ChangeKind, path: &[u8], who: Option<Who>, response: Response) -> Event {
    let mut event = event(kind.into(), day, hour, None);
    event.set_path(path);
    (event.response, event.severity) = (response, Severity::High);
    let ok = who.as_ref().is_some_and(|Who(_, exe)| *exe == "/usr/bin/dpkg");
    event.verdict = Some(if ok { Verdict::Authorised } else { Verdict::Unauthorised });
    event.actor = who.map(|Who(uid, exe)| Actor {
        pid: Some(4_000 + uid),
        uid: Some(uid),
        gid: Some(uid + 1),
        exe: Some(exe.into()),
        confidence: Confidence::Exact,
        ..Actor::unknown()
    });
    event
}

/// Three weeks of a server's life.
fn sample() -> Vec<Event> {
    let mut events = vec![event(EventKind::Started, 0, 0, Some("watching /etc"))];
    for day in 0..20 {
        for n in 0..(day * 7 % 11) {
            let path = format!("/etc/apt/apt.conf.d/{n:02}package");
            let dpkg = Some(Who(0, "/usr/bin/dpkg"));
            events.push(change(day, 3, ChangeKind::Modified, path.as_bytes(), dpkg, Response::None));
        }
        if day % 4 == 1 {
            let vim = Some(Who(1000, "/usr/bin/vim.basic"));
            events.push(change(day, 14, ChangeKind::Modified, b"/etc/hosts", vim, Response::Restored));
        }
    }
    events.push(event(EventKind::CoverageGap, 8, 2, Some("eBPF may have missed changes (3 reports lost)")));
    events.push(event(EventKind::Rescanned, 8, 3, Some("1231 files compared")));
    let hostile = b"/etc/cron.d/<img src=x onerror=alert(1)>\n";
    events.push(change(
        11,
        4,
        ChangeKind::Created,
        hostile,
        Some(Who(33, "/usr/bin/dash")),
        Response::Quarantined,
    ));
    events.push(change(12, 4, ChangeKind::Deleted, b"/etc/ssh/sshd_config", None, Response::Restored));
    events.push(event(EventKind::Stopped, 19, 12, Some("fim was told to stop")));
    events.push(event(EventKind::Started, 19, 13, Some("watching /etc")));
    events.sort_by(|a, b| a.time.cmp(&b.time));
    events
}

fn write_page(dir: &Path) -> Report {
    let text = format!(
        "[state]\ndir = \"{0}\"\n[[watch]]\npath = \"/etc\"\n[[alert]]\ntype = \"webhook\"\nurl = \"https://hooks.example.org/fim\"\n",
        dir.join("state").display()
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("sound");
    let mut store = Store::open(&config.state.dir).expect("opens");
    store.append(&sample(), &[]).expect("appended");
    let taken = Taken { time: rfc3339(BEGIN_NS), by: "ann".into(), host: "web-3".into() };
    store.baseline_rebuild().and_then(|rebuild| rebuild.commit(&taken)).expect("a baseline");
    let period = Period { since_ns: BEGIN_NS, until_ns: BEGIN_NS + 21 * DAY_NS };
    let report = Report::gather(&store, &config, period, period.until_ns).expect("gathered");
    std::fs::write(dir.join("report.html"), html::page(&report)).expect("written");
    report
}

/// Runs the browser on the page, without a network to be helpful with.
fn chromium(dir: &Path, arguments: &[&str]) -> String {
    let profile = dir.join("profile");
    let page = format!("file://{}", dir.join("report.html").display());
    let output = Command::new("chromium")
        .args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-quic"])
        .args([
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--hide-scrollbars",
        ])
        .arg(format!("--user-data-dir={}", profile.display()))
        .args(arguments)
        .arg(page)
        .current_dir(dir)
        .output()
        .expect("chromium runs; `cargo xtask setup` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn a_browser_shows_it_without_running_or_loading_anything() {
    let dir = tempfile::tempdir().expect("a directory");
    let report = write_page(dir.path());
    let log = format!("--log-net-log={}", dir.path().join("net.json").display());
    let dom = chromium(dir.path(), &[&log, "--dump-dom"]);
    assert!(dom.contains("File integrity report for"), "{dom}");
    assert!(dom.contains("&lt;img src=x onerror=alert(1)&gt;\\x0a"), "the name is text, no element");
    assert!(!dom.contains("<script") && !dom.contains("<img"), "{dom}");
    assert_eq!(dom.matches("<svg").count(), 7, "every chart is drawn");
    assert_eq!(report.changes.counts.unauthorised, 7);

    let log = std::fs::read_to_string(dir.path().join("net.json")).expect("a log");
    let log: serde_json::Value = serde_json::from_str(&log).expect("JSON");
    let urls: Vec<&str> = log["events"]
        .as_array()
        .expect("events")
        .iter()
        .filter_map(|event| event.pointer("/params/url")?.as_str())
        .filter(|url| url.contains("x") && (url.starts_with("file:") || url.contains("example")))
        .collect();
    assert!(urls.iter().all(|url| url.ends_with("report.html")), "only the page itself is loaded: {urls:?}");
}

#[test]
fn it_prints_on_a_few_pages_of_paper() {
    let dir = tempfile::tempdir().expect("a directory");
    write_page(dir.path());
    chromium(dir.path(), &["--print-to-pdf=report.pdf", "--no-pdf-header-footer"]);
    let pdf = std::fs::read(dir.path().join("report.pdf")).expect("a document");
    let pages =
        pdf.windows(12).filter(|w| w.starts_with(b"/Type /Page\n") || w.starts_with(b"/Type /Page/")).count();
    assert!(pdf.starts_with(b"%PDF-") && (1..=8).contains(&pages), "{pages} pages, {} bytes", pdf.len());
    if let Some(keep) = std::env::var_os("FIM_KEEP_REPORT") {
        chromium(dir.path(), &["--window-size=1000,1330", "--screenshot=report.png"]);
        for name in ["report.html", "report.pdf", "report.png"] {
            std::fs::copy(dir.path().join(name), Path::new(&keep).join(name)).expect("copied");
        }
    }
    assert_eq!(rfc3339(BEGIN_NS), "2026-11-01T00:00:00.000000Z");
}
