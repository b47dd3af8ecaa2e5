//! Each kind of change once, on each file system, under each policy: who, what, response and final state.

mod attach;
mod cases;
mod expect;
mod not_live;
pub mod place;
mod run;
pub mod skipped;

use std::path::Path;

use crate::fim::{Policy, Setting};
use crate::kernel::Features;
use crate::report::{Report, say};

pub fn run(setting: &Setting, report: &mut Report) {
    for work in &setting.works {
        match Features::of(work) {
            Ok(kernel) => on_one(setting, report, work, &kernel),
            Err(e) => report.case(&format!("table/{}", work.display()), || Err(e.to_string())),
        }
    }
}

fn on_one(setting: &Setting, report: &mut Report, work: &Path, kernel: &Features) {
    say(&format!(
        "table: {} on {}, Linux {}; fanotify names: {}, rename pairs: {}, pidfd: {}",
        work.display(),
        kernel.file_system,
        kernel.release,
        kernel.names,
        kernel.rename,
        kernel.pidfd
    ));
    for policy in [Policy::Restore, Policy::Alert] {
        let prefix = format!("table/{}/{}", kernel.file_system, policy.name());
        let rows: Vec<_> =
            cases::CASES.iter().filter(|c| report.wants(&format!("{prefix}/{}", c.name))).collect();
        if !rows.is_empty() || report.wants(&format!("{prefix}/attach")) {
            run::run(setting, report, work, kernel, policy, &prefix, &rows);
        }
    }
}
