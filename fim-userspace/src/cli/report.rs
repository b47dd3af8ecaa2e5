//! `fim report`: a period of the ledger for an auditor.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

use anyhow::{Context, bail};
use jiff::{Timestamp, Zoned};

use super::output::{Output, Taken};
use super::progress::{self, At, Unit};
use super::when;
use crate::config::Config;
use crate::core::path::display;
use crate::report::{Period, Report, csv, html};
use crate::store::Store;

#[derive(Debug, clap::Args)]
pub struct Args {
    /// One page that opens in any browser and prints
    #[arg(long, group = "format")]
    html: bool,
    /// The unauthorised changes as a table
    #[arg(long, group = "format")]
    csv: bool,
    /// From this time on: "30d", "2 weeks ago", "yesterday", "2026-11-22 14:00"
    #[arg(long, value_name = "TIME", default_value = "30d")]
    since: String,
    /// Up to this time
    #[arg(long, value_name = "TIME")]
    until: Option<String>,
    /// Write to FILE; its ending chooses the format where no option does
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Format {
    Html,
    Json,
    Csv,
}

pub fn run(config: &Config, args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let format = format(args, json)?;
    let now = Zoned::now();
    let moment = |text: &str| when::parse(text, &now).map(|time| time.timestamp());
    let until = args.until.as_ref().map_or(Ok(now.timestamp()), |text| moment(text))?;
    let since = moment(&args.since)?;
    if since >= until {
        bail!("the report would end ({until}) before it begins ({since}); look at --since and --until");
    }
    let ns = |time: Timestamp| i64::try_from(time.as_nanosecond()).unwrap_or(i64::MAX);
    let period = Period { since_ns: ns(since), until_ns: ns(until) };
    let store = Store::open_read_only(&config.state.dir)?;
    let write = |mut out: BufWriter<&mut dyn Write>| -> anyhow::Result<()> {
        if format == Format::Csv {
            csv::write(&store, period, &mut out)?;
        } else {
            let (done, total) = (AtomicU64::new(0), AtomicU64::new(0));
            let at = || At { done: done.load(Relaxed), total: Some(total.load(Relaxed)).filter(|n| *n > 0) };
            let mut tell = |so_far: u64, all: u64| {
                done.store(so_far, Relaxed);
                total.store(all, Relaxed);
            };
            let report = progress::shown("reading the ledger", Unit::Records, &at, || {
                Report::gather_telling(&store, config, period, ns(now.timestamp()), &mut tell)
            })?;
            print(&report, format, &mut out)?;
        }
        Ok(out.flush()?)
    };
    match &args.output {
        None => write(BufWriter::new(&mut io::stdout().lock()))?,
        Some(file) => {
            // Readable by its maker only: a report names users and programs.
            let mut out = Output::beside(file, Taken::File)?;
            write(BufWriter::new(&mut out.file))
                .and_then(|()| Ok(out.finish()?))
                .with_context(|| format!("the report cannot be written to {}", display(file)))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn format(args: &Args, json: bool) -> anyhow::Result<Format> {
    let ending = args.output.as_deref().and_then(Path::extension).and_then(|end| end.to_str());
    Ok(match (args.html, args.csv, json, ending) {
        (true, _, true, _) | (_, true, true, _) => {
            bail!("--json and another format exclude each other; choose one")
        }
        (true, ..) | (false, false, false, Some("html" | "htm")) => Format::Html,
        (_, true, ..) | (false, false, false, Some("csv")) => Format::Csv,
        (_, _, true, _) | (false, false, false, Some("json")) => Format::Json,
        _ => bail!(
            "say which report you want: --html, --json or --csv (for example `fim report --html -o report.html`)"
        ),
    })
}

fn print(report: &Report, format: Format, out: &mut impl Write) -> io::Result<()> {
    if format == Format::Html {
        return out.write_all(html::page(report).as_bytes());
    }
    serde_json::to_writer(&mut *out, report).map_err(io::Error::from)?;
    out.write_all(b"\n")
}
