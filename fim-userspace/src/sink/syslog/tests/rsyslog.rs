//! Against Debian's rsyslogd.

use std::process::{Child, Command, Stdio};

use serde_json::Value;

use super::certificates::{Authority, Pair};
use super::*;
use crate::config::SecretSource;
use crate::core::event::Record;

/// A real rsyslogd with a folder of its own; killed when dropped.
struct Rsyslog {
    child: Child,
    dir: tempfile::TempDir,
}

/// What it writes for each message.
const TEMPLATE: &str = r#"template(name="all" type="list" option.jsonf="on") {
  property(outname="pri" name="pri" format="jsonf")
  property(outname="time" name="timereported" dateFormat="rfc3339" format="jsonf")
  property(outname="host" name="hostname" format="jsonf")
  property(outname="app" name="app-name" format="jsonf")
  property(outname="pid" name="procid" format="jsonf")
  property(outname="msgid" name="msgid" format="jsonf")
  property(outname="data" name="structured-data" format="jsonf")
  property(outname="msg" name="msg" format="jsonf")
}
"#;

impl Rsyslog {
    /// With `inputs`, configuration lines in which DIR stands for its folder.
    fn start(inputs: &str) -> Option<Self> {
        let dir = tempfile::tempdir().expect("temporary folder");
        Self::start_in(dir, inputs)
    }

