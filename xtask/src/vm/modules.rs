//! Kernel modules with what they depend on. A package holds no modules.dep (it is made at installation), so the
//! dependencies are read from the modules themselves (`depends=` and `softdep=` in .modinfo).
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};

use crate::sh;

pub struct Modules {
    files: BTreeMap<String, PathBuf>,
}

pub struct Module {
    pub name: String,
    pub bytes: Vec<u8>,
}

impl Modules {
    pub fn open(dir: &Path) -> Result<Modules> {
        let mut files = BTreeMap::new();
        let mut todo = vec![dir.to_path_buf()];
        while let Some(dir) = todo.pop() {
            let listing = fs::read_dir(&dir).with_context(|| format!("cannot read {}", dir.display()))?;
            for entry in listing {
                let entry = entry?;
                if entry.file_type()?.is_dir() {
                    todo.push(entry.path());
                } else if let Some((stem, _)) = entry.file_name().to_string_lossy().split_once(".ko") {
                    files.insert(canonical(stem), entry.path());
                }
            }
        }
        Ok(Modules { files })
    }

    /// In loading order. A name without a file is taken as built in, or absent from this kernel: what must work is
    /// checked where it is used, inside the machine.
    pub fn with_dependencies(&self, names: &[&str]) -> Result<Vec<Module>> {
        let (mut done, mut seen) = (Vec::new(), BTreeSet::new());
        for name in names {
            self.visit(&canonical(name), &mut seen, &mut done)?;
        }
        Ok(done)
    }

    fn visit(&self, name: &str, seen: &mut BTreeSet<String>, done: &mut Vec<Module>) -> Result<()> {
        let Some(file) = self.files.get(name).filter(|_| seen.insert(name.to_owned())) else {
            return Ok(());
        };
        let bytes = read(file)?;
        for dependency in dependencies(&bytes) {
            self.visit(&dependency, seen, done)?;
        }
        done.push(Module { name: name.to_owned(), bytes });
        Ok(())
    }
}

fn canonical(name: &str) -> String {
    name.replace('-', "_")
}

fn read(file: &Path) -> Result<Vec<u8>> {
    let tool = match file.extension().and_then(|extension| extension.to_str()) {
        Some("ko") => return fs::read(file).with_context(|| format!("cannot read {}", file.display())),
        Some("xz") => "xz",
        Some("zst") => "zstd",
        Some("gz") => "gzip",
        _ => bail!("{} is compressed in a way not known here", file.display()),
    };
    sh::bytes(sh::tool(tool)?.arg("-dc").arg(file))
}

fn dependencies(module: &[u8]) -> Vec<String> {
    let mut names = Vec::new();
    for field in module.split(|byte| *byte == 0) {
        let Ok(text) = std::str::from_utf8(field) else {
            continue;
        };
        if let Some(list) = text.strip_prefix("depends=") {
            names.extend(list.split(',').filter(|name| !name.is_empty()).map(canonical));
        } else if let Some(list) = text.strip_prefix("softdep=pre:") {
            names.extend(list.split_whitespace().map(canonical));
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_dependencies_from_a_module() {
        let module =
            b"\x7fELF\0license=GPL\0depends=xor,raid6-pq\0softdep=pre: xxhash64\0depends=\0\xff\xfe\0";
        assert_eq!(dependencies(module), ["xor", "raid6_pq", "xxhash64"]);
    }
}
