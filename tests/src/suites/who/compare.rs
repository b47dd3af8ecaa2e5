//! Each field of a recorded actor against the truth.

use serde_json::{Value, json};

use crate::actor::who::{Forebear, Truth};

/// Every field that is compared, by its place in the record.
pub const FIELDS: [&str; 31] = [
    "tid",
    "ppid",
    "inner_pid",
    "start_ns",
    "uid",
    "gid",
    "euid",
    "fsuid",
    "auid",
    "session",
    "names/uid",
    "names/gid",
    "names/euid",
    "names/fsuid",
    "names/auid",
    "tty",
    "comm",
    "exe",
    "exe_file/dev",
    "exe_file/ino",
    "exe_file/place",
    "exe_file/sha256",
    "script",
    "cmdline",
    "cwd",
    "cgroup",
    "unit",
    "container",
    "runtime",
    "from",
    "ancestors",
];

/// How much of a command line the kernel's table keeps, bytes.
const ARGUMENTS: usize = 255;
/// `USER_HZ`: /proc counts starts in hundredths of a second.
const TICK_NS: u64 = 10_000_000;

/// Everybody who acted is named, with all of `fields` right; one alone for certain, several as several.
pub fn all(records: &[Value], truths: &[Truth], fields: &[&str]) -> Result<(), String> {
    nobody_else(records, truths)?;
    for truth in truths {
        let actors = records.iter().flat_map(actors);
        let own: Vec<&Value> = actors.filter(|actor| actor["pid"] == truth.pid).collect();
        let actor =
            own.first().ok_or_else(|| format!("pid {} is not named in {}", truth.pid, json!(records)))?;
        one(actor, truth, fields)?;
    }
    for record in records {
        let wanted = if record["other_actors"].as_array().is_some_and(|o| !o.is_empty()) {
            "several"
        } else {
            "exact"
        };
        let confidence = &record["actor"]["confidence"];
        if *confidence != wanted {
            return Err(format!("confidence is {confidence}, not {wanted:?}"));
        }
    }
    Ok(())
}

/// Whoever is named for certain is one of those who acted.
pub fn nobody_else(records: &[Value], truths: &[Truth]) -> Result<(), String> {
    if records.is_empty() {
        return Err("nothing is recorded yet".into());
    }
    let acted = |actor: &Value| truths.iter().any(|truth| actor["pid"] == truth.pid);
    let wrong = records.iter().flat_map(actors).find(|actor| actor["confidence"] == "exact" && !acted(actor));
    wrong.map_or(Ok(()), |actor| Err(format!("somebody else is named for certain: {actor}")))
}

fn actors(record: &Value) -> impl Iterator<Item = &Value> {
    std::iter::once(&record["actor"]).chain(record["other_actors"].as_array().into_iter().flatten())
}

fn one(actor: &Value, truth: &Truth, fields: &[&str]) -> Result<(), String> {
    for field in fields {
        let got = actor.pointer(&format!("/{field}")).cloned().unwrap_or(Value::Null);
        let wanted = match *field {
            "tid" => match truth.tid {
                Some(tid) => json!(tid),
                // A thread of the kernel's own, whichever.
                None => continue,
            },
            "ppid" => json!(truth.ppid),
            "inner_pid" => json!(truth.inner_pid),
            "start_ns" => {
                let ticks = got.as_u64().map(|ns| ns / TICK_NS);
                if ticks != Some(truth.start_ticks) {
                    return Err(format!("start_ns is {got}, not in tick {}", truth.start_ticks));
                }
                continue;
            }
            "uid" => json!(truth.uid),
            "gid" => json!(truth.gid),
            "euid" => json!(truth.euid),
            "fsuid" => json!(truth.fsuid),
            "auid" => json!(truth.auid),
            "session" => json!(truth.session),
            "names/uid" => json!(truth.names[0]),
            "names/gid" => json!(truth.names[1]),
            "names/euid" => json!(truth.names[2]),
            "names/fsuid" => json!(truth.names[3]),
            "names/auid" => json!(truth.names[4]),
            "tty" => json!(truth.tty),
            "unit" if truth.unit.is_some() => json!(truth.unit),
            "container" if truth.container.is_some() => json!(truth.container),
            "runtime" if truth.runtime.is_some() => json!(truth.runtime),
            "from" if truth.from.is_some() => json!(truth.from),
            "unit" | "container" | "runtime" | "from" => continue,
            "comm" => json!(truth.comm),
            "exe" => json!(truth.exe),
            "exe_file/dev" => json!(truth.exe_dev),
            "exe_file/ino" => json!(truth.exe_ino),
            "exe_file/place" => json!(truth.place),
            "exe_file/sha256" => json!(truth.sha256),
            "script" => json!(truth.script),
            "cmdline" => {
                same_words(&got, &truth.cmdline)?;
                continue;
            }
            "cwd" => json!(truth.cwd),
            "cgroup" => match &truth.cgroup {
                Some(path) => json!(path),
                // In no unified group: which of the old ones is named is a matter of taste.
                None => continue,
            },
            "ancestors" => {
                same_chain(&got, &truth.ancestors)?;
                continue;
            }
            other => return Err(format!("{other} is not compared")),
        };
        if got != wanted {
            return Err(format!("{field} is {got}, not {wanted}, in {actor}"));
        }
    }
    Ok(())
}

