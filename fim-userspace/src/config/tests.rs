use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::core::change::ChangeKind;
use crate::core::entry::Aspect;
use crate::core::path::RelPath;
use crate::core::policy::{Excluded, OnAltered, OnCreated, PathPolicy};

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(Path::new("/etc/fim/fim.toml"), text)
}

fn complaint(text: &str) -> String {
    parse(text).expect_err(text).to_string()
}

#[test]
fn the_least_configuration_undoes_everything() {
    let config = parse("[[watch]]\npath = \"/etc/\"\n").expect("valid");
    assert_eq!(config.state.dir, Path::new("/var/lib/fim"));
    assert_eq!(config.sensor.tier, TierChoice::Auto);
    assert_eq!(config.sensor.scan_period, Duration::from_secs(86_400));
    let watch = &config.watches[0];
    assert_eq!(watch.path.as_os_str(), "/etc", "a trailing slash is tidied away");
    assert_eq!(watch.policy.base, PathPolicy::restore_everything());
    assert_eq!((watch.policy.base.repeat_limit, watch.policy.base.repeat_window.as_secs()), (10, 600));
    assert!(watch.interval.is_none() && config.alerts.is_empty());
}

#[test]
fn messages_to_people_are_grouped_unless_somebody_says_otherwise() {
    const SID: &str = "0123456789abcdef0123456789abcdef";
    let group = |alert: &str| {
        let text = format!("[[watch]]\npath = \"/etc\"\n[[alert]]\n{alert}\n");
        parse(&text).expect("valid").alerts[0].route.group.as_secs()
    };
    let sms = format!(
        "type = \"twilio\"\naccount_sid = \"AC{SID}\"\nauth_token_env = \"T\"\nfrom = \"FIM\"\nto = [\"+15005550009\"]"
    );
    let mail = "type = \"email\"\nsmtp = \"smtps://h\"\nfrom = \"f@h\"\nto = [\"a@h\"]";
    let hook = |format: &str| format!("type = \"webhook\"\nurl = \"https://h\"\nformat = \"{format}\"");
    assert_eq!((group(&sms), group(mail)), (900, 300));
    assert_eq!((group(&hook("json")), group(&hook("slack"))), (0, 300));
    assert_eq!(group(&format!("{sms}\ngroup = \"0s\"")), 0);
}

#[test]
fn the_documented_example_is_valid_and_shows_every_key() {
    let text = include_str!("../../../docs/example.toml");
    let config = parse(text).expect("docs/example.toml is valid");
    assert!(config.watches.len() >= 2);
    let types: Vec<&str> = config.alerts.iter().map(|a| a.kind.as_str()).collect();
    assert_eq!(types, ["twilio", "twilio", "email", "webhook"]);
    let logs: Vec<&str> = config.logs.iter().map(|l| l.name.as_str()).collect();
    let expected = [
        "log:/var/log/fim/fim.log",
        "log:/var/log/fim/fim.ndjson",
        "log:tls://logs.example.org:6514",
        "log:unix:///dev/log",
    ];
    assert_eq!(logs, expected);
    let keys = "dir tier scan_period mask self_test seal_interval path exclude kinds on_modified on_deleted on_attributes on_created keep_versions \
                max_size max_age min_free severity interval paths max_file_size dry_run ignore repeat_limit repeat_window secret \
                name type account_sid auth_token_file from to api_base min_severity smtp \
                api_key_sid api_key_secret_file messaging_service watches verdict hours quiet_hours group lifecycle heartbeat \
                password_file url secret_file format tls_ca_file batch host_id keep address body facility ca_file client_cert \
                client_key preset exe sha256 descendants users root";
    for key in keys.split_whitespace() {
        assert!(text.contains(&format!("\n{key} = ")), "{key} is not shown");
    }
}

