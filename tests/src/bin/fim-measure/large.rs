//! A tree of a million files that nobody changes.

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use fim_tests::fim::Fim;

use crate::limits::{self, Pass};
use crate::process;
use crate::rounds::{Candidate, in_turn, median, time_command};
use crate::setting::{PATIENCE, Policy, Setting};
use crate::table::{Row, Table, seconds};

pub fn measure(setting: &Setting, table: &mut Table) -> Result<(), String> {
    let tree = setting.empty("large")?;
    crate::baseline::make_files(&tree, setting.scale.large)?;
    let fim = setting.installation("large", &tree, Policy::Tell)?;
    fim.init()?;
    limits::pass(&tree, Pass::Sweep)?;
    quick_check(setting, table, &fim, &tree)?;
    start(setting, table, &fim)?;
    fim.remove();
    fs::remove_dir_all(&tree).map_err(|e| e.to_string())
}

fn quick_check(
    setting: &Setting,
    table: &mut Table,
    fim: &Fim,
    tree: &std::path::Path,
) -> Result<(), String> {
    let help = fim.output(&["check", "--help"])?;
    if !String::from_utf8_lossy(&help.stdout).contains("--quick") {
        println!("   fim check has no --quick: the start of the daemon makes the same comparison");
        return Ok(());
    }
    let candidates: Vec<Candidate<'_>> = vec![
        ("sweep", Box::new(|| limits::pass(tree, Pass::Sweep).map(|seen| seen.seconds))),
        ("quick check", Box::new(|| time_command(&mut fim.command(&["check", "--quick"]), &[0]))),
    ];
    let medians = in_turn(setting.rounds, candidates);
    let (took, sweep) = (medians.of("quick check")?, medians.of("sweep")?);
    table.row(Row {
        what: format!("quick check of {} unchanged files", setting.scale.large),
        fim: seconds(took),
        against: format!("{:.2} × the bare sweep ({})", took / sweep, seconds(sweep)),
        target: "at most 1.5".into(),
        met: Some(took <= 1.5 * sweep),
        peers: String::new(),
    });
    Ok(())
}

fn start(setting: &Setting, table: &mut Table, fim: &Fim) -> Result<(), String> {
    let (mut first, mut ready, mut rss, mut idle) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    let (mut peak, mut marked) = (0, 0);
    for round in 0..setting.rounds {
        let begun = Instant::now();
        let mut daemon = fim.spawn(fim.command(&["run"]))?;
        let victim = fim.watched.join(format!("d00000/f{:07}", round % 100));
        // A file that is altered right away is told of when the daemon gets to see it, and by whom.
        let told = victim.to_string_lossy().into_owned();
        fs::write(&victim, format!("{round} altered\n")).map_err(|e| e.to_string())?;
        let (mut answered, mut came) = (None, None);
        while answered.is_none() || came.is_none() {
            let line = daemon.next_line(PATIENCE.saturating_sub(begun.elapsed()))?;
            if line == "ready" {
                came = Some(begun.elapsed().as_secs_f64());
            }
            if line.contains(&told) {
                answered = Some(begun.elapsed().as_secs_f64());
            }
        }
        first.push(answered.unwrap_or(f64::NAN));
        ready.push(came.unwrap_or(f64::NAN));
        crate::rounds::wait_for("the scan ends", PATIENCE, || fim.at_rest().is_ok())?;
        // What was freed goes back to the kernel a moment later.
        std::thread::sleep(Duration::from_secs(2));
        let before = process::time(daemon.pid())?;
        std::thread::sleep(setting.scale.idle);
        let used = process::time(daemon.pid())?.saturating_sub(before);
        idle.push(used.as_secs_f64() / setting.scale.idle.as_secs_f64());
        rss.push(process::memory(daemon.pid(), "VmRSS")? as f64 / 1024.0);
        peak = peak.max(process::memory(daemon.pid(), "VmHWM")?);
        marked = marks(daemon.pid());
        daemon.stop(PATIENCE)?;
        println!(
            "   ready {:?} first {:?} rss {:?} idle {:?}",
            ready.last(),
            first.last(),
            rss.last(),
            idle.last()
        );
    }
    let (first, ready, rss, idle) = (median(first), median(ready), median(rss), median(idle));
    let files = setting.scale.large;
    let row = |what: String, fim: String, against: String, target: &str, met: bool| Row {
        what,
        fim,
        against,
        target: target.into(),
        met: Some(met),
        peers: String::new(),
    };
    table.row(row(
        format!("start with {files} files and a baseline, to the first event answered"),
        seconds(first),
        format!("everything marked and compared after {}", seconds(ready)),
        "under 1 s",
        first < 1.0,
    ));
    table.row(row(
        format!("memory with {files} watched files"),
        format!("{rss:.0} MiB resident"),
        format!("{} MiB at most, while it starts; {marked} kernel marks beside", peak / 1024),
        "under 64 MiB",
        rss < 64.0,
    ));
    table.row(row(
        "idle".into(),
        format!("{:.3} % of a core", idle * 100.0),
        String::new(),
        "under 0.1 %",
        idle < 0.001,
    ));
    Ok(())
}

/// How many fanotify marks the process holds.
fn marks(pid: u32) -> usize {
    let count = format!("cat /proc/{pid}/fdinfo/* 2>/dev/null | grep -c '^fanotify ino' || true");
    let output = Command::new("sh").args(["-c", &count]).output();
    output.ok().and_then(|o| String::from_utf8_lossy(&o.stdout).trim().parse().ok()).unwrap_or(0)
}
