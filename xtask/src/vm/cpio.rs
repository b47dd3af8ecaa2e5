//! The kernel's initramfs format: cpio "newc" (Documentation/driver-api/early-userspace/buffer-format.rst).
use std::collections::BTreeSet;

const DIRECTORY: u32 = 0o040_000;
const REGULAR: u32 = 0o100_000;
const SYMLINK: u32 = 0o120_000;
const CHARACTER: u32 = 0o020_000;

pub struct Archive {
    bytes: Vec<u8>,
    inode: u32,
    seen: BTreeSet<String>,
}

impl Archive {
    pub fn new() -> Archive {
        Archive { bytes: Vec::new(), inode: 0, seen: BTreeSet::new() }
    }

    /// Makes the directory and those above it; `path` starts with a slash, here and below.
    pub fn directory(&mut self, path: &str) {
        let path = path.trim_end_matches('/');
        if path.is_empty() || self.seen.contains(path) {
            return;
        }
        self.parent(path);
        self.entry(path, DIRECTORY | 0o755, (0, 0), b"");
    }

    pub fn file(&mut self, path: &str, permissions: u32, content: &[u8]) {
        self.parent(path);
        if !self.seen.contains(path) {
            self.entry(path, REGULAR | permissions, (0, 0), content);
        }
    }

    pub fn symlink(&mut self, path: &str, target: &str) {
        self.parent(path);
        if !self.seen.contains(path) {
            self.entry(path, SYMLINK | 0o777, (0, 0), target.as_bytes());
        }
    }

    pub fn character_device(&mut self, path: &str, permissions: u32, device: (u32, u32)) {
        self.parent(path);
        self.entry(path, CHARACTER | permissions, device, b"");
    }

    pub fn contains(&self, path: &str) -> bool {
        self.seen.contains(path)
    }

    pub fn finish(mut self) -> Vec<u8> {
        self.header("TRAILER!!!", 0, (0, 0), 0, 0);
        self.bytes
    }

    fn parent(&mut self, path: &str) {
        if let Some((parent, _)) = path.rsplit_once('/') {
            self.directory(parent);
        }
    }

    fn entry(&mut self, path: &str, mode: u32, device: (u32, u32), content: &[u8]) {
        self.seen.insert(path.to_owned());
        self.inode += 1;
        self.header(path.trim_start_matches('/'), mode, device, self.inode, content.len());
        self.bytes.extend_from_slice(content);
        self.pad();
    }

    fn header(&mut self, name: &str, mode: u32, device: (u32, u32), inode: u32, size: usize) {
        let links = if mode & DIRECTORY == DIRECTORY { 2 } else { 1 };
        // A constant time: the same inputs give the same image.
        let (uid, gid, mtime, device_major, device_minor, check) = (0, 0, 1, 0, 0, 0);
        let fields = [
            inode as usize,
            mode as usize,
            uid,
            gid,
            links,
            mtime,
            size,
            device_major,
            device_minor,
            device.0 as usize,
            device.1 as usize,
            name.len() + 1,
            check,
        ];
        self.bytes.extend_from_slice(b"070701");
        for field in fields {
            self.bytes.extend_from_slice(format!("{field:08x}").as_bytes());
        }
        self.bytes.extend_from_slice(name.as_bytes());
        self.bytes.push(0);
        self.pad();
    }

    fn pad(&mut self) {
        while !self.bytes.len().is_multiple_of(4) {
            self.bytes.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use std::process::{Command, Stdio};

    #[test]
    fn cpio_itself_reads_the_archive() {
        if crate::sh::find_tool("cpio").is_none() {
            eprintln!("skipped: cpio is not installed");
            return;
        }
        let mut archive = Archive::new();
        archive.file("/usr/bin/odd", 0o755, b"12345");
        archive.symlink("/bin", "usr/bin");
        archive.character_device("/dev/console", 0o600, (5, 1));
        let mut child = Command::new("cpio")
            .args(["-itv", "--quiet"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("cpio starts");
        child.stdin.take().expect("a pipe").write_all(&archive.finish()).expect("cpio reads");
        let output = child.wait_with_output().expect("cpio ends");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success());
        for part in
            ["drwxr-xr-x", "-rwxr-xr-x", "5 Jan", "usr/bin/odd", "bin -> usr/bin", "crw-------", "5,   1"]
        {
            assert!(text.contains(part), "{part} is missing in:\n{text}");
        }
    }
}
