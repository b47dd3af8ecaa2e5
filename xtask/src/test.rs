//! `cargo xtask test`: every check and every test, on a fresh machine, with one command.
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};

use crate::{setup, sh, vm};

#[derive(Args)]
pub struct Options {
    /// Only one part
    #[arg(long)]
    only: Option<Part>,
    /// Keep the folder that the end-to-end tests work in
    #[arg(long)]
    keep: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
enum Part {
    Lint,
    Unit,
    E2e,
    Vm,
}

/// (passed, failed)
type Counts = (u64, u64);

struct Stage {
    name: &'static str,
    result: Result<Counts>,
    took: Duration,
}

pub fn main(options: &Options) -> Result<ExitCode> {
    let mut stages = Vec::new();
    let wanted = |part| options.only.is_none_or(|only| only == part);
    let mut run = |name: &'static str, work: &dyn Fn() -> Result<Counts>| {
        println!("\n== {name}");
        let started = Instant::now();
        let result = work();
        if let Err(error) = &result {
            println!("{name}: {error:#}");
        }
        let good = result.is_ok();
        stages.push(Stage { name, result, took: started.elapsed() });
        good
    };
    // Without these nothing else means anything.
    let ready = run("setup", &|| setup::setup(wanted(Part::Vm)).map(|()| (0, 0)))
        && (options.only == Some(Part::Lint) || run("build", &|| build(wanted(Part::Unit))));
    if ready {
        if wanted(Part::Lint) {
            run("fmt", &|| cargo(&["fmt", "--all", "--check"]));
            run("clippy", &clippy);
        }
        if wanted(Part::Unit) {
            run("unit", &|| counted(sh::cargo().args(["test", "--no-fail-fast"]), libtest));
        }
        if wanted(Part::E2e) {
            run("e2e", &|| end_to_end(options.keep));
        }
        if wanted(Part::Vm) {
            run("vm", &|| vm::run(&vm::Options { jobs: 2, ..vm::Options::default() }));
        }
    }
    Ok(summary(&stages))
}

fn cargo(args: &[&str]) -> Result<Counts> {
    sh::run(sh::cargo().args(args)).map(|()| (0, 0))
}

fn build(tests: bool) -> Result<Counts> {
    cargo(&["build"])?;
    if tests { cargo(&["test", "--no-run", "--quiet"]) } else { Ok((0, 0)) }
}

fn clippy() -> Result<Counts> {
    cargo(&["clippy", "--all-targets", "--", "-D", "warnings"])
}

/// On this machine's own kernel, in the tiers that any kernel with type information gives: everything at full size in the
/// better one. The other tiers need what a machine may lack; virtual machines have it.
fn end_to_end(keep: bool) -> Result<Counts> {
    let dir = sh::target_dir();
    let (bin, work) = (dir.join("debug"), dir.join("e2e"));
    std::fs::create_dir_all(&work).with_context(|| format!("cannot make {}", work.display()))?;
    let everything = [
        "--suite",
        "table,flood,crash,bad-input,silent,hands,logs,lines,alerts,race,faults,who,trust,cost,service,metrics",
        "--scale",
        "full",
    ];
    let mut runs = vec![("fanotify", ["--suite", "table,flood", "--scale", "quick"])];
    if Path::new("/sys/kernel/btf/vmlinux").exists() {
        runs.insert(0, ("tracepoint", everything));
    } else {
        println!("this kernel has no type information (BTF): the tracepoint tier is left out here");
        runs[0].1 = everything;
    }
    let mut total = (0, 0);
    for (tier, suites) in runs {
        let mut command = sh::as_root(bin.join("fim-e2e"));
        command.arg("--fim").arg(bin.join("fim")).arg("--actor").arg(bin.join("fim-actor"));
        command.arg("--work").arg(&work).args(["--tier", tier, "--expect-tier", tier]).args(suites);
        println!("-- tier {tier}");
        let (passed, failed) = counted(&mut command, plain)?;
        total = (total.0 + passed, total.1 + failed);
    }
    if !keep {
        sh::quiet(sh::as_root("rm").arg("-rf").arg("--").arg(&work))?;
    }
    Ok(total)
}

/// Shows its standard output and adds up the result lines in it. A failure that no line counted counts one.
fn counted(command: &mut Command, parse: fn(&str) -> Option<Counts>) -> Result<Counts> {
    let mut child =
        command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().context("cannot start the tests")?;
    let output = BufReader::new(child.stdout.take().context("no standard output")?);
    let mut total: Option<Counts> = None;
    for line in output.split(b'\n') {
        let line = String::from_utf8_lossy(&line?).into_owned();
        println!("{line}");
        if let Some((passed, failed)) = parse(&line) {
            let (p, f) = total.unwrap_or_default();
            total = Some((p + passed, f + failed));
        }
    }
    let status = child.wait()?;
    let (passed, failed) = total.context("the tests printed no result line")?;
    let uncounted = !status.success() && failed == 0;
    if uncounted {
        println!("the tests ended with {status}");
    }
    Ok((passed, failed + u64::from(uncounted)))
}

/// "test result: ok. 10 passed; 0 failed; …"
fn libtest(line: &str) -> Option<Counts> {
    let (_, rest) = line.strip_prefix("test result: ")?.split_once(". ")?;
    let mut parts = rest.split("; ");
    let passed = parts.next()?.strip_suffix(" passed")?.parse().ok()?;
    Some((passed, parts.next()?.strip_suffix(" failed")?.parse().ok()?))
}

/// "10 passed, 0 failed"
fn plain(line: &str) -> Option<Counts> {
    let (passed, failed) = line.trim().strip_suffix(" failed")?.split_once(" passed, ")?;
    Some((passed.parse().ok()?, failed.parse().ok()?))
}

fn summary(stages: &[Stage]) -> ExitCode {
    println!("\n{:<8} {:>7} {:>8} {:>8}", "stage", "time", "passed", "failed");
    let (mut passed, mut failed) = (0, 0);
    for stage in stages {
        let (p, f) = *stage.result.as_ref().unwrap_or(&(0, 1));
        let counts = if stage.result.is_ok() && p + f == 0 {
            ("ok".into(), "".into())
        } else {
            (p.to_string(), f.to_string())
        };
        println!("{:<8} {:>5} s {:>8} {:>8}", stage.name, stage.took.as_secs(), counts.0, counts.1);
        passed += p;
        failed += f;
    }
    println!("{passed} passed, {failed} failed");
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_result_lines() {
        assert_eq!(libtest("test result: FAILED. 3 passed; 2 failed; 0 ignored; 0 measured"), Some((3, 2)));
        assert_eq!(libtest("test a::b ... ok"), None);
        assert_eq!(plain("12 passed, 3 failed"), Some((12, 3)));
        assert_eq!(plain("so 12 passed, 3 failed"), None);
    }

    #[test]
    fn counts_what_ends_badly_or_says_nothing() {
        let shell = |script: &str| counted(Command::new("sh").args(["-c", script]), plain);
        assert_eq!(
            shell("echo 2 passed, 0 failed; echo 1 passed, 1 failed; exit 1").expect("counts"),
            (3, 1)
        );
        assert_eq!(shell("echo 2 passed, 0 failed; exit 3").expect("counts"), (2, 1));
        assert!(shell("echo fine").is_err());
    }
}
