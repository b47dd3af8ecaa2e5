//! Mail, to a real server: aiosmtpd, from the system's packages.

use fim_tests::receiver::smtp::Server;
use serde_json::Value;

use super::*;
use crate::config::EmailConfig;
use crate::sink::syslog::tests::certificates::{Authority, Pair};
use crate::sink::tests::attributed;

fn server(arguments: &[&str]) -> Server {
    Server::start(arguments).expect("a mail server")
}

fn encrypted(how: &str, pair: &Pair, more: &[&str]) -> Server {
    let path = |path: &Path| path.to_str().expect("text").to_owned();
    let (certificate, key) = (path(&pair.certificate), path(&pair.key));
    server(&[&["--tls", how, "--cert", &certificate, "--key", &key], more].concat())
}

/// Its words come through a pipe, a moment later.
async fn taken(server: &Server, mails: usize) -> Vec<Value> {
    until(|| server.mails().len() >= mails, || format!("{} of {mails} mails", server.mails().len())).await;
    server.mails()
}

fn url(server: &Server, scheme: &str) -> String {
    format!("{scheme}://fim%40example.org@127.0.0.1:{}", server.port)
}

fn config(url: &str, ca_file: Option<&Path>) -> EmailConfig {
    let text = format!(
        "[[watch]]\npath = \"/etc\"\n[[alert]]\ntype = \"email\"\nsmtp = \"{url}\"\nfrom = \"fim@example.org\"\nto = [\"ops@example.org\"]\n"
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let AlertKind::Email(config) = &config.alerts[0].kind else { panic!("email") };
    EmailConfig { ca_file: ca_file.map(Into::into), ..config.clone() }
}

fn smtp(url: &str, ca_file: Option<&Path>, password: Option<&str>) -> Smtp {
    Smtp::new(&config(url, ca_file), password.map(Secret::new).as_ref(), "ops@example.org")
        .expect("a transport")
}

/// The letter as it goes over the wire.
pub fn letter(message: &Message) -> String {
    let smtp = smtp("smtp://127.0.0.1:1", None, None);
    String::from_utf8(smtp.compose(message).expect("composed").formatted()).expect("text")
}

fn test() -> Message {
    Message::test("mail", "web1", "2026-11-22T01:02:03.000000Z".into())
}

#[tokio::test]
async fn starttls_and_implicit_tls_with_a_password() {
    let authority = Authority::new();
    let pair = authority.sign(&["127.0.0.1"]);
    for (how, scheme) in [("starttls", "smtp+starttls"), ("implicit", "smtps")] {
        let server = encrypted(how, &pair, &["--auth", "fim@example.org:p w=d"]);
        let mut good = smtp(&url(&server, scheme), Some(&authority.file()), Some("p w=d"));
        let answer = good.send(&test()).await.expect("sent");
        assert_eq!(answer, "250 2.0.0 taken as 4711", "{how}");
        let mails = taken(&server, 1).await;
        assert_eq!(mails.len(), 1, "{how}");
        assert_eq!(
            (&mails[0]["encrypted"], &mails[0]["user"]),
            (&Value::Bool(true), &"fim@example.org".into())
        );
        assert_eq!(
            (&mails[0]["from"], &mails[0]["to"][0]),
            (&"fim@example.org".into(), &"ops@example.org".into())
        );

        let mut wrong = smtp(&url(&server, scheme), Some(&authority.file()), Some("hunter2"));
        let fault = wrong.send(&test()).await.expect_err("wrong password");
        assert!(
            matches!(&fault, Fault::Final { reason } if reason.contains("535") && !reason.contains("hunter2")),
            "{fault}"
        );
        assert_eq!(server.mails().len(), 1);
    }
}

#[tokio::test]
async fn a_server_that_cannot_prove_its_name_gets_nothing() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let cases = [
        ("another's name", ours.sign(&["mail.example.org"]), Some(ours.file())),
        ("another authority", theirs.sign(&["127.0.0.1"]), Some(ours.file())),
        ("an authority that the system does not know", theirs.sign(&["127.0.0.1"]), None),
    ];
    for (what, pair, ca_file) in &cases {
        for (how, scheme) in [("starttls", "smtp+starttls"), ("implicit", "smtps")] {
            let server = encrypted(how, pair, &[]);
            let fault =
                smtp(&url(&server, scheme), ca_file.as_deref(), None).send(&test()).await.expect_err(what);
            assert!(
                matches!(&fault, Fault::Passing { reason, .. } if reason.to_lowercase().contains("certificate")),
                "{what}: {fault}"
            );
            assert!(server.mails().is_empty(), "{what}, {how}");
        }
    }
    // A server without STARTTLS would get it in the clear.
    let server = server(&[]);
    let fault = smtp(&url(&server, "smtp+starttls"), None, None).send(&test()).await.expect_err("no TLS");
    assert!(
        server.mails().is_empty() && matches!(fault, Fault::Passing { .. } | Fault::Final { .. }),
        "{fault}"
    );
}

