//! `cargo xtask setup`: what the build and the tests need, installed where it is missing.
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::sh;

/// Newer ones need a newer rustc than the workspace's.
const BPF_LINKER: &str = "0.10.3";
const CARGO_DEB: &str = "3.8.0";
const CARGO_GENERATE_RPM: &str = "0.21.1";

/// The compiler of Debian's browsers, always with its sources: for the eBPF object where rustup cannot download.
const DEBIAN_RUSTC: [&str; 2] = ["rustc-web", "rust-web-src"];

#[derive(Args)]
pub struct Options {
    /// Only what the build needs, without what the tests and their virtual machines need
    #[arg(long)]
    pub no_vm: bool,
}

/// (a file that shows it is there or a program's name, the Debian package that brings it)
const BUILD: [(&str, &str); 2] = [("cc", "build-essential"), ("/usr/include/stdio.h", "build-essential")];
/// What the tests run against, real programs; servers they start for themselves, on loopback and in folders of their own.
const TESTS: [(&str, &str); 11] = [
    ("chromium", "chromium"),
    ("mariadbd", "mariadb-server"),
    ("postgres", "postgresql"),
    ("/usr/sbin/rsyslogd", "rsyslog"),
    ("/var/lib/dpkg/info/rsyslog-openssl.list", "rsyslog-openssl"),
    ("/usr/sbin/logrotate", "logrotate"),
    ("sqlite3", "sqlite3"),
    ("sudo", "sudo"),
    ("strace", "strace"),
    ("/usr/lib/python3/dist-packages/aiosmtpd/smtp.py", "python3-aiosmtpd"),
    ("/usr/lib/python3/dist-packages/prometheus_client/parser.py", "python3-prometheus-client"),
];
const VM: [(&str, &str); 7] = [
    ("mmdebstrap", "mmdebstrap"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("mkfs.ext4", "e2fsprogs"),
    ("mkfs.xfs", "xfsprogs"),
    ("mkfs.btrfs", "btrfs-progs"),
    ("xz", "xz-utils"),
    ("strip", "binutils"),
];

/// What fim is measured beside, and what the measurements run; none of it is needed for anything else.
const PEERS: [(&str, &str); 7] = [
    ("aide", "aide"),
    ("inotifywait", "inotify-tools"),
    ("fatrace", "fatrace"),
    ("/usr/lib/python3/dist-packages/watchdog/version.py", "python3-watchdog"),
    ("auditctl", "auditd"),
    ("zstd", "zstd"),
    ("git", "git"),
];

/// Installs the programs that fim is measured beside. Those that cannot be installed are left out of the measurement.
pub fn peers() {
    for (what, package) in PEERS {
        if present(what) {
            continue;
        }
        if let Err(error) = apt_install(&[package]) {
            println!("setup: {package} will not be measured: {error:#}");
        }
    }
}

pub fn main(options: &Options) -> Result<ExitCode> {
    setup(!options.no_vm)?;
    Ok(ExitCode::SUCCESS)
}

/// Idempotent, and quick when all is there.
pub fn setup(vm: bool) -> Result<()> {
    packages(vm)?;
    components()?;
    core_sources()?;
    cargo_tool("bpf-linker", BPF_LINKER)?;
    println!("setup: everything is there");
    Ok(())
}

fn packages(vm: bool) -> Result<()> {
    let wanted = BUILD.iter().chain(TESTS.iter().chain(&VM).filter(|_| vm));
    let mut missing: Vec<&str> =
        wanted.filter(|(what, _)| !present(what)).map(|(_, package)| *package).collect();
    missing.dedup();
    if missing.is_empty() {
        return Ok(());
    }
    apt_install(&missing)
        .with_context(|| format!("install {} by hand, then run this again", missing.join(" ")))
}

fn present(what: &str) -> bool {
    if what.starts_with('/') {
        Path::new(what).exists()
    } else {
        sh::find_tool(what).is_some() || versioned(what)
    }
}

/// Debian keeps PostgreSQL's programs out of PATH, by version.
fn versioned(program: &str) -> bool {
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    versions.into_iter().any(|version| version.path().join("bin").join(program).exists())
}

fn apt_install(packages: &[&str]) -> Result<()> {
    if sh::find_tool("apt-get").is_none() {
        bail!("there is no apt-get on this machine to install {}", packages.join(" "));
    }
    println!("setup: installing {} (apt-get)", packages.join(" "));
    if sh::quiet(install_command().args(packages)).is_ok() {
        return Ok(());
    }
    // The package lists may be missing or stale.
    println!("setup: apt-get update, then once more");
    if let Err(error) = sh::quiet(sh::as_root("apt-get").args(["update", "-qq"])) {
        // One unreachable source of many fails the whole update; the package may come from another.
        println!("setup: {error:#}");
    }
    sh::quiet(install_command().args(packages))
}

fn install_command() -> Command {
    let mut command = sh::as_root("env");
    command.args([
        "DEBIAN_FRONTEND=noninteractive",
        "apt-get",
        "install",
        "-y",
        "-qq",
        "--no-install-recommends",
    ]);
    command
}

fn components() -> Result<()> {
    for (command, component) in [("fmt", "rustfmt"), ("clippy", "clippy")] {
        if !sh::succeeds(sh::cargo().args([command, "--version"])) {
            println!("setup: adding {component} (rustup)");
            sh::quiet(Command::new("rustup").args(["component", "add", component])).with_context(|| {
                format!("cargo {command} is missing; install the toolchain's {component} component")
            })?;
        }
    }
    Ok(())
}

/// `-Z build-std=core` needs core's sources beside a compiler of the very same version.
fn core_sources() -> Result<()> {
    let sysroot =
        sh::output(Command::new("rustc").args(["--print", "sysroot"]).current_dir(sh::workspace()))?;
    if Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library/core").is_dir() || debian_sources() {
        return Ok(());
    }
    println!("setup: adding rust-src (rustup)");
    // rustup retries for minutes where it cannot reach its server.
    if sh::succeeds(
        Command::new("timeout")
            .args(["60", "rustup", "component", "add", "rust-src"])
            .current_dir(sh::workspace()),
    ) {
        return Ok(());
    }
    println!(
        "setup: rustup has no rust-src for this toolchain here; taking Debian's compiler for the eBPF object"
    );
    let installed = apt_install(&DEBIAN_RUSTC);
    if installed.is_ok() && debian_sources() {
        return Ok(());
    }
    installed?;
    bail!(
        "core's sources are missing, and the eBPF object needs them: `rustup component add rust-src`, \
         or on Debian `apt-get install {}`",
        DEBIAN_RUSTC.join(" ")
    )
}

