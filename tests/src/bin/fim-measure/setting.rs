//! What a run has in common.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fim_tests::fim::Fim;

pub const PATIENCE: Duration = Duration::from_secs(300);

pub struct Setting {
    pub fim: PathBuf,
    /// Everything is made below it.
    pub work: PathBuf,
    pub tree: PathBuf,
    pub tier: String,
    pub rounds: usize,
    pub scale: Scale,
}

/// How much of everything.
#[derive(Clone, Copy)]
pub struct Scale {
    pub tiny: u32,
    /// Unchanged files.
    pub large: u32,
    pub gentle: u32,
    /// Creates, writes and deletes together.
    pub burst: u32,
    /// Files that are unpacked and removed.
    pub unpacked: u32,
    /// Files that are cloned and compiled.
    pub compiled: u32,
    pub idle: Duration,
}

impl Scale {
    pub fn full() -> Self {
        let idle = Duration::from_secs(20);
        Self {
            tiny: 200_000,
            large: 1_000_000,
            gentle: 300,
            burst: 100_000,
            unpacked: 10_000,
            compiled: 150,
            idle,
        }
    }

    pub fn quick() -> Self {
        let idle = Duration::from_secs(3);
        Self { tiny: 20_000, large: 50_000, gentle: 100, burst: 10_000, unpacked: 2_000, compiled: 30, idle }
    }
}

/// What fim does with changes in a measurement.
#[derive(Clone, Copy, PartialEq)]
pub enum Policy {
    /// Tells, and keeps no versions.
    Tell,
    /// Tells, and keeps versions.
    Keep,
    Restore,
}

impl Setting {
    /// An installation of fim that watches `tree`; its state lies in a folder of this name, made anew.
    pub fn installation(&self, name: &str, tree: &Path, policy: Policy) -> Result<Fim, String> {
        let home = self.work.join(format!("fim-{name}"));
        let _ = std::fs::remove_dir_all(&home);
        let common = fim_tests::fim::Setting {
            fim: self.fim.clone(),
            actor: PathBuf::new(),
            works: vec![self.work.clone()],
            tier: self.tier.clone(),
            expect_tier: String::new(),
            full: false,
            patience: PATIENCE,
        };
        let mut fim = Fim::at(&common, home, fim_tests::fim::Policy::Alert, &self.tier)?;
        let (does, created) = match policy {
            Policy::Restore => ("restore", "quarantine"),
            Policy::Tell | Policy::Keep => ("alert", "alert"),
        };
        let text = format!(
            "[state]\ndir = {:?}\n\n[sensor]\ntier = \"{}\"\n\n[[watch]]\npath = {tree:?}\nkeep_versions = {}\n\
             on_modified = \"{does}\"\non_deleted = \"{does}\"\non_attributes = \"{does}\"\non_created = \"{created}\"\n",
            fim.state,
            self.tier,
            policy != Policy::Tell
        );
        fim.write_config(&text).map_err(|e| format!("{}: {e}", fim.config.display()))?;
        fim.watched = tree.to_path_buf();
        Ok(fim)
    }

    /// A folder of this name, empty.
    pub fn empty(&self, name: &str) -> Result<PathBuf, String> {
        let path = self.work.join(name);
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(path)
    }
}