/// What a script of the server leads to: how many answers it gave, mails, state, reports.
async fn after(
    arguments: &[&str],
    mails: usize,
) -> (usize, Vec<Value>, crate::store::SinkState, Vec<String>) {
    let (dir, server) = (state(), server(arguments));
    let mut store = Store::open(dir.path()).expect("a store");
    let (report, told) = listener();
    let mut smtp = smtp(&url(&server, "smtp"), None, None);
    smtp.impatient(Duration::from_millis(500));
    let sink = run_telling(lane("mail", Route::default(), Channel::Smtp(smtp)), dir.path(), report);
    sink.append(&mut store, &events(0..2));
    until(|| sink_state(&store, "mail").cursor == 2, || "the cursor's move".into()).await;
    sink.finish().await;
    taken(&server, mails).await;
    let told = told.lock().expect("list").clone();
    let said = server.said().len();
    (said, server.mails(), sink_state(&store, "mail"), told)
}

#[tokio::test]
async fn greylisting_hanging_and_vanishing_are_tried_again() {
    for (answer, at) in [
        ("451 4.7.1 greylisted", "RCPT"),
        ("451 4.3.0 later", "DATA"),
        ("hang", "DATA"),
        ("vanish", "RCPT"),
        ("vanish", "DATA"),
    ] {
        let (said, mails, state, told) = after(&["--first", answer, "--at", at], 2).await;
        assert_eq!((said, mails.len()), (3, 2), "{answer} at {at}");
        assert_eq!((state.error, state.parked, told.len()), (None, 0, 0), "{answer} at {at}");
    }
}

#[tokio::test]
async fn an_address_that_does_not_exist_is_parked_and_told() {
    let (said, mails, state, told) = after(&["--first", "550 5.1.1 no such user"], 1).await;
    assert_eq!((said, mails.len(), state.parked, state.error), (2, 1, 1, None));
    assert_eq!(told.len(), 1);
    assert!(told[0].contains("550") && told[0].contains("no such user"), "{}", told[0]);
}

#[tokio::test]
async fn a_server_that_talks_without_end_or_repeats_a_password_is_cut_short() {
    let said = format!("550 5.1.1 you said p w=d, {}", "and so on ".repeat(40));
    let server = server(&["--auth", "fim@example.org:p w=d", "--first", &said]);
    let fault = smtp(&url(&server, "smtp"), None, Some("p w=d")).send(&test()).await.expect_err("refused");
    let Fault::Final { reason } = &fault else { panic!("{fault}") };
    assert!(reason.contains("you said (secret), and so on"), "{reason}");
    assert!(reason.chars().count() <= 400, "{}", reason.len());
}

#[tokio::test]
async fn a_mail_says_everything_in_text_and_html() {
    let server = server(&[]);
    let message = super::forms::single(&attributed());
    smtp(&url(&server, "smtp"), None, None).send(&message).await.expect("sent");
    let mails = taken(&server, 1).await;
    let body =
        mails[0]["body"].as_str().expect("text").replace("=\r\n", "").replace("=3D", "=").replace("=\n", "");
    for words in [
        "Subject: [fim] high: host: modified /etc/a\\x0ab",
        &format!("Message-ID: <{}@fim.invalid>", "ab".repeat(16)),
        "Auto-Submitted: auto-generated",
        "multipart/alternative",
        "text/plain",
        "text/html",
        "path:     /etc/a\\x0ab",
        "who:      ann (1000), logged in as uid 1002, /usr/bin/dash, pid 123",
        "done:     restored in 1.2 ms",
        "more:     fim show 42",
        "<td style=",
    ] {
        assert!(body.contains(words), "{words:?} in {body}");
    }
}
