use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;

use crossbeam_channel::{Receiver, bounded};

use super::*;
use crate::control::{AbsPath, PROTOCOL, REQUEST_LIMIT, Read as Ask, Request};

fn served() -> (tempfile::TempDir, Control, Receiver<Job>) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let (jobs, inbox) = bounded(WAITING);
    let control = Control::start(dir.path(), jobs, metrics()).expect("it serves");
    (dir, control, inbox)
}

fn metrics() -> Arc<Metrics> {
    Metrics::new().expect("a sound table")
}

fn raw(dir: &Path, text: &[u8]) -> String {
    let mut stream = UnixStream::connect(dir.join(SOCKET)).expect("connects");
    // Turned away in the middle of it, a client hears why all the same.
    let _ = stream.write_all(text);
    let mut said = Vec::new();
    let _ = stream.read_to_end(&mut said);
    String::from_utf8_lossy(&said).into_owned()
}

fn ask(dir: &Path, request: Request) -> Vec<Answer> {
    let mut said = Vec::new();
    let client = Client::connect(dir).expect("works").expect("a daemon");
    client.ask(request, &mut |answer| said.push(answer)).expect("answers");
    said
}

fn act() -> Act {
    Act::Restore { paths: vec![AbsPath(b"/w/a\n\xff".to_vec())], reason: None }
}

#[test]
fn a_dead_daemons_socket_is_replaced_and_ones_own_goes_at_the_end() {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let path = dir.path().join(SOCKET);
    drop(UnixListener::bind(&path).expect("bound"));
    assert!(path.exists() && Client::connect(dir.path()).expect("works").is_none(), "nobody listens");
    let (jobs, _inbox) = bounded(1);
    let control = Control::start(dir.path(), jobs, metrics()).expect("it serves");
    assert_eq!(std::fs::metadata(&path).expect("there").permissions().mode() & 0o7777, 0o600);
    let said = ask(dir.path(), Request::Read(Ask::Hello));
    let [Answer::Hello { protocol, pid, .. }] = said[..] else { panic!("{said:?}") };
    assert_eq!((protocol, pid), (PROTOCOL, std::process::id()));
    drop(control);
    assert!(!path.exists() && Client::connect(dir.path()).expect("works").is_none());
}

#[test]
fn requests_reach_the_reconciler_and_its_answers_come_back() {
    let (dir, _control, inbox) = served();
    let reconciler = std::thread::spawn(move || {
        let job = inbox.recv().expect("a job");
        assert_eq!(job.act, act());
        let path = AbsPath(b"/w/a\n\xff".to_vec());
        job.reply.send(Answer::Same { path }).expect("somebody listens");
        job.reply.send(Answer::Done { done: 0, refused: 0 }).expect("somebody listens");
        // The second one ends without an answer.
        drop(inbox.recv().expect("a job"));
    });
    let said = ask(dir.path(), Request::Act(act()));
    assert_eq!(said.len(), 2);
    assert_eq!(said[0], Answer::Same { path: AbsPath(b"/w/a\n\xff".to_vec()) });
    let said = ask(dir.path(), Request::Act(act()));
    assert!(matches!(&said[..], [Answer::Failed { sentence }] if sentence.contains("ending")), "{said:?}");
    reconciler.join().expect("as expected");
    let said = ask(dir.path(), Request::Act(act()));
    assert!(matches!(&said[..], [Answer::Failed { .. }]), "{said:?}");
}

#[test]
fn what_is_not_understood_is_answered_with_a_sentence() {
    let (dir, _control, _inbox) = served();
    let long = vec![b'x'; REQUEST_LIMIT + 100];
    let cases: [(&[u8], &str); 5] = [
        (b"nonsense\n", "no JSON"),
        (b"{\"protocol\":99,\"request\":{\"fly\":{}}}\n", "restart the daemon"),
        (b"{\"request\":{\"read\":\"hello\"}}\n", "restart the daemon"),
        (b"{\"protocol\":1,\"request\":{\"act\":\"fly\"}}\n", "restart the daemon"),
        (&long, "1.0 MiB"),
    ];
    for (text, word) in cases {
        let said = raw(dir.path(), text);
        assert!(said.contains("failed") && said.contains(word), "{said}");
    }
}

#[test]
fn clients_that_stand_still_hold_nobody_and_too_many_are_turned_away() {
    let (dir, _control, _inbox) = served();
    let path = dir.path().join(SOCKET);
    let mut silent: Vec<UnixStream> =
        (0..CLIENTS - 1).map(|_| UnixStream::connect(&path).expect("connects")).collect();
    assert!(matches!(ask(dir.path(), Request::Read(Ask::Hello))[..], [Answer::Hello { .. }]));
    silent.extend((0..8).map(|_| UnixStream::connect(&path).expect("connects")));
    let said = ask(dir.path(), Request::Read(Ask::Hello));
    assert!(matches!(&said[..], [Answer::Failed { sentence }] if sentence.contains("too many")), "{said:?}");
}
