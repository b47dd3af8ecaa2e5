use std::path::PathBuf;

use super::*;
use crate::config::Config;
use crate::core::path::RelPath;

/// What stands on a host: paths that end with a slash are folders, with `@` links.
fn import(text: &str, there: &[&str]) -> (Import, String) {
    let dir = tempfile::tempdir().expect("a temporary folder");
    let file = dir.path().join("aide.conf");
    std::fs::write(&file, text).expect("written");
    let there: Vec<String> = there.iter().map(|path| (*path).to_owned()).collect();
    let host = move |path: &Path| {
        let path = path.to_str().expect("text");
        let is = |end: &str| there.iter().any(|known| *known == format!("{path}{end}"));
        match () {
            () if path == "/" || is("/") => Host::Folder,
            () if is("@") => Host::Link,
            () if is("") => Host::Other,
            () => Host::Nothing,
        }
    };
    let import = Import::of(Source::read(&file, false).expect("read"), &host);
    let written = write(&import, "aide.conf");
    (import, written)
}

/// What holds for a path: `None` where it is not watched, or what is not compared and which kinds are told.
fn holds(text: &str, path: &str, folder: bool) -> Option<String> {
    let config = Config::parse(Path::new("fim.toml"), text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    let watch = config.watches.iter().find(|watch| Path::new(path).starts_with(&watch.path))?;
    let rel = PathBuf::from(path).strip_prefix(&watch.path).expect("below").to_path_buf();
    let rel = if rel.as_os_str().is_empty() {
        RelPath::root()
    } else {
        RelPath::new(rel.to_str().expect("text")).expect("sound")
    };
    // A folder that is left out hides what is below it.
    let above = rel.as_path().ancestors().skip(1).filter(|at| !at.as_os_str().is_empty());
    let mut above = above.map(|at| RelPath::new(at.to_str().expect("text")).expect("sound"));
    if watch.policy.exclude.excludes(&rel, folder) || above.any(|at| watch.policy.exclude.excludes(&at, true))
    {
        return None;
    }
    let policy = watch.policy.of(&rel, folder);
    let mut ignore: Vec<&str> = Vec::new();
    for (name, aspect) in crate::core::policy::IGNORABLE {
        if policy.ignore.contains(aspect) {
            ignore.push(name);
        }
    }
    Some(ignore.join(","))
}

const TREE: [&str; 13] = [
    "/etc/",
    "/etc/hosts",
    "/etc/mtab",
    "/usr/",
    "/home/",
    "/srv/",
    "/opt/",
    "/var/",
    "/var/log/",
    "/root/",
    "/boot/",
    "/bin@",
    "/data/",
];

/// The expected column is what `aide --path-check` of AIDE 0.18.3 says of the same text.
#[test]
fn what_is_watched_is_what_aide_selects() {
    let text = "A=p+u+g+sha256+m+l+X\nB=A-u\nC=A-g\nD=A-m\n\
                /etc A\n/etc/hosts$ B\n/etc/pass[a-z]d C\n!/etc/mtab\n!/etc/.*~\n=/home$ A\n=/srv/ B\n/usr d A\n/usr f B\n\
                !/usr/(src|tmp)$ d\n/var/log$ d D\n/var/log/[a-z]*\\.log$ f B\n/root/\\..* C\n/bin A\n/nowhere A\n";
    let (import, written) = import(text, &TREE);
    let a = Some(String::new());
    let (b, c, d) = (Some("owner".to_owned()), Some("group".to_owned()), Some("mtime".to_owned()));
    let cases = [
        ("/etc", true, a.clone()),
        ("/etc/x/y", false, a.clone()),
        ("/etc/hosts", false, b.clone()),
        ("/etc/hostsx", false, a.clone()),
        ("/etc/passwd", false, c.clone()),
        ("/etc/passwd-/x", false, c.clone()),
        ("/etc/mtab2", false, None),
        ("/etc/x/mtab", false, a.clone()),
        ("/etc/x/a~b", false, None),
        ("/home", true, a.clone()),
        ("/home/x", false, None),
        ("/srv/a", true, b.clone()),
        ("/srv/a/b", false, None),
        ("/usr/x", true, a.clone()),
        ("/usr/x/y", false, b.clone()),
        ("/usr/src", true, None),
        ("/usr/src", false, b.clone()),
        ("/usr/src/x", false, None),
        ("/var/log", true, d),
        ("/var/log/a.log", false, b),
        ("/var/log/a.1", false, None),
        ("/root/.ssh", true, c.clone()),
        ("/root/.ssh/keys", false, c),
        ("/root/x", false, None),
        ("/opt/x", false, None),
    ];
    for (path, folder, expected) in cases {
        assert_eq!(holds(&written, path, folder), expected, "{path}\n{written}");
    }
    let line = |text: &str| import.lines.iter().find(|line| line.text == text).expect("there");
    assert_eq!((line("/bin A").outcome, line("/nowhere A").outcome), (Outcome::Lost, Outcome::Lost));
    assert!(
        line("/bin A").why[0].contains("symbolic link") && line("/nowhere A").why[0].contains("not there")
    );
    assert!(!import.is_whole());
}

#[test]
fn every_line_is_named_and_a_plain_file_is_carried_whole() {
    let text = "database_in=file:/var/lib/aide/aide.db\n@@define TOP /boot\nPERMS=p+u+g+acl\n\n# a comment\n@@{TOP}/ PERMS\n\
                !/boot/grub/grubenv$ \n/etc/hosts$ PERMS+sha512\n";
    let (import, written) = import(text, &TREE);
    for line in &import.lines {
        assert!(written.contains(&line.named()), "{} in {written}", line.named());
    }
    assert_eq!(import.lines.len(), 6);
    assert!(import.is_whole(), "{:?}", import.lines);
    let config = Config::parse(Path::new("fim.toml"), &written).expect("sound");
    let paths: Vec<&Path> = config.watches.iter().map(|watch| watch.path.as_path()).collect();
    assert_eq!(paths, [Path::new("/boot"), Path::new("/etc/hosts")]);
    assert!(written.contains("\"/grub/grubenv\", # "), "{written}");
    assert_eq!(holds(&written, "/boot/grub/grubenv", false), None);
    assert_eq!(holds(&written, "/boot/vmlinuz", false).as_deref(), Some("content,target,mtime"));
}

/// As RHEL writes them: trees, what is left out, single files with another group.
#[test]
fn a_file_in_the_style_of_rhel() {
    let text = "@@define DBDIR /var/lib/aide\ndatabase_out=file:@@{DBDIR}/new\nreport_url=stdout\nFIPSR = p+i+n+u+g+s+m+c+acl+sha256\n\
                NORMAL = R+sha512\nPERMS = p+u+g+acl+selinux\nLOG = p+u+g+n+ANF+ARF+I\n/boot NORMAL\n/usr NORMAL\n!/usr/src\n\
                /etc PERMS\n/etc/hosts$ FIPSR\n/var/log LOG\n/root/\\..* PERMS\n";
    let (import, written) = import(text, &TREE);
    let config = Config::parse(Path::new("fim.toml"), &written).expect("sound");
    assert_eq!(config.watches.len(), 5, "{written}");
    assert_eq!(holds(&written, "/usr/srcs/x", false), None);
    assert_eq!(holds(&written, "/etc/hosts", false).as_deref(), Some("target"));
    assert_eq!(holds(&written, "/etc/fstab", false).as_deref(), Some("content,target,mtime"));
    let why = |text: &str| import.lines.iter().find(|line| line.text == text).expect("there").why.join(" ");
    assert!(why("NORMAL = R+sha512").contains("inode") && why("LOG = p+u+g+n+ANF+ARF+I").contains("log"));
    assert_eq!(import.lines.iter().filter(|line| line.outcome == Outcome::Lost).count(), 0, "{written}");
    let log = config.watches.iter().find(|watch| watch.path == Path::new("/var/log")).expect("there");
    let kinds = &log.policy.base.kinds;
    use crate::core::change::ChangeKind;
    assert!(!kinds.contains(ChangeKind::Created) && kinds.contains(ChangeKind::Attributes));
}

/// As Debian writes them: one tree from the root, and many exceptions of which the deepest counts.
#[test]
fn a_file_in_the_style_of_debian() {
    let text = "Own = p+u+g+ftype+l+X\nFull = Own+m+c+H\nVarFile = Own\nVarDir = Own+m\n@@define RUN run\n\
                /@@{RUN}/x\\\\.pid$ f VarFile\n!/@@{RUN}/x\\\\.sock$ s\n/var/lib/a(/b)?$ d VarDir\n!/var/lib/a/[0-9a-f]{4}$ f\n\
                /var/lib/a/cur$ f VarFile\n!/proc$ d\n!/sys/\n/ 0 Full\n";
    let (import, written) = import(text, &TREE);
    let cases = [
        ("/etc/x", false, Some("")),
        ("/run/x.pid", false, Some("content,mtime")),
        ("/run/xypid", false, Some("")),
        ("/run/x.sock", false, None),
        ("/var/lib/a", true, Some("content")),
        ("/var/lib/a/b", true, Some("content")),
        ("/var/lib/a/c", true, Some("")),
        ("/var/lib/a/12ef", false, None),
        ("/var/lib/a/12eg", false, Some("")),
        ("/var/lib/a/cur", false, Some("content,mtime")),
        ("/proc", true, None),
        ("/proc/1", true, None),
        ("/sys", true, Some("")),
        ("/sys/x", true, None),
    ];
    for (path, folder, expected) in cases {
        assert_eq!(holds(&written, path, folder).as_deref(), expected, "{path}\n{written}");
    }
    assert!(written.contains("keep_versions = false"), "a whole system is not copied unasked");
    let socket = import.lines.iter().find(|line| line.text.ends_with("sock$ s")).expect("there");
    assert_eq!(socket.outcome, Outcome::Changed, "a file of this name is left out too");
}

#[test]
fn hostile_names_stay_within_their_comments_and_quotes() {
    let text = "G=p\n/data/a\"b'\\\\\\\\c\u{1b}[2J$ G\n/data/x=[[watch]] G\n/data/%0a[[watch]]$ G\n";
    let (_, written) = import(text, &TREE);
    let config = Config::parse(Path::new("fim.toml"), &written).unwrap_or_else(|e| panic!("{e}\n{written}"));
    assert_eq!(config.watches.len(), 1, "{written}");
    assert!(!written.contains('\u{1b}'));
}
