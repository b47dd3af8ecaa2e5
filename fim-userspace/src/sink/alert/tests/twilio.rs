//! Twilio's published API, held to by a server that refuses everything else (`fim_tests::receiver::twilio`).

use std::collections::VecDeque;

use fim_tests::receiver::http::{Act, Request, Server};
use serde_json::Value;

use super::*;
use crate::config::{SecretSource, TwilioConfig, TwilioSender};

const SID: &str = "AC0123456789abcdef0123456789ABCDEF";
const TO: &str = "+15005550009";
const TOKEN: &str = "t0ken:with=signs";

type Published = fim_tests::receiver::twilio::Twilio;

/// Follows the script, and then does as the description says. Whatever it answers, every request must be a good one.
struct Strict {
    server: Server,
    published: Arc<Published>,
}

impl Strict {
    fn start(script: &[Act]) -> Self {
        let published = Arc::new(Published::published(SID, TOKEN).expect("the description"));
        let (rules, script) =
            (published.clone(), Mutex::new(script.iter().cloned().collect::<VecDeque<_>>()));
        let server = Server::start(move |request| {
            let scripted = script.lock().expect("script").pop_front();
            scripted.unwrap_or_else(|| rules.answer(request))
        });
        Self { server: server.expect("a server"), published }
    }

    fn form(&self, request: &Request) -> serde_json::Map<String, Value> {
        self.published.check(request).expect("as the description demands")
    }

    /// What was asked for, each request held against the description.
    fn bodies(&self) -> Vec<String> {
        let seen = self.server.seen();
        seen.iter().map(|request| self.form(request)["Body"].as_str().expect("text").to_owned()).collect()
    }
}

/// Twilio's own words: <https://www.twilio.com/docs/usage/twilios-response#response-formats-exceptions>.
fn complaint(status: u16, code: u64, message: &str) -> Act {
    let more = format!("https://www.twilio.com/docs/errors/{code}");
    let body = serde_json::json!({ "code": code, "message": message, "more_info": more, "status": status });
    Act::answer(status, body.to_string())
}

fn bad_number() -> Act {
    complaint(400, 21_211, "Invalid 'To' Phone Number: +1500555XXXX")
}

/// Secrets come from files, as they do in earnest.
fn token() -> (tempfile::TempDir, SecretSource) {
    use std::os::unix::fs::PermissionsExt;
    let dir = state();
    let file = dir.path().join("token");
    std::fs::write(&file, format!("{TOKEN}\n")).expect("written");
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    (dir, SecretSource::File(file))
}

fn channel(strict: &Strict, sender: TwilioSender) -> Channel {
    let (_dir, secret) = token();
    let text = format!(
        "[[watch]]\npath = \"/etc\"\n[[alert]]\ntype = \"twilio\"\naccount_sid = \"{SID}\"\nauth_token_env = \"T\"\n\
         from = \"x\"\nto = [\"{TO}\"]\napi_base = \"{}\"\n",
        strict.server.url("/")
    );
    let config = Config::parse(Path::new("fim.toml"), &text).expect("valid");
    let AlertKind::Twilio(config) = &config.alerts[0].kind else { panic!("twilio") };
    let config = TwilioConfig { sender, ..config.clone() };
    Channel::Twilio(Twilio::new(&config, secret.read().expect("a token"), TO).expect("a client"))
}

fn from_number(strict: &Strict) -> Channel {
    channel(strict, TwilioSender::From("+15005550006".into()))
}

/// What became of two records: the bodies in their order, the state, the records, what other alerts are told.
struct Outcome {
    bodies: Vec<String>,
    requests: Vec<Request>,
    state: crate::store::SinkState,
    sent: Vec<Record>,
    told: Vec<String>,
}