#[test]
fn every_value_arrives() {
    let config = parse(
        r#"
        [state]
        dir = "/srv/fim state"
        [sensor]
        tier = "tracepoint"
        scan_period = "1h30m"
        [ledger]
        seal_interval = "5m"
        max_age = "90d"
        max_size = "512 MiB"
        [[watch]]
        path = "/srv"
        exclude = ["*.swp", "!keep.swp"]
        kinds = ["deleted", "type", "deleted"]
        on_modified = "alert"
        on_deleted = "restore"
        on_attributes = "alert"
        on_created = "delete"
        keep_versions = false
        severity = "critical"
        interval = "30s"
        max_file_size = "10MiB"
        dry_run = true
        secret = true
        ignore = ["mtime", "owner"]
        repeat_limit = 5
        repeat_window = "2m"
        [[alert]]
        type = "webhook"
        url = "http://user:pass@127.0.0.1:81/token"
        secret_env = "HOOK"
        min_severity = "medium"
        "#,
    )
    .expect("valid");
    assert_eq!(config.sensor.tier, TierChoice::Tracepoint);
    assert_eq!(config.sensor.scan_period, Duration::from_secs(5_400));
    assert_eq!(config.ledger.seal_interval, Duration::from_secs(300));
    assert_eq!(config.ledger.retention.max_age, Some(Duration::from_secs(90 * 86_400)));
    assert_eq!(config.ledger.retention.max_size, Some(512 << 20));
    let watch = &config.watches[0];
    let expected = PathPolicy {
        kinds: [ChangeKind::Deleted, ChangeKind::Type].into_iter().collect(),
        on_modified: OnAltered::Alert,
        on_deleted: OnAltered::Restore,
        on_attributes: OnAltered::Alert,
        on_created: OnCreated::Delete,
        keep_versions: false,
        max_file_size: Some(10 << 20),
        severity: Severity::Critical,
        dry_run: true,
        ignore: [Aspect::Mtime, Aspect::Owner].into_iter().collect(),
        repeat_limit: 5,
        repeat_window: Duration::from_secs(120),
        secret: Some(true),
    };
    assert_eq!((watch.policy.base, watch.interval), (expected, Some(Duration::from_secs(30))));
    let excluded = |p: &str| watch.policy.exclude.excludes(&RelPath::new(p).expect("sound"), false);
    assert!(excluded("a.swp") && !excluded("keep.swp") && !excluded("fim"));
    assert!(excluded("fim state/fim.db"), "fim's own records below a watch are never watched");
    let alert = &config.alerts[0];
    assert_eq!((alert.name.as_str(), alert.route.min_severity), ("webhook", Severity::Medium));
    let AlertKind::Webhook(hook) = &alert.kind else { panic!("{alert:?}") };
    assert_eq!(hook.secret, Some(SecretSource::Env("HOOK".into())));
    let shown = format!("{config:?}");
    assert!(!shown.contains("pass") && !shown.contains("token"), "{shown}");
    assert_eq!(hook.url.get().path(), "/token");
}

#[test]
fn rules_are_read_with_their_lines() {
    let text = r#"[[watch]]
path = "/etc"
exclude = [
    "*.swp",
    "mtab",
]
severity = "low"

[[watch.rule]]
paths = ["*.conf", "/ssh/**", "!x.conf"]
severity = "critical"
ignore = []

[[watch.rule]]
paths = ["/log/"]
kinds = ["deleted"]
on_modified = "alert"
on_deleted = "alert"
on_attributes = "alert"
on_created = "delete"
dry_run = true
max_file_size = "1KiB"
keep_versions = false
ignore = ["content", "mtime"]
repeat_limit = 0
repeat_window = "1h"

[[watch]]
path = "/srv"

[[watch.rule]]
paths = ["a"]
on_created = "alert"
"#;
    let config = parse(text).expect("valid");
    let [etc, srv] = &config.watches[..] else { panic!("{:?}", config.watches) };
    let of = |path: &str, directory| etc.policy.of(&RelPath::new(path).expect("sound"), directory);
    let base = PathPolicy { severity: Severity::Low, ..PathPolicy::restore_everything() };
    assert_eq!(of("hosts", false), base);
    assert_eq!(of("x.conf", false), base);
    assert_eq!(of("a/b.conf", false), PathPolicy { severity: Severity::Critical, ..base });
    let log = PathPolicy {
        kinds: [ChangeKind::Deleted].into_iter().collect(),
        on_created: OnCreated::Delete,
        dry_run: true,
        max_file_size: Some(1024),
        keep_versions: false,
        ignore: [Aspect::Content, Aspect::Mtime].into_iter().collect(),
        repeat_limit: 0,
        repeat_window: Duration::from_secs(3_600),
        ..base.alert_only()
    };
    assert_eq!(of("log/messages", false), log);
    assert_eq!(of("log/b.conf", false), PathPolicy { severity: Severity::Critical, ..log });
    let of_srv = srv.policy.of(&RelPath::new("a").expect("sound"), false);
    assert_eq!(of_srv.on_created, OnCreated::Alert);
    let excluded = etc.policy.exclude.why(&RelPath::new("mtab").expect("sound"), false);
    assert_eq!(excluded, Some(Excluded::Pattern("mtab")));
    let lines = &etc.lines;
    assert_eq!(lines.exclude, [("*.swp".to_owned(), 4), ("mtab".to_owned(), 5)]);
    assert_eq!((lines.table, lines.keys["severity"]), (1, 7));
    let rules: Vec<_> = lines.rules.iter().map(|r| (r.table, r.keys["paths"], r.keys["ignore"])).collect();
    assert_eq!(rules, [(9, 10, 12), (14, 15, 24)]);
    assert_eq!(lines.rules[1].paths, ["/log/"]);
    assert_eq!(srv.lines.rules[0].keys["on_created"], 33);
}

