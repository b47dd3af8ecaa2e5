//! Twilio's published API (twilio/twilio-oai, `CreateMessage`), held to by a server that refuses everything else.

use base64::Engine;

use super::server::{Act, Request, Server};
use super::*;
use crate::config::{SecretSource, TwilioConfig, TwilioSender};

const SID: &str = "AC0123456789abcdef0123456789ABCDEF";
const TO: &str = "+15005550009";

/// Every field of the form that the description knows and a plain message can have.
const FIELDS: [&str; 4] = ["To", "From", "MessagingServiceSid", "Body"];

const CREATED: Act = Act::Answer(
    "HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 72\r\n\r\n\
     {\"sid\":\"SM0123456789abcdef0123456789abcdef\",\"status\":\"queued\",\"body\":\"\"}",
);
const BAD_NUMBER: Act = Act::Answer(
    "HTTP/1.1 400 Bad Request\r\nContent-Type: application/json\r\nContent-Length: 112\r\n\r\n\
     {\"code\":21211,\"message\":\"Invalid 'To' Phone Number: +1500555XXXX\",\"more_info\":\"https://www.twilio\",\"status\":400}",
);
const BAD_TOKEN: Act = Act::Answer(
    "HTTP/1.1 401 Unauthorized\r\nContent-Length: 50\r\n\r\n{\"code\":20003,\"message\":\"Authenticate\",\"status\":1}",
);
const BUSY: Act =
    Act::Answer("HTTP/1.1 429 Too Many Requests\r\nRetry-After: 1\r\nContent-Length: 0\r\n\r\n");
const QUEUE_FULL: Act = Act::Answer(
    "HTTP/1.1 400 Bad Request\r\nContent-Length: 38\r\n\r\n{\"code\":21611,\"message\":\"queue full\"} ",
);
const BROKEN: Act = Act::Answer("HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n");

/// Secrets come from files, as they do in earnest.
fn token() -> (tempfile::TempDir, SecretSource) {
    use std::os::unix::fs::PermissionsExt;
    let dir = state();
    let file = dir.path().join("token");
    std::fs::write(&file, "t0ken:with=signs\n").expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    (dir, SecretSource::File(file))
}

