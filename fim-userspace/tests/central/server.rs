//! Real servers in folders of their own, reached by private sockets; as the package's user where this is root, whom both
//! servers refuse or should not serve.

use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// MariaDB's usual 96 MiB would have to be written for each test.
const LOG_SIZE: &str = "--innodb-log-file-size=16M";
pub const PASSWORD: &str = "pw-of-fim-7731";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Postgres,
    Mariadb,
}

pub const BOTH: [Kind; 2] = [Kind::Postgres, Kind::Mariadb];

/// A certificate for `localhost` and its authority, PEM.
pub struct Certificates {
    pub authority: String,
    pub certificate: String,
    pub key: String,
}

impl Certificates {
    pub fn make() -> Self {
        let authority_key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let authority = params.self_signed(&authority_key).expect("an authority");
        let issuer = rcgen::Issuer::new(params, authority_key);
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["localhost".into()]).expect("parameters");
        let certificate = params.signed_by(&key, &issuer).expect("a certificate");
        Self { authority: authority.pem(), certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

pub struct Server {
    pub kind: Kind,
    home: tempfile::TempDir,
    child: Option<Child>,
    /// Only with certificates; otherwise no TCP at all.
    port: Option<u16>,
}

impl Server {
    pub fn start(kind: Kind) -> Self {
        Self::make(kind, None)
    }

    /// Also on loopback, where only encrypted sessions are let in.
    pub fn start_with_tls(kind: Kind, certificates: &Certificates) -> Self {
        Self::make(kind, Some(certificates))
    }

    fn make(kind: Kind, certificates: Option<&Certificates>) -> Self {
        // Short: a socket's path has 107 bytes.
        let home = tempfile::Builder::new().prefix("fim-db").tempdir_in("/tmp").expect("a folder");
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o755)).expect("chmod");
        let mut server = Self { kind, home, child: None, port: None };
        server.give(server.home.path());
        server.install();
        if let Some(certificates) = certificates {
            server.port = Some(free_port());
            for (name, text) in [("cert.pem", &certificates.certificate), ("key.pem", &certificates.key)] {
                let file = server.home.path().join(name);
                std::fs::write(&file, text).expect("written");
                std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
                server.give(&file);
            }
        }
        if kind == Kind::Postgres {
            // Only the tests' own client is let in without a password.
            let rules = "local all root trust\nlocal all all scram-sha-256\nhostssl all all localhost scram-sha-256\n";
            std::fs::write(server.data().join("pg_hba.conf"), rules).expect("written");
        }
        server.run();
        server.prepare();
        server
    }

    fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    /// What a URL names: the folder for PostgreSQL, the socket for MariaDB.
    pub fn socket(&self) -> PathBuf {
        match self.kind {
            Kind::Postgres => self.home.path().to_path_buf(),
            Kind::Mariadb => self.home.path().join("s"),
        }
    }

