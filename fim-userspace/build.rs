//! Builds the programs for the kernel, from source, into `OUT_DIR/fim-ebpf`.
//!
//! They need core's sources for a target that no toolchain ships. Either the running toolchain has them (rustup's
//! `rust-src`), or Debian's compiler does (`rustc-web` with `rust-web-src`), which then compiles this one object.

use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result, anyhow, bail};

const DEBIAN_RUSTC: &str = "/usr/bin/rustc";

fn main() -> ExitCode {
    match build() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("cargo::error={error:#}");
            ExitCode::FAILURE
        }
    }
}

fn build() -> Result<()> {
    let out = PathBuf::from(variable("OUT_DIR")?);
    let workspace = PathBuf::from(variable("CARGO_MANIFEST_DIR")?);
    let workspace = workspace.parent().ok_or_else(|| anyhow!("the crate lies outside its workspace"))?;
    for part in ["fim-ebpf", "fim-common", "Cargo.lock", "Cargo.toml"] {
        println!("cargo::rerun-if-changed={}", workspace.join(part).display());
    }
    println!("cargo::rerun-if-changed=build.rs");

    let compiler = compiler_with_sources()?;
    let path = path_with_linker()?;
    let target = out.join("ebpf-target");
    let triple = match variable("CARGO_CFG_TARGET_ENDIAN")?.to_str() {
        Some("big") => "bpfeb-unknown-none",
        _ => "bpfel-unknown-none",
    };
    let arch = variable("CARGO_CFG_TARGET_ARCH")?;
    let arch =
        arch.to_str().filter(|arch| !arch.is_empty()).ok_or_else(|| anyhow!("no target architecture"))?;
    // Debug information becomes the object's BTF, without which no kernel takes these programs.
    let flags =
        [&format!("--cfg=bpf_target_arch=\"{arch}\""), "-Cdebuginfo=2", "-Clink-arg=--btf"].join("\x1f");

    let mut cargo = Command::new(variable("CARGO")?);
    cargo
        .args(["build", "--package", "fim-ebpf", "--bins", "--release", "-Z", "build-std=core"])
        .args(["--target", triple, "--target-dir"])
        .arg(&target)
        .current_dir(workspace);
    // What the outer build sets for the host must not reach the inner one.
    for (name, _) in env::vars_os() {
        let name_text = name.to_string_lossy();
        let outer =
            ["RUSTFLAGS", "RUSTC_WRAPPER", "RUSTC_WORKSPACE_WRAPPER", "RUSTC_LINKER", "CARGO_TARGET_DIR"];
        let leaks = outer.contains(&name_text.as_ref())
            || [
                "CARGO_CFG_",
                "CARGO_FEATURE_",
                "CARGO_PROFILE_",
                "CARGO_BUILD_",
                "CARGO_PKG_",
                "LLVM_PROFILE_",
            ]
            .iter()
            .any(|prefix| name_text.starts_with(prefix));
        if leaks {
            cargo.env_remove(&name);
        }
    }
    cargo
        .env("RUSTC", &compiler)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags)
        .env("PATH", path);
    let output = cargo.output().with_context(|| format!("cargo could not be started ({cargo:?})"))?;
    if !output.status.success() {
        for line in String::from_utf8_lossy(&output.stderr).lines() {
            println!("cargo::warning={line}");
        }
        bail!(
            "the programs for the kernel (fim-ebpf) did not compile with {}; the lines above say why, and `cargo xtask setup` repairs the tools",
            compiler.display()
        );
    }
    let object = target.join(triple).join("release/fim-ebpf");
    fs::copy(&object, out.join("fim-ebpf"))
        .with_context(|| format!("{} cannot be copied", object.display()))?;
    Ok(())
}

fn variable(name: &str) -> Result<OsString> {
    env::var_os(name).ok_or_else(|| anyhow!("cargo did not set {name}; build with cargo"))
}

/// A compiler that has core's sources beside it.
fn compiler_with_sources() -> Result<PathBuf> {
    println!("cargo::rerun-if-env-changed=RUSTC");
    let running = PathBuf::from(variable("RUSTC")?);
    [running, PathBuf::from(DEBIAN_RUSTC)].into_iter().find(|rustc| has_sources(rustc)).ok_or_else(|| {
        anyhow!("the sources of Rust's core library, which the programs for the kernel need, are missing; run `cargo xtask setup`")
    })
}

fn has_sources(rustc: &Path) -> bool {
    let Ok(output) = Command::new(rustc).args(["--print", "sysroot"]).output() else { return false };
    let sysroot = String::from_utf8_lossy(&output.stdout);
    let library = Path::new(sysroot.trim()).join("lib/rustlib/src/rust/library");
    // Looked at again once it appears.
    println!("cargo::rerun-if-changed={}", library.join("Cargo.lock").display());
    output.status.success() && library.join("core/src/lib.rs").exists() && library.join("Cargo.lock").exists()
}

/// `PATH` with cargo's own folder of programs in front, where `cargo install` puts the linker.
fn path_with_linker() -> Result<OsString> {
    println!("cargo::rerun-if-env-changed=PATH");
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::var_os("HOME").map(|home| Path::new(&home).join(".cargo")));
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        home.iter().map(|home| home.join("bin")).chain(env::split_paths(&path)).collect();
    let linker = OsStr::new("bpf-linker");
    if !folders.iter().any(|folder| folder.join(linker).exists()) {
        bail!("bpf-linker, which the programs for the kernel need, is missing; run `cargo xtask setup`");
    }
    env::join_paths(folders).context("PATH holds a folder with a colon in its name")
}
