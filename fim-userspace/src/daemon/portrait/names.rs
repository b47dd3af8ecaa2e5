//! Names of ids, asked for on a thread of its own: a directory service that does not answer must stop nobody.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};
use nix::unistd::{Gid, Group, Uid, User};

use crate::core::actor::Actor;

/// How long a name is believed.
const FRESH: Duration = Duration::from_secs(60);
/// How long records wait for names, at most, and only while the service answers at all.
const PATIENCE: Duration = Duration::from_millis(500);
const ASKED: usize = 1024;
const KNOWN: usize = 65_536;

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Id {
    User(u32),
    Group(u32),
}

type Answer = (Id, Option<String>);

/// Names that the host has for ids, through NSS as for every program.
pub struct NameBook {
    known: HashMap<Id, (Option<String>, Instant)>,
    asked: HashMap<Id, Instant>,
    questions: Sender<Id>,
    answers: Receiver<Answer>,
    /// Nothing came in time; nobody waits until something does.
    silent: bool,
}

impl NameBook {
    /// The thread ends with the book.
    pub fn start() -> Self {
        Self::asking(name)
    }

    fn asking(name: impl Fn(Id) -> Option<String> + Send + 'static) -> Self {
        let (questions, asked) = bounded::<Id>(ASKED);
        let (out, answers) = bounded::<Answer>(2 * ASKED);
        let thread = std::thread::Builder::new().name("fim-names".into()).spawn(move || {
            for id in asked {
                if out.send((id, name(id))).is_err() {
                    return;
                }
            }
        });
        if let Err(error) = thread {
            tracing::warn!("names of users cannot be looked up ({error}); records have their numbers");
        }
        Self { known: HashMap::new(), asked: HashMap::new(), questions, answers, silent: false }
    }

    pub fn fill(&mut self, actor: &mut Actor) {
        let (user, group) = (|id: Option<u32>| id.map(Id::User), actor.gid.map(Id::Group));
        let ids = [user(actor.uid), group, user(actor.euid), user(actor.fsuid), user(actor.auid)];
        self.learn(&ids);
        let name = |id: Option<Id>| id.and_then(|id| self.known.get(&id).and_then(|(name, _)| name.clone()));
        let names = &mut actor.names;
        (names.uid, names.gid, names.euid) = (name(ids[0]), name(ids[1]), name(ids[2]));
        (names.fsuid, names.auid) = (name(ids[3]), name(ids[4]));
    }

    /// Asks for what is not known, or not for certain any more, and waits for what is not known at all.
    fn learn(&mut self, ids: &[Option<Id>]) {
        self.take_answers();
        if self.known.len() > KNOWN {
            self.known.clear();
        }
        for id in ids.iter().flatten() {
            let fresh = self.known.get(id).is_some_and(|(_, at)| at.elapsed() < FRESH);
            if fresh || self.asked.contains_key(id) {
                continue;
            }
            if self.questions.try_send(*id).is_ok() {
                self.asked.insert(*id, Instant::now());
            }
        }
        let until = Instant::now() + PATIENCE;
        let missing = |book: &Self| ids.iter().flatten().any(|id| !book.known.contains_key(id));
        while !self.silent && missing(self) {
            match self.answers.recv_deadline(until) {
                Ok(answer) => self.take(answer),
                Err(_) => self.silent = true,
            }
        }
    }

    fn take_answers(&mut self) {
        while let Ok(answer) = self.answers.try_recv() {
            self.take(answer);
            self.silent = false;
        }
    }

    fn take(&mut self, (id, name): Answer) {
        self.asked.remove(&id);
        self.known.insert(id, (name, Instant::now()));
    }
}

fn name(id: Id) -> Option<String> {
    match id {
        Id::User(id) => User::from_uid(Uid::from_raw(id)).ok().flatten().map(|user| user.name),
        Id::Group(id) => Group::from_gid(Gid::from_raw(id)).ok().flatten().map(|group| group.name),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn somebody() -> Actor {
        Actor { uid: Some(0), gid: Some(1), euid: Some(54_321), ..Actor::unknown() }
    }

    #[test]
    fn each_id_has_its_own_name() {
        let mut book = NameBook::asking(|id| match id {
            Id::User(54_321) => None,
            other => Some(format!("{other:?}")),
        });
        let mut actor = somebody();
        book.fill(&mut actor);
        assert_eq!(actor.names.uid.as_deref(), Some("User(0)"));
        assert_eq!(actor.names.gid.as_deref(), Some("Group(1)"));
        assert_eq!((actor.names.euid, actor.names.auid), (None, None));
    }

    #[test]
    fn a_service_that_does_not_answer_is_waited_for_once() {
        let (wake, sleeping) = bounded::<()>(0);
        let mut book = NameBook::asking(move |_| {
            let _ = sleeping.recv();
            Some("late".into())
        });
        book.fill(&mut somebody());
        assert!(book.silent);
        let begun = Instant::now();
        (0..1000).for_each(|_| book.fill(&mut somebody()));
        assert!(begun.elapsed() < 10 * PATIENCE, "a thousand records were delayed by {:?}", begun.elapsed());
        drop(wake);
        let mut actor = somebody();
        while actor.names.uid.is_none() {
            book.fill(&mut actor);
        }
        assert_eq!(actor.names.uid.as_deref(), Some("late"));
    }
}
