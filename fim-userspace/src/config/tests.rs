use std::os::unix::fs::PermissionsExt;

use super::*;
use crate::core::change::ChangeKind;
use crate::core::path::RelPath;
use crate::core::policy::{OnAltered, OnCreated};

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
    assert_eq!(watch.policy.on_modified, OnAltered::Restore);
    assert_eq!(watch.policy.on_created, OnCreated::Quarantine);
    assert_eq!(watch.policy.kinds, ChangeKind::ALL);
    assert!(watch.policy.keep_versions && watch.interval.is_none() && config.alerts.is_empty());
}

#[test]
fn the_documented_example_is_valid_and_shows_every_key() {
    let text = include_str!("../../../docs/example.toml");
    let config = parse(text).expect("docs/example.toml is valid");
    assert!(config.watches.len() >= 2);
    let types: Vec<&str> = config.alerts.iter().map(|a| a.kind.as_str()).collect();
    assert_eq!(types, ["twilio", "email", "webhook"]);
    let keys = "dir tier scan_period seal_interval max_age max_size path exclude kinds on_modified on_deleted on_attributes on_created keep_versions \
                severity interval name type account_sid auth_token_file from to api_base min_severity smtp \
                password_file url secret_file format";
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
    assert_eq!(watch.policy.kinds, [ChangeKind::Deleted, ChangeKind::Type]);
    assert_eq!(
        (watch.policy.on_modified, watch.policy.on_deleted, watch.policy.on_attributes),
        (OnAltered::Alert, OnAltered::Restore, OnAltered::Alert)
    );
    assert_eq!((watch.policy.on_created, watch.policy.severity), (OnCreated::Delete, Severity::Critical));
    assert_eq!((watch.policy.keep_versions, watch.interval), (false, Some(Duration::from_secs(30))));
    let excluded = |p: &str| watch.policy.exclude.excludes(&RelPath::new(p).expect("sound"), false);
    assert!(excluded("a.swp") && !excluded("keep.swp") && !excluded("fim"));
    assert!(excluded("fim state/fim.db"), "fim's own records below a watch are never watched");
    let alert = &config.alerts[0];
    assert_eq!((alert.name.as_str(), alert.min_severity), ("webhook", Severity::Medium));
    let AlertKind::Webhook(hook) = &alert.kind else { panic!("{alert:?}") };
    assert_eq!(hook.secret, Some(SecretSource::Env("HOOK".into())));
    let shown = format!("{config:?}");
    assert!(!shown.contains("pass") && !shown.contains("token"), "{shown}");
    assert_eq!(hook.url.get().path(), "/token");
}

/// Text, and what the complaint must contain: the line, the key, and what to do.
#[test]
fn complaints_name_line_key_and_remedy() {
    const W: &str = "[[watch]]\npath = \"/etc\"\n";
    let hook = |line: &str| format!("{W}[[alert]]\ntype = \"webhook\"\n{line}\n");
    let with = |line: &str| format!("{W}{line}\n");
    let cases: Vec<(String, &[&str])> = vec![
        (with("[ledger]\nmax_size = \"1K\""), &["toml:4", "max_size in [ledger] must be a size", "\"500M\""]),
        (with("[ledger]\nmax_sise = \"1G\""), &["toml:4", "did you mean \"max_size\"?"]),
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
                "[[alert]]\ntype = \"twilio\"\naccount_sid = \"AC1\"\nfrom = \"+15005550006\"\nto = [\"+15005550009\"]",
            ),
            &["toml:3:", "no auth_token_file", "auth_token_credential"],
        ),
        (with("[[alert]]\ntype = \"twilio\"\nto = [\"0151\"]"), &["toml:5:", "0151", "+15005550009"]),
        (
            with("[[alert]]\ntype = \"email\"\nsmtp = \"smtp://mail.example.org\""),
            &["unencrypted", "smtps://"],
        ),
        (with("[[alert]]\ntype = \"email\"\nsmtp = \"smtps://u:hunter2@h\""), &["password_file"]),
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