/// Text, and what the complaint must contain: the line, the key, and what to do.
#[test]
fn complaints_name_line_key_and_remedy() {
    const W: &str = "[[watch]]\npath = \"/etc\"\n";
    let hook = |line: &str| format!("{W}[[alert]]\ntype = \"webhook\"\n{line}\n");
    const SID: &str = "0123456789abcdef0123456789abcdef";
    let twilio = |lines: &str| {
        format!("{W}[[alert]]\ntype = \"twilio\"\nto = [\"+15005550009\"]\n{lines}\nauth_token_env = \"T\"\n")
    };
    let with = |line: &str| format!("{W}{line}\n");
    let rule = |lines: &str| format!("{W}[[watch.rule]]\n{lines}\n");
    let log = |more: &str| with(&format!("[[log]]\ntype = \"file\"\n{more}"));
    let syslog = |more: &str| with(&format!("[[log]]\ntype = \"syslog\"\n{more}"));
    let cases: Vec<(String, &[&str])> = vec![
        (with("[ledger]\nmax_size = \"1KiB\""), &["toml:4", "max_size in [ledger] is too small"]),
        (with("[ledger]\nmax_sise = \"1GiB\""), &["toml:4", "did you mean \"max_size\"?"]),
        (String::new(), &["fim.toml: no [[watch]]", "path = \"/etc\""]),
        (
            with("on_modifed = \"alert\""),
            &["toml:3:", "unknown key \"on_modifed\"", "did you mean \"on_modified\"?"],
        ),
        (
            with("zzz = 1"),
            &["toml:3:", "unknown key \"zzz\" in [[watch]]", "known keys are \"path\", \"exclude\""],
        ),
        ("[states]\n".into(), &["toml:1:", "unknown key \"states\"", "\"state\"?"]),
        (format!("[state]\nDir = \"/x\"\n{W}"), &["toml:2:", "unknown key \"Dir\" in [state]", "\"dir\"?"]),
        (
            with("on_created = \"quarentine\""),
            &[
                "toml:3:",
                "on_created",
                "\"alert\", \"quarantine\", \"delete\"",
                "did you mean \"quarantine\"?",
            ],
        ),
        (
            with("on_created = \"restore\""),
            &["toml:3:", "on_created", "\"alert\", \"quarantine\", \"delete\""],
        ),
        (with("kinds = [\"created\", \"modify\"]"), &["toml:3:", "kinds", "did you mean \"modified\"?"]),
        (with("kinds = []"), &["toml:3:", "kinds", "empty"]),
        (with("keep_versions = \"yes\""), &["toml:3:", "keep_versions", "true or false"]),
        (with("severity = 3"), &["toml:3:", "severity", "text in quotes"]),
        (with("exclude = [\"[z-a]\"]"), &["toml:3:", "exclude", "[z-a]", "gitignore"]),
        (with("interval = \"30\""), &["toml:3:", "interval", "\"30s\""]),
        (with("interval = \"0s\""), &["toml:3:", "interval", "too short"]),
        (with("interval = 30"), &["toml:3:", "interval"]),
        (with("dry_run = \"yes\""), &["toml:3:", "dry_run", "true or false"]),
        (with("secret = [\"a\"]"), &["toml:3:", "secret", "true or false"]),
        (with("ignore = [\"mtim\"]"), &["toml:3:", "ignore", "did you mean \"mtime\"?"]),
        (with("ignore = [\"type\"]"), &["toml:3:", "ignore", "\"type\"", "\"content\""]),
        (with("max_file_size = \"10 megs\""), &["toml:3:", "max_file_size", "\"10GiB\""]),
        (with("repeat_limit = -1"), &["toml:3:", "repeat_limit", "from 0 (never) to 1000"]),
        (with("repeat_limit = 1001"), &["toml:3:", "repeat_limit", "is 1001", "from 0 (never) to 1000"]),
        (with("repeat_window = \"0s\""), &["toml:3:", "repeat_window", "too short"]),
        (with("[watch.rule]\npaths = [\"a\"]"), &["toml:3:", "two brackets: [[watch.rule]]"]),
        (with("[[rule]]\npaths = [\"a\"]"), &["toml:3:", "unknown key \"rule\" in the file"]),
        (rule("severity = \"low\""), &["toml:3:", "[[watch.rule]] has no \"paths\"", "\"/ssh/**\""]),
        (rule("paths = []\nseverity = \"low\""), &["toml:4:", "paths in [[watch.rule]] is empty"]),
        (
            rule("paths = [\"!a\", \"# b\", \"\"]\nseverity = \"low\""),
            &["toml:4:", "paths", "matches nothing"],
        ),
        (rule("paths = [\"[z-a]\"]\nseverity = \"low\""), &["toml:4:", "paths", "[z-a]", "gitignore"]),
        (rule("paths = [\"a\"]"), &["toml:3:", "paths in [[watch.rule]] stands alone", "severity ="]),
        (
            rule("paths = [\"a\"]\non_modifed = \"alert\""),
            &["toml:5:", "unknown key \"on_modifed\" in [[watch.rule]]", "did you mean \"on_modified\"?"],
        ),
        (rule("path = [\"a\"]"), &["toml:4:", "unknown key \"path\"", "did you mean \"paths\"?"]),
        (rule("paths = [\"a\"]\ninterval = \"1h\""), &["toml:5:", "unknown key \"interval\""]),
        (rule("paths = [\"a\"]\nkinds = []"), &["toml:5:", "kinds in [[watch.rule]]", "empty"]),
        (
            "[[watch]]\nexclude = [\"a\"]\n".into(),
            &["toml:1:", "[[watch]] has no \"path\"", "path = \"/etc\""],
        ),
        ("[[watch]]\npath = \"etc\"\n".into(), &["toml:2:", "\"etc\"", "relative"]),
        ("[[watch]]\npath = \"/etc/../root\"\n".into(), &["toml:2:", "without \"..\""]),
        ("[[watch]]\npath = \"\"\n".into(), &["toml:2:", "path", "empty"]),
        ("[watch]\npath = \"/etc\"\n".into(), &["toml:1:", "two brackets: [[watch]]"]),
        (with("[[watch]]\npath = \"/etc/\""), &["toml:4:", "/etc is watched twice", "line 2"]),
        (with("[[watch]]\npath = \"/etc/ssh\""), &["toml:4:", "/etc/ssh lies inside /etc", "one policy"]),
        (
            "[[watch]]\npath = \"/a/b\"\n[[watch]]\npath = \"/a\"\n".into(),
            &["toml:4:", "/a/b lies inside /a"],
        ),
        (
            "[[watch]]\npath = \"/var/lib/fim/vault\"\n".into(),
            &["toml:2:", "cannot be watched", "own records"],
        ),
        (format!("[sensor]\ntier = \"ebpf\"\n{W}"), &["toml:2:", "tier", "\"auto\", \"lsm\", \"fentry\""]),
        (
            format!("[sensor]\nscan_interval = \"1h\"\n{W}"),
            &["toml:2:", "\"scan_interval\"", "\"scan_period\"?"],
        ),
        (format!("{W}path = \"/usr\"\n"), &["toml:3:", "not TOML", "duplicate key"]),
        (with("severity = high"), &["toml:3:", "not TOML"]),
        (with("[[alert]]\nname = \"x\""), &["toml:3:", "no \"type\"", "\"webhook\""]),
        (with("[[alert]]\ntypo = \"webhook\""), &["toml:4:", "unknown key \"typo\"", "\"type\"?"]),
        (with("[[alert]]\ntype = \"sms\""), &["toml:4:", "\"twilio\", \"email\", \"webhook\""]),
        (hook(""), &["toml:3:", "no \"url\""]),
        (hook("smtp = \"x\""), &["toml:5:", "unknown key \"smtp\" in [[alert]] of type webhook"]),
        (hook("url = \"hooks.example.org\""), &["toml:5:", "url", "https://hooks.example.org/fim"]),
        (hook("url = \"ftp://h/x\""), &["toml:5:", "ftp://", "https:// or http://"]),
        (hook("url = \"https://h/x\"\nformat = \"xml\""), &["toml:6:", "format", "\"json\", \"slack\""]),
        (
            hook("url = \"https://h/x\"\nsecret = \"hunter2\""),
            &["toml:6:", "unknown key \"secret\"", "\"secret_file\"?"],
        ),
        (hook("url = \"https://h/x\"\nsecret_file = \"s\""), &["toml:6:", "secret_file", "relative"]),
        (
            hook("url = \"https://h/x\"\nsecret_file = \"/s\"\nsecret_env = \"S\""),
            &["both secret_file and secret_env", "keep one"],
        ),
        (hook("url = \"https://h/x\"\nname = \"journald\""), &["toml:3:", "journald"]),
        (
            hook("url = \"https://h/x\"\n[[alert]]\ntype = \"webhook\"\nurl = \"https://h/y\""),
            &["toml:6:", "two [[alert]] are called \"webhook\"", "name ="],
        ),
        (
            with(
                "[[alert]]\ntype = \"twilio\"\naccount_sid = \"AC0123456789abcdef0123456789abcdef\"\nfrom = \"+15005550006\"\nto = [\"+15005550009\"]",
            ),
            &["toml:3:", "no auth_token_file", "auth_token_credential"],
        ),
        (with("[[alert]]\ntype = \"twilio\"\nto = [\"0151\"]"), &["toml:5:", "0151", "+15005550009"]),
        (
            with("[[alert]]\ntype = \"email\"\nsmtp = \"smtp://mail.example.org\""),
            &["unencrypted", "smtps://"],
        ),
        (with("[[alert]]\ntype = \"email\"\nsmtp = \"smtps://u:hunter2@h\""), &["password_file"]),
        (
            with("[[alert]]\ntype = \"email\"\nsmtp = \"smtps://h\"\npassword_env = \"P\""),
            &["smtp", "names no user"],
        ),
        (twilio("account_sid = \"AC1\""), &["toml:6:", "account_sid", "32 digits"]),
        (
            twilio(&format!(
                "account_sid = \"AC{SID}\"\nmessaging_service = \"MG{SID}\"\nfrom = \"+15005550006\""
            )),
            &["toml:7:", "messaging_service", "beside from"],
        ),
        (
            twilio(&format!("account_sid = \"AC{SID}\"\napi_key_sid = \"SK{SID}\"\nfrom = \"+15005550006\"")),
            &["toml:7:", "api_key_sid", "keep the API key or the token"],
        ),
        (
            twilio(&format!("account_sid = \"AC{SID}\"\nfrom = \"FIM\"\napi_base = \"http://192.0.2.1\"")),
            &["api_base", "unencrypted"],
        ),
        (hook("url = \"https://h/x\"\nname = \"a:b\""), &["toml:6:", "name", "colon"]),
        (hook("url = \"https://h/x\"\nwatches = [\"/srv\"]"), &["toml:6:", "/srv", "those are /etc"]),
        (hook("url = \"https://h/x\"\nkinds = [\"changed\"]"), &["toml:6:", "kinds", "\"modified\""]),
        (hook("url = \"https://h/x\"\nverdict = \"ok\""), &["toml:6:", "\"unauthorised\", \"authorised\""]),
        (hook("url = \"https://h/x\"\nquiet_hours = \"22-6\""), &["toml:6:", "quiet_hours", "22:00-06:00"]),
        (hook("url = \"https://h/x\"\ngroup = \"often\""), &["toml:6:", "group", "\"5m\""]),
        (hook("format = \"pagerduty\""), &["no secret_file"]),
        (
            hook("format = \"pagerduty\"\nsecret_env = \"K\"\nheartbeat = \"1h\""),
            &["heartbeat", "would page somebody"],
        ),
        (with("[[log]]\npath = \"/x\""), &["toml:3:", "no \"type\"", "\"file\""]),
        (log(""), &["toml:3:", "no \"path\"", "/var/log/fim/fim.log"]),
        (log("path = \"fim.log\""), &["toml:5:", "relative"]),
        (log("path = \"/var/log/\""), &["toml:5:", "is a folder"]),
        (
            log("path = \"/l\"\naddress = \"x\""),
            &["toml:6:", "unknown key \"address\" in [[log]] of type file"],
        ),
        (log("path = \"/l\"\nformat = \"xml\""), &["toml:6:", "\"text\", \"json\", \"ecs\", \"cef\""]),
        (log("path = \"/l\"\nmax_size = \"10 potatoes\""), &["toml:6:", "\"10GiB\"", "number of bytes"]),
        (log("path = \"/l\"\nmax_size = 100"), &["max_size", "\"4KiB\""]),
        (log("path = \"/l\"\nkeep = 3"), &["toml:6:", "nothing rotates", "max_size or max_age"]),
        (log("path = \"/l\"\nmax_age = \"1d\"\nkeep = 0"), &["toml:7:", "between 1 and 999"]),
        (log("path = \"/l\"\nname = \"journald\""), &["toml:3:", "\"journald\" is taken", "name ="]),
        (
            log("path = \"/l\"\n[[log]]\ntype = \"file\"\nname = \"b\"\npath = \"/l\""),
            &["toml:6:", "same file"],
        ),
        (log("path = \"/etc\""), &["toml:2:", "cannot be watched", "each line would be a change"]),
        (syslog("address = \"logs.example.org\""), &["toml:5:", "address", "tls://logs.example.org:6514"]),
        (syslog("address = \"http://h\""), &["toml:5:", "udp://, tcp://, tls:// or unix://"]),
        (syslog("address = \"tcp://u:hunter2@h:514\""), &["toml:5:", "nothing else"]),
        (syslog("address = \"udp://h/path\""), &["toml:5:", "nothing else"]),
        (syslog("address = \"unix://dev/log\""), &["toml:5:", "relative"]),
        (syslog("address = \"tcp://h\"\nca_file = \"/ca\""), &["toml:5:", "tls://"]),
        (syslog("address = \"tls://h\"\nclient_cert = \"/c\""), &["client_cert", "client_key"]),
        (syslog("address = \"tls://h\"\nfacility = \"auth_priv\""), &["toml:6:", "\"authpriv\"?"]),
    ];
    for (text, parts) in cases {
        let said = complaint(&text);
        for part in parts {
            assert!(said.contains(part), "for\n{text}\nit said: {said}\nwithout: {part}");
        }
        assert!(!said.contains("hunter2"), "{said}");
        assert!(!said.contains('\n'), "one sentence: {said:?}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_named() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("fim.toml");
    let said = Config::load(&file).expect_err("missing").to_string();
    assert!(said.contains("there is no configuration file") && said.contains("--config"), "{said}");
    std::fs::write(&file, b"[[watch]]\npath = \"/\xff\"\n").expect("written");
    let said = Config::load(&file).expect_err("not text").to_string();
    assert!(said.contains("not UTF-8 text near line 2"), "{said}");
    let said = Config::load(dir.path()).expect_err("a folder").to_string();
    assert!(said.contains("cannot read the configuration file"), "{said}");
}

#[test]
fn secrets_are_read_only_from_safe_places() {
    let dir = tempfile::tempdir().expect("temporary folder");
    let file = dir.path().join("secret");
    let source = SecretSource::File(file.clone());
    let said = source.read().expect_err("missing").to_string();
    assert!(said.contains("mode 0600"), "{said}");
    std::fs::write(&file, "hunter2\n").expect("written");
    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).expect("chmod");
        let said = source.read().expect_err("open to others").to_string();
        assert!(said.contains(&format!("{mode:04o}")) && said.contains("chmod 600"), "{said}");
    }
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).expect("chmod");
    let secret = source.read().expect("safe");
    assert_eq!(secret.expose(), "hunter2");
    assert_eq!(format!("{secret:?}"), "Secret(…)");
    std::fs::write(&file, "\n").expect("written");
    assert!(source.read().expect_err("empty").to_string().contains("is empty"));
    let fifo = dir.path().join("fifo");
    nix::unistd::mkfifo(&fifo, nix::sys::stat::Mode::from_bits_truncate(0o600)).expect("fifo");
    assert!(SecretSource::File(fifo).read().expect_err("a FIFO").to_string().contains("no regular file"));
    let said = SecretSource::Env("FIM_TEST_NOT_SET".into()).read().expect_err("not set").to_string();
    assert!(said.contains("FIM_TEST_NOT_SET"), "{said}");
}