/// The same processes, each with its start and user, and its program where the shape could see that.
fn same_chain(got: &Value, wanted: &[Forebear]) -> Result<(), String> {
    let chain: Vec<&Value> = got.as_array().into_iter().flatten().collect();
    let same = |(got, wanted): (&&Value, &Forebear)| {
        got["pid"] == wanted.pid
            && got["start_ns"].as_u64().map(|ns| ns / TICK_NS) == Some(wanted.start_ticks)
            && got["uid"] == wanted.uid
            && wanted.exe.as_ref().is_none_or(|exe| got["exe"] == *exe)
    };
    if chain.len() == wanted.len() && chain.iter().zip(wanted).all(same) {
        return Ok(());
    }
    Err(format!("the ancestors are {got}, not {wanted:?}"))
}

/// As many bytes of the words as are kept.
fn same_words(got: &Value, wanted: &[String]) -> Result<(), String> {
    let words: Vec<&str> = got.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let (got, wanted) = (words.join("\0"), wanted.join("\0"));
    let cut = wanted.len() > ARGUMENTS && got.len() >= ARGUMENTS - 1 && wanted.starts_with(&got);
    if got == wanted || cut { Ok(()) } else { Err(format!("cmdline is {got:?}, not {wanted:?}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        Truth {
            pid: 100,
            tid: Some(101),
            ppid: 102,
            inner_pid: Some(3),
            start_ticks: 104,
            uid: 105,
            gid: 106,
            euid: 107,
            fsuid: 108,
            auid: Some(109),
            session: Some(110),
            comm: "c".into(),
            exe: "/e".into(),
            exe_dev: 111,
            exe_ino: 112,
            place: "linked".into(),
            script: Some("/s".into()),
            cmdline: vec!["a".into(), "b".into()],
            cwd: "/w".into(),
            cgroup: Some("/g".into()),
            sha256: "ab".into(),
            names: ["n1", "n2", "n3", "n4", "n5"].map(|name| Some(name.to_owned())),
            tty: Some("pts/9".into()),
            unit: Some("u.service".into()),
            container: Some("fe".into()),
            runtime: Some("podman".into()),
            from: Some("::1".into()),
            ancestors: vec![
                Forebear { pid: 102, start_ticks: 103, uid: 113, exe: Some("/p".into()) },
                Forebear { pid: 1, start_ticks: 0, uid: 0, exe: None },
            ],
        }
    }

    const RECORDED: &str = r#"{"actor":{"pid":100,"tid":101,"ppid":102,"inner_pid":3,"start_ns":1040000007,"uid":105,"gid":106,"euid":107,"fsuid":108,"auid":109,"session":110,"names":{"uid":"n1","gid":"n2","euid":"n3","fsuid":"n4","auid":"n5"},"tty":"pts/9","unit":"u.service","container":"fe","runtime":"podman","from":"::1","comm":"c","exe":"/e","exe_file":{"dev":111,"ino":112,"place":"linked","sha256":"ab"},"script":"/s","cmdline":["a","b"],"cwd":"/w","cgroup":"/g","ancestors":[{"pid":102,"start_ns":1030000000,"uid":113,"exe":"/p"},{"pid":1,"start_ns":7,"uid":0,"exe":"/init"}],"confidence":"exact"}}"#;

    fn answer(from: &str, to: &str) -> Result<(), String> {
        let altered = RECORDED.replacen(from, to, 1);
        assert!(from == to || altered != RECORDED, "{from} is not in the recorded line");
        all(&[serde_json::from_str(&altered).expect("JSON")], &[truth()], &FIELDS)
    }

    #[test]
    fn each_wrong_field_is_refused() {
        assert_eq!(answer("", ""), Ok(()));
        for number in [100, 101, 102, 105, 106, 107, 108, 109, 110, 111, 112, 113] {
            assert!(answer(&format!(":{number}"), ":999").is_err(), "{number}");
        }
        let others = [
            ("\"inner_pid\":3", "\"inner_pid\":null"),
            ("104000", "105000"),
            ("\"c\"", "\"d\""),
            ("\"/e\"", "null"),
            ("linked", "deleted"),
            ("\"/s\"", "\"/t\""),
            ("[\"a\",\"b\"]", "[\"a\"]"),
            ("\"/w\"", "\"/\""),
            ("\"/g\"", "\"/\""),
            ("{\"pid\":1,", "{\"pid\":2,"),
            ("103000", "104000"),
            ("\"/p\"", "\"/q\""),
            ("\"ab\"", "null"),
            ("\"n1\"", "null"),
            ("\"n2\"", "null"),
            ("\"n3\"", "null"),
            ("\"n4\"", "null"),
            ("\"n5\"", "null"),
            ("pts/9", "pts/8"),
            ("u.service", "v.service"),
            ("\"fe\"", "null"),
            ("podman", "docker"),
            ("\"::1\"", "null"),
            ("exact", "unknown"),
        ];
        for (from, to) in others {
            assert!(answer(from, to).is_err(), "{from} -> {to} was accepted");
        }
    }

    #[test]
    fn one_of_two_writers_is_not_enough() {
        let record: Value = serde_json::from_str(RECORDED).expect("JSON");
        let second = Truth { pid: 200, ..truth() };
        let refused = all(&[record], &[truth(), second], &FIELDS).expect_err("one is missing");
        assert!(refused.contains("pid 200 is not named"), "{refused}");
    }
}
