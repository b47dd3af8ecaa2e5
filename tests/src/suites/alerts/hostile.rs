//! Whatever files and programs are called: nothing that fim prints, writes or sends gets a line, a header, markup or a
//! control sequence of it.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use super::{ADDRESS, NUMBERS, Receivers, all_sent, fim, ledger, text};
use crate::actor::Random;
use crate::fim::{Fim, Policy, Setting};
use crate::receiver::http::{Act, Server};
use crate::report::Outcome;
use crate::wait;

const KNOWN: [&[u8]; 12] = [
    b"a\r\nBcc: all@example.org\r\n\r\nbody",
    b"\n.\r\nMAIL FROM:<x@y>",
    b"<td><script>alert(1)<script><img src=x onerror=y>",
    b"<!channel> <https:evil.example|click> *bold* `code`",
    b"@everyone <@1234> **b** [x](https:evil.example) ||spoiler||",
    b"\x1b[2J\x1b]0;title\x07\xc2\x9b31m",
    "\u{202e}gpj.exe\u{2066}\u{200f}\u{61c}".as_bytes(),
    "a\u{2028}b\u{2029}c\u{85}d\u{feff}".as_bytes(),
    b"\"}],\"text\":\"<!everyone>\"}",
    b"=cmd|'calc'!A1,\"x\"",
    b"a|b=c \"d\"]\\e\xff\xfe CEF:0|x",
    &[b'w'; 255],
];
const CHATS: [&str; 4] = ["slack", "teams", "discord", "pagerduty"];

pub fn hostile(setting: &Setting, seed: u64) -> Outcome {
    let (fim, receivers) = (fim(setting, "hostile", Policy::Alert)?, Receivers::start()?);
    let chats = Server::start(|_| Act::status(204)).map_err(text)?;
    let syslog = UnixDatagram::bind(fim.home.join("syslog")).map_err(text)?;
    syslog.set_nonblocking(true).map_err(text)?;
    configure(&fim, &receivers, &chats)?;
    let mut random = Random::new(seed);
    let random_names = if setting.full { 100 } else { 20 };
    let mut names: Vec<Vec<u8>> = KNOWN.iter().map(|name| name.to_vec()).collect();
    names.extend((0..random_names).map(|_| bytes(&mut random)));
    names.sort();
    names.dedup();
    let paths: Vec<PathBuf> = names.iter().map(|name| fim.watched.join(OsStr::from_bytes(name))).collect();
    for path in paths.iter().step_by(2) {
        std::fs::write(path, "approved\n").map_err(|e| format!("{path:?}: {e}"))?;
    }
    fim.init()?;
    let head = fim.log_head()?;
    let daemon = fim.start()?;
    // The program and its folder are called like that, too.
    let folder = fim.outside.join(OsStr::from_bytes(KNOWN[5]));
    std::fs::create_dir(&folder).map_err(text)?;
    let shell = folder.join(OsStr::from_bytes(KNOWN[0]));
    std::fs::copy("/bin/dash", &shell).map_err(text)?;
    let mut datagrams = Vec::new();
    for path in &paths {
        // Content of such lines, for those who compare them.
        let mut command = Command::new(&shell);
        command.args(["-c", "cat \"$1\" >\"$2\"", "sh"]).arg(folder.join("lines")).arg(path);
        std::fs::write(folder.join("lines"), KNOWN[..11].concat()).map_err(text)?;
        let status = command.current_dir(&folder).status().map_err(text)?;
        if !status.success() {
            return Err(format!("the hostile shell ended with {status}"));
        }
        drain(&syslog, &mut datagrams);
    }
    wait::until(setting.patience, || {
        drain(&syslog, &mut datagrams);
        let changes = ledger(&fim, head)?.iter().filter(|r| !r["path"].is_null()).count();
        if changes < paths.len() {
            Err(format!("{changes} of {} changes", paths.len()))
        } else {
            fim.at_rest()
        }
    })?;
    wait::until(setting.patience, || {
        drain(&syslog, &mut datagrams);
        all_sent(&Setting { patience: std::time::Duration::ZERO, ..setting.clone() }, &fim)
    })?;
    let outputs = commands(&fim, &paths)?;
    daemon.stop(setting.patience)?;
    drain(&syslog, &mut datagrams);
    let records = ledger(&fim, head)?;
    let hostile =
        records.iter().filter(|r| r["actor"]["exe"].as_str().is_some_and(|exe| exe.contains("Bcc"))).count();
    if hostile == 0 {
        return Err("no record names the hostile program".into());
    }
    logs(&fim, &datagrams, records.len())?;
    let sent = sent(&receivers, &chats)?;
    fim.remove();
    Ok(format!("({} names, {} records, {outputs} outputs, {sent} messages)", names.len(), records.len()))
}

