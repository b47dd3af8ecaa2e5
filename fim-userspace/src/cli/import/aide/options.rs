//! Options of an aide.conf, and what fim has instead.

use super::line::{Line, Outcome};

const OWN_RECORDS: &str = "fim keeps its baseline and records in [state] dir";
const OWN_REPORTS: &str = "`fim check`, `fim log` and `fim show` say what changed and how";
const OWN_WAY: &str = "fim needs no such setting";

/// Beginnings of names, and what is to be said of them.
const KNOWN: [(&str, Outcome, &str); 20] = [
    ("database_attrs", Outcome::Needless, "records are chained and sealed; `fim log verify` checks them"),
    ("database_add_metadata", Outcome::Needless, OWN_RECORDS),
    ("database", Outcome::Needless, OWN_RECORDS),
    ("gzip_dbout", Outcome::Needless, "copies in the vault are compressed"),
    (
        "report_url",
        Outcome::Needless,
        "records go to the journal; add [[log]] and [[alert]] for other places",
    ),
    ("report_ignore_e2fsattrs", Outcome::Needless, "flags that nobody can set are not compared"),
    (
        "report_ignore_",
        Outcome::Lost,
        "write the attributes into `ignore` of the watches or rules where they are meant",
    ),
    ("report_force_attrs", Outcome::Needless, OWN_REPORTS),
    ("report_", Outcome::Needless, OWN_REPORTS),
    ("summarize_changes", Outcome::Needless, OWN_REPORTS),
    ("grouped", Outcome::Needless, OWN_REPORTS),
    ("verbose", Outcome::Needless, OWN_REPORTS),
    ("log_level", Outcome::Needless, OWN_REPORTS),
    ("syslog_format", Outcome::Needless, "a [[log]] of type \"syslog\" has its own `format`"),
    ("acl_no_symlink_follow", Outcome::Needless, "fim follows no link below a watch"),
    ("warn_dead_symlinks", Outcome::Needless, OWN_WAY),
    ("config_version", Outcome::Needless, OWN_WAY),
    ("config_check_warn_unrestricted_rules", Outcome::Needless, OWN_WAY),
    ("num_workers", Outcome::Needless, "fim reads with as many threads as there are processors"),
    ("root_prefix", Outcome::Lost, "another system's root is given to `fim check --root`"),
];

/// Groups may be called anything, but not like these.
pub fn is_option(name: &str) -> bool {
    !name.is_empty() && KNOWN.iter().any(|(known, ..)| name.starts_with(known))
}

pub fn translate(line: &mut Line, name: &str, value: &str) {
    let Some((_, outcome, why)) = KNOWN.iter().find(|(known, ..)| name.starts_with(known)) else { return };
    line.note(*outcome, *why);
    if name == "report_url" && value.starts_with("syslog") {
        line.note(
            Outcome::Lost,
            "for syslog add a [[log]] with type = \"syslog\" and address = \"unix:///dev/log\"",
        );
    }
}
