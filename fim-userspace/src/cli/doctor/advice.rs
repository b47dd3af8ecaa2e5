//! The one line to change for a better tier.

use std::path::Path;

use super::kernel::Kernel;
use crate::config::TierChoice;
use crate::core::path::display;
use crate::core::tier::Tier;

pub struct Known<'a> {
    /// The daemon's tier, where one runs.
    pub running: Option<Tier>,
    /// What a trial gave; `None` without the rights for one.
    pub possible: Option<Tier>,
    pub choice: TierChoice,
    /// The configuration.
    pub file: &'a Path,
    pub kernel: &'a Kernel,
    /// Names of capabilities that fim lacks.
    pub missing: &'a [String],
    /// fim does not run in the host's pid namespace.
    pub foreign_pids: bool,
    /// The kernel could do more, and does not permit it: a lockdown, a sandbox, the host of a container.
    pub forbidden: bool,
}

/// `None` in the best tier, and where nothing is known that would help.
pub fn better(known: &Known<'_>) -> Option<String> {
    let possible = known.possible?;
    let asked = match known.choice {
        TierChoice::Auto => None,
        choice => Tier::from_name(choice.as_str()),
    };
    // Tiers are ordered from the best on.
    if asked.is_some_and(|asked| asked > possible) {
        return Some(format!("tier = \"auto\" in [sensor] of {}", display(known.file)));
    }
    if known.running.is_some_and(|running| running > possible) {
        return Some("systemctl restart fim (the kernel gives more now than when fim was started)".into());
    }
    match possible {
        Tier::Lsm => None,
        _ => of_the_host(known, possible),
    }
}

fn of_the_host(known: &Known<'_>, possible: Tier) -> Option<String> {
    let kernel = known.kernel;
    if known.foreign_pids {
        return Some("--pid=host (start fim's container in the pid namespace of its host)".into());
    }
    let lacking = ["CAP_BPF", "CAP_PERFMON", "CAP_SYS_ADMIN"]
        .into_iter()
        .filter(|cap| known.missing.iter().any(|missing| missing == cap));
    let lacking: Vec<&str> = lacking.collect();
    if !lacking.is_empty() {
        return Some(format!(
            "CapabilityBoundingSet={} in a drop-in (systemctl edit fim)",
            lacking.join(" ")
        ));
    }
    if !kernel.btf {
        return Some("a kernel with CONFIG_DEBUG_INFO_BTF=y, as Debian's and RHEL's have it".into());
    }
    if kernel.lockdown.as_deref() == Some("confidentiality") {
        return Some(parameter("lockdown=integrity"));
    }
    if known.forbidden {
        return None;
    }
    if possible != Tier::Fentry {
        return Some(
            "a kernel with CONFIG_FUNCTION_TRACER=y and CONFIG_DYNAMIC_FTRACE_WITH_DIRECT_CALLS=y, as Debian's and \
             RHEL's have it"
                .into(),
        );
    }
    if kernel.built_with("CONFIG_BPF_LSM") == Some(false) {
        return Some("a kernel with CONFIG_BPF_LSM=y, as Debian's and RHEL's have it".into());
    }
    let modules = kernel.security_modules.as_ref()?;
    let active = modules.iter().any(|module| module == "bpf");
    (!active).then(|| parameter(&format!("lsm={},bpf", modules.join(","))))
}

/// How a parameter of the kernel is set on this host.
fn parameter(word: &str) -> String {
    if Path::new("/usr/sbin/grubby").exists() {
        return format!("grubby --update-kernel=ALL --args=\"{word}\", then reboot");
    }
    format!("{word} in GRUB_CMDLINE_LINUX of /etc/default/grub, then update-grub and reboot")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kernel(modules: Option<&str>, lockdown: Option<&str>, btf: bool) -> Kernel {
        Kernel {
            release: "a kernel whose configuration lies nowhere".into(),
            btf,
            security_modules: modules.map(|text| text.split(',').map(str::to_owned).collect()),
            lockdown: lockdown.map(str::to_owned),
        }
    }

    fn known(kernel: &Kernel, possible: Tier) -> Known<'_> {
        Known {
            running: None,
            possible: Some(possible),
            choice: TierChoice::Auto,
            file: Path::new("/etc/fim/fim.toml"),
            kernel,
            missing: &[],
            foreign_pids: false,
            forbidden: false,
        }
    }

    #[test]
    fn each_lack_of_the_host_has_its_line() {
        let usual = "lockdown,capability,yama,apparmor";
        let says = |kernel: &Kernel, tier| better(&known(kernel, tier));
        assert_eq!(says(&kernel(Some(usual), None, true), Tier::Lsm), None);
        let line = says(&kernel(Some(usual), Some("none"), true), Tier::Fentry).expect("a line");
        assert!(
            line.contains("lsm=lockdown,capability,yama,apparmor,bpf") && line.contains("reboot"),
            "{line}"
        );
        // Where no trampoline can be had, the parameter would change nothing.
        let line = says(&kernel(Some(usual), None, true), Tier::Tracepoint).expect("a line");
        assert!(line.contains("DIRECT_CALLS") && !line.contains("lsm="), "{line}");
        assert!(says(&kernel(None, None, false), Tier::Fanotify).is_some_and(|line| line.contains("BTF")));
        let locked = says(&kernel(Some(usual), Some("confidentiality"), true), Tier::Fanotify);
        assert!(locked.is_some_and(|line| line.contains("lockdown=integrity")));
        // The module is active, and what is in the way is something else: the reasons say it.
        assert_eq!(says(&kernel(Some("capability,bpf"), None, true), Tier::Fentry), None);
        assert_eq!(says(&kernel(None, None, true), Tier::Fentry), None);
    }

    #[test]
    fn what_is_nearer_than_the_kernel_comes_first() {
        let kernel = kernel(Some("capability"), None, true);
        let usual = || known(&kernel, Tier::Fentry);
        let says = |known: Known<'_>| better(&known).unwrap_or_default();
        let asked = says(Known { choice: TierChoice::Fanotify, ..usual() });
        assert_eq!(asked, "tier = \"auto\" in [sensor] of /etc/fim/fim.toml");
        assert!(says(Known { choice: TierChoice::Lsm, ..usual() }).contains("lsm=capability,bpf"));
        let old = Known { running: Some(Tier::Fanotify), possible: Some(Tier::Lsm), ..usual() };
        assert!(says(old).starts_with("systemctl restart fim"));
        assert!(says(Known { foreign_pids: true, ..usual() }).contains("--pid=host"));
        let missing = ["CAP_PERFMON".to_owned(), "CAP_KILL".to_owned()];
        let line = says(Known { missing: &missing, possible: Some(Tier::Fanotify), ..usual() });
        assert!(line.starts_with("CapabilityBoundingSet=CAP_PERFMON in"), "{line}");
        // Another kernel would not be permitted either.
        assert_eq!(better(&Known { forbidden: true, possible: Some(Tier::Tracepoint), ..usual() }), None);
        assert_eq!(better(&Known { possible: None, ..usual() }), None, "nothing was tried");
    }
}
