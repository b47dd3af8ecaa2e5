//! `fim report`: a period of the ledger for an auditor.

use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, bail};
use jiff::{Span, Timestamp, Zoned};

use super::output::{Output, Taken};
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
    /// From when on: a date, a time, or how long ago (`30d`, `2 weeks`)
    #[arg(long, value_name = "TIME", default_value = "30d")]
    since: String,
    /// Until when
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
    let until = args.until.as_ref().map_or(Ok(now.timestamp()), |text| moment(text, &now))?;
    let since = moment(&args.since, &now)?;
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
            let report = Report::gather(&store, config, period, ns(now.timestamp()))?;
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

/// A time (RFC 3339), a date or time of day here, or how long ago.
fn moment(text: &str, now: &Zoned) -> anyhow::Result<Timestamp> {
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(here) = text.parse::<jiff::civil::DateTime>() {
        return Ok(here.to_zoned(now.time_zone().clone())?.timestamp());
    }
    let ago = text.parse::<Span>().ok().and_then(|span| now.checked_sub(span.abs()).ok());
    ago.map(|then| then.timestamp()).with_context(|| {
        format!("{text:?} is no time; write 2026-11-01, 2026-11-01T08:00, or how long ago: 30d, 2 weeks, 12h")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_given_as_people_write_them() {
        let now: Zoned = "2026-11-22T12:00:00[Europe/Berlin]".parse().expect("sound");
        for (text, expected) in [
            ("2026-11-01T08:00:00Z", "2026-11-01T08:00:00Z"),
            ("2026-11-01", "2026-10-31T23:00:00Z"),
            ("2026-11-01T08:00", "2026-11-01T07:00:00Z"),
            ("30d", "2026-10-23T10:00:00Z"),
            ("2 weeks", "2026-11-08T11:00:00Z"),
            ("2 hours ago", "2026-11-22T09:00:00Z"),
        ] {
            let found = moment(text, &now).expect(text);
            assert_eq!(found.to_string(), expected, "{text}");
        }
        let said = moment("soon", &now).expect_err("no time").to_string();
        assert!(said.contains("\"soon\" is no time") && said.contains("30d"), "{said}");
    }
}
