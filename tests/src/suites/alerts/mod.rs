//! Alerts of a real daemon: a webhook, short messages, mail; across kills, bursts and failures.

mod burst;
mod dead;
mod hostile;
mod killed;
mod secrets;
mod told;

use std::path::Path;
use std::sync::Arc;

use serde_json::Value;

use crate::fim::{Fim, Policy, Setting};
use crate::receiver::http::{Act, Request, Server};
use crate::receiver::{smtp, twilio::Twilio};
use crate::report::{Report, say};
use crate::wait;

pub fn run(setting: &Setting, report: &mut Report, kills: Option<u32>, seed: u64) {
    let kills = kills.unwrap_or(if setting.full { 100 } else { 10 });
    let name = format!("alerts/{kills}-kills");
    if report.wants(&name) {
        say(&format!("alerts: seed {seed}"));
    }
    report.case(&name, || killed::killed(setting, kills, seed));
    let changes = if setting.full { 10_000 } else { 1_000 };
    report.case(&format!("alerts/burst-{changes}"), || burst::burst(setting, changes));
    report.case("alerts/told-of-fim", || told::lifecycle(setting));
    report.case("alerts/dead-receivers", || dead::dead(setting));
    report.case("alerts/hostile-names", || hostile::hostile(setting, seed));
    report.case("alerts/secrets", || secrets::secrets(setting));
}

const SID: &str = "AC0123456789abcdef0123456789abcdef";
const TOKEN: &str = "t0ken:with=signs";
const KEY: &str = "the webhook's key";
const NUMBERS: [&str; 2] = ["+15005550009", "+15005550010"];
const ADDRESS: &str = "ops@example.org";

fn text(e: impl std::fmt::Display) -> String {
    e.to_string()
}

/// One of each, all in good health.
struct Receivers {
    hook: Server,
    twilio: Server,
    mail: smtp::Server,
    description: Arc<Twilio>,
}

impl Receivers {
    fn start() -> Result<Self, String> {
        let description = Arc::new(Twilio::published(SID, TOKEN)?);
        let (strict, hook) = (description.clone(), Server::start(|_| Act::status(204)).map_err(text)?);
        let twilio = Server::start(move |request| strict.answer(request)).map_err(text)?;
        Ok(Self { hook, twilio, mail: smtp::Server::start(&[])?, description })
    }

    /// A webhook `soc`, short messages `sms`, mail `mail`, each with these keys.
    fn configure(&self, fim: &Fim, watch: &str, [hook, sms, mail]: [&str; 3]) -> Result<(), String> {
        let (token, key) = (fim.home.join("token"), fim.home.join("key"));
        secret(&token, TOKEN)?;
        secret(&key, KEY)?;
        let config = std::fs::read_to_string(&fim.config).map_err(text)?;
        let more = format!(
            "{watch}\n[[alert]]\nname = \"soc\"\ntype = \"webhook\"\nurl = {:?}\nsecret_file = {key:?}\n{hook}\n\
             [[alert]]\nname = \"sms\"\ntype = \"twilio\"\naccount_sid = \"{SID}\"\nauth_token_file = {token:?}\n\
             from = \"+15005550006\"\nto = {NUMBERS:?}\napi_base = {:?}\n{sms}\n\
             [[alert]]\nname = \"mail\"\ntype = \"email\"\nsmtp = \"smtp://127.0.0.1:{}\"\nfrom = \"fim@example.org\"\n\
             to = [\"{ADDRESS}\"]\n{mail}\n",
            self.hook.url("/hook"),
            self.twilio.url("/"),
            self.mail.port
        );
        fim.write_config(&(config + &more)).map_err(text)
    }

    /// The forms that Twilio took, in their order; an error for one that it would have refused.
    fn forms(&self) -> Result<Vec<serde_json::Map<String, Value>>, String> {
        let strict = |request: &Request| self.description.check(request);
        self.twilio.seen().iter().map(strict).collect()
    }
}

/// A file that only root can read.
fn secret(path: &Path, content: &str) -> Result<(), String> {
    use std::os::unix::fs::PermissionsExt;
    std::fs::write(path, format!("{content}\n")).map_err(text)?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).map_err(text)
}

fn fim(setting: &Setting, name: &str, policy: Policy) -> Result<Fim, String> {
    Fim::new(setting, setting.works.first().ok_or("no work directory")?, name, policy)
}

/// The ledger as `fim log --json` prints it, without what is muted; from that number on.
fn ledger(fim: &Fim, after: u64) -> Result<Vec<Value>, String> {
    let lines = fim.ok(&["log", "--json"])?;
    let mut records =
        lines.lines().map(serde_json::from_str).collect::<Result<Vec<Value>, _>>().map_err(text)?;
    records.retain(|record| record["muted"] != true && record["seq"].as_u64() > Some(after));
    Ok(records)
}

/// Waits until no lane has anything to send.
fn all_sent(setting: &Setting, fim: &Fim) -> Result<(), String> {
    wait::until(setting.patience, || {
        let lines = fim.ok(&["alert", "queue", "--json"])?;
        match lines.lines().find(|line| !line.contains("\"pending\":0,")) {
            Some(line) => Err(format!("not everything is sent: {line}")),
            None => Ok(()),
        }
    })
}

/// The facts of a mail's text, by name.
fn facts(mail: &Value) -> Result<std::collections::BTreeMap<String, String>, String> {
    let body = mail["body"].as_str().ok_or("a mail without a body")?;
    let text = body.split("text/html").next().unwrap_or_default();
    let text = text.replace("\r\n", "\n").replace("=\n", "").replace("=3D", "=");
    let facts = text.lines().filter_map(|line| line.split_once(": "));
    Ok(facts.map(|(name, value)| (name.to_owned(), value.trim().to_owned())).collect())
}
