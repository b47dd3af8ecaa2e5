//! A watched tree with its baseline and vault, and a small reconciler that knows no events: it compares and responds.

use std::collections::{BTreeMap, BTreeSet};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fim::core::change::{ChangeKind, compare};
use fim::core::entry::{Entry, FileType, Found};
use fim::core::path::RelPath;
use fim::core::plan::{Step, plan};
use fim::core::policy::PathPolicy;
use fim::respond::{Evidence, Outcome, Responder, ResponseError};
use fim::store::vault::Vault;
use fim::tree::Root;
use fim::tree::inspect::{inspect, inspect_at, open_content};
use fim::tree::private::is_private_name;

pub struct World {
    _dir: tempfile::TempDir,
    _state: tempfile::TempDir,
    pub tree: PathBuf,
    pub outside: PathBuf,
    pub root: Root,
    pub vault: Arc<Vault>,
    pub responder: Responder,
}

pub type Baseline = BTreeMap<RelPath, Entry>;

pub fn rel(path: impl AsRef<[u8]>) -> RelPath {
    RelPath::new(path.as_ref()).expect("a sound path")
}

impl World {
    /// The tree and a folder outside it lie below `base`, the vault in the temporary folder.
    pub fn new(base: &Path) -> Self {
        let dir = tempfile::tempdir_in(base).expect("a folder for the tree");
        let state = tempfile::tempdir().expect("a temporary folder");
        let (tree, outside) = (dir.path().join("tree"), dir.path().join("outside"));
        std::fs::create_dir(&tree).expect("made");
        std::fs::create_dir(&outside).expect("made");
        let vault = Arc::new(Vault::open(&state.path().join("vault")).expect("a vault"));
        let root = Root::open(&tree).expect("it opens");
        let responder = Responder::new(vault.clone());
        Self { _dir: dir, _state: state, tree, outside, root, vault, responder }
    }

    pub fn outside_root(&self) -> Root {
        Root::open(&self.outside).expect("it opens")
    }

    pub fn found(&self, path: &RelPath) -> Option<Found> {
        inspect(&self.root, path, None).expect("it can be inspected")
    }

    /// All there is, without the root.
    pub fn walk(&self) -> BTreeMap<RelPath, Found> {
        let mut out = BTreeMap::new();
        let mut queue = vec![RelPath::root()];
        while let Some(path) = queue.pop() {
            let dir = self.root.open_dir(&path).expect("it opens");
            for item in rustix::fs::Dir::read_from(&dir).expect("readable") {
                let item = item.expect("readable");
                let name = item.file_name().to_bytes();
                if matches!(name, b"." | b"..") {
                    continue;
                }
                let found =
                    inspect_at(None, dir.as_fd(), name).expect("inspected").expect("nobody else is here");
                let path = path.join(name).expect("a sound name");
                if found.entry.kind == FileType::Directory {
                    queue.push(path.clone());
                }
                out.insert(path, found);
            }
        }
        out
    }

    /// Approves what is there now: content to the vault.
    pub fn approve(&self) -> Baseline {
        let all = self.walk();
        for (path, found) in &all {
            if found.entry.kind == FileType::Regular {
                let fd = self.root.open_path(path).expect("there");
                let mut file = std::fs::File::from(open_content(fd.as_fd()).expect("opens"));
                let digest = self.vault.put_deferred(&mut file).expect("stored");
                assert_eq!(Some(digest), found.entry.sha256);
            }
        }
        self.vault.commit_batch().expect("committed");
        all.into_iter().map(|(path, found)| (path, found.entry)).collect()
    }

    pub fn carry_out(&self, step: Step) -> Result<Outcome, ResponseError> {
        self.responder.carry_out(&self.root, &step)
    }

    /// Compares, plans and responds, as the daemon does, until nothing differs.
    pub fn reconcile(&self, baseline: &Baseline) -> Vec<Evidence> {
        let mut evidence = Vec::new();
        for _ in 0..6 {
            let steps = self.steps(baseline);
            if steps.is_empty() {
                return evidence;
            }
            for step in steps {
                match self.carry_out(step.clone()) {
                    Ok(outcome) => evidence.extend(outcome.evidence),
                    // Something earlier in this round went with it; the next round looks again.
                    Err(error @ (ResponseError::Moved { .. } | ResponseError::ParentMissing { .. })) => {
                        evidence.extend(error.into_evidence());
                    }
                    Err(error) => panic!("{error}\nin {step:?}"),
                }
            }
        }
        panic!("still different after six rounds: {:#?}", self.steps(baseline));
    }

    fn steps(&self, baseline: &Baseline) -> Vec<Step> {
        let now = self.walk();
        let paths: BTreeSet<&RelPath> = baseline.keys().chain(now.keys()).collect();
        let changes: Vec<_> =
            paths.into_iter().filter_map(|p| compare(p, baseline.get(p), now.get(p))).collect();
        // What should not be there goes from the leaves up, what is missing comes from the top down.
        let (created, rest): (Vec<_>, Vec<_>) = changes.iter().partition(|c| c.kind == ChangeKind::Created);
        let policy = PathPolicy::restore_everything();
        created.into_iter().rev().chain(rest).flat_map(|c| plan(c, &policy, true).steps).collect()
    }

    pub fn assert_equals(&self, baseline: &Baseline) {
        let now: Baseline = self.walk().into_iter().map(|(path, found)| (path, found.entry)).collect();
        assert_eq!(&now, baseline);
    }

    pub fn assert_no_private_names(&self) {
        for path in self.walk().keys() {
            assert!(!is_private_name(path.name().expect("not the root")), "left behind: {path}");
        }
    }

    /// Evidence holds exactly this content, recorded under `path`.
    pub fn assert_evidence(&self, evidence: &[Evidence], path: &str, content: &[u8]) {
        let held: Vec<_> = evidence
            .iter()
            .filter(|e| e.path == rel(path))
            .filter_map(|e| e.digest)
            .map(|d| self.vault.read(&d).expect("sound"))
            .collect();
        assert!(held.iter().any(|c| c == content), "no evidence of {path} among {evidence:?}");
    }
}
