//! What the work of others costs while somebody watches.

use std::fs;
use std::path::Path;

use crate::peers::{self, WATCHERS};
use crate::process;
use crate::rounds::{Candidate, Medians, in_turn, shell};
use crate::setting::{PATIENCE, Policy, Setting};
use crate::table::{Row, Table, list, percent, seconds};

/// A shell script that does its work in a folder of its own, and clears away behind itself.
struct Workload {
    what: String,
    script: String,
    target: f64,
}

pub fn measure(setting: &Setting, table: &mut Table) -> Result<(), String> {
    let stock = setting.empty("stock")?;
    let inside = setting.empty("inside")?;
    let outside = setting.empty("outside")?;
    let unpack = unpack(setting, &stock)?;
    let compile = compile(setting, &stock)?;
    for workload in [&unpack, &compile] {
        let medians = beside(setting, &inside, &inside, &workload.script, true)?;
        row(table, workload, "inside a watched tree", workload.target, &medians)?;
    }
    let medians = beside(setting, &inside, &outside, &unpack.script, false)?;
    row(table, &unpack, "outside the watched trees", 0.01, &medians)?;
    kernel_programs(setting, table, &inside, &outside, &unpack.script)?;
    for dir in [stock, inside, outside] {
        fs::remove_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    }
    Ok(())
}

fn unpack(setting: &Setting, stock: &Path) -> Result<Workload, String> {
    let tree = stock.join("tree");
    crate::baseline::make_files(&tree, setting.scale.unpacked)?;
    let archive = stock.join("tree.tar");
    shell(&format!("tar -C {} -cf {} tree; rm -rf {}", stock.display(), archive.display(), tree.display()))?;
    Ok(Workload {
        what: format!("tar x and rm -rf of {} files", setting.scale.unpacked),
        script: format!("tar -xf {}; rm -rf tree", archive.display()),
        target: 0.15,
    })
}

fn compile(setting: &Setting, stock: &Path) -> Result<Workload, String> {
    let repository = stock.join("source");
    fs::create_dir_all(&repository).map_err(|e| e.to_string())?;
    for index in 0..setting.scale.compiled {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n#include <math.h>\n#include <time.h>\n\
             int f{index}(int n) {{ char b[64]; int s = 0; for (int i = 0; i < n; i++) {{ snprintf(b, sizeof b, \"%d\", i * {index}); \
             s += strlen(b); }} return s; }}\n"
        );
        fs::write(repository.join(format!("f{index}.c")), text).map_err(|e| e.to_string())?;
    }
    shell(&format!(
        "cd {}; git init -q .; git add -A; git -c user.name=m -c user.email=m@example.org commit -q -m all",
        repository.display()
    ))?;
    Ok(Workload {
        what: format!("git clone and compile of {} files", setting.scale.compiled),
        script: format!(
            "git clone -q {} clone; ls clone/*.c | xargs -P {} -I F cc -O1 -c F -o F.o; rm -rf clone",
            repository.display(),
            crate::limits::processors()
        ),
        target: 0.03,
    })
}

/// The workload with nobody, with fim and, if wanted, with each of the others.
fn beside(
    setting: &Setting,
    watched: &Path,
    place: &Path,
    script: &str,
    others: bool,
) -> Result<Medians, String> {
    let fim = setting.installation("foreground", watched, Policy::Tell)?;
    let run = || shell(&format!("cd {}; {script}", place.display()));
    run()?;
    let mut candidates: Vec<Candidate<'_>> = vec![
        ("nothing", Box::new(run)),
        (
            "fim",
            Box::new(|| {
                fim.ok(&["init", "--replace"])?;
                let daemon = fim.start()?;
                let took = run();
                crate::rounds::wait_for("fim is at rest", PATIENCE, || fim.at_rest().is_ok())?;
                daemon.stop(PATIENCE)?;
                took
            }),
        ),
    ];
    for name in WATCHERS.into_iter().filter(|_| others) {
        candidates.push((
            name,
            Box::new(move || {
                let _watcher = peers::watch(name, watched)?;
                run()
            }),
        ));
    }
    let medians = in_turn(setting.rounds, candidates);
    fim.remove();
    Ok(medians)
}

fn row(
    table: &mut Table,
    workload: &Workload,
    place: &str,
    target: f64,
    medians: &Medians,
) -> Result<(), String> {
    let nothing = medians.of("nothing")?;
    let slower = |took: f64| took / nothing - 1.0;
    let took = medians.of("fim")?;
    table.row(Row {
        what: format!("{}, {place}", workload.what),
        fim: percent(slower(took)),
        against: format!("{} with nothing watching", seconds(nothing)),
        target: format!("under {:.0} %", target * 100.0),
        met: Some(slower(took) < target),
        peers: list(medians, &WATCHERS, |took| percent(slower(took))),
    });
    Ok(())
}

const STATISTICS: &str = "/proc/sys/kernel/bpf_stats_enabled";

/// What fim's programs cost for each operation that is not watched.
fn kernel_programs(
    setting: &Setting,
    table: &mut Table,
    watched: &Path,
    outside: &Path,
    script: &str,
) -> Result<(), String> {
    let fim = setting.installation("programs", watched, Policy::Tell)?;
    fim.init()?;
    let daemon = fim.start()?;
    let before = fs::read_to_string(STATISTICS).map_err(|e| format!("{STATISTICS}: {e}"))?;
    fs::write(STATISTICS, "1").map_err(|e| format!("{STATISTICS}: {e}"))?;
    let first = process::kernel_programs(daemon.pid());
    let done = shell(&format!("cd {}; {script}", outside.display()));
    let last = process::kernel_programs(daemon.pid());
    fs::write(STATISTICS, before.trim()).map_err(|e| format!("{STATISTICS}: {e}"))?;
    done?;
    daemon.stop(PATIENCE)?;
    fim.remove();
    let (runs, ns) = (last.0 - first.0, last.1 - first.1);
    let each = ns as f64 / runs.max(1) as f64;
    table.row(Row {
        what: "kernel programs, for each run that is not of a watched file".into(),
        fim: if runs == 0 { "no program ran".into() } else { format!("{each:.0} ns") },
        against: format!("{runs} runs"),
        target: "under 100 ns".into(),
        met: (runs > 0).then_some(each < 100.0),
        peers: String::new(),
    });
    Ok(())
}
