use std::os::unix::fs::{MetadataExt, PermissionsExt};

use super::*;
use crate::core::entry::tests::regular;
use crate::core::entry::{Digest, Entry, Found, Identity};
use crate::core::event::{Event, EventKind};
use crate::core::path::RelPath;
use crate::store::{EvidenceRow, Lock};

struct World {
    dir: tempfile::TempDir,
    config: Config,
    approved: Digest,
    altered: Digest,
}

impl World {
    /// One approved file and one piece of evidence of it, from 1970.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o700)).expect("chmod");
        let text = format!("[state]\ndir = \"{}\"\n[[watch]]\npath = \"/w\"\n", dir.path().display());
        let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
        let mut store = Store::open(dir.path()).expect("opens");
        let vault = Vault::open(&dir.path().join("vault")).expect("opens");
        let [approved, altered] =
            ["approved", "altered"].map(|text| vault.put(&mut text.as_bytes()).expect("stored"));
        let found = |digest| Found {
            entry: Entry { sha256: Some(digest), ..regular(1) },
            identity: Identity { dev: 1, ino: 2, ctime_ns: 3, nlink: 1 },
        };
        let path = RelPath::new(&b"odd\nname"[..]).expect("sound");
        store.baseline_put_many(Path::new("/w"), &[(path.clone(), found(approved))]).expect("written");
        let row = EvidenceRow {
            watch: "/w".into(),
            path,
            found: found(altered),
            digest: Some(altered),
            reason: crate::core::quarantine::Reason::Altered,
        };
        let event = Event::about_fim(EventKind::Modified, "h", "lsm", 5_000, "m".into());
        store.append_with(&[event], &[], &[(0, row)]).expect("written");
        Self { dir, config, approved, altered }
    }

    fn object(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.dir.path().join("vault/objects").join(&hex[..2]).join(&hex[2..])
    }
}

fn lines(out: &[u8]) -> Vec<serde_json::Value> {
    let text = std::str::from_utf8(out).expect("text");
    text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
}

const ODD: &str = "/w/odd\nname";
const SHOWN: &str = "/w/odd\\x0aname";

#[test]
fn objects_and_versions_are_listed_with_who_needs_them() {
    let w = World::new();
    let mut out = Vec::new();
    list(&w.config, true, &mut out).expect("listed");
    let objects = lines(&out);
    assert_eq!(objects.len(), 2);
    for object in &objects {
        let approved = object["sha256"] == w.approved.to_string();
        assert_eq!(object["baseline"], u64::from(approved));
        assert_eq!(object["evidence"], u64::from(!approved));
        assert_eq!((&object["size"], &object["form"]), (&4096.into(), &"zstd".into()));
    }
    let mut out = Vec::new();
    let code = versions(&w.config, Path::new(ODD), true, &mut out).expect("listed");
    assert_eq!(code, ExitCode::SUCCESS);
    let copies = lines(&out);
    assert_eq!((&copies[0]["reason"], &copies[1]["reason"]), (&"approved".into(), &"altered".into()));
    assert_eq!((&copies[0]["path"], &copies[1]["number"]), (&SHOWN.into(), &2.into()));
    assert_eq!((&copies[1]["seq"], &copies[1]["kept"]), (&1.into(), &true.into()));
    assert_eq!(copies[1]["event"].as_str().map(str::len), Some(32));
    let mut out = Vec::new();
    assert_eq!(
        versions(&w.config, Path::new("/w/none"), false, &mut out).expect("listed"),
        ExitCode::from(1)
    );
    assert_eq!(out, b"there is no copy of /w/none\n");
}

#[test]
fn damaged_and_missing_objects_are_named_with_the_paths_that_need_them() {
    let w = World::new();
    let mut out = Vec::new();
    assert_eq!(verify::run(&w.config, false, &mut out).expect("verified"), ExitCode::SUCCESS);
    assert_eq!(out, b"2 objects read (15 bytes of content): 0 damaged, 0 missing\n");
    std::fs::write(w.object(&w.approved), b"nonsense").expect("damaged");
    std::fs::remove_file(w.object(&w.altered)).expect("removed");
    let mut out = Vec::new();
    assert_eq!(verify::run(&w.config, true, &mut out).expect("verified"), ExitCode::from(1));
    let said = lines(&out);
    for (digest, problem) in [(w.approved, "damaged"), (w.altered, "missing")] {
        let line = said.iter().find(|line| line["sha256"] == digest.to_string()).expect("named");
        assert_eq!((&line["problem"], &line["paths"]), (&problem.into(), &vec![SHOWN].into()));
    }
    assert_eq!((&said[2]["damaged"], &said[2]["missing"]), (&1.into(), &1.into()));
    let mut out = Vec::new();
    verify::run(&w.config, false, &mut out).expect("verified");
    let text = String::from_utf8(out).expect("text");
    assert!(text.contains(&format!("needed for {SHOWN}")), "{text}");
}

