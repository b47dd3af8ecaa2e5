//! `fim quarantine release --to`: a copy for looking at, harmless where it lies.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, anyhow, bail};
use rustix::fs::{AtFlags, Mode, OFlags};
use rustix::io::Errno;
use serde_json::json;

use super::{abs, find};
use crate::cli::render::describe;
use crate::config::Config;
use crate::control::AbsPath;
use crate::core::entry::FileType;
use crate::core::path::{RelPath, display, escape};
use crate::store::vault::Vault;
use crate::store::{Held, Store};
use crate::tree::Root;
use crate::tree::root::{open_unlinked, proc_path};

/// Writes every kept piece below `dir`: folders as folders, files as plain files (0600, root, no other attribute), and of
/// what is neither, a file that says what it was.
pub fn run(
    config: &Config,
    id: i64,
    (dir, secret): (&Path, bool),
    as_json: bool,
) -> anyhow::Result<ExitCode> {
    let store = Store::open_read_only(&config.state.dir)?;
    let vault = Vault::open(&config.state.dir.join("vault"))?;
    let tree = find(&store, id)?;
    let hidden = tree.kept().find(|held| config.secrets.cover(&held.path.below(&held.watch)));
    if let Some(held) = hidden.filter(|_| !secret) {
        bail!("{} is secret; add --secret to have it written all the same", escape(&abs(held)));
    }
    let root = open(config, dir)?;
    let Some(top) = tree.top() else { bail!("nothing in quarantine has the number {id}") };
    let base = top.path.parent().unwrap_or_default();
    let mut written = 0u64;
    let mut latest = std::collections::BTreeMap::new();
    for held in tree.kept() {
        latest.insert(held.path.clone(), held);
    }
    for held in latest.values() {
        let target = below(&held.path, &base).context("a path in the records is damaged")?;
        write_one(&root, &target, held, &vault).with_context(|| {
            format!("{} cannot be written below {}", escape(target.as_bytes()), display(dir))
        })?;
        written += 1;
        let copy = target.below(root.path());
        match as_json {
            true => {
                println!("{}", json!({"id": held.id, "path": AbsPath(abs(held)), "copy": display(&copy)}))
            }
            false => println!("{} ({})", display(&copy), describe(&held.found.entry)),
        }
    }
    if written == 0 {
        bail!("the content of {id} was removed; only the record of it is left");
    }
    Ok(ExitCode::SUCCESS)
}

/// Opens the folder once: whoever may write above it cannot turn it to another place, nor into what is guarded.
fn open(config: &Config, dir: &Path) -> anyhow::Result<Root> {
    let fd = open_unlinked(dir).map_err(|e| match e {
        Errno::LOOP => {
            let real = dir.canonicalize().map_or("the real one".into(), |real| display(&real));
            anyhow!(
                "{} is reached through a symbolic link, which somebody else could turn; name {real}",
                display(dir)
            )
        }
        e => anyhow!("{} cannot be used ({e}); name a folder that is there", display(dir)),
    })?;
    let real = std::fs::read_link(proc_path(fd.as_fd()))
        .context("where the folder lies cannot be read; mount /proc")?;
    let mut inside = config.watches.iter().map(|w| &w.path).chain([&config.state.dir]);
    if let Some(watch) =
        inside.find(|w| real.starts_with(w) || w.canonicalize().is_ok_and(|w| real.starts_with(w)))
    {
        bail!("{} lies in {}, which fim guards; name a folder elsewhere", display(dir), display(watch));
    }
    Ok(Root::from_fd(fd, real))
}

/// `path` as seen from the folder `base` above it; the watched folder itself is called `root`.
fn below(path: &RelPath, base: &RelPath) -> Option<RelPath> {
    let from = if base.is_root() { 0 } else { base.as_bytes().len() + 1 };
    match path.as_bytes().get(from..) {
        Some([]) | None => RelPath::root().join(b"root"),
        Some(tail) => RelPath::new(tail),
    }
}

fn write_one(root: &Root, target: &RelPath, held: &Held, vault: &Vault) -> anyhow::Result<()> {
    let (folder, name) = root.parent(target).context("the folder it belongs into cannot be opened")?;
    if held.found.entry.kind == FileType::Directory {
        return rustix::fs::mkdirat(&folder, &*name, Mode::RWXU).context("something has that name already");
    }
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let fd: OwnedFd = rustix::fs::openat(&folder, &*name, flags, Mode::RUSR | Mode::WUSR)
        .context("something has that name already, or it cannot be made")?;
    let mut file = File::from(fd);
    let filled = match (held.found.entry.kind, held.digest) {
        (FileType::Regular, Some(digest)) => {
            vault.copy_to(&digest, &mut file).map(drop).map_err(anyhow::Error::from)
        }
        _ => writeln!(file, "{}", describe(&held.found.entry)).map_err(anyhow::Error::from),
    };
    if filled.is_err() {
        // Half of a copy is of no use to anybody.
        let _ = rustix::fs::unlinkat(folder.as_fd(), &*name, AtFlags::empty());
    }
    filled.and_then(|()| file.sync_all().map_err(|e: io::Error| e.into()))
}
