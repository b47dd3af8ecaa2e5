//! Whether the vault holds what the baseline needs; what can be taken again from files that equal it is taken again.

use std::path::Path;
use std::sync::Arc;

use crossbeam_channel::{Receiver, bounded};

use crate::core::entry::Digest;
use crate::core::path::{RelPath, display};
use crate::store::Store;
use crate::store::vault::Vault;
use crate::tree::inspect;

use super::limits::UpkeepError;
use super::take::keep;
use super::watch::Watch;

/// Objects made durable at once.
const BATCH: u64 = 256;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refilled {
    /// Approved contents that were missing and could be taken again.
    pub again: u64,
    /// Those that could not, and where the first belongs.
    pub gone: u64,
    pub first: Option<String>,
    /// Why it could not be finished.
    pub failed: Option<String>,
}

/// Begins a check in a thread of its own, which also measures the vault. One message comes, when it has ended.
pub fn start(
    watches: Vec<Arc<Watch>>,
    vault: Arc<Vault>,
    state_dir: &Path,
) -> std::io::Result<Receiver<Refilled>> {
    let (done, report) = bounded(1);
    let state_dir = state_dir.to_path_buf();
    std::thread::Builder::new().name("fim-vault".into()).spawn(move || {
        crate::sys::priority::idle();
        let mut refilled = Refilled::default();
        let all = || -> anyhow::Result<()> {
            vault.measure()?;
            let store = Store::open_for_walk(&state_dir)?;
            for watch in &watches {
                one_watch(&store, watch, &vault, &mut refilled)?;
            }
            vault.commit_batch()?;
            Ok(())
        };
        refilled.failed = all_failed(all);
        crate::sys::memory::give_back();
        // The daemon may have ended meanwhile.
        let _ = done.send(refilled);
    })?;
    Ok(report)
}

fn all_failed(work: impl FnOnce() -> anyhow::Result<()>) -> Option<String> {
    work().err().map(|error| format!("{error:#}"))
}

fn one_watch(store: &Store, watch: &Watch, vault: &Vault, out: &mut Refilled) -> Result<(), UpkeepError> {
    let mut pending = 0;
    for (path, digest, size) in store.baseline_contents(watch.path())? {
        if !watch.policy.of(&path, false).keeps(size) || vault.contains(&digest) {
            continue;
        }
        if again(watch, vault, &path, digest) {
            (out.again, pending) = (out.again + 1, pending + 1);
            if pending == BATCH {
                vault.commit_batch()?;
                pending = 0;
            }
        } else {
            out.gone += 1;
            out.first.get_or_insert_with(|| display(&path.below(watch.path())));
        }
    }
    Ok(())
}

/// Takes the content from the file, if that still has it.
fn again(watch: &Watch, vault: &Vault, path: &RelPath, digest: Digest) -> bool {
    let found = inspect::inspect(&watch.root, path, None).ok().flatten();
    let Some(found) = found.filter(|found| found.entry.sha256 == Some(digest)) else {
        return false;
    };
    let kept = keep(watch, vault, path, found).ok().flatten();
    kept.is_some_and(|kept| kept.entry.sha256 == Some(digest))
}
