//! Does one thing to a file, under given ids, and says beforehand who it is.
//!
//!     fim-actor [--uid U] [--gid G] [--groups G,…] [--linger] OP PATH [PATH2 | GROUP]
//!     fim-actor [ids] flood DIR COUNT | busy DIR SEED | race DIR OUTSIDE SWAPS SEED
//!     fim-actor who SHAPE FILE PLACE
//!     fim-actor [ids] exec | without-btf | without-dac PROGRAM [ARGUMENT…]

use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use fim_tests::actor::{self, Done, Op, SelfReport};

#[derive(Default)]
struct Options {
    uid: Option<u32>,
    gid: Option<u32>,
    groups: Vec<u32>,
    /// Stay until stdin is closed, so that /proc can still tell who it was.
    linger: bool,
    rest: Vec<String>,
}

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(e) => {
            eprintln!("fim-actor: {e:#}");
            ExitCode::FAILURE
        }
    }
}

fn parse(mut args: impl Iterator<Item = String>) -> Result<Options> {
    let mut options = Options::default();
    while let Some(arg) = args.next() {
        let mut value = || args.next().with_context(|| format!("{arg} needs a value"));
        match arg.as_str() {
            "--uid" => options.uid = Some(value()?.parse()?),
            "--gid" => options.gid = Some(value()?.parse()?),
            "--groups" => options.groups = value()?.split(',').map(str::parse).collect::<Result<_, _>>()?,
            "--linger" => options.linger = true,
            _ => {
                options.rest.push(arg);
                options.rest.extend(args);
                break;
            }
        }
    }
    Ok(options)
}

fn run() -> Result<()> {
    let options = parse(std::env::args().skip(1))?;
    let [what, args @ ..] = options.rest.as_slice() else {
        bail!("no operation given");
    };
    match what.as_str() {
        "without-btf" => actor::without_btf().context("cannot hide the kernel's type information")?,
        "who" => return who(args),
        "without-dac" => actor::without_dac().context("cannot give up capabilities")?,
        _ => {}
    }
    actor::become_user(options.uid, options.gid, &options.groups).context("cannot change ids")?;
    match (what.as_str(), args) {
        ("exec" | "without-btf" | "without-dac", command) => {
            return Err(actor::execute(command)).context("cannot start the program");
        }
        ("flood", [dir, count]) => {
            introduce()?;
            actor::flood(Path::new(dir), count.parse()?)?;
        }
        ("busy", [dir, seed]) => {
            introduce()?;
            actor::busy(Path::new(dir), seed.parse()?)?;
        }
        ("race", [dir, outside, swaps, seed]) => {
            introduce()?;
            actor::race::race(Path::new(dir), Path::new(outside), swaps.parse()?, seed.parse()?)?;
        }
        (name, [path, second @ ..]) => single(name, Path::new(path), second.first(), options.linger)?,
        (name, []) => bail!("{name} needs a path"),
    }
    Ok(())
}

/// Takes its ids itself.
fn who(args: &[String]) -> Result<()> {
    let [shape, file, place] = args else { bail!("who SHAPE FILE PLACE") };
    match actor::who::act(shape, Path::new(file), Path::new(place)) {
        Err(e) if e.kind() == std::io::ErrorKind::Unsupported => println!("unsupported"),
        other => other.with_context(|| format!("{shape} {file}"))?,
    }
    Ok(())
}

fn single(name: &str, path: &Path, second: Option<&String>, linger: bool) -> Result<()> {
    let op = Op::named(name).with_context(|| format!("there is no operation {name}"))?;
    let second = second.map(PathBuf::from);
    introduce()?;
    let touched =
        actor::perform(op, path, second.as_deref()).with_context(|| format!("{name} {}", path.display()))?;
    print(&Done { touched: touched.iter().map(|p| p.display().to_string()).collect() })?;
    if linger {
        std::io::stdin().read_to_end(&mut Vec::new())?;
    }
    Ok(())
}

fn introduce() -> Result<()> {
    print(&SelfReport::of_this_process()?)
}

fn print(value: &impl serde::Serialize) -> Result<()> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{}", serde_json::to_string(value)?)?;
    Ok(out.flush()?)
}
