//! Which requirements of common standards the period gives evidence for, and which it does not.
//!
//! A report that claims too much is worth nothing: what was not there is said.

use std::path::Path;

use serde::Serialize;

use super::{Chain, Coverage, Tally};
use crate::config::Config;
use crate::core::policy::{OnAltered, OnCreated};

/// CIS names these among the audit tools.
const AUDIT_TOOLS: [&str; 6] = [
    "/sbin/auditctl",
    "/sbin/aureport",
    "/sbin/ausearch",
    "/sbin/autrace",
    "/sbin/auditd",
    "/sbin/augenrules",
];
const WEEK_S: u64 = 7 * 86_400;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The period gives evidence for it.
    Evidence,
    /// For a part of it.
    Partly,
    Missing,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Control {
    pub standard: &'static str,
    pub id: &'static str,
    /// What it asks, in short.
    pub asks: &'static str,
    pub standing: Standing,
    pub because: String,
}

struct Facts<'a> {
    config: &'a Config,
    coverage: &'a Coverage,
    changes: &'a Tally,
    chain: &'a Chain,
}

pub fn assess(config: &Config, coverage: &Coverage, changes: &Tally, chain: &Chain) -> Vec<Control> {
    let facts = Facts { config, coverage, changes, chain };
    vec![
        facts.pci_change_detection(),
        facts.pci_audit_logs(),
        facts.nist_integrity(),
        facts.nist_response(),
        facts.nist_non_repudiation(),
        facts.cis_regular(),
        facts.cis_audit_tools(),
    ]
}

