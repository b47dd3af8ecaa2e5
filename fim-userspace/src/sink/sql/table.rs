//! The tables as data, and the statements that fill them.

use std::fmt::Write as _;

use super::value::{Row, Value};
use crate::config::Dialect;

/// Fields of one statement: both protocols count them in 16 bits.
const MOST_FIELDS: usize = 30_000;
/// Bytes of one statement: well below the least `max_allowed_packet` that anybody has.
const MOST_BYTES: usize = 1024 * 1024;

pub struct Table {
    pub name: &'static str,
    pub key: &'static [&'static str],
    pub columns: &'static [&'static str],
    pub repeat: Repeat,
}

/// What becomes of a row whose key is there already.
pub enum Repeat {
    /// The transaction fails.
    Refuse,
    /// The old row stays.
    Keep,
    /// These columns are set anew, and those to the server's present time.
    Update { set: &'static [&'static str], now: &'static [&'static str] },
}

pub const HOSTS: Table = Table {
    name: "hosts",
    key: &["host_id"],
    columns: &["host_id", "name", "version"],
    repeat: Repeat::Update { set: &["name", "version"], now: &["last_seen"] },
};

pub const LEDGERS: Table = Table {
    name: "ledgers",
    key: &["host_id", "generation"],
    columns: &["host_id", "generation"],
    repeat: Repeat::Update { set: &[], now: &["last_seen"] },
};

pub const CONFLICTS: Table = Table {
    name: "conflicts",
    key: &["host_id", "generation", "seq", "reason", "hash"],
    columns: &["host_id", "generation", "seq", "reason", "hash", "expected", "prev", "body"],
    repeat: Repeat::Keep,
};

pub const EVENTS: Table = Table {
    name: "events",
    key: &["host_id", "generation", "seq"],
    columns: &[
        "host_id",
        "generation",
        "seq",
        "id",
        "time",
        "host",
        "kind",
        "path",
        "path_raw",
        "old_path",
        "old_path_raw",
        "watch",
        "severity",
        "verdict",
        "authorised_by",
        "response",
        "planned",
        "method",
        "error",
        "message",
        "tier",
        "muted",
        "actor_pid",
        "actor_ppid",
        "actor_uid",
        "actor_gid",
        "actor_euid",
        "actor_auid",
        "actor_session",
        "actor_tty",
        "actor_comm",
        "actor_exe",
        "actor_container",
        "actor_confidence",
        "before_type",
        "before_sha256",
        "before_size",
        "before_mode",
        "before_uid",
        "before_gid",
        "before_mtime",
        "after_type",
        "after_sha256",
        "after_size",
        "after_mode",
        "after_uid",
        "after_gid",
        "after_mtime",
        "body",
        "prev",
        "hash",
    ],
    repeat: Repeat::Refuse,
};

pub const BACKUP_PATHS: Table = Table {
    name: "backup_paths",
    key: &["host_id", "generation", "seq", "number"],
    columns: &[
        "host_id",
        "generation",
        "seq",
        "number",
        "time",
        "watch",
        "path",
        "path_raw",
        "sha256",
        "size",
        "reason",
    ],
    repeat: Repeat::Refuse,
};

pub const COMPARISONS: Table = Table {
    name: "comparisons",
    key: &["host_id", "generation", "comparison"],
    columns: &[
        "host_id",
        "generation",
        "comparison",
        "path",
        "path_raw",
        "before_sha256",
        "after_sha256",
        "outcome",
        "old_encoding",
        "new_encoding",
    ],
    // What could not be compared at first may be later.
    repeat: Repeat::Update { set: &["outcome", "old_encoding", "new_encoding"], now: &[] },
};

pub const DIFFERENCES: Table = Table {
    name: "differences",
    key: &["host_id", "generation", "comparison", "old_line", "new_line"],
    columns: &[
        "host_id",
        "generation",
        "comparison",
        "old_line",
        "old_lines",
        "new_line",
        "new_lines",
        "operation",
        "old_text",
        "new_text",
        "omitted",
        "old_digest",
        "new_digest",
    ],
    repeat: Repeat::Keep,
};

pub const EVENT_COMPARISONS: Table = Table {
    name: "event_comparisons",
    key: &["host_id", "generation", "seq", "since"],
    columns: &["host_id", "generation", "seq", "since", "comparison"],
    repeat: Repeat::Keep,
};

