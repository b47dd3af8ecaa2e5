//! Real packages, installed by the real programs.

use std::ffi::OsStr;
use std::path::Path;
use std::process::Command;

use super::root::{DPKG, MEDIA_TYPES, NETBASE, System, fetch, run, succeeded, watch_alone};
use crate::fim::{Fim, Setting};
use crate::record::Record;
use crate::wait;

/// dpkg as the preset has it, which vouches by the database of the private root.
fn preset(fim: &Fim) -> String {
    let programs: String =
        [DPKG, "/usr/bin/apt-get", "/usr/bin/apt"].iter().map(|p| watch_alone(Path::new(p))).collect();
    format!(
        "{programs}[[trust]]\npreset = \"apt\"\nwatches = [{:?}]\nroot = {:?}\n",
        fim.watched, fim.watched
    )
}

pub fn by_apt(setting: &Setting) -> Result<(), String> {
    let system = System::new(setting, "trust-apt", preset)?;
    let head = system.fim.log_head()?;
    let (root, own) = (&system.fim.watched, &system.fim.outside);
    fetch(NETBASE, own)?;
    let option = |name: &str, value: &Path| format!("{name}={}", value.display());
    let mut apt = Command::new("apt-get");
    for set in [
        option("Dir::State::status", &root.join("var/lib/dpkg/status")),
        option("Dir::State", &own.join("state")),
        option("Dir::State::lists", Path::new("/var/lib/apt/lists")),
        option("Dir::Cache", &own.join("cache")),
        option("Dir::Log", &own.join("log")),
        option("DPkg::Options::", Path::new(&format!("--root={}", root.display()))),
        option("DPkg::Options::", Path::new(&format!("--log={}", root.join("var/log/dpkg.log").display()))),
        "APT::Sandbox::User=root".to_owned(),
        "Debug::NoLocking=true".to_owned(),
    ] {
        apt.arg("-o").arg(set);
    }
    for dir in ["state/lists/partial", "cache/archives/partial", "log"] {
        std::fs::create_dir_all(own.join(dir)).map_err(|e| e.to_string())?;
    }
    succeeded(run(apt.args(["install", "-y", "-q", "--no-install-recommends", NETBASE]))?)?;
    let changes = system.quiet(head)?;
    installed(&system, &changes, "trust:apt")?;
    system.settled_quietly()
}

pub fn by_dpkg(setting: &Setting) -> Result<(), String> {
    let system = System::new(setting, "trust-dpkg", preset)?;
    let own = &system.fim.outside;
    let (netbase, media) = (fetch(NETBASE, own)?, fetch(MEDIA_TYPES, own)?);
    let dpkg = |args: &[&OsStr]| succeeded(system.dpkg(Path::new(DPKG), args)?);
    let install = OsStr::new("--install");

    let mut head = system.fim.log_head()?;
    dpkg(&[install, netbase.as_os_str(), media.as_os_str()])?;
    let changes = system.quiet(head)?;
    installed(&system, &changes, "trust:apt")?;

    // Again: each file is replaced by one of the same content.
    head = system.fim.log_head()?;
    dpkg(&[install, netbase.as_os_str()])?;
    if system.quiet(head)?.is_empty() {
        return Err("nothing was seen of the second installation".into());
    }

    head = system.fim.log_head()?;
    dpkg(&[OsStr::new("--purge"), OsStr::new(MEDIA_TYPES)])?;
    let changes = system.quiet(head)?;
    let gone = system.path("etc/mime.types");
    let deleted = |r: &Record| r.is_about(&gone) && r.kind == "deleted";
    if gone.exists() || !changes.iter().any(deleted) {
        return Err(format!("{} was to be purged", gone.display()));
    }
    system.settled_quietly()
}