fn configure(fim: &Fim, receivers: &Receivers, chats: &Server) -> Result<(), String> {
    let key = fim.home.join("pager");
    super::secret(&key, "r0uting")?;
    std::fs::create_dir(fim.home.join("logs")).map_err(text)?;
    let mut more = String::from("repeat_limit = 0\n");
    for chat in CHATS {
        more.push_str(&format!(
            "[[alert]]\nname = \"{chat}\"\ntype = \"webhook\"\nformat = \"{chat}\"\nurl = {:?}\nsecret_file = {key:?}\ngroup = \"0s\"\n",
            chats.url(&format!("/{chat}"))
        ));
    }
    for format in ["text", "json", "ecs", "cef"] {
        let path = fim.home.join("logs").join(format);
        more.push_str(&format!("[[log]]\ntype = \"file\"\nformat = \"{format}\"\npath = {path:?}\n"));
    }
    more.push_str(&format!(
        "[[log]]\ntype = \"syslog\"\nformat = \"rfc5424\"\naddress = \"unix://{}\"\n",
        fim.home.join("syslog").display()
    ));
    receivers.configure(fim, &more, ["", "group = \"0s\"", "group = \"0s\""])
}

/// A name of random bytes.
fn bytes(random: &mut Random) -> Vec<u8> {
    let length = 1 + random.below(255);
    let byte = |random: &mut Random| match random.below(256) as u8 {
        0 | b'/' => b'\n',
        byte => byte,
    };
    let name: Vec<u8> = (0..length).map(|_| byte(random)).collect();
    if name == b"." || name == b".." { b"\x1b".to_vec() } else { name }
}

fn drain(socket: &UnixDatagram, datagrams: &mut Vec<Vec<u8>>) {
    let mut buffer = vec![0; 256 * 1024];
    while let Ok(length) = socket.recv(&mut buffer) {
        datagrams.push(buffer[..length].to_vec());
    }
}

/// Characters that end a line, move a cursor or turn the direction of writing.
fn is_breaking(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{2028}' | '\u{2029}' | '\u{61c}' | '\u{200e}' | '\u{200f}')
        || ('\u{202a}'..='\u{202e}').contains(&c)
        || ('\u{2066}'..='\u{2069}').contains(&c)
}

/// Text without anything of that but what `allowed` names.
fn clean(what: &str, content: &[u8], allowed: &[char]) -> Result<String, String> {
    let said = std::str::from_utf8(content).map_err(|e| format!("{what} is no UTF-8: {e}"))?;
    match said.lines().find(|line| line.chars().any(|c| is_breaking(c) && !allowed.contains(&c))) {
        Some(line) => Err(format!("{what} has {line:?}")),
        None => Ok(said.to_owned()),
    }
}

/// What the commands print. How many of them.
fn commands(fim: &Fim, paths: &[PathBuf]) -> Result<usize, String> {
    let watched = fim.watched.as_os_str();
    let mut all: Vec<Vec<&OsStr>> = [
        &["status"][..],
        &["status", "--json"],
        &["log"],
        &["log", "--json"],
        &["check"],
        &["check", "--json"],
        &["doctor"],
        &["alert", "queue"],
        &["config", "show"],
        &["quarantine", "list"],
        &["vault", "list"],
        &["report", "--json"],
        &["report", "--html"],
        &["report", "--csv"],
    ]
    .iter()
    .map(|words| words.iter().map(OsStr::new).collect())
    .collect();
    all.push(vec![OsStr::new("diff"), watched]);
    for path in paths.iter().take(24) {
        for words in [&["blame"][..], &["explain"], &["vault", "versions"], &["blame", "--json"]] {
            all.push(words.iter().map(OsStr::new).chain([path.as_os_str()]).collect());
        }
    }
    let head = fim.log_head()?;
    let numbers: Vec<String> = (head.saturating_sub(20)..=head).map(|n| n.to_string()).collect();
    for number in &numbers {
        all.push(vec![OsStr::new("show"), OsStr::new(number)]);
        all.push(vec![OsStr::new("show"), OsStr::new("--json"), OsStr::new(number)]);
    }
    for args in &all {
        let output = fim.command(&[]).args(args).output().map_err(text)?;
        let what = format!("fim {args:?}");
        clean(&what, &output.stderr, &['\n'])?;
        let said = clean(&what, &output.stdout, &['\n', '\t', '\r'])?;
        if args[0] == "report" && args[1] == "--html" {
            page(&said)?;
        } else if args[0] == "report" && args[1] == "--csv" {
            table(&said, paths.len())?;
        } else if said.contains('\r') {
            return Err(format!("{what} returns the carriage"));
        } else if args[..] == [OsStr::new("log")] && said.lines().any(|line| !line.starts_with("20")) {
            return Err(format!("a line of the log begins otherwise: {said}"));
        }
    }
    Ok(all.len())
}

