//! `cargo xtask dist`: a .deb and an .rpm, the same bytes for the same sources.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{setup, sh};

#[derive(Args)]
pub struct Options {}

pub fn main(_: &Options) -> Result<ExitCode> {
    setup::setup(false)?;
    setup::packagers()?;
    let stage = Stage::build()?;
    for make in [deb, rpm] {
        let package = make(&stage, &stage.out)?;
        let once = fs::read(&package)?;
        if fs::read(make(&stage, &stage.out)?)? != once {
            bail!(
                "{} differs from one time to the next; SOURCE_DATE_EPOCH is not respected",
                package.display()
            );
        }
        println!("{}, {} bytes", package.display(), once.len());
    }
    Ok(ExitCode::SUCCESS)
}

/// What goes into the packages, besides the files of the repository; fim-userspace/Cargo.toml says what goes where.
pub struct Stage {
    dir: PathBuf,
    pub out: PathBuf,
    /// Seconds since the epoch: the last commit's time stands for all.
    time: String,
}

impl Stage {
    /// Builds for release.
    pub fn build() -> Result<Stage> {
        sh::run(sh::cargo().args(["build", "--release", "--package", "fim-userspace"]))?;
        let out = sh::workspace().join("target/dist");
        let dir = out.join("stage");
        if dir.exists() {
            fs::remove_dir_all(&dir).with_context(|| format!("cannot empty {}", dir.display()))?;
        }
        fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
        let git =
            Command::new("git").current_dir(sh::workspace()).args(["log", "-1", "--format=%ct"]).output();
        let time = git.ok().filter(|git| git.status.success()).map(|git| git.stdout);
        let time = time
            .and_then(|text| String::from_utf8(text).ok())
            .context("git does not tell the last commit's time")?;
        let stage = Stage { dir, out, time: time.trim().to_owned() };
        sh::quiet(
            sh::tool("strip")?.arg("-o").arg(stage.program()).arg(sh::target_dir().join("release/fim")),
        )?;
        sh::quiet(Command::new(stage.program()).arg("generate").arg(&stage.dir))?;
        let example = fs::read_to_string(sh::workspace().join("dist/fim.toml"))?;
        let other =
            example.replacen("preset = \"dpkg\"", "preset = \"dnf\"\n\n[[trust]]\npreset = \"rpm\"", 1);
        fs::write(stage.dir.join("fim-rpm.toml"), other)?;
        Ok(stage)
    }

    pub fn program(&self) -> PathBuf {
        self.dir.join("fim")
    }

    fn command(&self, tool: &str) -> Command {
        let mut command = sh::cargo();
        command.arg(tool).args(["--package", "fim-userspace"]).env("SOURCE_DATE_EPOCH", &self.time);
        command
    }
}

pub fn deb(stage: &Stage, out: &Path) -> Result<PathBuf> {
    deb_of_version(stage, out, None)
}

/// With another version than the workspace's.
pub fn deb_of_version(stage: &Stage, out: &Path, version: Option<&str>) -> Result<PathBuf> {
    let mut command = stage.command("deb");
    command.args(["--no-build", "--no-strip", "--quiet"]).arg("--output").arg(out);
    if let Some(version) = version {
        command.args(["--deb-version", version]);
    }
    last_line(&sh::output(&mut command)?)
}

fn rpm(stage: &Stage, out: &Path) -> Result<PathBuf> {
    let name = format!("fim-{}.rpm", env!("CARGO_PKG_VERSION"));
    let package = out.join(name);
    let mut command = stage.command("generate-rpm");
    sh::quiet(command.args(["--auto-req", "builtin"]).arg("--output").arg(&package))?;
    Ok(package)
}

/// cargo-deb says there what it has made.
fn last_line(said: &str) -> Result<PathBuf> {
    said.lines().last().map(PathBuf::from).filter(|path| path.exists()).context("cargo-deb names no package")
}
