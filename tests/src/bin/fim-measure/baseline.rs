//! The first baseline, and the check of all of it.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::limits::{self, Pass};
use crate::peers;
use crate::rounds::{Candidate, in_turn, shell, time_command, timed};
use crate::setting::{Policy, Setting};
use crate::table::{Row, Table, list, seconds};

pub fn measure(setting: &Setting, table: &mut Table) -> Result<(), String> {
    real_tree(setting, table)?;
    tiny_files(setting, table)
}

fn real_tree(setting: &Setting, table: &mut Table) -> Result<(), String> {
    let tree = setting.tree.as_path();
    // Everything comes into the page cache.
    limits::pass(tree, Pass::Read)?;
    let aide = peers::aide(setting, tree)?;
    let mut rates = Vec::new();
    let (mut seen, mut read) = (limits::Seen::default(), 0.0);
    let fim = setting.installation("tell", tree, Policy::Tell)?;
    let keeping = setting.installation("keep", tree, Policy::Keep)?;
    let pass = |pass| limits::pass(tree, pass).map(|seen| seen.seconds);
    let candidates: Vec<Candidate<'_>> = vec![
        (
            "SHA-256",
            Box::new(|| {
                rates.push((limits::sha256(1), limits::sha256(limits::processors())));
                Ok(rates.last().map_or(0.0, |r| r.1))
            }),
        ),
        (
            "sweep",
            Box::new(|| {
                seen = limits::pass(tree, Pass::Sweep)?;
                Ok(seen.seconds)
            }),
        ),
        (
            "read",
            Box::new(|| {
                read = pass(Pass::Read)?;
                Ok(read)
            }),
        ),
        ("bare pass", Box::new(|| pass(Pass::Digest))),
        ("fim init", Box::new(|| time_command(&mut fim.command(&["init", "--replace"]), &[0, 1]))),
        ("fim check", Box::new(|| time_command(&mut fim.command(&["check"]), &[0, 1]))),
        ("AIDE init", Box::new(|| aide.init())),
        ("AIDE check", Box::new(|| aide.check())),
    ];
    let medians = in_turn(setting.rounds, candidates);
    let one = crate::rounds::median(rates.iter().map(|r| r.0).collect());
    let all = medians.of("SHA-256")?;
    let (bytes, sweep) = (seen.bytes as f64, medians.of("sweep")?);
    let limit = bytes / all + sweep;
    let reading = (medians.of("read")? - sweep).max(0.001);
    table.limit("SHA-256, one processor", format!("{:.2} GB/s", one / 1e9));
    table.limit("SHA-256, all processors", format!("{:.2} GB/s", all / 1e9));
    table.limit("reading the page cache, all processors", format!("{:.1} GB/s", bytes / reading / 1e9));
    let what = format!("{}: {} objects, {:.2} GB", tree.display(), seen.objects, bytes / 1e9);
    table.limit("bare getdents and statx sweep, all processors", format!("{} ({what})", seconds(sweep)));
    table.limit("bare pass that digests all, all processors", seconds(medians.of("bare pass")?));
    let bound = |what: &str, name: &str, peers: &[&str]| -> Result<Row, String> {
        let took = medians.of(name)?;
        Ok(Row {
            what: what.into(),
            fim: seconds(took),
            against: format!("{:.2} × (digests + sweep = {})", took / limit, seconds(limit)),
            target: "at most 1.15".into(),
            met: Some(took <= 1.15 * limit),
            peers: list(&medians, peers, seconds),
        })
    };
    table.row(bound("first baseline, warm, no versions", "fim init", &["AIDE init"])?);
    table.row(bound("full check with digests", "fim check", &["AIDE check"])?);
    let keeping_times: Vec<Candidate<'_>> = vec![
        (
            "tar | zstd",
            Box::new(|| {
                let (tree, out) = (tree.display(), setting.work.join("tree.tar.zst"));
                let done = shell(&format!(
                    "tar -C {tree} -cf - . 2>/dev/null | zstd -q -1 -T0 -f -o {}",
                    out.display()
                ));
                let _ = fs::remove_file(out);
                done
            }),
        ),
        (
            "fim init",
            Box::new(|| {
                let _ = fs::remove_dir_all(&keeping.state);
                time_command(&mut keeping.command(&["init"]), &[0, 1])
            }),
        ),
    ];
    let medians = in_turn(setting.rounds, keeping_times);
    let (took, packing) = (medians.of("fim init")?, medians.of("tar | zstd")?);
    table.row(Row {
        what: "the same with versions kept".into(),
        fim: seconds(took),
        against: format!("{:.2} × `tar c \\| zstd -1 -T0` ({})", took / packing, seconds(packing)),
        target: "at most 1.3".into(),
        met: Some(took <= 1.3 * packing),
        peers: String::new(),
    });
    keeping.remove();
    fim.remove();
    Ok(())
}

fn tiny_files(setting: &Setting, table: &mut Table) -> Result<(), String> {
    let tree = setting.empty("tiny")?;
    make_files(&tree, setting.scale.tiny)?;
    let aide = peers::aide(setting, &tree)?;
    let fim = setting.installation("tiny", &tree, Policy::Tell)?;
    let candidates: Vec<Candidate<'_>> = vec![
        ("bare pass", Box::new(|| limits::pass(&tree, Pass::Digest).map(|seen| seen.seconds))),
        (
            "fim init",
            Box::new(|| {
                let _ = fs::remove_dir_all(&fim.state);
                time_command(&mut fim.command(&["init"]), &[0])
            }),
        ),
        ("AIDE init", Box::new(|| aide.init())),
    ];
    let medians = in_turn(setting.rounds, candidates);
    let (took, bare) = (medians.of("fim init")?, medians.of("bare pass")?);
    table.row(Row {
        what: format!("first baseline of {} tiny files", setting.scale.tiny),
        fim: seconds(took),
        against: format!("{:.2} × a bare pass ({})", took / bare, seconds(bare)),
        target: "at most 2".into(),
        met: Some(took <= 2.0 * bare),
        peers: list(&medians, &["AIDE init"], seconds),
    });
    fim.remove();
    fs::remove_dir_all(&tree).map_err(|e| e.to_string())
}

/// A hundred in each folder, each with a line of its own.
pub fn make_files(tree: &Path, files: u32) -> Result<(), String> {
    timed(|| {
        for index in 0..files {
            let dir = tree.join(format!("d{:05}", index / 100));
            if index % 100 == 0 {
                fs::create_dir_all(&dir).map_err(|e| e.to_string())?;
            }
            fs::write(dir.join(format!("f{index:07}")), format!("{index}\n")).map_err(|e| e.to_string())?;
        }
        Ok(())
    })?;
    // What is written back later would disturb what is measured.
    Command::new("sync").status().map(drop).map_err(|e| format!("sync: {e}"))
}
