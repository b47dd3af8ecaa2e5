//! Every kind of secret, while every delivery fails in its own way and the other side repeats what it was told: none of
//! them is in anything that fim writes or shows, and its memory lands on no disk.

use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use base64::Engine;

use super::{SID, fim, secret, text};
use crate::fim::{Fim, Policy, Setting};
use crate::receiver::http::{Act, Request, Server};
use crate::receiver::smtp;
use crate::report::Outcome;
use crate::wait;

const TOKEN: &str = "twilio-t0ken-4a1f";
const API_KEY: &str = "twilio-api-s3cret-77b2";
const PASSWORD: &str = "smtp-p4ssword-e09c";
const HMAC: &str = "hmac-k3y-5d5d";
const ROUTING: &str = "pagerduty-r0uting-c3c3";
const CHAT: &str = "T0000000chat/B11111111/chat-t0ken-9e9e";
const CENTRAL: &str = "central-p4ssword-1b1b";
const ALL: [&str; 7] = [TOKEN, API_KEY, PASSWORD, HMAC, ROUTING, "chat-t0ken-9e9e", CENTRAL];

/// Who asks is told what he said: the address, the headers, who he signed in as, the body.
fn echo(request: &Request) -> String {
    let authorization = request.header("authorization").and_then(|value| value.strip_prefix("Basic "));
    let decoded =
        authorization.and_then(|basic| base64::engine::general_purpose::STANDARD.decode(basic).ok());
    let signed = decoded.map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
    let body = String::from_utf8_lossy(&request.body).into_owned();
    // The key of PagerDuty stands at the end of a long body.
    let routing = if body.contains(ROUTING) { ROUTING } else { "" };
    format!("{routing} {signed} {} {authorization:?} {body}", request.path)
}

/// Another failure each time.
fn failing() -> Result<Server, String> {
    let count = AtomicUsize::new(0);
    Server::start(move |request| match count.fetch_add(1, Ordering::Relaxed) % 5 {
        0 => Act::answer(401, echo(request)),
        1 => Act::answer(500, echo(request)),
        2 => Act::Drop,
        3 => Act::answer(400, format!("{{\"code\":21211,\"message\":{:?}}}", echo(request))),
        _ => Act::answer(302, echo(request)),
    })
    .map_err(text)
}

pub fn secrets(setting: &Setting) -> Outcome {
    let fim = fim(setting, "secrets", Policy::Restore)?;
    let servers = [failing()?, failing()?, failing()?, failing()?, failing()?];
    let said = format!("535 5.7.8 no such password: {PASSWORD}");
    let mail = smtp::Server::start(&[
        "--auth",
        &format!("fim:{PASSWORD}"),
        "--first",
        &said,
        "--first",
        &format!("451 {PASSWORD}"),
    ])?;
    let nobody = std::net::TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).map_err(text)?;
    let credentials = fim.home.join("credentials");
    std::fs::create_dir(&credentials).map_err(text)?;
    secret(&credentials.join("smtp"), PASSWORD)?;
    configure(&fim, &servers, mail.port, nobody.port())?;
    let file = fim.watched.join("file");
    std::fs::write(&file, "approved").map_err(text)?;
    fim.init()?;
    let with_secrets = |mut command: std::process::Command| {
        command.env("CREDENTIALS_DIRECTORY", &credentials).env("API_KEY", API_KEY).env("CHAT_KEY", HMAC);
        command
    };
    // A group of its own shows whose the entries in /proc are: root's for a process that cannot be dumped.
    let mut run = with_secrets(fim.command(&["run"]));
    run.gid(crate::actor::spawn::GID);
    let mut daemon = fim.spawn(run)?;
    daemon.wait_ready(setting.patience)?;
    undumpable(daemon.pid())?;
    for n in 0..3 {
        std::fs::write(&file, format!("evil {n}")).map_err(text)?;
        wait::until(setting.patience, || match std::fs::read(&file) {
            Ok(content) if content == b"approved" => Ok(()),
            _ => Err("the change is not undone".into()),
        })?;
    }
    wait::until(setting.patience, || match servers.iter().map(|s| s.seen().len()).min() {
        Some(5..) => Ok(()),
        least => Err(format!("each receiver is asked in vain five times: {least:?}")),
    })?;
    wait::until(setting.patience, || match mail.said().len() {
        3.. => Ok(()),
        count => Err(format!("the mail server was asked {count} times")),
    })?;
    let shown = commands(&fim, &with_secrets)?;
    let status = daemon.abort()?;
    if status.signal() != Some(6) || status.core_dumped() {
        return Err(format!("a crash leaves no memory behind: {status}"));
    }
    nowhere(&shown)?;
    let searched = search(&fim, &credentials)?;
    fim.remove();
    Ok(format!("({} secrets, {} outputs and {searched} files)", ALL.len(), shown.len()))
}