/// A program that is watched nowhere, by its digest.
pub fn pinned(setting: &Setting) -> Result<(), String> {
    let text = succeeded(run(Command::new("sha256sum").arg(DPKG))?)?;
    let digest = text.split_whitespace().next().ok_or("sha256sum says nothing")?.to_owned();
    let more = |_: &Fim| {
        format!("[[trust]]\nname = \"pinned\"\nexe = \"{DPKG}\"\nsha256 = \"{digest}\"\ndescendants = true\n")
    };
    let system = System::new(setting, "trust-pinned", more)?;
    let head = system.fim.log_head()?;
    let netbase = fetch(NETBASE, &system.fim.outside)?;
    succeeded(system.dpkg(Path::new(DPKG), &[OsStr::new("--install"), netbase.as_os_str()])?)?;
    let changes = system.quiet(head)?;
    if let Some(other) = changes.iter().find(|r| r.authorised_by.as_deref() != Some("trust:pinned")) {
        return Err(format!("authorised by {:?}: {}", other.authorised_by, other.brief()));
    }
    system.settled_quietly()
}

/// A trusted program puts a new version of itself in its place; that one is trusted as the old one was.
pub fn replaces_itself(setting: &Setting) -> Result<(), String> {
    let more = |fim: &Fim| {
        let (bin, install) = (fim.home.join("bin"), fim.home.join("bin/deploy"));
        let made = std::fs::create_dir_all(&bin).and_then(|()| std::fs::copy("/usr/bin/install", &install));
        made.expect("install can be copied");
        std::fs::write(fim.outside.join("release"), "released\n").expect("written");
        format!("[[watch]]\npath = {bin:?}\n[[trust]]\nexe = {install:?}\n")
    };
    let system = System::new(setting, "trust-itself", more)?;
    let (deploy, release) = (system.fim.home.join("bin/deploy"), system.fim.outside.join("release"));
    for round in 0..3 {
        let head = system.fim.log_head()?;
        let to = system.path(&format!("etc/release-{round}"));
        succeeded(run(Command::new(&deploy).args(["-m", "755", "/usr/bin/install"]).arg(&deploy))?)?;
        succeeded(run(Command::new(&deploy).args(["-m", "644"]).args([&release, &to]))?)?;
        wait::until(setting.patience, || {
            let told = system.changes(head)?.iter().any(|r| r.is_about(&to));
            if told { Ok(()) } else { Err(format!("nothing about {}", to.display())) }
        })?;
        system.quiet(head)?;
        if !to.is_file() {
            return Err(format!("{} was taken away", to.display()));
        }
    }
    system.settled_quietly()
}

/// What a person would look for after installing netbase: its files, what its script made, and who vouches.
fn installed(system: &System<'_>, changes: &[Record], by: &str) -> Result<(), String> {
    for name in ["etc/protocols", "etc/hosts", "usr/share/doc/netbase/copyright"] {
        let path = system.path(name);
        if !path.is_file() {
            return Err(format!("{} was not installed", path.display()));
        }
        let about: Vec<&Record> = changes.iter().filter(|r| r.is_about(&path)).collect();
        if about.is_empty() || about.iter().any(|r| r.authorised_by.as_deref() != Some(by)) {
            let all: Vec<String> =
                about.iter().map(|r| format!("{} {:?}", r.brief(), r.authorised_by)).collect();
            return Err(format!("{} should be authorised by {by}: {}", path.display(), all.join(" ")));
        }
    }
    let script = system.path("etc/hosts");
    let shell = |r: &Record| {
        let exe = r.actor.as_ref().and_then(|a| a.exe.clone()).unwrap_or_default();
        r.is_about(&script) && (exe.ends_with("/cat") || exe.ends_with("/sh"))
    };
    if !changes.iter().any(shell) {
        return Err("what the package's script made is not told of under the script's name".into());
    }
    let listed = system.path("usr/share/doc/netbase/copyright");
    let vouched = |r: &&Record| {
        r.is_about(&listed) && r.vouched == Some(true) && r.package.as_deref() == Some("netbase")
    };
    if !changes.iter().any(|r| vouched(&r)) {
        let all: Vec<String> = changes
            .iter()
            .filter(|r| r.is_about(&listed))
            .map(|r| format!("{} {:?}", r.brief(), r.vouched))
            .collect();
        return Err(format!("netbase vouches for none of {}", all.join(" ")));
    }
    if let Some(wrong) = changes.iter().find(|r| r.vouched == Some(false)) {
        return Err(format!("a package is said to list another content: {}", wrong.brief()));
    }
    Ok(())
}
