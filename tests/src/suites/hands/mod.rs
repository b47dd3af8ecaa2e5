//! What a person decides by hand: accept, restore, diff, quarantine; with a daemon and without, and who may not.

mod accept;
mod kept;
mod who;
pub mod world;

use crate::fim::Setting;
use crate::report::Report;

pub fn run(setting: &Setting, report: &mut Report) {
    for daemon in [true, false] {
        let place = if daemon { "running" } else { "stopped" };
        report.case(&format!("hands/{place}/accept"), || accept::present(setting, daemon));
        report.case(&format!("hands/{place}/accept-folder"), || accept::folder(setting, daemon));
        report.case(&format!("hands/{place}/accept-event"), || accept::event(setting, daemon));
        report.case(&format!("hands/{place}/accept-long-names"), || accept::long_names(setting, daemon));
        report.case(&format!("hands/{place}/accept-changed"), || accept::changed_meanwhile(setting, daemon));
        report.case(&format!("hands/{place}/restore"), || accept::restore(setting, daemon));
        report.case(&format!("hands/{place}/restore-version"), || accept::restore_version(setting, daemon));
        report.case(&format!("hands/{place}/quarantine"), || kept::each_type(setting, daemon));
        report.case(&format!("hands/{place}/quarantine-tree"), || kept::tree(setting, daemon));
        report.case(&format!("hands/{place}/vault-prune"), || kept::prune(setting, daemon));
        report.case(&format!("hands/{place}/quarantine-copy"), || kept::copy(setting, daemon));
        report.case(&format!("hands/{place}/unrecorded"), || kept::unrecorded(setting, daemon));
    }
    report.case("hands/diff", || accept::diff(setting));
    report.case("hands/errors", || who::errors(setting));
    report.case("hands/not-root", || who::not_root(setting));
    report.case("hands/other-version", || who::other_version(setting));
}
