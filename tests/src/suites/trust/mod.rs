//! Who may change what is watched: real package managers, those who pretend to be one, and maintenance windows.
//!
//! The packages are real ones, fetched by the machine's own apt and installed into a private root, which is the watched
//! tree. Needs a Debian system with a mirror; nothing of the system itself is changed.

mod impostors;
mod launder;
mod maintenance;
mod packages;
mod root;

use crate::fim::Setting;
use crate::report::Report;

type Case = fn(&Setting) -> Result<(), String>;

const CASES: [(&str, Case); 13] = [
    ("apt-get-install", packages::by_apt),
    ("dpkg-install-upgrade-purge", packages::by_dpkg),
    ("pinned", packages::pinned),
    ("replaces-itself", packages::replaces_itself),
    ("copy-elsewhere", impostors::copy),
    ("shell-with-its-name", impostors::shell),
    ("altered", impostors::altered),
    ("together-with-a-stranger", impostors::together),
    ("touched-after-a-stranger", impostors::touched),
    ("passed-through-its-hands", launder::laundered),
    ("maintenance", maintenance::window),
    ("maintenance-ends", maintenance::ends),
    ("maintenance-refused", maintenance::refused),
];

pub fn run(setting: &Setting, report: &mut Report) {
    for (name, case) in CASES {
        report.case(&format!("trust/{name}"), || case(setting).map(|()| String::new()));
    }
}
