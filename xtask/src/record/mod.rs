//! `cargo xtask record`: the recording that the README shows, made anew: a real fim undoes a real attack in a terminal.
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail};
use clap::Args;

use crate::{setup, sh};

/// Columns and lines of the terminal.
const SIZE: (u16, u16) = (128, 24);
/// What a page may have to load for it.
const MOST_BYTES: usize = 150 * 1024;
const SVG_TERM: &str = "svg-term-cli@2.1.1";
const STORY: &str = include_str!("story.sh");
/// For who cannot see it.
const TITLE: &str = "In a terminal fim watches /srv/www. www-data overwrites index.html; fim says who did it and puts it back \
                     within milliseconds. A removed folder comes back too. fim show tells of the change, line by line.";

#[derive(Args)]
pub struct Options {}

pub fn main(_: &Options) -> Result<ExitCode> {
    setup::setup(false)?;
    setup::recorder()?;
    sh::run(sh::cargo().args(["build", "--package", "fim-userspace", "--bin", "fim"]))?;
    let dir = sh::target_dir().join("record");
    let place = dir.join("place");
    fs::create_dir_all(&place).with_context(|| format!("cannot make {}", place.display()))?;
    let (place, dir) = (place.canonicalize()?, dir.canonicalize()?);
    let (story, cast) = (dir.join("story.sh"), dir.join("attack.cast"));
    fs::write(&story, STORY).with_context(|| format!("cannot write {}", story.display()))?;
    let fim = sh::target_dir().join("debug/fim").canonicalize().context("there is no fim")?;
    record(&[story.as_path(), &fim, &place], &cast)?;
    let svg = dir.join("attack.svg");
    render(&cast, &svg)?;
    let text = titled(&fs::read_to_string(&svg)?)?;
    harmless(&text)?;
    let out = sh::workspace().join("docs/attack.svg");
    fs::write(&out, &text).with_context(|| format!("cannot write {}", out.display()))?;
    println!("{}, {} bytes", out.display(), text.len());
    Ok(ExitCode::SUCCESS)
}

/// The story in a terminal of its own, with the time of each output.
fn record(words: &[&Path], cast: &Path) -> Result<()> {
    let story: Vec<String> = words.iter().map(|word| format!("'{}'", word.display())).collect();
    let (columns, lines) = SIZE;
    let command =
        format!("stty cols {columns} rows {lines}; exec unshare --mount --uts -- bash {}", story.join(" "));
    let mut recorder = sh::as_root("asciinema");
    // Nothing of the environment goes into the file.
    recorder.args(["rec", "--quiet", "--overwrite", "--env", "", "--command", &command]).arg(cast);
    recorder.env("COLUMNS", columns.to_string()).env("LINES", lines.to_string());
    sh::run(&mut recorder)
}

fn render(cast: &Path, svg: &Path) -> Result<()> {
    let (columns, lines) = SIZE;
    let mut command = Command::new("npx");
    command.args(["--yes", SVG_TERM, "--window", "--no-cursor"]);
    command.args(["--width", &columns.to_string(), "--height", &lines.to_string()]);
    sh::quiet(command.arg("--in").arg(cast).arg("--out").arg(svg))
}

/// With a title, which browsers read out.
fn titled(svg: &str) -> Result<String> {
    let (_, rest) = svg.split_once("<svg").context("svg-term has made no SVG")?;
    let (attributes, rest) = rest.split_once('>').context("svg-term has made no SVG")?;
    Ok(format!("<svg{attributes} role=\"img\"><title>{TITLE}</title>{rest}\n"))
}

/// Small, and nothing of this machine in it.
fn harmless(svg: &str) -> Result<()> {
    if svg.len() > MOST_BYTES {
        bail!("the recording has {} bytes, more than {MOST_BYTES}: shorten the story", svg.len());
    }
    let host = fs::read_to_string("/proc/sys/kernel/hostname")?;
    let mut own = vec![host.trim().to_owned(), sh::workspace().display().to_string()];
    own.extend(["USER", "LOGNAME"].iter().filter_map(|name| std::env::var(name).ok()));
    let shown = |word: &&String| word.len() > 2 && *word != "root" && svg.contains(word.as_str());
    match own.iter().find(shown) {
        Some(word) => bail!("the recording shows {word:?}, which is this machine's"),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_recording_of_the_readme_is_small_has_a_title_and_shows_an_attack_undone() {
        let readme = fs::read_to_string(sh::workspace().join("README.md")).expect("README.md");
        assert!(readme.contains("(docs/attack.svg)"), "the README shows it");
        let svg = fs::read_to_string(sh::workspace().join("docs/attack.svg")).expect("docs/attack.svg");
        assert!(svg.len() <= MOST_BYTES && svg.contains(&format!("<title>{TITLE}</title>")), "{}", svg.len());
        for words in ["modified", "www-data", "restored", "Owned"] {
            assert!(svg.contains(words), "{words}");
        }
        assert!(!svg.contains("/home/") && !svg.contains("target/"), "a path of who recorded it");
    }

    #[test]
    fn what_is_too_large_or_this_machines_is_refused() {
        assert!(harmless("<svg/>").is_ok());
        assert!(harmless(&" ".repeat(MOST_BYTES + 1)).is_err());
        assert!(harmless(&format!("<text>{}</text>", sh::workspace().display())).is_err());
    }
}
