//! Which package a file belongs to, by the package manager's own lists.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};

use super::tally::{Share, shares};

const NONE: &str = "no package";

/// dpkg's lists: one `PACKAGE.list` for each package, one path a line (dpkg(1), FILES).
pub struct Packages {
    dir: PathBuf,
}

impl Packages {
    pub fn of_this_host() -> Self {
        Self { dir: "/var/lib/dpkg/info".into() }
    }

    #[cfg(test)]
    pub fn of(dir: &Path) -> Self {
        Self { dir: dir.into() }
    }

    /// Changes by package. Empty where there are no lists.
    pub fn shares(&self, by_path: &BTreeMap<String, u64>) -> Vec<Share> {
        let Some(owners) = self.owners(by_path) else { return Vec::new() };
        let mut counted: BTreeMap<String, u64> = BTreeMap::new();
        for (path, changes) in by_path {
            let name = owners.get(path.as_str()).map_or(NONE, String::as_str);
            *counted.entry(name.to_owned()).or_default() += changes;
        }
        shares(counted)
    }

    fn owners<'a>(&self, by_path: &'a BTreeMap<String, u64>) -> Option<HashMap<&'a str, String>> {
        let mut owners = HashMap::new();
        for file in std::fs::read_dir(&self.dir).ok()?.flatten() {
            let path = file.path();
            if path.extension().is_none_or(|end| end != "list") {
                continue;
            }
            let Some(package) = name_of(&path) else { continue };
            let Ok(list) = std::fs::read_to_string(&path) else { continue };
            for line in list.lines() {
                if let Some((known, _)) = by_path.get_key_value(line) {
                    owners.insert(known.as_str(), package.clone());
                }
            }
        }
        Some(owners)
    }
}

/// `libc6:amd64.list` is of `libc6`.
fn name_of(list: &Path) -> Option<String> {
    let stem = list.file_stem()?.to_str()?;
    Some(stem.split(':').next().unwrap_or(stem).to_owned())
}
