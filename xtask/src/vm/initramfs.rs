//! What a virtual machine boots into: our PID 1, fim, its tests, their libraries, and the kernel's modules.
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result};

use super::cpio::Archive;
use super::modules::Modules;
use crate::sh;

/// Disks, file systems, and the checksums that xfs and btrfs ask the kernel's own loader for.
const MODULES: [&str; 13] = [
    "virtio_pci",
    "virtio_blk",
    "crc32c_generic",
    "crc32c_intel",
    "sha256_generic",
    "xxhash_generic",
    "blake2b_generic",
    "libcrc32c",
    "ext4",
    "xfs",
    "btrfs",
    "overlay",
    "loop",
];

/// Programs that tests and a person in `--shell` may use, where this machine has them.
const TOOLS: [&str; 39] = [
    "sh", "bash", "cat", "chattr", "chmod", "chown", "cp", "dd", "df", "dmesg", "echo", "env", "getfattr",
    "grep", "head", "id", "kill", "ln", "ls", "lsattr", "mkdir", "mount", "mv", "ps", "rm", "rmdir", "sed",
    "setfattr", "setsid", "sleep", "stat", "sync", "tail", "touch", "true", "truncate", "umount", "uname",
    "btrfs",
];

/// The binaries under test, built by cargo.
pub struct Programs {
    pub init: PathBuf,
    pub others: Vec<PathBuf>,
}

/// Everything but the configuration, which differs from boot to boot: `build` appends it.
pub struct Base {
    archive: Vec<u8>,
}

impl Base {
    /// The part that all kernels share.
    pub fn new(programs: &Programs) -> Result<Base> {
        let mut archive = Archive::new();
        for dir in [
            "/dev",
            "/proc",
            "/sys",
            "/run",
            "/tmp",
            "/var/lib",
            "/root",
            "/fs",
            "/modules",
            "/usr/bin",
            "/usr/sbin",
        ] {
            archive.directory(dir);
        }
        archive.character_device("/dev/console", 0o600, (5, 1));
        let mut libraries = BTreeSet::new();
        add_program(&mut archive, &mut libraries, &programs.init, "/init", true)?;
        for program in &programs.others {
            let name = program.file_name().context("a program without a name")?.to_string_lossy();
            add_program(&mut archive, &mut libraries, program, &format!("/usr/bin/{name}"), true)?;
        }
        for name in TOOLS {
            if let Some(path) = sh::find_tool(name) {
                add_program(&mut archive, &mut libraries, &path, &format!("/usr/bin/{name}"), false)?;
            }
        }
        archive.symlink("/bin", "usr/bin");
        archive.symlink("/sbin", "usr/bin");
        for library in libraries {
            let content = fs::read(&library).with_context(|| format!("cannot read {library}"))?;
            archive.file(&library, 0o755, &content);
        }
        etc(&mut archive);
        Ok(Base { archive: archive.finish() })
    }

    /// The kernel unpacks archives one after the other, so a kernel's own part is simply appended.
    pub fn with_kernel(&self, modules: &Path, config: &str) -> Result<Vec<u8>> {
        let mut own = Archive::new();
        let mut order = String::new();
        for module in Modules::open(modules)?.with_dependencies(&MODULES)? {
            own.file(&format!("/modules/{}.ko", module.name), 0o644, &module.bytes);
            order.push_str(&module.name);
            order.push('\n');
        }
        own.file("/modules/order", 0o644, order.as_bytes());
        own.file("/etc/fim-vm.json", 0o644, config.as_bytes());
        let mut image = self.archive.clone();
        image.extend_from_slice(&own.finish());
        Ok(image)
    }
}

fn etc(archive: &mut Archive) {
    let files = [
        ("/etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/sh\n"),
        ("/etc/group", "root:x:0:\nnogroup:x:65534:\n"),
        ("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
        ("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files\n"),
    ];
    for (path, content) in files {
        archive.file(path, 0o644, content.as_bytes());
    }
    // A TLS client may refuse to start without any certificate at all.
    if let Ok(certificates) = fs::read("/etc/ssl/certs/ca-certificates.crt") {
        archive.file("/etc/ssl/certs/ca-certificates.crt", 0o644, &certificates);
    }
}

fn add_program(
    archive: &mut Archive,
    libraries: &mut BTreeSet<String>,
    program: &Path,
    to: &str,
    strip: bool,
) -> Result<()> {
    let bytes = if strip { stripped(program)? } else { fs::read(program)? };
    // A script's interpreter and libraries are not followed: none of the tools is one on Debian.
    if !bytes.starts_with(b"\x7fELF") || archive.contains(to) {
        return Ok(());
    }
    archive.file(to, 0o755, &bytes);
    // ldd fails for static programs, which need nothing.
    let listing = sh::output(Command::new("ldd").arg(program)).unwrap_or_default();
    libraries.extend(listing.lines().filter_map(library).map(str::to_owned));
    Ok(())
}

/// The path in "libc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x…)" or "/lib64/ld-linux-x86-64.so.2 (0x…)".
fn library(line: &str) -> Option<&str> {
    let path = line.split_once("=>").map_or(line, |(_, path)| path).split_whitespace().next()?;
    path.starts_with('/').then_some(path)
}

/// Debug information would fill the machine's memory.
fn stripped(program: &Path) -> Result<Vec<u8>> {
    let out = program.with_extension(format!("stripped.{}", std::process::id()));
    sh::quiet(sh::tool("strip")?.arg("-o").arg(&out).arg(program))?;
    let bytes = fs::read(&out);
    fs::remove_file(&out)?;
    Ok(bytes?)
}

#[cfg(test)]
mod tests {
    use super::library;

    #[test]
    fn finds_libraries_in_what_ldd_says() {
        assert_eq!(library("\tlinux-vdso.so.1 (0x00007ffc)"), None);
        assert_eq!(library("\tlibc.so.6 => /lib/x/libc.so.6 (0x00007f)"), Some("/lib/x/libc.so.6"));
        assert_eq!(library("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"), Some("/lib64/ld-linux-x86-64.so.2"));
        assert_eq!(library("\tlibgone.so => not found"), None);
    }
}
