//! Which watch a path belongs to.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::sync::Arc;

use crate::core::path::{RelPath, display, escape};
use crate::daemon::watch::Watch;

/// The watch that an absolute path lies in, and the path in it. Only the names are looked at.
pub fn locate(watches: &[Arc<Watch>], absolute: &[u8]) -> Result<(Arc<Watch>, RelPath), String> {
    let path = Path::new(OsStr::from_bytes(absolute));
    let mut within = false;
    for watch in watches {
        let Ok(tail) = path.strip_prefix(watch.path()) else { continue };
        let Some(rel) = RelPath::new(tail.as_os_str().as_bytes()) else { continue };
        if watch.start.is_root() || rel == watch.start {
            return Ok((watch.clone(), rel));
        }
        within = true;
    }
    let shown = escape(absolute);
    let roots: Vec<String> = watches.iter().map(|w| display(&w.start.below(w.path()))).collect();
    Err(match within {
        true => format!("{shown} is not watched: only single files of its folder are ({})", roots.join(", ")),
        false => format!("{shown} lies in no watch; these are watched: {}", roots.join(", ")),
    })
}