fn configure(fim: &Fim, servers: &[Server; 5], mail: u64, nobody: u16) -> Result<(), String> {
    let [token, key, routing, central] =
        ["token", "key", "routing", "central"].map(|name| fim.home.join("secrets").join(name));
    std::fs::create_dir(fim.home.join("secrets")).map_err(text)?;
    secret(&token, TOKEN)?;
    secret(&key, HMAC)?;
    secret(&routing, ROUTING)?;
    secret(&central, CENTRAL)?;
    let logs = fim.home.join("logs");
    std::fs::create_dir(&logs).map_err(text)?;
    let config = std::fs::read_to_string(&fim.config).map_err(text)?;
    let formats = ["text", "json", "ecs", "cef"].map(|format| {
        format!("[[log]]\ntype = \"file\"\nformat = \"{format}\"\npath = {:?}\n", logs.join(format))
    });
    let more = format!(
        "[[alert]]\nname = \"sms\"\ntype = \"twilio\"\naccount_sid = \"{SID}\"\nauth_token_file = {token:?}\n\
         from = \"+15005550006\"\nto = [\"+15005550009\"]\napi_base = {:?}\ngroup = \"0s\"\n\
         [[alert]]\nname = \"key\"\ntype = \"twilio\"\naccount_sid = \"{SID}\"\napi_key_sid = \"SK{}\"\n\
         api_key_secret_env = \"API_KEY\"\nfrom = \"+15005550006\"\nto = [\"+15005550009\"]\napi_base = {:?}\ngroup = \"0s\"\n\
         [[alert]]\nname = \"mail\"\ntype = \"email\"\nsmtp = \"smtp://fim@127.0.0.1:{mail}\"\n\
         password_credential = \"smtp\"\nfrom = \"fim@example.org\"\nto = [\"ops@example.org\"]\ngroup = \"0s\"\n\
         [[alert]]\nname = \"hook\"\ntype = \"webhook\"\nurl = \"{}?key={HMAC}\"\nsecret_file = {key:?}\n\
         [[alert]]\nname = \"chat\"\ntype = \"webhook\"\nformat = \"slack\"\nurl = {:?}\nsecret_env = \"CHAT_KEY\"\ngroup = \"0s\"\n\
         [[alert]]\nname = \"pager\"\ntype = \"webhook\"\nformat = \"pagerduty\"\nurl = {:?}\nsecret_file = {routing:?}\ngroup = \"0s\"\n\
         [[alert]]\nname = \"gone\"\ntype = \"webhook\"\nurl = \"http://127.0.0.1:{nobody}/{CHAT}\"\n\
         [central]\nurl = \"postgres://fim@127.0.0.1:{nobody}/fim\"\npassword_file = {central:?}\n{}",
        servers[0].url("/"),
        &SID[2..],
        servers[1].url("/"),
        servers[2].url("/hook"),
        servers[3].url(&format!("/services/{CHAT}")),
        servers[4].url("/v2/enqueue"),
        formats.concat()
    );
    fim.write_config(&format!("{config}repeat_limit = 0\n{more}")).map_err(text)
}