/// No markup but ours.
fn page(html: &str) -> Result<(), String> {
    for part in html.split('<').skip(1) {
        let tag = part.split('>').next().unwrap_or_default();
        let name = tag.trim_start_matches('/').split([' ', '\n']).next().unwrap_or_default();
        let bad = ["script", "img", "!channel", "!everyone", "@1234", "https:evil.example|click"];
        if bad.contains(&name) || tag.contains("onerror") && !tag.contains("\"") {
            return Err(format!("the report has <{tag}>"));
        }
    }
    Ok(())
}

/// As many fields in each row, and no cell that a spreadsheet calculates.
fn table(csv: &str, least: usize) -> Result<(), String> {
    let mut reader = csv::Reader::from_reader(csv.as_bytes());
    let rows = reader.records().collect::<Result<Vec<_>, _>>().map_err(text)?;
    if rows.len() < least {
        return Err(format!("{} rows of {least} and more", rows.len()));
    }
    let bad = |cell: &&str| cell.starts_with(['=', '@', '+', '\t']);
    match rows.iter().flat_map(|row| row.iter()).find(bad) {
        Some(cell) => Err(format!("a spreadsheet would calculate {cell:?}")),
        None => Ok(()),
    }
}

/// One line for each record, one datagram for each.
fn logs(fim: &Fim, datagrams: &[Vec<u8>], records: usize) -> Result<(), String> {
    for format in ["text", "json", "ecs", "cef"] {
        let path: &Path = &fim.home.join("logs").join(format);
        let said = clean(format, &std::fs::read(path).map_err(text)?, &['\n'])?;
        if said.lines().count() != records {
            return Err(format!("{records} records are {} lines of {format}", said.lines().count()));
        }
        if format == "json" || format == "ecs" {
            let bad = said.lines().find(|line| serde_json::from_str::<Value>(line).is_err());
            bad.map_or(Ok(()), |line| Err(format!("no JSON: {line}")))?;
        }
    }
    for datagram in datagrams {
        clean("syslog", datagram, &['\u{feff}'])?;
    }
    match datagrams.len() {
        0 => Err("nothing came to syslog".into()),
        _ => Ok(()),
    }
}

/// What the receivers got. How many messages.
fn sent(receivers: &Receivers, chats: &Server) -> Result<usize, String> {
    let mut count = 0;
    for request in chats.seen().iter().chain(&receivers.hook.seen()) {
        count += 1;
        clean(&request.path, &request.body, &[])?;
        let value: Value = serde_json::from_slice(&request.body).map_err(text)?;
        let mut texts = Vec::new();
        strings(&value, &mut texts);
        let slack = request.path == "/slack";
        if let Some(said) =
            texts.iter().find(|t| t.chars().any(is_breaking) || slack && t.contains(['<', '>']))
        {
            return Err(format!("{} got {said:?}", request.path));
        }
    }
    for chat in CHATS {
        if !chats.seen().iter().any(|request| request.path == format!("/{chat}")) {
            return Err(format!("nothing came to {chat}"));
        }
    }
    for form in receivers.forms()? {
        count += 1;
        if !NUMBERS.iter().any(|to| form["To"] == *to) {
            return Err(format!("a message to somebody else: {form:?}"));
        }
        clean("a short message", form["Body"].as_str().unwrap_or_default().as_bytes(), &[])?;
    }
    for mail in receivers.mail.mails() {
        count += 1;
        if mail["to"] != serde_json::json!([ADDRESS]) {
            return Err(format!("a mail to {}", mail["to"]));
        }
        letter(mail["body"].as_str().unwrap_or_default())?;
    }
    Ok(count)
}

fn strings(value: &Value, out: &mut Vec<String>) {
    match value {
        Value::String(text) => out.push(text.clone()),
        Value::Array(list) => list.iter().for_each(|value| strings(value, out)),
        Value::Object(map) => map.values().for_each(|value| strings(value, out)),
        _ => {}
    }
}

/// Our headers, each once, and ASCII.
fn letter(body: &str) -> Result<(), String> {
    clean("a mail", body.as_bytes(), &['\r', '\n'])?;
    let head = body.split("\r\n\r\n").next().unwrap_or_default();
    let unfolded = head.replace("\r\n ", " ").replace("\r\n\t", " ");
    let mut names: Vec<&str> =
        unfolded.split("\r\n").map(|line| line.split(':').next().unwrap_or_default()).collect();
    let known = [
        "Auto-Submitted",
        "Content-Type",
        "Date",
        "From",
        "MIME-Version",
        "Message-ID",
        "Subject",
        "To",
        "X-Fim-Event-Id",
        "X-MailFrom",
        "X-Peer",
        "X-RcptTo",
    ];
    names.sort_unstable();
    let count = names.len();
    names.dedup();
    match names.iter().find(|name| !known.contains(name)) {
        Some(name) => Err(format!("a mail with the header {name:?}: {head}")),
        None if names.len() != count => Err(format!("a header twice: {head}")),
        None => Ok(()),
    }
}