#[test]
fn durations() {
    let cases = [
        ("30s", Some(30_000)),
        ("1h30m", Some(5_400_000)),
        ("250ms", Some(250)),
        ("7d", Some(604_800_000)),
        ("", None),
        ("s", None),
        ("5", None),
        ("-5s", None),
        ("5 s", None),
        ("99999999999d", None),
    ];
    for (text, expected) in cases {
        assert_eq!(read::parse_duration(text), expected.map(Duration::from_millis), "{text:?}");
    }
}

#[test]
fn the_vault_has_limits_only_where_they_are_written() {
    let watch = "[[watch]]\npath = \"/etc\"\n";
    let none = parse(watch).expect("valid");
    assert_eq!(none.vault, VaultConfig::default());
    assert_eq!(none.watches[0].policy.base.max_file_size, None);
    let text = format!(
        "[vault]\nmax_size = \"10GiB\"\nmax_age = \"90d\"\nmin_free = 1048576\n{watch}max_file_size = \"1MB\"\n"
    );
    let config = parse(&text).expect("valid");
    let expected = VaultConfig {
        max_size: Some(10 << 30),
        max_age: Some(Duration::from_secs(90 * 86_400)),
        min_free: Some(1 << 20),
    };
    assert_eq!(config.vault, expected);
    let policy = &config.watches[0].policy.base;
    assert!(policy.keeps(1_000_000) && !policy.keeps(1_000_001));
    let file = "/etc/fim/fim.toml:2: ";
    for (line, said) in [
        (
            "max_size = \"10 gigs\"",
            "max_size in [vault] cannot be \"10 gigs\"; write a size such as \"10GiB\"",
        ),
        ("max_size = \"0\"", "max_size in [vault] is too small; the least is 1"),
        ("max_size = -5", "max_size in [vault] must be a size such as"),
        ("max_sise = 5", "unknown key \"max_sise\" in [vault]; did you mean \"max_size\"?"),
        ("max_age = \"old\"", "max_age in [vault] cannot be \"old\"; write a duration"),
    ] {
        let complaint = complaint(&format!("[vault]\n{line}\n{watch}"));
        assert!(complaint.starts_with(file) && complaint.contains(said), "{complaint}");
    }
}