/// No core file, and no other process of the same user may look into it.
fn undumpable(pid: u32) -> Result<(), String> {
    use std::os::unix::fs::MetadataExt;
    let limits = std::fs::read_to_string(format!("/proc/{pid}/limits")).map_err(text)?;
    let core = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).unwrap_or_default();
    if !core.split_whitespace().take(2).eq(["0", "0"]) {
        return Err(format!("core files are allowed: {core}"));
    }
    // proc(5): of a process that is not dumpable they belong to root, whatever its group.
    let owner = std::fs::metadata(format!("/proc/{pid}/environ")).map_err(text)?.gid();
    match owner {
        0 => Ok(()),
        gid => Err(format!("its memory can be dumped: /proc/{pid}/environ belongs to group {gid}")),
    }
}

/// Everything that fim prints about itself, by command.
fn commands(
    fim: &Fim,
    with_secrets: &dyn Fn(std::process::Command) -> std::process::Command,
) -> Result<Vec<(String, Vec<u8>)>, String> {
    let mut shown = Vec::new();
    for words in [
        "config show",
        "config show --json",
        "status",
        "status --json",
        "alert queue",
        "alert queue --json",
        "alert test",
        "alert test --json",
        "log",
        "log --json",
        "doctor",
        "check",
        "report --json",
        "report --html",
    ] {
        let args: Vec<&str> = words.split(' ').collect();
        let output = with_secrets(fim.command(&args)).output().map_err(text)?;
        if output.stdout.is_empty() && output.stderr.is_empty() && words != "check" {
            return Err(format!("fim {words} says nothing"));
        }
        if output.status.code().is_none_or(|code| code > 1) {
            return Err(format!("fim {words}: {}", String::from_utf8_lossy(&output.stderr)));
        }
        shown.push((format!("fim {words}"), [output.stdout, output.stderr].concat()));
    }
    let config = String::from_utf8_lossy(&shown[0].1).into_owned();
    for words in ["/token\"", "api_key_secret_env = \"API_KEY\"", "password_credential = \"smtp\"", "/…\""]
    {
        if !config.contains(words) {
            return Err(format!("fim config show does not say {words}: {config}"));
        }
    }
    Ok(shown)
}

/// Forms in which a secret might be found.
fn forms(secret: &str) -> Vec<String> {
    let base64 = |text: &str| base64::engine::general_purpose::STANDARD_NO_PAD.encode(text);
    let users = [SID.to_owned(), format!("SK{}", &SID[2..]), "fim".into()];
    let signed = users.iter().flat_map(|user| [format!("{user}:{secret}"), format!("\0{user}\0{secret}")]);
    let encoded = signed.chain([secret.to_owned()]).map(|text| base64(&text));
    encoded.chain([secret.to_owned()]).collect()
}

fn found(content: &[u8]) -> Option<&'static str> {
    let within = |form: &String| content.windows(form.len()).any(|part| part == form.as_bytes());
    ALL.into_iter().find(|secret| forms(secret).iter().any(within))
}

fn nowhere(shown: &[(String, Vec<u8>)]) -> Result<(), String> {
    match shown.iter().find_map(|(what, content)| Some((what, found(content)?, content))) {
        Some((what, secret, content)) => {
            Err(format!("{what} shows the secret {secret}: {}", String::from_utf8_lossy(content)))
        }
        None => Ok(()),
    }
}

/// Looks into everything that the daemon wrote: database, vault, status, logs, its own words. How many files.
fn search(fim: &Fim, credentials: &Path) -> Result<usize, String> {
    let ours = [fim.config.clone(), fim.home.join("secrets"), credentials.to_owned()];
    let (mut folders, mut files): (Vec<PathBuf>, usize) = (vec![fim.home.clone()], 0);
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder).map_err(text)?.flatten() {
            let (path, kind) = (entry.path(), entry.file_type().map_err(text)?);
            if ours.contains(&path) {
                continue;
            }
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                files += 1;
                let content = std::fs::read(&path).map_err(text)?;
                nowhere(&[(path.display().to_string(), content)])?;
            }
        }
    }
    // Database, its log, four logs, what the daemon said: else this looked in the wrong place.
    if files < 8 { Err(format!("only {files} files to look into")) } else { Ok(files) }
}
