//! Members of a group read what is root's through the daemon: the client's side, and the daemon's.

use std::ffi::OsString;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStringExt;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

use clap::Parser;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use rustix::fs::{Access, access};

use super::{Cli, Command, FAILED, explain, log, metrics, sentence, show, status};
use crate::config::{Config, ConfigError, DEFAULT_SOCKET};
use crate::control::{Answer, Read, Request, Word};
use crate::daemon::control::{Client, ClientError, Reader};
use crate::sink::line::printable;
use crate::store::DATABASE;

const THESE: &str = "members of the group may use status, metrics, log (without verify), show and explain; use sudo for all else";

/// Asks the daemon where this user may not read the records. `None`: the command is none of these, he may, or no daemon
/// offers a socket; then the command says itself what it lacks.
pub fn instead(cli: &Cli) -> Option<anyhow::Result<ExitCode>> {
    if rustix::process::geteuid().is_root() || !reads(&cli.command) {
        return None;
    }
    let socket = match Config::load(&cli.config) {
        Ok(config) => {
            config.control.group.as_ref()?;
            if access(config.state.dir.join(DATABASE), Access::READ_OK).is_ok() {
                return None;
            }
            config.control.socket
        }
        // As it should be: who may not read it need not.
        Err(ConfigError::Unreadable { .. }) => PathBuf::from(DEFAULT_SOCKET),
        Err(_) => return None,
    };
    match Client::connect_at(&socket) {
        Ok(None) => None,
        Ok(Some(client)) => Some(ask(client, request(cli), follows(&cli.command))),
        Err(ClientError::Broken(e)) if e.kind() == io::ErrorKind::PermissionDenied => {
            Some(Err(anyhow::anyhow!(
                "only root and members of the group that {} belongs to may ask the daemon; use sudo, or have yourself added to it",
                crate::core::path::display(&socket)
            )))
        }
        Err(e) => Some(Err(e.into())),
    }
}

fn reads(command: &Command) -> bool {
    match command {
        Command::Status | Command::Metrics | Command::Explain(_) | Command::Show(_) => true,
        Command::Log(args) => args.only_lists(),
        _ => false,
    }
}

fn follows(command: &Command) -> bool {
    matches!(command, Command::Log(args) if args.follows())
}

/// As they were typed; paths from the root on, since the daemon is somewhere else.
fn words(cli: &Cli) -> Vec<Word> {
    let word = |word: OsString| Word(word.into_vec());
    if let Command::Explain(args) = &cli.command {
        let json = cli.json.then(|| "--json".into());
        let paths = args.absolute().into_iter().map(OsString::from);
        return json.into_iter().chain(["explain".into(), "--".into()]).chain(paths).map(word).collect();
    }
    std::env::args_os().skip(1).map(word).collect()
}

fn request(cli: &Cli) -> Request {
    match &cli.command {
        Command::Metrics => metrics::request(cli.json),
        _ => Request::Read(Read::Command { words: words(cli) }),
    }
}

/// `fim log -f | head` ends once all that was wanted is printed, though no further record comes.
fn end_with_reader() {
    let out = io::stdout();
    // Without events asked for, a closed reader is still told of (poll(2)).
    let mut fds = [PollFd::new(out.as_fd(), PollFlags::empty())];
    while poll(&mut fds, PollTimeout::NONE) == Err(nix::errno::Errno::EINTR) {}
    std::process::exit(0);
}

/// Prints what the daemon answers; with `following`, for as long as somebody reads it.
pub(super) fn ask(client: Client, request: Request, following: bool) -> anyhow::Result<ExitCode> {
    let client = if following { client.waiting()? } else { client };
    if following {
        std::thread::Builder::new().name("fim-reader".into()).spawn(end_with_reader)?;
    }
    let mut out = io::stdout().lock();
    let (mut written, mut code) = (Ok(()), FAILED);
    client.ask(request, &mut |answer| match answer {
        Answer::Text { text } if written.is_ok() => {
            written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
        }
        Answer::Ended { code: told, problem } => {
            code = told;
            problem.into_iter().for_each(|sentence| eprintln!("fim: {}", printable(&sentence)));
        }
        Answer::Failed { sentence } => eprintln!("fim: {}", printable(&sentence)),
        _ => {}
    })?;
    written.and_then(|()| out.flush())?;
    Ok(ExitCode::from(code))
}

/// What `fim status --json` says through the daemon; `None` where it does not answer this user.
pub fn status(socket: &Path) -> Option<String> {
    let words = ["--json", "status"].map(|word| Word(word.into())).into();
    let (mut said, mut code) = (String::new(), FAILED);
    let asked =
        Client::connect_at(socket).ok()??.ask(Request::Read(Read::Command { words }), &mut |answer| {
            match answer {
                Answer::Text { text } => said.push_str(&text),
                Answer::Ended { code: told, .. } => code = told,
                _ => {}
            }
        });
    asked.ok().filter(|()| code != FAILED).map(|()| said)
}

/// What the daemon does with such a request: the command itself, under the daemon's own configuration.
pub fn reader(file: &Path) -> Reader {
    let file = file.to_path_buf();
    std::sync::Arc::new(move |words, out, reader| answer(&file, words, out, reader))
}

/// Those who follow the log at present.
static FOLLOWERS: AtomicUsize = AtomicUsize::new(0);
/// So that others find a place beside them.
const MOST_FOLLOWERS: usize = 4;

/// Counts one who follows for as long as he does.
struct Follower;

impl Follower {
    fn admit() -> Result<Self, String> {
        let more = |n| (n < MOST_FOLLOWERS).then_some(n + 1);
        match FOLLOWERS.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more) {
            Ok(_) => Ok(Self),
            Err(_) => {
                Err(format!("{MOST_FOLLOWERS} members of the group follow the log already; try again later"))
            }
        }
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        FOLLOWERS.fetch_sub(1, Ordering::Relaxed);
    }
}

fn answer(
    file: &Path,
    words: Vec<OsString>,
    out: &mut dyn Write,
    reader: BorrowedFd<'_>,
) -> Result<u8, String> {
    let words = std::iter::once("fim".into()).chain(words);
    let cli = Cli::try_parse_from(words).map_err(|_| {
        "the running daemon does not know this command line; restart it, so that both are of one version"
            .to_owned()
    })?;
    if !reads(&cli.command) {
        return Err(THESE.into());
    }
    let _follower = follows(&cli.command).then(Follower::admit).transpose()?;
    let config = Config::load(file).map_err(|e| e.to_string())?;
    let ended = match &cli.command {
        Command::Status => status::write(&config, cli.json, out),
        Command::Explain(args) => explain::write(&config, args, cli.json, explain::Links::Stay, out),
        Command::Show(args) => show::write(&config, args, cli.json, show::For::Member, out),
        Command::Log(args) => log::write(&config, args, cli.json, out, reader),
        _ => return Err(THESE.into()),
    };
    ended.map_err(|e| sentence(&e))
}