#[test]
fn logs_arrive_whole() {
    let config = parse(
        r#"
        [[watch]]
        path = "/srv"
        [[log]]
        type = "file"
        name = "archive"
        path = "/srv/logs/fim [1].log"
        format = "ecs"
        max_size = 1000000
        max_age = "2d"
        keep = 12
        min_severity = "high"
        [[log]]
        type = "syslog"
        address = "tls://[2001:db8::5]"
        body = "cef"
        facility = "local3"
        ca_file = "/etc/fim/ca.pem"
        client_cert = "/etc/fim/cert.pem"
        client_key = "/etc/fim/key.pem"
        [[log]]
        type = "syslog"
        address = "unix:///dev/log"
        [[log]]
        type = "syslog"
        address = "udp://10.0.0.7:1514"
        format = "rfc3164"
        "#,
    )
    .expect("valid");
    let names: Vec<&str> = config.logs.iter().map(|l| l.name.as_str()).collect();
    assert_eq!(
        names,
        ["archive", "log:tls://[2001:db8::5]:6514", "log:unix:///dev/log", "log:udp://10.0.0.7:1514"]
    );
    let LogKind::File(file) = &config.logs[0].kind else { panic!("no file") };
    let rotation =
        Rotation { max_size: Some(1_000_000), max_age: Some(Duration::from_secs(172_800)), keep: 12 };
    assert_eq!(
        (file.format, file.rotation, config.logs[0].min_severity),
        (LogFormat::Ecs, rotation, Severity::High)
    );
    let LogKind::Syslog(tls) = &config.logs[1].kind else { panic!("no syslog") };
    assert_eq!((tls.header, tls.body, tls.facility), (SyslogHeader::Rfc5424, LogFormat::Cef, Facility(19)));
    assert_eq!(tls.tls.client.as_ref().map(|(cert, _)| cert.as_path()), Some(Path::new("/etc/fim/cert.pem")));
    let headers = [&config.logs[2], &config.logs[3]].map(|log| match &log.kind {
        LogKind::Syslog(syslog) => (syslog.header, syslog.body, syslog.facility),
        LogKind::File(_) => panic!("a file"),
    });
    assert_eq!(headers, [(SyslogHeader::Rfc3164, LogFormat::Text, Facility(10)); 2]);
    // Its own lines are no changes; what merely begins like them is.
    let exclude = &config.watches[0].policy.exclude;
    let excluded = |path: &str| exclude.excludes(&RelPath::new(path).expect("sound"), false);
    assert!(["logs/fim [1].log", "logs/fim [1].log.1", "logs/fim [1].log.12"].into_iter().all(excluded));
    assert!(
        !["logs/fim 1.log", "logs/fim [1].log.x", "logs/fim [1].logs", "logs/other", "fim [1].log"]
            .into_iter()
            .any(excluded)
    );
}

