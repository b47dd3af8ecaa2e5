//! Decisions that the database or the vault cannot carry out to their end.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::*;
use crate::config::Config;
use crate::core::entry::Digest;
use crate::core::event::EventKind;
use crate::core::quarantine::Fate;
use crate::daemon::take::take;
use crate::store::{Held, Lock};

struct World {
    dir: tempfile::TempDir,
    config: Config,
}

impl World {
    /// One watched file, approved with the content `approved`.
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let (state, watched) = (dir.path().join("state"), dir.path().join("watched"));
        std::fs::create_dir(&watched).expect("made");
        std::fs::write(watched.join("file"), "approved").expect("written");
        let text = format!("[state]\ndir = {state:?}\n[[watch]]\npath = {watched:?}\n");
        let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
        take(&config, false).expect("taken");
        std::fs::set_permissions(&state, std::fs::Permissions::from_mode(0o700)).expect("chmod");
        Self { dir, config }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("watched").join(name)
    }

    fn database(&self) -> rusqlite::Connection {
        rusqlite::Connection::open(self.config.state.dir.join("fim.db")).expect("opens")
    }

    fn alone(&self) -> Alone {
        Alone::open(&self.config, Lock::acquire(&self.config.state.dir).expect("free")).expect("opens")
    }

    fn held(&self) -> Vec<Held> {
        Store::open_read_only(&self.config.state.dir).expect("opens").held(true).expect("read")
    }

    fn object(&self, digest: &Digest) -> PathBuf {
        let hex = digest.to_string();
        self.config.state.dir.join("vault/objects").join(&hex[..2]).join(&hex[2..])
    }

    /// What stands in the watched folder under private names.
    fn aside(&self) -> Vec<Vec<u8>> {
        let names = std::fs::read_dir(self.path("")).expect("listed").flatten();
        let private = names.filter(|e| crate::tree::private::is_private_name(e.file_name().as_bytes()));
        private.map(|e| std::fs::read(e.path()).expect("a file")).collect()
    }
}

fn order(desk: &mut Desk<'_>, act: &Act) -> Vec<Answer> {
    let mut answers = Vec::new();
    let ann = Person { name: "ann".into(), uid: 1007 };
    carry_out(desk, act, &ann, &mut |answer| answers.push(answer));
    answers
}

fn restore(path: &Path) -> Act {
    Act::Restore { paths: vec![AbsPath(path.as_os_str().as_bytes().to_vec())], reason: None }
}

const BREAK: &str = "CREATE TRIGGER broken BEFORE INSERT ON ledger BEGIN SELECT RAISE(ABORT, 'broken'); END";

#[test]
fn what_stood_in_the_place_is_not_removed_while_it_cannot_be_recorded() {
    let world = World::new();
    std::fs::write(world.path("file"), "evidence").expect("altered");
    world.database().execute_batch(BREAK).expect("broken");
    let mut alone = world.alone();
    let mut desk = alone.desk();
    let answers = order(&mut desk, &restore(&world.path("file")));
    assert!(
        matches!(&answers[..], [Answer::Failed { sentence }] if sentence.contains("broken")),
        "{answers:?}"
    );
    assert_eq!(std::fs::read(world.path("file")).expect("there"), b"approved");
    assert_eq!(world.aside(), [b"evidence"], "neither a row nor a file tells of it");
}

#[test]
fn a_purge_that_could_not_remove_the_content_can_be_made_again() {
    let world = World::new();
    std::fs::write(world.path("file"), "evidence").expect("altered");
    let mut alone = world.alone();
    let mut desk = alone.desk();
    order(&mut desk, &restore(&world.path("file")));
    let held = &world.held()[0];
    let object = world.object(&held.digest.expect("kept"));
    let away = world.dir.path().join("away");
    // The vault cannot remove a folder as it does a file.
    std::fs::rename(&object, &away).and_then(|()| std::fs::create_dir(&object)).expect("in the way");
    let purge = Act::Purge { evidence: vec![held.id], reason: None };
    let refused = |answers: &[Answer]| matches!(answers[0], Answer::Refused { .. });
    let answers = order(&mut desk, &purge);
    assert!(refused(&answers), "{answers:?}");
    std::fs::remove_dir(&object).and_then(|()| std::fs::rename(&away, &object)).expect("back");
    let answers = order(&mut desk, &purge);
    assert!(!refused(&answers), "{answers:?}");
    assert!(!object.exists());
    assert_eq!(world.held()[0].fate, Some(Fate::Purged));
    let answers = order(&mut desk, &purge);
    assert!(refused(&answers), "it is gone by now: {answers:?}");
    let records =
        Store::open_read_only(&world.config.state.dir).expect("opens").ledger_after(0, 9).expect("read");
    assert_eq!(records.iter().filter(|r| r.event.kind == EventKind::Purged).count(), 2);
}