impl Facts<'_> {
    fn watches(&self) -> usize {
        self.coverage.watches.len()
    }

    fn hours(&self) -> String {
        format!("fim watched during {:.1} % of the period", self.coverage.watched * 100.0)
    }

    /// Something is watched at all, and nearly all the time.
    fn steady(&self) -> bool {
        self.coverage.watched > 0.99 && self.coverage.gaps.iter().all(|gap| gap.closed.is_some())
    }

    fn weekly(&self) -> bool {
        self.config.sensor.scan_period.as_secs() <= WEEK_S
    }

    fn covers(&self, path: &str) -> bool {
        let resolved = std::fs::canonicalize(path).unwrap_or_else(|_| path.into());
        self.config.watches.iter().any(|watch| resolved.starts_with(&watch.path))
    }

    fn pci_change_detection(&self) -> Control {
        let routes = self.config.alerts.len();
        let standing = match (routes > 0, self.weekly() && self.steady()) {
            (true, true) => Standing::Evidence,
            (false, false) => Standing::Missing,
            _ => Standing::Partly,
        };
        let alerting = match routes {
            0 => "no alert route is at work, so personnel is told by the journal only".to_owned(),
            n => format!("{n} alert route(s) tell personnel"),
        };
        Control {
            standard: "PCI DSS 4.0.1",
            id: "11.5.2",
            asks: "A change-detection mechanism alerts personnel to unauthorised changes of critical files and compares \
                   them at least weekly.",
            standing,
            because: format!(
                "{} watch(es); every file is read again within {} h; {}; {alerting}",
                self.watches(),
                self.config.sensor.scan_period.as_secs() / 3_600,
                self.hours()
            ),
        }
    }

    fn pci_audit_logs(&self) -> Control {
        let logs: Vec<&str> =
            ["/var/log/audit", "/var/log"].into_iter().filter(|log| self.covers(log)).collect();
        let (standing, because) = match logs.first() {
            None => (
                Standing::Missing,
                "no watch covers /var/log; fim's own ledger is a chain of hashes, other logs are not protected by it".into(),
            ),
            Some(log) => (
                Standing::Partly,
                format!("{log} is watched; logs that grow are changes too, so read the rules of that watch"),
            ),
        };
        Control {
            standard: "PCI DSS 4.0.1",
            id: "10.3.4",
            asks: "Change detection on audit logs, so that log data cannot be changed without an alert.",
            standing,
            because,
        }
    }

    fn nist_integrity(&self) -> Control {
        let standing = if self.steady() { Standing::Evidence } else { Standing::Partly };
        Control {
            standard: "NIST SP 800-53 r5",
            id: "SI-7, SI-7(1), SI-7(2)",
            asks: "Integrity verification tools detect unauthorised changes of software, firmware and information, and tell of them.",
            standing,
            because: format!(
                "{} changes were detected, {} of them unauthorised; {}; {} coverage gap(s)",
                self.changes.counts.changes,
                self.changes.counts.unauthorised,
                self.hours(),
                self.coverage.gaps.len()
            ),
        }
    }

    fn nist_response(&self) -> Control {
        let acts = self.config.watches.iter().filter(|watch| {
            let policy = &watch.policy.base;
            !policy.dry_run
                && (policy.on_modified == OnAltered::Restore || policy.on_created != OnCreated::Alert)
        });
        let acting = acts.count();
        let dry = self.config.watches.iter().filter(|watch| watch.policy.base.dry_run).count();
        let dry = if dry > 0 { format!(" ({dry} in a dry run)") } else { String::new() };
        let standing = match acting {
            0 => Standing::Missing,
            n if n < self.watches() => Standing::Partly,
            _ => Standing::Evidence,
        };
        let counts = &self.changes.counts;
        Control {
            standard: "NIST SP 800-53 r5",
            id: "SI-7(5)",
            asks: "Automated response to integrity violations.",
            standing,
            because: format!(
                "{acting} of {} watch(es) undo changes{dry}; {} restored, {} quarantined, {} failed in the period",
                self.watches(),
                counts.restored,
                counts.quarantined + counts.deleted,
                counts.failed
            ),
        }
    }

    fn nist_non_repudiation(&self) -> Control {
        let counts = &self.changes.counts;
        let because = match &self.chain.fault {
            Some(fault) => format!("the ledger is not whole: {fault}"),
            None => format!(
                "{} of {} changes name one process for certain, with its login user; the ledger's {} records are whole. An \
                 account that several people share names none of them",
                counts.attributed_exactly, counts.changes, self.chain.sound
            ),
        };
        let standing = if self.chain.fault.is_some() { Standing::Missing } else { Standing::Partly };
        Control {
            standard: "NIST SP 800-53 r5",
            id: "AU-10",
            asks: "Evidence that an individual, or a process acting for one, performed an action.",
            standing,
            because,
        }
    }

    fn cis_regular(&self) -> Control {
        Control {
            standard: "CIS RHEL 9 2.0 (Debian 12: 6.3)",
            id: "6.1.1, 6.1.2",
            asks: "AIDE is installed; file system integrity is checked regularly.",
            standing: if self.weekly() { Standing::Partly } else { Standing::Missing },
            because: format!(
                "fim does what AIDE is asked for, with every file read again within {} h; the benchmark names AIDE, so whether \
                 fim counts is the auditor's to say",
                self.config.sensor.scan_period.as_secs() / 3_600
            ),
        }
    }

    fn cis_audit_tools(&self) -> Control {
        let present: Vec<&str> = AUDIT_TOOLS.into_iter().filter(|tool| Path::new(tool).exists()).collect();
        let left_out: Vec<&str> = present.iter().copied().filter(|tool| !self.covers(tool)).collect();
        let (standing, because) = match (present.as_slice(), left_out.as_slice()) {
            ([], _) => (Standing::Missing, "none of the audit tools is installed here".into()),
            (all, []) => {
                (Standing::Evidence, format!("all {} that are installed are watched by SHA-256", all.len()))
            }
            (_, [first, ..]) => {
                (Standing::Missing, format!("{} are in no watch, {first} among them", left_out.len()))
            }
        };
        Control {
            standard: "CIS RHEL 9 2.0 (Debian 12: 6.3)",
            id: "6.1.3",
            asks: "Cryptographic mechanisms protect the integrity of audit tools.",
            standing,
            because,
        }
    }
}