fn debian_sources() -> bool {
    Path::new("/usr/bin/rustc").exists() && Path::new("/usr/lib/rustlib/src/rust/library/core").is_dir()
}

/// What records a terminal. Only who makes the recording anew needs it, so it is no part of the setup.
pub fn recorder() -> Result<()> {
    let missing: Vec<&str> = [("asciinema", "asciinema"), ("npx", "npm")]
        .iter()
        .filter(|(what, _)| !present(what))
        .map(|(_, p)| *p)
        .collect();
    if missing.is_empty() { Ok(()) } else { apt_install(&missing) }
}

/// What makes packages.
pub fn packagers() -> Result<()> {
    cargo_tool("cargo-deb", CARGO_DEB)?;
    cargo_tool("cargo-generate-rpm", CARGO_GENERATE_RPM)
}

/// A program from cargo's registry, in this version.
fn cargo_tool(name: &str, version: &str) -> Result<()> {
    // cargo may be in use without its folder in PATH.
    let home = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| Some(PathBuf::from(std::env::var_os("HOME")?).join(".cargo")));
    let program = sh::find_tool(name).or_else(|| Some(home?.join("bin").join(name)));
    let found = program
        .and_then(|program| sh::output(Command::new(program).arg("--version")).ok())
        .unwrap_or_default();
    // Some print their name before it.
    if found.split_whitespace().next_back() == Some(version) {
        return Ok(());
    }
    println!("setup: installing {name} {version} (cargo, takes a minute or two)");
    sh::run(sh::cargo().args(["install", "--quiet", "--locked", "--force", &format!("{name}@{version}")]))
}
