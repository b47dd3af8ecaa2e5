//! Another system, mounted below a folder by a rescue system: nothing of it is written, and no link leads out of it.

use std::fs::File;
use std::io;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;
use tempfile::TempDir;

use crate::config::Config;
use crate::core::path::display;
use crate::daemon::watch::Watch;
use crate::store::{DATABASE, Store};
use crate::tree::Sysroot;

pub struct Rescued {
    pub store: Store,
    pub watches: Vec<Arc<Watch>>,
    /// Holds the database that `store` reads; removed when dropped.
    pub copy: TempDir,
}

/// `file`: the configuration, as it is called in that system.
pub fn open(root: &Path, file: &Path) -> anyhow::Result<Rescued> {
    let system =
        Sysroot::at(root).with_context(|| format!("the system at {} cannot be opened", display(root)))?;
    let bytes = system.read(file).with_context(|| {
        format!(
            "there is no configuration {} in the system at {}; mount that system there whole, or name the file with --config",
            display(file),
            display(root)
        )
    })?;
    let config = Config::from_bytes(file, &bytes)?;
    let dir = &config.state.dir;
    let copy = copy(&system, dir)?;
    let store = Store::open_read_only(copy.path())?;
    let watches =
        (0..).zip(&config.watches).map(|(id, watch)| Watch::open_in(&system, id, watch).map(Arc::new));
    Ok(Rescued { store, watches: watches.collect::<Result<_, _>>()?, copy })
}

/// The database of that system in a private folder of this one. SQLite would write beside the original, even to read it.
fn copy(system: &Sysroot, dir: &Path) -> anyhow::Result<TempDir> {
    refuse_daemon(system, dir)?;
    let failed = || {
        format!(
            "the records in {} of the system at {} cannot be copied for reading; look whether TMPDIR has room",
            display(dir),
            display(system.path())
        )
    };
    let copy = tempfile::Builder::new().prefix("fim-check-").tempdir().with_context(failed)?;
    for name in [DATABASE.to_owned(), format!("{DATABASE}-wal")] {
        let mut from = match system.file(&dir.join(&name)) {
            Ok(from) => from,
            Err(e) if e.kind() == io::ErrorKind::NotFound && name != DATABASE => continue,
            Err(e) if e.kind() == io::ErrorKind::NotFound => bail!(
                "there are no records in {} of the system at {}; without a baseline there is nothing to compare with",
                display(dir),
                display(system.path())
            ),
            Err(e) => return Err(e).with_context(failed),
        };
        let mut to = File::options()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(copy.path().join(&name))
            .with_context(failed)?;
        io::copy(&mut from, &mut to).with_context(failed)?;
    }
    Ok(copy)
}

/// What a running daemon writes could be copied half.
fn refuse_daemon(system: &Sysroot, dir: &Path) -> anyhow::Result<()> {
    let Ok(lock) = system.file(&dir.join("lock")) else { return Ok(()) };
    if flock(&lock, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
        bail!("fim runs in the system at {}; stop it, or run `fim check` there", display(system.path()));
    }
    Ok(())
}