async fn after(script: &[Act]) -> Outcome {
    let (dir, strict) = (state(), Strict::start(script));
    let mut channel = from_number(&strict);
    let Channel::Twilio(twilio) = &mut channel else { panic!("twilio") };
    if script.iter().any(|act| matches!(act, Act::Hang)) {
        twilio.impatient(Duration::from_millis(200));
    }
    let mut store = Store::open(dir.path()).expect("a store");
    let (report, told) = listener();
    let sink = run_telling(lane("sms", Route::default(), channel), dir.path(), report);
    let sent = sink.append(&mut store, &events(0..2));
    until(|| sink_state(&store, "sms").cursor == 2, || "the cursor's move".into()).await;
    sink.finish().await;
    let told = told.lock().expect("list").clone();
    let (bodies, requests) = (strict.bodies(), strict.server.seen());
    Outcome { bodies, requests, state: sink_state(&store, "sms"), sent, told }
}

#[tokio::test]
async fn a_message_is_what_the_published_description_demands() {
    let Outcome { bodies, state, sent, told, .. } = after(&[]).await;
    assert_eq!(bodies.len(), 2);
    for (body, record) in bodies.iter().zip(&sent) {
        assert!(body.contains(&format!("{} fim show {}", &record.id[..8], record.seq)), "{body}");
    }
    assert_eq!((state.error, state.parked, told.len()), (None, 0, 0));

    let service = format!("MG{}", &SID[2..]);
    for (sender, field, value) in [
        (TwilioSender::From("+15005550006".into()), "From", "+15005550006"),
        (TwilioSender::From("fim web1".into()), "From", "fim web1"),
        (TwilioSender::MessagingService(service.clone()), "MessagingServiceSid", service.as_str()),
    ] {
        let strict = Strict::start(&[]);
        let mut channel = channel(&strict, sender);
        let message = Message::test("sms", "web1", "2026-11-22T01:02:03Z".into());
        let answer = channel.send(&message).await.expect("sent");
        assert_eq!(answer, "201 Created, SMaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa queued");
        let form = strict.form(&strict.server.seen()[0]);
        assert_eq!(form.keys().map(String::as_str).collect::<Vec<_>>(), ["Body", field, "To"]);
        assert_eq!((&form[field], &form["To"]), (&Value::from(value), &Value::from(TO)));
    }
}

#[tokio::test]
async fn a_bad_number_and_a_bad_token_are_parked_and_told() {
    for (act, words) in [
        (bad_number(), ["400 Bad Request", "Invalid 'To' Phone Number", "21211"]),
        (complaint(401, 20_003, "Authenticate"), ["401 Unauthorized", "Authenticate", "20003"]),
    ] {
        let Outcome { bodies, state, sent, told, .. } = after(&[act]).await;
        assert_eq!((bodies.len(), state.parked, state.error), (2, 1, None), "the next one got through");
        assert_ne!(bodies[0], bodies[1], "what was refused is not asked for again");
        let reason = state.parked_reason.expect("told");
        assert!(words.iter().all(|word| reason.contains(word)), "{reason}");
        assert!(reason.contains(&sent[0].id) && !reason.contains("t0ken"), "{reason}");
        assert_eq!(told.len(), 1);
        assert!(told[0].contains(words[2]) && !told[0].contains("t0ken"), "{}", told[0]);
    }
}

#[tokio::test]
async fn what_passes_is_tried_again_with_the_same_text() {
    let queue_full =
        complaint(400, 21_611, "This 'From' number has exceeded the maximum number of queued messages");
    for act in [Act::later(429, 1), queue_full, Act::status(500), Act::status(503), Act::Drop, Act::Hang] {
        let Outcome { bodies, requests, state, told, .. } = after(std::slice::from_ref(&act)).await;
        assert_eq!((bodies.len(), state.parked, state.error, told.len()), (3, 0, None, 0), "{act:?}");
        assert_eq!(bodies[0], bodies[1], "{act:?}");
        assert_ne!(bodies[1], bodies[2], "{act:?}");
        let waited = requests[1].at - requests[0].at;
        let asked = matches!(act, Act::Answer { status: 429, .. });
        assert!(!asked || waited >= Duration::from_secs(1), "{waited:?}");
    }
}
