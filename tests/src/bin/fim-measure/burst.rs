//! As many changes as one writer can make, and whether one of them is missed.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::process;
use crate::rounds::{median, wait_for};
use crate::setting::{PATIENCE, Policy, Setting};
use crate::table::{Row, Table, seconds};

pub fn measure(setting: &Setting, table: &mut Table) -> Result<(), String> {
    let files = setting.scale.burst / 3;
    let (mut writing, mut after, mut peak, mut missed) = (Vec::new(), Vec::new(), 0, 0);
    for _ in 0..setting.rounds {
        let tree = setting.empty("burst")?;
        for dir in 0..=files / 100 {
            fs::create_dir(tree.join(format!("d{dir:05}"))).map_err(|e| e.to_string())?;
        }
        let fim = setting.installation("burst", &tree, Policy::Tell)?;
        fim.init()?;
        let daemon = fim.start()?;
        let begun = Instant::now();
        write_all(&tree, files).map_err(|e| format!("{}: {e}", tree.display()))?;
        let wrote = begun.elapsed();
        let begun = Instant::now();
        wait_for("the burst is recorded", PATIENCE, || fim.at_rest().is_ok())?;
        after.push(begun.elapsed().as_secs_f64());
        writing.push(wrote.as_secs_f64());
        peak = peak.max(process::memory(daemon.pid(), "VmHWM")?);
        missed = missed.max(unrecorded(&fim, &tree, files)?);
        daemon.stop(PATIENCE)?;
        fim.remove();
        fs::remove_dir_all(&tree).map_err(|e| e.to_string())?;
        println!("   written in {:?}, caught up {:?} s later, {missed} missed", wrote, after.last());
    }
    let (writing, after) = (median(writing), median(after));
    table.row(Row {
        what: format!("burst of {} creates, writes and deletes", files * 3),
        fim: format!(
            "{missed} missed; caught up {} after the writer; {} MiB at most",
            seconds(after),
            peak / 1024
        ),
        against: format!("{:.2} × the writer's own time ({})", (writing + after) / writing, seconds(writing)),
        target: "nothing missed, at most 1.5, under 128 MiB".into(),
        met: Some(missed == 0 && after <= 0.5 * writing && peak < 128 * 1024),
        peers: String::new(),
    });
    Ok(())
}

fn place(tree: &Path, index: u32) -> PathBuf {
    tree.join(format!("d{:05}/f{index:06}", index / 100))
}

/// Every file is made, then every file is written anew, then every file is removed.
fn write_all(tree: &Path, files: u32) -> std::io::Result<()> {
    for index in 0..files {
        fs::write(place(tree, index), format!("{index} is new\n"))?;
    }
    for index in 0..files {
        fs::write(place(tree, index), format!("{index} was written again\n"))?;
    }
    for index in 0..files {
        fs::remove_file(place(tree, index))?;
    }
    Ok(())
}

/// Files of which the ledger has no record at all, or of which the last one does not say that nothing is there.
fn unrecorded(fim: &fim_tests::fim::Fim, tree: &Path, files: u32) -> Result<usize, String> {
    let mut last: HashMap<String, bool> = HashMap::new();
    for record in fim.log_after(0)? {
        if let Some(path) = record.path {
            last.insert(path, record.after.is_none() || record.transient);
        }
    }
    let gone = |index: &u32| last.get(&*place(tree, *index).to_string_lossy()).copied() == Some(true);
    Ok((0..files).filter(|index| !gone(index)).count())
}