#[test]
fn a_trusted_updater_is_named_and_nobody_that_anybody_can_run() {
    let with = |trust: &str| format!("[[watch]]\npath = \"/usr\"\n[[trust]]\n{trust}\n");
    let one = |trust: &str| parse(&with(trust)).expect(trust).trust.remove(0);
    let dpkg = one("preset = \"dpkg\"");
    assert_eq!((dpkg.name.as_str(), dpkg.descendants, dpkg.users), ("dpkg", true, vec![UserName::Id(0)]));
    assert_eq!((dpkg.programs, dpkg.root), (vec!["/usr/bin/dpkg".into()], "/".into()));
    let own = one(
        "exe = \"/opt/deploy\"\nsha256 = \"00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\"\n\
         users = [\"ann\", \"1007\"]\nwatches = [\"/usr/\"]",
    );
    assert_eq!((own.name.as_str(), own.descendants, own.sha256.is_some()), ("deploy", false, true));
    assert_eq!(own.users, [UserName::Login("ann".into()), UserName::Id(1007)]);
    assert_eq!(own.watches, Some(vec!["/usr".into()]));
    assert!(parse("[[watch]]\npath = \"/usr\"\n").expect("valid").trust.is_empty(), "off until it is named");
    for (trust, says) in [
        ("preset = \"dpgk\"", "did you mean \"dpkg\"?"),
        ("descendants = true", "has no \"exe\""),
        ("exe = \"/usr/bin/python3.11\"", "runs whatever it is told to"),
        ("exe = \"/bin/sh\"", "maintenance window"),
        ("exe = \"bin/deploy\"", "relative"),
        ("preset = \"apt\"\nexe = \"/usr/bin/apt\"", "keep one of them"),
        ("exe = \"/opt/x\"\nsha256 = \"12\"", "64 hexadecimal digits"),
        ("exe = \"/opt/x\"\nusers = []", "hold for nobody"),
        ("exe = \"/opt/x\"\nwatches = [\"/etc\"]", "no [[watch]] has as its path; those are /usr"),
        ("exe = \"/opt/x\"\nname = \"a b\"", "must be a word"),
        ("preset = \"dpkg\"\n[[trust]]\npreset = \"dpkg\"", "two [[trust]] are called \"dpkg\""),
    ] {
        let sentence = complaint(&with(trust));
        assert!(sentence.contains(says), "{trust}: {sentence}");
    }
}