fn export(w: &World, what: &str, version: Option<&str>, to: &Path, force: bool) -> Result<(), String> {
    let mut words = vec!["export".to_owned(), what.into(), "--to".into(), to.display().to_string()];
    words.extend(version.iter().flat_map(|v| ["--version".to_owned(), (*v).into()]));
    words.extend(force.then(|| "--force".into()));
    #[derive(clap::Parser)]
    struct Line {
        #[command(subcommand)]
        action: Action,
    }
    use clap::Parser;
    let line = Line::try_parse_from([vec!["vault".to_owned()], words].concat()).expect("sound arguments");
    let Action::Export(args) = line.action else { unreachable!("export") };
    export::run(&w.config, &args, false, &mut Vec::new()).map(drop).map_err(|e| format!("{e:#}"))
}

#[test]
fn an_export_overwrites_nothing_and_follows_no_link() {
    let w = World::new();
    let to = w.dir.path().join("out");
    export(&w, ODD, None, &to, false).expect("written");
    assert_eq!(std::fs::read(&to).expect("there"), b"approved");
    assert_eq!(to.metadata().expect("there").mode() & 0o7777, 0o600);
    let said = export(&w, ODD, Some("2"), &to, false).expect_err("it is there");
    assert!(said.contains("--force") && std::fs::read(&to).expect("there") == b"approved", "{said}");
    export(&w, ODD, Some("2"), &to, true).expect("replaced");
    assert_eq!(std::fs::read(&to).expect("there"), b"altered");

    let secret = w.dir.path().join("secret");
    std::fs::write(&secret, b"secret").expect("written");
    let link = w.dir.path().join("link");
    std::os::unix::fs::symlink(&secret, &link).expect("linked");
    export(&w, ODD, None, &link, false).expect_err("a link is there");
    export(&w, ODD, None, &link, true).expect("replaced");
    assert!(link.symlink_metadata().expect("there").is_file());
    assert_eq!(std::fs::read(&secret).expect("there"), b"secret");

    let prefix = &w.altered.to_string()[..8];
    export(&w, prefix, None, &w.dir.path().join("by digest"), false).expect("written");
    for (what, version, part) in [
        (prefix, Some("1"), "leave it out"),
        ("0123456789", None, "no object 0123456789"),
        ("/w/none", None, "no copy"),
        (ODD, Some("9"), "no copy of it is called"),
    ] {
        let said = export(&w, what, version, &w.dir.path().join("never"), false).expect_err(what);
        assert!(said.contains(part), "{said}");
    }
    std::fs::write(w.object(&w.approved), b"nonsense").expect("damaged");
    let said = export(&w, ODD, None, &w.dir.path().join("never"), false).expect_err("damaged");
    assert!(said.contains("damaged"), "{said}");
    let left: Vec<_> =
        std::fs::read_dir(w.dir.path()).expect("listed").flatten().map(|e| e.file_name()).collect();
    assert!(!left.iter().any(|name| name == "never" || name.to_string_lossy().starts_with(".fim-")));
}

#[test]
fn an_export_that_fails_removes_nobody_elses_file() {
    let w = World::new();
    let theirs = w.dir.path().join(format!(".fim-export-{}", std::process::id()));
    std::fs::write(&theirs, "theirs").expect("written");
    let _ = export(&w, ODD, None, &w.dir.path().join("out"), false);
    assert_eq!(std::fs::read(&theirs).expect("still there"), b"theirs");
}

#[test]
fn pruning_is_not_done_beside_who_holds_the_lock_and_can_be_tried_first() {
    let w = World::new();
    let prune = |args: prune::Args| {
        let mut out = Vec::new();
        prune::run(&w.config, &args, true, &mut out).map(|code| (code, lines(&out).remove(0)))
    };
    let said = prune(prune::Args::default()).expect_err("no limit").to_string();
    assert!(said.contains("--older-than"), "{said}");
    let old = || Some(std::time::Duration::from_secs(3600));
    let (code, line) =
        prune(prune::Args { dry_run: true, older_than: old(), max_size: None }).expect("looked");
    assert_eq!((code, &line["removed"], &line["dry_run"]), (ExitCode::SUCCESS, &1.into(), &true.into()));
    assert!(w.object(&w.altered).exists());
    let lock = Lock::acquire(w.dir.path()).expect("free");
    let said = prune(prune::Args { older_than: old(), ..Default::default() }).expect_err("held");
    assert!(format!("{said:#}").contains("no daemon answers"), "{said:#}");
    drop(lock);
    let (_, line) = prune(prune::Args { older_than: old(), ..Default::default() }).expect("pruned");
    assert_eq!((&line["removed"], &line["freed"], &line["seq"]), (&1.into(), &4096.into(), &2.into()));
    assert!(!w.object(&w.altered).exists() && w.object(&w.approved).exists());
    let (code, line) = prune(prune::Args { max_size: Some(1), ..Default::default() }).expect("pruned");
    assert_eq!((code, &line["over"], &line["baseline"]), (ExitCode::from(1), &4095.into(), &4096.into()));
}