fn channel(server: &Server, sender: TwilioSender) -> Channel {
    let (_dir, secret) = token();
    let mut base = server.url.clone();
    base.set_path("/");
    let text = format!(
        "[[watch]]\npath = \"/etc\"\n[[alert]]\ntype = \"twilio\"\naccount_sid = \"{SID}\"\nauth_token_env = \"T\"\n\
         from = \"x\"\nto = [\"{TO}\"]\napi_base = \"{base}\"\n"
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let AlertKind::Twilio(config) = &config.alerts[0].kind else { panic!("twilio") };
    let config = TwilioConfig { sender, ..config.clone() };
    Channel::Twilio(Twilio::new(&config, secret.read().expect("a token"), TO).expect("a client"))
}

fn from_number(server: &Server) -> Channel {
    channel(server, TwilioSender::From("+15005550006".into()))
}

/// The form, after everything that the description demands was checked.
fn checked(request: &Request) -> Vec<(String, String)> {
    assert!(
        request.head.starts_with(&format!("POST /2010-04-01/Accounts/{SID}/Messages.json HTTP/1.1\r\n")),
        "{}",
        request.head
    );
    assert_eq!(request.header("content-type"), Some("application/x-www-form-urlencoded"));
    let basic = base64::engine::general_purpose::STANDARD.encode(format!("{SID}:t0ken:with=signs"));
    assert_eq!(request.header("authorization"), Some(format!("Basic {basic}").as_str()));
    let form: Vec<(String, String)> = form_urlencoded::parse(&request.body).into_owned().collect();
    let value = |name: &str| form.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
    for (name, _) in &form {
        assert!(FIELDS.contains(&name.as_str()), "{name}");
        assert_eq!(form.iter().filter(|(n, _)| n == name).count(), 1, "{name} once");
    }
    assert_eq!(value("To"), Some(TO));
    assert!(value("From").is_some() != value("MessagingServiceSid").is_some(), "one sender: {form:?}");
    let body = value("Body").expect("a body");
    assert!((1..=1_600).contains(&body.chars().count()) && !body.chars().any(char::is_control), "{body}");
    form
}

fn body_of(request: &Request) -> String {
    checked(request).into_iter().find(|(name, _)| name == "Body").expect("a body").1
}

/// What is asked for in what order, and the state afterwards.
async fn after(
    script: &[Act],
    requests: usize,
) -> (Vec<Request>, crate::store::SinkState, Vec<Record>, Vec<String>) {
    let (dir, server) = (state(), Server::start(&[script, &[CREATED; 3]].concat()).await);
    let mut store = Store::open(dir.path()).expect("a store");
    let (report, told) = listener();
    let sink = run_telling(lane("sms", Route::default(), from_number(&server)), dir.path(), report);
    let sent = sink.append(&mut store, &events(0..2));
    server.wait(requests).await;
    until(|| sink_state(&store, "sms").cursor == 2, || "the cursor's move".into()).await;
    sink.finish().await;
    let told = told.lock().expect("list").clone();
    (server.seen(), sink_state(&store, "sms"), sent, told)
}

#[tokio::test]
async fn a_message_is_what_the_published_description_demands() {
    let (seen, state, sent, told) = after(&[], 2).await;
    let form = checked(&seen[0]);
    assert!(form.contains(&("From".into(), "+15005550006".into())), "{form:?}");
    for (request, record) in seen.iter().zip(&sent) {
        let body = body_of(request);
        assert!(body.contains(&format!("{} fim show {}", &record.id[..8], record.seq)), "{body}");
    }
    assert_eq!((state.error, state.parked, told.len()), (None, 0, 0));

    let server = Server::start(&[CREATED]).await;
    let mut channel = channel(&server, TwilioSender::MessagingService(format!("MG{}", &SID[2..])));
    let answer =
        channel.send(&Message::test("sms", "web1", "2026-11-22T01:02:03Z".into())).await.expect("sent");
    assert_eq!(answer, "201 Created, SM0123456789abcdef0123456789abcdef queued");
    let form = checked(&server.seen()[0]);
    assert!(form.contains(&("MessagingServiceSid".into(), format!("MG{}", &SID[2..]))), "{form:?}");
}

#[tokio::test]
async fn a_bad_number_and_a_bad_token_are_parked_and_told() {
    for (act, words) in [
        (BAD_NUMBER, ["400 Bad Request", "Invalid 'To' Phone Number", "21211"]),
        (BAD_TOKEN, ["401 Unauthorized", "Authenticate", "20003"]),
    ] {
        let (seen, state, sent, told) = after(&[act], 2).await;
        assert_eq!((seen.len(), state.parked, state.error), (2, 1, None), "the next one got through");
        let reason = state.parked_reason.expect("told");
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
        assert!(reason.contains(&sent[0].id) && !reason.contains("t0ken"), "{reason}");
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(words[2]) && !told[0].contains("t0ken"), "{}", told[0]);
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_with_the_same_text() {
    for act in [BUSY, QUEUE_FULL, BROKEN, Act::Drop] {
        let (seen, state, _, told) = after(&[act], 3).await;
        assert_eq!((seen.len(), state.parked, state.error, told.len()), (3, 0, None, 0), "{act:?}");
        assert_eq!(body_of(&seen[0]), body_of(&seen[1]), "{act:?}");
        assert_ne!(body_of(&seen[1]), body_of(&seen[2]), "{act:?}");
        let waited = seen[1].at - seen[0].at;
        assert!(
            !matches!(act, Act::Answer(text) if text.contains("Retry-After"))
                || waited >= Duration::from_secs(1)
        );
    }
}

#[tokio::test]
async fn a_server_that_never_answers_costs_an_attempt_and_no_more() {
    let (dir, server) = (state(), Server::start(&[Act::Hang, CREATED]).await);
    let mut channel = from_number(&server);
    let Channel::Twilio(twilio) = &mut channel else { panic!("twilio") };
    twilio.impatient(Duration::from_millis(200));
    let mut store = Store::open(dir.path()).expect("a store");
    let sink = run(lane("sms", Route::default(), channel), dir.path());
    sink.append(&mut store, &events(0..1));
    let seen = server.wait(2).await;
    until(|| sink_state(&store, "sms").cursor == 1, || "the cursor's move".into()).await;
    assert_eq!(body_of(&seen[0]), body_of(&seen[1]));
    assert_eq!(sink_state(&store, "sms").error, None);
    sink.finish().await;
}
