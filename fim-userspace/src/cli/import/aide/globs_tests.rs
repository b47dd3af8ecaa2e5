use super::*;
use crate::core::path::RelPath;
use crate::core::policy::Patterns;

fn texts(expression: &str) -> Vec<String> {
    let globs = translate(expression).expect("can be said");
    globs.each.iter().map(|glob| format!("/{}", glob.parts.join("/"))).collect()
}

#[test]
fn what_can_be_said_exactly_is() {
    let cases: [(&str, &[&str]); 15] = [
        ("/etc/hosts$", &["/etc/hosts"]),
        ("/etc/mtab", &["/etc/mtab*"]),
        ("/proc/", &["/proc/**"]),
        ("/etc/.*~", &["/etc/**/*~*"]),
        ("/root/\\..*", &["/root/.*"]),
        ("/var/log/.*$", &["/var/log/**"]),
        ("/a/.*/b$", &["/a/*/**/b"]),
        ("/a/b.*c$", &["/a/b*c", "/a/b*/**/*c"]),
        ("/log/x\\.[0-6]\\.gz$", &["/log/x.[0-6].gz"]),
        ("/(bin|sbin)$", &["/bin", "/sbin"]),
        ("/d(/(a|b))?$", &["/d", "/d/a", "/d/b"]),
        ("/c/[[:xdigit:]]{2}$", &["/c/[0-9A-Fa-f][0-9A-Fa-f]"]),
        ("/with%20space[^/]+$", &["/with\\ space?*"]),
        ("/x[ab]{1,2}$", &["/x[ab]", "/x[ab][ab]"]),
        ("/x[/_]y$", &["/x[_]y", "/x/y"]),
    ];
    for (expression, patterns) in cases {
        assert_eq!(texts(expression), patterns, "{expression}");
        assert_eq!(translate(expression).expect("can be said").rough, None, "{expression}");
    }
}

#[test]
fn what_cannot_be_said_exactly_says_so() {
    for expression in ["/a/[a-z/]+$", "/a/[0-9]+$", "/a/b.c$", "/a/[^x]$", "/a/(x|y)*$"] {
        assert!(translate(expression).expect("can be said").rough.is_some(), "{expression}");
    }
    for expression in
        ["/a(?!b)", "etc", "/a/\\bx", "/(a", "/a)", "/a/[b", "/(a/)+b$", "/a$b", "/a/x{9}[a-z]{0,900}(b|c)"]
    {
        assert!(translate(expression).is_err(), "{expression}: {:?}", translate(expression));
    }
}

#[test]
fn patterns_match_what_the_expression_matches() {
    let paths = [
        "etc/hosts",
        "etc/hosts.d",
        "etc/hosts/x",
        "etc/a~",
        "etc/x/y~z",
        "etc/mtab",
        "etc/mtab2/x",
        "root/.ssh/keys",
        "root/x",
        "var/log/a",
        "var/log",
        "a/b",
        "a/x/b",
        "a/x/y/b",
        "a/bc",
        "a/bx/yc",
        "log/x.5.gz",
        "log/x.7.gz",
        "d",
        "d/a",
        "d/c",
    ];
    let expressions = [
        "/etc/hosts$",
        "/etc/hosts",
        "/etc/.*~",
        "/etc/mtab",
        "/root/\\..*",
        "/var/log/",
        "/a/.*/b$",
        "/a/b.*c$",
        "/log/x\\.[0-6]\\.gz$",
        "/d(/(a|b))?$",
    ];
    for expression in expressions {
        let patterns: Vec<String> = translate(expression)
            .expect("can be said")
            .each
            .iter()
            .flat_map(|glob| {
                let text = format!("/{}", glob.parts.join("/"));
                if glob.open { vec![text] } else { vec![text.clone(), format!("!{text}/**")] }
            })
            .collect();
        let patterns = Patterns::new(&patterns).expect("sound");
        let regex = regex::Regex::new(&format!("^{expression}")).expect("sound");
        for path in paths {
            let found = patterns.matches(&RelPath::new(path).expect("sound"), false);
            assert_eq!(found, regex.is_match(&format!("/{path}")), "{expression} on /{path}");
        }
    }
}
