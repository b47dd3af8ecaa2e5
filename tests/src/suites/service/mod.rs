//! The daemon as a service manager has it: reloads, notifications, watchdog, capabilities.

mod capabilities;
mod notify;
mod reload;

use crate::fim::Setting;
use crate::report::Report;

pub fn run(setting: &Setting, report: &mut Report) {
    report.case("service/init-missing", || reload::init_missing(setting));
    report.case("service/reload/other-watches", || reload::other_watches(setting));
    report.case("service/reload/single-file", || reload::single_file(setting));
    report.case("service/reload/under-load", || reload::under_load(setting));
    report.case("service/reload/refused", || reload::refused(setting));
    report.case("service/notify", || notify::reload_is_told(setting));
    report.case("service/watchdog", || notify::watchdog(setting));
    report.case("service/capabilities", || capabilities::few(setting));
}