    fn scheme(&self) -> &'static str {
        match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
        }
    }

    pub fn url(&self) -> String {
        format!("{}://fim@localhost/fim?socket={}", self.scheme(), self.socket().display())
    }

    pub fn tls_url(&self, host: &str) -> String {
        format!("{}://fim@{host}:{}/fim", self.scheme(), self.port.expect("with certificates"))
    }

    /// The user that the server runs as.
    fn user(&self) -> Option<nix::unistd::User> {
        let name = match self.kind {
            Kind::Postgres => "postgres",
            Kind::Mariadb => "mysql",
        };
        let found =
            || nix::unistd::User::from_name(name).expect("readable").expect("its package makes the user");
        rustix::process::geteuid().is_root().then(found)
    }

    fn give(&self, path: &Path) {
        if let Some(user) = self.user() {
            std::os::unix::fs::chown(path, Some(user.uid.as_raw()), Some(user.gid.as_raw())).expect("chown");
        }
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(find(program));
        if let Some(user) = self.user() {
            command.uid(user.uid.as_raw()).gid(user.gid.as_raw());
        }
        command.current_dir(self.home.path()).env("HOME", self.home.path()).stdin(Stdio::null());
        // MariaDB clears away what it takes for its own leftovers in there, also those of another server at work.
        command.env("TMPDIR", self.home.path());
        command
    }

    fn install(&self) {
        let data = self.data();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command("initdb");
                command.args([
                    "--no-sync",
                    "--username=root",
                    "--auth=trust",
                    "--encoding=UTF8",
                    "--locale=C",
                ]);
                command.arg("-D").arg(&data);
                command
            }
            Kind::Mariadb => {
                let mut command = self.command("mariadb-install-db");
                command.args([
                    "--no-defaults",
                    "--skip-test-db",
                    LOG_SIZE,
                    "--auth-root-authentication-method=normal",
                ]);
                command.arg(format!("--datadir={}", data.display()));
                command
            }
        };
        done(&mut command);
    }

    pub fn run(&mut self) {
        let log = self.home.path().join("log");
        let file = std::fs::OpenOptions::new().create(true).append(true).open(&log).expect("a log");
        let home = self.home.path().display().to_string();
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = self.command("postgres");
                command.arg("-D").arg(self.data()).args(["-c", "fsync=off", "-k", &home]);
                match self.port {
                    None => command.args(["-c", "listen_addresses="]),
                    Some(port) => command.args([
                        "-c".into(),
                        "listen_addresses=localhost".into(),
                        "-c".into(),
                        format!("port={port}"),
                        "-c".into(),
                        "ssl=on".into(),
                        "-c".into(),
                        format!("ssl_cert_file={home}/cert.pem"),
                        "-c".into(),
                        format!("ssl_key_file={home}/key.pem"),
                    ]),
                };
                command
            }
            Kind::Mariadb => {
                let mut command = self.command("mariadbd");
                command.args(["--no-defaults", "--innodb-flush-log-at-trx-commit=1", LOG_SIZE]);
                command.arg(format!("--datadir={home}/data")).arg(format!("--socket={home}/s"));
                command.arg(format!("--pid-file={home}/pid"));
                match self.port {
                    None => command.arg("--skip-networking"),
                    Some(port) => command.args([
                        "--bind-address=localhost".into(),
                        format!("--port={port}"),
                        "--require-secure-transport=on".into(),
                        format!("--ssl-cert={home}/cert.pem"),
                        format!("--ssl-key={home}/key.pem"),
                    ]),
                };
                command
            }
        };
        command.stdout(file.try_clone().expect("a log")).stderr(file);
        self.child = Some(command.spawn().expect("the server starts"));
        let deadline = Instant::now() + Duration::from_secs(60);
        while !self.client("SELECT 1").0 {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            if ended.is_some() || Instant::now() > deadline {
                panic!("{:?} does not run: {}", self.kind, std::fs::read_to_string(&log).unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// The user and the database, as docs/central.md says.
    fn prepare(&self) {
        let statements: &[String] = match self.kind {
            Kind::Postgres => &[
                format!("CREATE ROLE fim LOGIN PASSWORD '{PASSWORD}'"),
                "CREATE DATABASE fim OWNER fim".into(),
            ],
            Kind::Mariadb => &[
                "CREATE DATABASE fim CHARACTER SET utf8mb4".into(),
                format!("CREATE USER fim@localhost IDENTIFIED BY '{PASSWORD}'"),
                "GRANT SELECT, INSERT, UPDATE, CREATE, ALTER, INDEX ON fim.* TO fim@localhost".into(),
            ],
        };
        for statement in statements {
            let (good, said) = self.client(statement);
            assert!(good, "{statement}: {said}");
        }
    }

    /// Ends it as an administrator does, with sessions open.
    pub fn stop(&mut self) {
        let signal = match self.kind {
            // Fast shutdown: open sessions are cut off.
            Kind::Postgres => Signal::INT,
            Kind::Mariadb => Signal::TERM,
        };
        self.end(signal);
    }

    /// As a crash does.
    pub fn kill(&mut self) {
        self.end(Signal::KILL);
        if self.kind == Kind::Postgres {
            // Its other processes notice by themselves; the next start waits for them by this file.
            let deadline = Instant::now() + Duration::from_secs(20);
            while self.helpers_left() {
                assert!(Instant::now() < deadline, "PostgreSQL's processes stay");
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        }
    }

    /// Processes whose working directory is the cluster's.
    fn helpers_left(&self) -> bool {
        let data = self.data();
        let all = std::fs::read_dir("/proc").expect("/proc");
        all.flatten().any(|entry| std::fs::read_link(entry.path().join("cwd")).is_ok_and(|cwd| cwd == data))
    }

    fn end(&mut self, signal: Signal) {
        let Some(mut child) = self.child.take() else { return };
        let pid = Pid::from_child(&child);
        let _ = kill_process(pid, signal);
        child.wait().expect("ended");
    }

    /// Freezes every process of it that could answer.
    pub fn freeze(&self, frozen: bool) {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        for pid in self.family() {
            let _ = kill_process(pid, signal);
        }
    }

    fn family(&self) -> Vec<Pid> {
        let root = self.child.as_ref().expect("it runs").id();
        let of = |pid: u32| {
            std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default()
        };
        let mut all = vec![root];
        all.extend(of(root).split_whitespace().filter_map(|pid| pid.parse::<u32>().ok()));
        all.into_iter().filter_map(|pid| Pid::from_raw(pid as i32)).collect()
    }

    /// The server's own client, as its administrator: whether it went well, and what it printed.
    pub fn client(&self, sql: &str) -> (bool, String) {
        let mut command = match self.kind {
            Kind::Postgres => {
                let mut command = Command::new(find("psql"));
                let database = if sql.contains("CREATE ") || sql == "SELECT 1" { "postgres" } else { "fim" };
                command.args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1", "-U", "root", "-d", database]);
                command.arg("-h").arg(self.socket()).arg("-p").arg(self.port.unwrap_or(5432).to_string());
                command.arg("-c");
                command
            }
            Kind::Mariadb => {
                let mut command = Command::new(find("mariadb"));
                command.args(["--no-defaults", "--default-character-set=utf8mb4", "-u", "root", "-N", "-B"]);
                command.arg(format!("--socket={}", self.socket().display()));
                if !sql.contains("CREATE ") && sql != "SELECT 1" {
                    command.arg("fim");
                }
                command.arg("-e");
                command
            }
        };
        let output = command.arg(sql).stdin(Stdio::null()).output().expect("the client runs");
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text.trim().to_owned())
    }

    /// One query's rows, fields parted by `|`.
    pub fn rows(&self, sql: &str) -> Vec<String> {
        let (good, said) = self.client(sql);
        assert!(good, "{sql}: {said}");
        said.lines().map(|line| line.replace('\t', "|")).collect()
    }

    pub fn number(&self, sql: &str) -> u64 {
        let rows = self.rows(sql);
        rows.first().and_then(|row| row.parse().ok()).unwrap_or_else(|| panic!("{sql}: {rows:?}"))
    }

    /// Records that docs/central.md's query for the chain finds.
    pub fn unsound(&self) -> u64 {
        let queries = documented(self.kind);
        let query = queries.iter().find(|query| query.contains("lag(hash)")).expect("documented");
        self.number(&format!("SELECT count(*) FROM ({query}) AS found"))
    }
}

/// The queries of docs/central.md as they are for one server, without the semicolon.
pub fn documented(kind: Kind) -> Vec<String> {
    let text = include_str!("../../../docs/central.md");
    let blocks: Vec<&str> =
        text.split("```sql\n").skip(1).filter_map(|rest| rest.split("\n```").next()).collect();
    let other_hash = blocks.iter().find(|block| block.starts_with("hash <>")).expect("documented");
    let adapt = |block: &&str| match kind {
        Kind::Postgres => block.to_string(),
        Kind::Mariadb => {
            let lines = block.lines().map(|line| match line.split_once("hash <> sha256(") {
                Some((before, _)) => format!("{before}{other_hash}"),
                None => line.replace("now() - INTERVAL '1 day'", "UTC_TIMESTAMP(6) - INTERVAL 1 DAY"),
            });
            lines.collect::<Vec<_>>().join("\n")
        }
    };
    let queries = blocks.iter().filter(|block| block.starts_with("SELECT"));
    queries.map(adapt).map(|query| query.trim_end_matches(';').to_owned()).collect()
}

impl Drop for Server {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.freeze(false);
            self.end(match self.kind {
                Kind::Postgres => Signal::QUIT,
                Kind::Mariadb => Signal::KILL,
            });
        }
    }
}

/// In PATH, or where Debian keeps the servers' programs.
fn find(name: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut places: Vec<PathBuf> = std::env::split_paths(&path).collect();
    places.extend(["/usr/sbin".into(), "/usr/local/sbin".into()]);
    let versions = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    places.extend(versions.map(|version| version.path().join("bin")));
    let found = places.into_iter().map(|place| place.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed; `cargo xtask setup` installs it"))
}

fn done(command: &mut Command) {
    let output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}