impl Table {
    /// One statement for `rows` rows, each value as `?`.
    pub fn insert(&self, dialect: Dialect, rows: usize) -> String {
        let fields = vec!["?"; self.columns.len()].join(", ");
        let mut sql = format!("INSERT INTO {} ({}) VALUES ", self.name, self.columns.join(", "));
        for n in 0..rows {
            let comma = if n == 0 { "" } else { ", " };
            // Writing to a String cannot fail.
            let _ = write!(sql, "{comma}({fields})");
        }
        sql + &self.on_repeat(dialect)
    }

    fn on_repeat(&self, dialect: Dialect) -> String {
        let key = self.key.join(", ");
        let assignments = |new: fn(&str) -> String, set: &[&str], now: &[&str]| {
            let set = set.iter().map(|column| format!("{column} = {}", new(column)));
            let now = now.iter().map(|column| format!("{column} = CURRENT_TIMESTAMP(6)"));
            set.chain(now).collect::<Vec<_>>().join(", ")
        };
        match (&self.repeat, dialect) {
            (Repeat::Refuse, _) => String::new(),
            (Repeat::Keep, Dialect::Postgres) => format!(" ON CONFLICT ({key}) DO NOTHING"),
            // INSERT IGNORE would also pass over values that do not fit.
            (Repeat::Keep, Dialect::Mysql) => {
                let column = self.key[0];
                format!(" ON DUPLICATE KEY UPDATE {column} = {}.{column}", self.name)
            }
            (Repeat::Update { set, now }, Dialect::Postgres) => {
                let set = assignments(|column| format!("excluded.{column}"), set, now);
                format!(" ON CONFLICT ({key}) DO UPDATE SET {set}")
            }
            (Repeat::Update { set, now }, Dialect::Mysql) => {
                let set = assignments(|column| format!("VALUES({column})"), set, now);
                format!(" ON DUPLICATE KEY UPDATE {set}")
            }
        }
    }
}

/// Cuts `rows` into statements that both servers take; a row is never cut.
pub fn portions(mut rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut out: Vec<Vec<Row>> = Vec::new();
    let (mut fields, mut bytes) = (0, 0);
    for row in rows.drain(..) {
        let size: usize = row.iter().map(Value::size).sum();
        match out.last_mut() {
            Some(last) if fields + row.len() <= MOST_FIELDS && bytes + size <= MOST_BYTES => {
                fields += row.len();
                bytes += size;
                last.push(row);
            }
            _ => {
                (fields, bytes) = (row.len(), size);
                out.push(vec![row]);
            }
        }
    }
    out
}

/// `?` as PostgreSQL writes it: `$1`, `$2`, …
pub fn numbered(sql: &str) -> String {
    let mut out = String::with_capacity(sql.len() * 2);
    for (n, part) in sql.split('?').enumerate() {
        if n > 0 {
            let _ = write!(out, "${n}");
        }
        out.push_str(part);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_of_both_servers() {
        assert_eq!(
            numbered(&HOSTS.insert(Dialect::Postgres, 2)),
            "INSERT INTO hosts (host_id, name, version) VALUES ($1, $2, $3), ($4, $5, $6) ON CONFLICT (host_id) \
             DO UPDATE SET name = excluded.name, version = excluded.version, last_seen = CURRENT_TIMESTAMP(6)"
        );
        assert_eq!(
            LEDGERS.insert(Dialect::Mysql, 1),
            "INSERT INTO ledgers (host_id, generation) VALUES (?, ?) \
             ON DUPLICATE KEY UPDATE last_seen = CURRENT_TIMESTAMP(6)"
        );
        assert!(CONFLICTS.insert(Dialect::Mysql, 1).ends_with("UPDATE host_id = conflicts.host_id"));
        assert!(EVENTS.insert(Dialect::Postgres, 1).ends_with("?)"), "a known record fails the transaction");
    }

    #[test]
    fn no_statement_is_too_large_and_no_row_is_lost() {
        let row = |n: usize, size: usize| vec![Value::Int(n as i64), Value::Bytes(vec![0; size])];
        let rows: Vec<Row> = (0..40).map(|n| row(n, if n % 10 == 3 { 2 << 20 } else { 100_000 })).collect();
        let cut = portions(rows.clone());
        assert!(cut.len() > 4 && cut.iter().all(|rows| !rows.is_empty()));
        for portion in &cut {
            let size: usize = portion.iter().flatten().map(Value::size).sum();
            assert!(size <= MOST_BYTES || portion.len() == 1);
        }
        assert_eq!(cut.concat(), rows);
        let thin: Vec<Row> = (0..20_000).map(|n| row(n, 1)).collect();
        assert!(portions(thin).iter().all(|rows| rows.len() * 2 <= MOST_FIELDS));
    }
}
