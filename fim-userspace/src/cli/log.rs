//! `fim log`: the ledger, oldest first.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};
use std::process::ExitCode;
use std::time::Duration;

use nix::unistd::{Uid, User};

use crate::config::Config;
use crate::core::event::Record;
use crate::sink::line;
use crate::store::Store;

/// Records read at once.
const PAGE: usize = 1_000;
/// How many records `--follow` begins with.
const BEFORE_FOLLOWING: usize = 10;
/// How soon `--follow` sees a new record.
const POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Default, clap::Args)]
pub struct Args {
    /// Only the last N records
    #[arg(short = 'n', long = "lines", value_name = "N")]
    lines: Option<usize>,
    /// Go on as records are made
    #[arg(short, long)]
    follow: bool,
}

pub fn run(config: &Config, args: &Args, json: bool) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(&config.state.dir)?;
    let mut printer = Printer::new(io::stdout().lock(), json);
    let mut last = match args.lines.or(args.follow.then_some(BEFORE_FOLLOWING)) {
        // Without a limit from the first record on, page by page.
        None => 0,
        Some(count) => {
            let records = store.ledger_tail(count)?;
            let last = records.last().map_or(store.ledger_head()?.seq, |r| r.seq);
            printer.print(&records)?;
            if !args.follow {
                return Ok(ExitCode::SUCCESS);
            }
            last
        }
    };
    loop {
        let records = store.ledger_after(last, PAGE)?;
        printer.print(&records)?;
        match records.last() {
            Some(record) => last = record.seq,
            None if args.follow => std::thread::sleep(POLL),
            None => return Ok(ExitCode::SUCCESS),
        }
    }
}

/// Prints records as lines or as JSON.
pub(super) struct Printer<W: Write> {
    out: BufWriter<W>,
    json: bool,
    names: HashMap<u32, Option<String>>,
}

impl<W: Write> Printer<W> {
    pub(super) fn new(out: W, json: bool) -> Self {
        Self { out: BufWriter::new(out), json, names: HashMap::new() }
    }

    pub(super) fn print(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            if self.json {
                serde_json::to_writer(&mut self.out, record).map_err(io::Error::from)?;
                self.out.write_all(b"\n")?;
            } else {
                let names = &mut self.names;
                let mut name_of = |uid| names.entry(uid).or_insert_with(|| user_name(uid)).clone();
                writeln!(self.out, "{}", line::line(record, &mut name_of))?;
            }
        }
        self.out.flush()
    }
}

pub(super) fn user_name(uid: u32) -> Option<String> {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map(|user| user.name)
}
