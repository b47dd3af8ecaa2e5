//! What each command prints with `--json`: one table for the tests and `docs/reference.md`.
//!
//! Standard output then carries nothing else: each line is one object of one of the command's shapes. Keys are added, never renamed.

/// An object: what it stands for, and its keys.
pub struct Shape {
    pub what: &'static str,
    /// Each always there.
    pub keys: &'static [&'static str],
    /// Where there is something to say.
    pub more: &'static [&'static str],
}

pub struct Json {
    pub command: &'static str,
    pub shapes: &'static [Shape],
}

const fn shape(what: &'static str, keys: &'static [&'static str]) -> Shape {
    Shape { what, keys, more: &[] }
}

const fn json(command: &'static str, shapes: &'static [Shape]) -> Json {
    Json { command, shapes }
}

/// Commands whose output is no facts, and why.
pub const WITHOUT: &[(&str, &str)] = &[];

const RECORD: Shape = Shape {
    what: "a record",
    keys: &[
        "seq",
        "id",
        "time",
        "host",
        "kind",
        "path",
        "path_raw",
        "old_path",
        "watch",
        "verdict",
        "authorised_by",
        "response",
        "severity",
        "tier",
        "actor",
        "before",
        "after",
        "latency_us",
    ],
    more: &[
        "rules",
        "vouched",
        "package",
        "error",
        "method",
        "planned",
        "muted",
        "other_actors",
        "previous",
        "differences",
        "transient",
        "seen_by",
        "message",
    ],
};
const CHANGE: &[&str] = &["kind", "path", "differences", "before", "after"];
const COMPARED: &[&str] = &["kind", "path", "differences", "before", "after", "attributes", "lines"];
const ITEM: Shape = shape("done and recorded", &["answer", "path", "outcome", "seq", "id"]);
const SAME: Shape = shape("nothing to do", &["answer", "path"]);
const REFUSED: Shape = shape("not done", &["answer", "path", "sentence"]);
const DONE: Shape = shape("the end", &["answer", "done", "refused"]);
const FAILED: Shape = shape("nothing was done, or nothing from here on", &["answer", "sentence"]);
const WINDOW: Shape = shape("the window", &["answer", "id", "ends", "sentence"]);

pub const TABLE: &[Json] = &[
    json(
        "init",
        &[
            shape("a watch", &["watch", "entries", "kept", "bytes", "too_large", "unreadable"]),
            shape("the key, shown once", &["verification_key"]),
        ],
    ),
    json("run", &[RECORD]),
    json(
        "check",
        &[shape("a change", CHANGE), shape("what could not be compared", &["kind", "path", "reason"])],
    ),
    json("diff", &[shape("a change", COMPARED)]),
    json("show", &[shape("the event", &["event", "attributes", "copies", "compared"])]),
    json("blame", &[shape("a line", &["path", "line", "text", "secret", "from"])]),
    json("accept", &[shape("what is proposed", COMPARED), ITEM, SAME, REFUSED, DONE, FAILED]),
    json("restore", &[shape("what is proposed", COMPARED), ITEM, SAME, REFUSED, DONE, FAILED]),
    json(
        "quarantine list",
        &[shape(
            "a file or a folder with all in it",
            &[
                "id",
                "seq",
                "event",
                "time",
                "path",
                "type",
                "reason",
                "files",
                "bytes",
                "sha256",
                "fate",
                "fate_time",
                "actor",
            ],
        )],
    ),
    json(
        "quarantine show",
        &[shape(
            "a file",
            &["id", "seq", "path", "reason", "fate", "fate_time", "state", "event", "content"],
        )],
    ),
    json(
        "quarantine release",
        &[ITEM, REFUSED, DONE, FAILED, shape("a copy, with --to", &["id", "path", "copy"])],
    ),
    json("quarantine purge", &[ITEM, REFUSED, DONE, FAILED]),
    json("maintenance start", &[WINDOW, FAILED]),
    json("maintenance stop", &[WINDOW, FAILED]),
    json("maintenance status", &[shape("the window, if one is open", &["window", "ends", "seconds_left"])]),
    json(
        "metrics",
        &[
            shape("a counter or a gauge", &["name", "type", "labels", "value"]),
            shape("a histogram", &["name", "type", "labels", "count", "sum", "buckets"]),
        ],
    ),
    json("status", &[shape("all of it", &["running", "problems", "daemon", "database"])]),
    json(
        "explain",
        &[
            shape(
                "a watched path",
                &[
                    "path",
                    "config",
                    "watch",
                    "watch_line",
                    "excluded",
                    "rules",
                    "baseline",
                    "baseline_error",
                    "restorable",
                    "restorable_why",
                    "answers",
                    "keys",
                ],
            ),
            shape("a path that is not watched", &["path", "config", "watch"]),
        ],
    ),
    json("log", &[RECORD]),
    json(
        "log verify",
        &[shape(
            "all of it",
            &[
                "checked",
                "sound",
                "head",
                "fault",
                "affected",
                "pruned",
                "sealed",
                "last_time_us",
                "anchors",
                "beside",
                "seal_overdue",
                "told",
            ],
        )],
    ),
    json("seal setup", &[shape("the key, shown once", &["verification_key"])]),
    json(
        "report",
        &[shape(
            "all of it",
            &[
                "host",
                "version",
                "generated",
                "since",
                "until",
                "coverage",
                "changes",
                "by_package",
                "chain",
                "controls",
            ],
        )],
    ),
    json(
        "vault verify",
        &[
            shape("what is wrong with an object", &["sha256", "problem", "reason", "paths"]),
            shape("the sum", &["objects", "bytes", "damaged", "missing", "unreadable"]),
        ],
    ),
    json(
        "vault list",
        &[shape(
            "an object",
            &["sha256", "form", "size", "stored", "baseline", "former", "evidence", "newest"],
        )],
    ),
    json(
        "vault versions",
        &[shape(
            "a version",
            &["path", "number", "time", "sha256", "size", "reason", "seq", "event", "evidence", "kept"],
        )],
    ),
    json("vault export", &[shape("the copy", &["sha256", "size", "to"])]),
    json(
        "vault prune",
        &[shape(
            "the sum",
            &["dry_run", "removed", "by_age", "freed", "left", "baseline", "over", "failed", "seq"],
        )],
    ),
    json(
        "config show",
        &[Shape {
            what: "the configuration",
            keys: &["state", "control", "sensor", "ledger", "watch"],
            more: &["vault", "alert", "central", "log", "trust"],
        }],
    ),
    json("config check", &[shape("the answer", &["file", "sound", "watches", "problems"])]),
    json(
        "import aide",
        &[shape("a line of the source", &["file", "line", "text", "outcome", "became", "why"])],
    ),
    json("alert test", &[shape("a receiver", &["lane", "taken", "answer"])]),
    json(
        "alert queue",
        &[shape("a receiver", &["lane", "pending", "oldest", "why", "parked", "parked_reason"])],
    ),
    json(
        "doctor",
        &[shape(
            "all of it",
            &[
                "config",
                "kernel",
                "tier",
                "hooks",
                "watches",
                "limits",
                "capabilities",
                "clock_synchronised",
                "room",
                "daemon",
                "database",
                "vault",
                "sinks",
                "problems",
                "unseen",
            ],
        )],
    ),
];

/// Of one command, named without `fim`.
pub fn of(command: &str) -> Option<&'static [Shape]> {
    TABLE.iter().find(|json| json.command == command).map(|json| json.shapes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::exits;

    #[test]
    fn every_command_says_what_its_json_is() {
        let mut listed: Vec<&str> = TABLE.iter().map(|json| json.command).collect();
        listed.extend(WITHOUT.iter().map(|(command, _)| *command));
        let mut known = exits::commands();
        known.sort_unstable();
        listed.sort_unstable();
        assert_eq!(known, listed);
    }
}
