//! What is on disk: a whole tree taken down so that two can be compared.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};

/// Everything about one file that the daemon has to put back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// `S_IFMT` and permission bits.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    /// Nanoseconds since the epoch; 0 for directories, whose mtime follows what happens inside.
    pub mtime_ns: i128,
    /// Bytes; regular files only.
    pub size: u64,
    /// Digest of the content, or the link's target.
    pub content: String,
    pub xattrs: BTreeMap<Vec<u8>, Vec<u8>>,
}

/// Nodes by path relative to the tree's top, the top itself left out.
pub type Snapshot = BTreeMap<PathBuf, Node>;

pub fn sha256(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|b| format!("{b:02x}")).collect()
}

/// Reads the whole tree below `top`. What vanishes meanwhile is left out.
pub fn snapshot(top: &Path) -> io::Result<Snapshot> {
    let mut out = Snapshot::new();
    collect(top, Path::new(""), &mut out)?;
    Ok(out)
}

fn collect(top: &Path, below: &Path, out: &mut Snapshot) -> io::Result<()> {
    let Some(entries) = present(std::fs::read_dir(top.join(below)))? else {
        return Ok(());
    };
    for entry in entries {
        let path = below.join(entry?.file_name());
        let Some(node) = present(node(&top.join(&path)))? else {
            continue;
        };
        let directory = node.mode & libc::S_IFMT == libc::S_IFDIR;
        out.insert(path.clone(), node);
        if directory {
            collect(top, &path, out)?;
        }
    }
    Ok(())
}

fn present<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        other => other.map(Some),
    }
}

/// One file, links not followed.
pub fn node(path: &Path) -> io::Result<Node> {
    let meta = std::fs::symlink_metadata(path)?;
    let kind = meta.mode() & libc::S_IFMT;
    let content = match kind {
        libc::S_IFREG => sha256(&std::fs::read(path)?),
        libc::S_IFLNK => std::fs::read_link(path)?.display().to_string(),
        _ => String::new(),
    };
    let directory = kind == libc::S_IFDIR;
    Ok(Node {
        mode: meta.mode(),
        uid: meta.uid(),
        gid: meta.gid(),
        mtime_ns: if directory {
            0
        } else {
            i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
        },
        size: if kind == libc::S_IFREG { meta.size() } else { 0 },
        content,
        xattrs: xattrs(path)?,
    })
}

/// All extended attributes; none where the file system knows none.
fn xattrs(path: &Path) -> io::Result<BTreeMap<Vec<u8>, Vec<u8>>> {
    let mut names = vec![0u8; 65536];
    let used = match rustix::fs::llistxattr(path, &mut names[..]) {
        Ok(used) => used,
        Err(rustix::io::Errno::OPNOTSUPP) => return Ok(BTreeMap::new()),
        Err(e) => return Err(e.into()),
    };
    let mut out = BTreeMap::new();
    let mut value = vec![0u8; 65536];
    for name in names[..used].split(|b| *b == 0).filter(|n| !n.is_empty()) {
        let len = rustix::fs::lgetxattr(path, OsStr::from_bytes(name), &mut value[..])?;
        out.insert(name.to_vec(), value[..len].to_vec());
    }
    Ok(out)
}

/// The part of a snapshot at and below `path`.
pub fn part(of: &Snapshot, path: &Path) -> Snapshot {
    of.iter().filter(|(p, _)| p.starts_with(path)).map(|(p, n)| (p.clone(), n.clone())).collect()
}

/// One sentence for each path that is not alike in both, at most `limit` of them.
pub fn differences(wanted: &Snapshot, got: &Snapshot, limit: usize) -> Vec<String> {
    let mut out = Vec::new();
    for (path, node) in wanted {
        match got.get(path) {
            None => out.push(format!("{} is missing", path.display())),
            Some(other) if other != node => out.push(format!("{}: {}", path.display(), unlike(node, other))),
            Some(_) => {}
        }
    }
    out.extend(
        got.keys()
            .filter(|p| !wanted.contains_key(*p))
            .map(|p| format!("{} should not be there", p.display())),
    );
    out.truncate(limit);
    out
}

fn unlike(wanted: &Node, got: &Node) -> String {
    let mut words = Vec::new();
    let mut check = |what: &str, same: bool, wanted: String, got: String| {
        if !same {
            words.push(format!("{what} is {got}, not {wanted}"));
        }
    };
    let octal = |n: &Node| format!("{:o}", n.mode);
    check("mode", wanted.mode == got.mode, octal(wanted), octal(got));
    check("uid", wanted.uid == got.uid, wanted.uid.to_string(), got.uid.to_string());
    check("gid", wanted.gid == got.gid, wanted.gid.to_string(), got.gid.to_string());
    check("mtime", wanted.mtime_ns == got.mtime_ns, wanted.mtime_ns.to_string(), got.mtime_ns.to_string());
    check("size", wanted.size == got.size, wanted.size.to_string(), got.size.to_string());
    check("content", wanted.content == got.content, wanted.content.clone(), got.content.clone());
    let attrs = |n: &Node| n.xattrs.keys().map(|k| String::from_utf8_lossy(k)).collect::<Vec<_>>().join(",");
    check("xattrs", wanted.xattrs == got.xattrs, format!("[{}]", attrs(wanted)), format!("[{}]", attrs(got)));
    words.join(", ")
}

/// Whether the tree below `top` is what was approved, nothing of fim's own in it.
pub fn as_approved(top: &Path, approved: &Snapshot) -> Result<(), String> {
    let now = snapshot(top).map_err(|e| format!("{}: {e}", top.display()))?;
    let mut wrong = differences(approved, &now, 4);
    wrong.extend(leftovers(&now).iter().map(|p| format!("{} was left behind", p.display())));
    if wrong.is_empty() { Ok(()) } else { Err(format!("not as approved: {}", wrong.join("; "))) }
}

/// Names that fim makes for itself and must never leave behind.
pub fn leftovers(of: &Snapshot) -> Vec<PathBuf> {
    let ours = |p: &&PathBuf| p.file_name().is_some_and(|n| n.as_bytes().starts_with(b".fim-"));
    of.keys().filter(ours).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn each_difference_is_told() {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| dir.path().join(name);
        std::fs::create_dir(at("d")).expect("made");
        for name in ["same", "d/gone", "mode", "content"] {
            std::fs::write(at(name), name).expect("written");
        }
        let before = snapshot(dir.path()).expect("read");
        assert_eq!(differences(&before, &snapshot(dir.path()).expect("read"), 9), Vec::<String>::new());
        std::fs::remove_file(at("d/gone")).expect("removed");
        std::fs::set_permissions(at("mode"), std::fs::Permissions::from_mode(0o4711)).expect("changed");
        std::fs::write(at("content"), "CONTENT").expect("written");
        std::fs::write(at("d/.fim-0123456789abcdef"), "").expect("written");
        let after = snapshot(dir.path()).expect("read");
        let told = differences(&before, &after, 9);
        assert_eq!(told.len(), 4, "{told:?}");
        assert!(told.iter().any(|t| t.contains("mode is 104711, not 100644")), "{told:?}");
        assert!(told.iter().any(|t| t == "d/gone is missing"), "{told:?}");
        assert_eq!(leftovers(&after), vec![PathBuf::from("d/.fim-0123456789abcdef")]);
        assert!(leftovers(&before).is_empty());
    }
}