    fn start_in(dir: tempfile::TempDir, inputs: &str) -> Option<Self> {
        let places = ["/usr/sbin/rsyslogd", "/sbin/rsyslogd"];
        let Some(program) = places.iter().find(|p| Path::new(p).exists()) else {
            eprintln!("skipped: there is no rsyslogd here; `cargo xtask setup` installs it");
            return None;
        };
        let text = format!(
            "global(workDirectory=\"DIR\" maxMessageSize=\"64k\")\n{inputs}\n{TEMPLATE}\
             action(type=\"omfile\" file=\"DIR/out\" template=\"all\" asyncWriting=\"off\" ioBufferSize=\"64k\" flushOnTXEnd=\"on\")\n"
        );
        let conf = dir.path().join("conf");
        std::fs::write(&conf, text.replace("DIR", &dir.path().display().to_string())).expect("written");
        let log =
            std::fs::File::options().create(true).append(true).open(dir.path().join("said")).expect("a log");
        let child = Command::new(program)
            .args(["-n", "-f"])
            .arg(&conf)
            .arg("-i")
            .arg(dir.path().join("pid"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a descriptor"))
            .stderr(log)
            .spawn()
            .expect("rsyslogd starts");
        Some(Self { child, dir })
    }

    fn said(&self) -> String {
        std::fs::read_to_string(self.dir.path().join("said")).unwrap_or_default()
    }

    /// The port that an input has noted in its file `port`.
    async fn port(&self) -> u16 {
        let file = self.dir.path().join("port");
        let read = || std::fs::read_to_string(&file).ok().and_then(|text| text.trim().parse().ok());
        until(|| read().is_some(), || self.said()).await;
        read().expect("just seen")
    }

    /// What it has written of the program fim.
    fn written(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(self.dir.path().join("out")).unwrap_or_default();
        let whole = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        whole.filter(|message| message["app"] == "fim").collect()
    }

    async fn wait(&self, count: usize) -> Vec<Value> {
        let told = || format!("{} of {count}: {}", self.written().len(), self.said());
        until(|| self.written().len() >= count, told).await;
        self.written()
    }

    /// Ends it by `signal`; its folder stays.
    fn end(mut self, signal: nix::sys::signal::Signal) -> tempfile::TempDir {
        let pid = nix::unistd::Pid::from_raw(self.child.id() as i32);
        nix::sys::signal::kill(pid, signal).expect("signalled");
        self.child.wait().expect("ends");
        std::mem::replace(&mut self.dir, tempfile::tempdir().expect("another"))
    }
}

impl Drop for Rsyslog {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Event ids in the structured data.
fn ids_in(messages: &[Value]) -> Vec<String> {
    let id = |m: &Value| {
        let data = m["data"].as_str().expect("text");
        data.split(" id=\"").nth(1).and_then(|rest| rest.split('"').next()).expect(data).to_owned()
    };
    messages.iter().map(id).collect()
}

fn check(message: &Value, record: &Record) {
    let body = format::body(LogFormat::Text, record);
    assert_eq!(message["pri"], "83", "{message}");
    assert_eq!(message["time"], record.event.time, "{message}");
    assert_eq!((&message["host"], &message["app"]), (&"host".into(), &"fim".into()));
    assert_eq!(message["pid"], std::process::id().to_string());
    assert_eq!(message["msgid"], "modified");
    let path = record.event.path.as_deref().expect("a path");
    let escaped = path.replace('\\', "\\\\").replace(']', "\\]").replace('"', "\\\"");
    assert!(
        message["data"].as_str().is_some_and(|d| d.contains(&format!(" path=\"{escaped}\""))),
        "{message}"
    );
    let text = message["msg"].as_str().expect("text").trim_start_matches('\u{feff}');
    assert_eq!(text, body);
}

/// Sends records with odd names and compares all that arrives.
async fn sends(rsyslog: &Rsyslog, config: SyslogConfig, count: usize) {
    let dir = state();
    let mut store = Store::open(dir.path()).expect("a store");
    let running = run(sink(config), dir.path());
    let mut list = events(0..count);
    list[1].set_path("/etc/a \"q\"]\\ ä€😀\n".as_bytes());
    list[2].set_path(&[b"/etc/".as_slice(), &[0xff; 900]].concat());
    let sent = running.append(&mut store, &list);
    let done = || sink_state(&store, "log:test");
    until(|| done().cursor == count as u64, || format!("{:?}; {}", done().error, rsyslog.said())).await;
    let written = rsyslog.wait(count).await;
    running.finish().await;
    assert_eq!(ids_in(&written), ids(&sent), "each once, in order");
    written.iter().zip(&sent).enumerate().filter(|(n, _)| *n != 2).for_each(|(_, (m, r))| check(m, r));
    let long = written[2]["msg"].as_str().expect("text");
    match written[2]["data"].as_str().expect("text").contains("cut=\"yes\"") {
        true => assert!(long.ends_with("… (cut)"), "{long}"),
        false => check(&written[2], &sent[2]),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn udp() {
    let port = std::net::UdpSocket::bind("127.0.0.1:0").and_then(|s| s.local_addr()).expect("a port").port();
    let input =
        format!("module(load=\"imudp\")\ninput(type=\"imudp\" address=\"127.0.0.1\" port=\"{port}\")");
    let Some(rsyslog) = Rsyslog::start(&input) else { return };
    let bound = || {
        std::fs::read_to_string("/proc/net/udp").is_ok_and(|t| t.contains(&format!("0100007F:{port:04X}")))
    };
    until(bound, || rsyslog.said()).await;
    sends(&rsyslog, config(network(Transport::Udp, port)), 40).await;
}

const TCP: &str = "module(load=\"imtcp\")\ninput(type=\"imtcp\" address=\"127.0.0.1\" port=\"PORT\" listenPortFileName=\"DIR/port\")";

#[tokio::test(flavor = "multi_thread")]
async fn tcp() {
    let Some(rsyslog) = Rsyslog::start(&TCP.replace("PORT", "0")) else { return };
    let port = rsyslog.port().await;
    sends(&rsyslog, config(network(Transport::Tcp, port)), 600).await;
}

fn tls_input(authority: &Authority, server: &Pair, mode: &str) -> String {
    format!(
        "global(defaultNetstreamDriver=\"ossl\" defaultNetstreamDriverCAFile=\"{}\" \
         defaultNetstreamDriverCertFile=\"{}\" defaultNetstreamDriverKeyFile=\"{}\")\n\
         module(load=\"imtcp\" streamDriver.name=\"ossl\" streamDriver.mode=\"1\" streamDriver.authMode=\"{mode}\")\n\
         input(type=\"imtcp\" address=\"127.0.0.1\" port=\"0\" listenPortFileName=\"DIR/port\")",
        authority.file().display(),
        server.certificate.display(),
        server.key.display()
    )
}

fn tls_config(port: u16, authority: &Authority, client: Option<&Pair>) -> SyslogConfig {
    let client = client.map(|pair| (pair.certificate.clone(), SecretSource::File(pair.key.clone())));
    let tls = TlsFiles { ca: Some(authority.file()), client };
    SyslogConfig { tls, ..config(network(Transport::Tls, port)) }
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_with_certificates_on_both_sides() {
    let (authority, strangers) = (Authority::new(), Authority::new());
    let (server, client) = (authority.sign(&["127.0.0.1"]), authority.sign(&["host.example.org"]));
    let Some(rsyslog) = Rsyslog::start(&tls_input(&authority, &server, "x509/certvalid")) else { return };
    let port = rsyslog.port().await;
    sends(&rsyslog, tls_config(port, &authority, Some(&client)), 600).await;
    // Nobody else gets through, and nothing of theirs counts as delivered.
    let stranger = strangers.sign(&["host.example.org"]);
    for shown in [None, Some(&stranger)] {
        let mut sink = sink(tls_config(port, &authority, shown));
        let record = crate::sink::format::tests::sample();
        let error = sink.deliver(&[record]).await.expect_err("refused").to_string();
        assert!(error.starts_with(&format!("tls://127.0.0.1:{port}: ")), "{error}");
    }
    assert_eq!(rsyslog.written().len(), 600);
}

#[tokio::test(flavor = "multi_thread")]
async fn tls_servers_that_are_not_who_they_should_be_get_nothing() {
    let (authority, strangers) = (Authority::new(), Authority::new());
    let wrong_name = authority.sign(&["other.example.org"]);
    let Some(rsyslog) = Rsyslog::start(&tls_input(&authority, &wrong_name, "anon")) else { return };
    let port = rsyslog.port().await;
    for (trusted, word) in [(&authority, "not valid for name"), (&strangers, "invalid peer certificate")] {
        let mut sink = sink(tls_config(port, trusted, None));
        let record = crate::sink::format::tests::sample();
        let error = sink.deliver(&[record]).await.expect_err("refused").to_string();
        assert!(error.contains(word), "{error}");
    }
    assert!(rsyslog.written().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_local_socket_takes_the_older_header() {
    let input = "module(load=\"imuxsock\" sysSock.use=\"off\")\ninput(type=\"imuxsock\" socket=\"DIR/log\" useSpecialParser=\"on\")";
    let Some(rsyslog) = Rsyslog::start(input) else { return };
    let socket = rsyslog.dir.path().join("log");
    until(|| socket.exists(), || rsyslog.said()).await;
    let dir = state();
    let mut store = Store::open(dir.path()).expect("a store");
    let running = run(sink(config(SyslogAddress::Unix(socket))), dir.path());
    let sent = running.append(&mut store, &events(0..100));
    let written = rsyslog.wait(100).await;
    running.finish().await;
    for (message, record) in written.iter().zip(&sent) {
        assert_eq!(message["pri"], "83");
        assert_eq!(message["pid"], std::process::id().to_string());
        assert_eq!(
            message["msg"].as_str().expect("text").trim_start(),
            format::body(LogFormat::Text, record)
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_killed_and_comes_back_misses_nothing() {
    let Some(mut rsyslog) = Rsyslog::start(&TCP.replace("PORT", "0")) else { return };
    let port = rsyslog.port().await;
    let dir = state();
    let mut store = Store::open(dir.path()).expect("a store");
    // What it read and had not written when it was killed, however slow the machine.
    let doubt = Duration::from_secs(600);
    let running = run(Syslog { doubt, ..sink(config(network(Transport::Tcp, port))) }, dir.path());
    let mut sent = Vec::new();
    for round in 0..4 {
        for n in 0..10 {
            sent.extend(running.append(&mut store, &events(n * 50..n * 50 + 50)));
        }
        rsyslog.wait(1 + 300 * round).await;
        let folder = rsyslog.end(nix::sys::signal::Signal::SIGKILL);
        sent.extend(running.append(&mut store, &events(0..50)));
        rsyslog = Rsyslog::start_in(folder, &TCP.replace("PORT", &port.to_string())).expect("again");
    }
    let head = sent.len() as u64;
    let done = || sink_state(&store, "log:test");
    until(|| done().cursor == head, || format!("{:?}; {}", done(), rsyslog.said())).await;
    let arrived = || ids_in(&rsyslog.written()).into_iter().collect::<std::collections::HashSet<_>>();
    until(|| arrived().len() == sent.len(), || format!("{} of {}", arrived().len(), sent.len())).await;
    running.finish().await;
}
