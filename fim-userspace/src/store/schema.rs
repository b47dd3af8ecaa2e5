//! The tables, and how an older database becomes a present one. `docs/database.md` describes them for readers.

use rusqlite::Connection;

/// Migration n brings a database from version n to n + 1 (`PRAGMA user_version`). Never edit one that was released.
const MIGRATIONS: [&str; 4] = [V1, V2, V3, V4];

pub(super) const VERSION: i64 = MIGRATIONS.len() as i64;

/// Columns of the ledger for people are computed from the body when they are read. Those that queries need are stored, as
/// numbers of what is named once in tables of its own, and once more by spans (`span.rs`): an index on each would cost
/// more than all the rest. `fim log verify` compares them with the body. The ledger is not STRICT: SQLite would compute
/// every column from the body of each record that is written, to look at its type.
const V1: &str = r#"
CREATE TABLE meta (
    key TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE watch (
    id INTEGER PRIMARY KEY,
    root BLOB NOT NULL UNIQUE
) STRICT;

CREATE TABLE baseline (
    watch INTEGER NOT NULL REFERENCES watch(id),
    path BLOB NOT NULL,
    type TEXT NOT NULL,
    sha256 TEXT,
    size INTEGER NOT NULL,
    mode INTEGER NOT NULL,
    uid INTEGER NOT NULL,
    gid INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    xattrs TEXT,
    target BLOB,
    rdev INTEGER NOT NULL,
    dev INTEGER NOT NULL,
    ino INTEGER NOT NULL,
    ctime_ns INTEGER NOT NULL,
    nlink INTEGER NOT NULL,
    PRIMARY KEY (watch, path)
) STRICT, WITHOUT ROWID;

CREATE TABLE ledger (
    seq INTEGER PRIMARY KEY,
    time_us INTEGER NOT NULL,
    class INTEGER NOT NULL REFERENCES ledger_class(id),
    actors INTEGER REFERENCES ledger_actors(id),
    path_id INTEGER,
    old_path_id INTEGER,
    prev BLOB NOT NULL,
    hash BLOB NOT NULL,
    body TEXT NOT NULL,
    id TEXT AS (lower(hex(substr(hash, 1, 16)))) VIRTUAL,
    time TEXT AS (body ->> '$.time') VIRTUAL,
    kind TEXT AS (body ->> '$.kind') VIRTUAL,
    path TEXT AS (body ->> '$.path') VIRTUAL,
    old_path TEXT AS (body ->> '$.old_path') VIRTUAL,
    watch TEXT AS (body ->> '$.watch') VIRTUAL,
    severity TEXT AS (body ->> '$.severity') VIRTUAL,
    verdict TEXT AS (body ->> '$.verdict') VIRTUAL,
    response TEXT AS (body ->> '$.response') VIRTUAL,
    actor_uid INTEGER AS (body ->> '$.actor.uid') VIRTUAL,
    actor_exe TEXT AS (body ->> '$.actor.exe') VIRTUAL
);

CREATE TABLE ledger_class (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    verdict TEXT NOT NULL,
    response TEXT NOT NULL,
    watch TEXT NOT NULL,
    UNIQUE (kind, severity, verdict, response, watch)
) STRICT;

CREATE TABLE executable (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE actor (
    id INTEGER PRIMARY KEY,
    uid INTEGER,
    gid INTEGER,
    euid INTEGER,
    auid INTEGER,
    exe INTEGER REFERENCES executable(id)
) STRICT;
CREATE UNIQUE INDEX actor_once ON actor
    (ifnull(uid, -1), ifnull(gid, -1), ifnull(euid, -1), ifnull(auid, -1), ifnull(exe, 0));

CREATE TABLE ledger_actors (
    id INTEGER PRIMARY KEY,
    actors TEXT NOT NULL UNIQUE
) STRICT;

-- Nothing refers to it by a foreign key: removing a path would then read the whole ledger.
CREATE TABLE ledger_path (
    id INTEGER PRIMARY KEY,
    path TEXT NOT NULL UNIQUE
) STRICT;

CREATE TABLE ledger_span (
    id INTEGER PRIMARY KEY,
    min_time_us INTEGER NOT NULL,
    max_time_us INTEGER NOT NULL
) STRICT;

CREATE TABLE ledger_column (
    id INTEGER PRIMARY KEY,
    data BLOB NOT NULL
) STRICT;

CREATE TRIGGER ledger_no_update BEFORE UPDATE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;

CREATE TABLE evidence (
    id INTEGER PRIMARY KEY,
    seq INTEGER NOT NULL REFERENCES ledger(seq),
    watch BLOB NOT NULL,
    path BLOB NOT NULL,
    sha256 TEXT,
    found TEXT NOT NULL
) STRICT;
CREATE INDEX evidence_seq ON evidence (seq);

CREATE TABLE intent (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    body TEXT NOT NULL,
    who INTEGER NOT NULL
) STRICT;

CREATE TABLE intent_who (
    id INTEGER PRIMARY KEY,
    body TEXT NOT NULL
) STRICT;

CREATE TABLE open_change (
    watch BLOB NOT NULL,
    path BLOB NOT NULL,
    after TEXT,
    PRIMARY KEY (watch, path)
) STRICT, WITHOUT ROWID;

CREATE INDEX open_content ON open_change (watch, json_extract(after, '$.sha256'));

CREATE TABLE maintenance (
    id INTEGER PRIMARY KEY,
    reason TEXT NOT NULL,
    opened_by TEXT NOT NULL,
    watches TEXT NOT NULL,
    boot TEXT NOT NULL,
    start_boot_ns INTEGER NOT NULL,
    start_wall_ns INTEGER NOT NULL,
    length_ns INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    ended TEXT
) STRICT;

CREATE TABLE cursor (
    sink TEXT PRIMARY KEY,
    seq INTEGER NOT NULL,
    last_success TEXT,
    error TEXT,
    error_at TEXT,
    parked INTEGER NOT NULL DEFAULT 0,
    parked_reason TEXT,
    idle INTEGER NOT NULL DEFAULT 0
) STRICT, WITHOUT ROWID;
"#;

/// Versions that are not approved any more, what became of evidence, chattr(1) flags, and all copies in one view.
const V2: &str = r#"
ALTER TABLE baseline ADD COLUMN flags INTEGER NOT NULL DEFAULT 0;

CREATE TABLE former (
    id INTEGER PRIMARY KEY,
    watch BLOB NOT NULL,
    path BLOB NOT NULL,
    sha256 TEXT,
    size INTEGER NOT NULL,
    entry TEXT NOT NULL,
    until TEXT NOT NULL,
    seq INTEGER REFERENCES ledger(seq)
) STRICT;
CREATE INDEX former_path ON former (watch, path);
CREATE INDEX former_sha256 ON former (sha256);

ALTER TABLE evidence ADD COLUMN reason TEXT NOT NULL DEFAULT 'altered';
ALTER TABLE evidence ADD COLUMN fate TEXT;
ALTER TABLE evidence ADD COLUMN fate_time TEXT;
CREATE INDEX evidence_path ON evidence (watch, path);
CREATE INDEX evidence_sha256 ON evidence (sha256);

CREATE VIEW backup_paths AS
SELECT w.root AS watch, b.path AS path, (SELECT value FROM meta WHERE key = 'baseline_time') AS time,
       b.sha256 AS sha256, b.size AS size, 'approved' AS reason, NULL AS seq, NULL AS evidence
FROM baseline b JOIN watch w ON w.id = b.watch WHERE b.sha256 IS NOT NULL
UNION ALL
SELECT watch, path, until, sha256, size, 'formerly approved', seq, NULL FROM former WHERE sha256 IS NOT NULL
UNION ALL
SELECT e.watch, e.path, l.time, e.sha256, e.found ->> '$.entry.size', e.reason, e.seq, e.id
FROM evidence e JOIN ledger l ON l.seq = e.seq WHERE e.sha256 IS NOT NULL AND e.fate IS NULL;
"#;

/// Seals of the ledger's head, where the ledger was pruned, and what is left of that.
const V3: &str = r#"
CREATE TABLE seal (
    setup TEXT NOT NULL,
    epoch INTEGER NOT NULL,
    time_us INTEGER NOT NULL,
    reason TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    beside BLOB,
    mac BLOB NOT NULL,
    PRIMARY KEY (setup, epoch)
) STRICT, WITHOUT ROWID;

CREATE INDEX seal_time ON seal (time_us, epoch);

CREATE TABLE pruned (
    id INTEGER PRIMARY KEY,
    time TEXT NOT NULL,
    seq INTEGER NOT NULL,
    hash BLOB NOT NULL,
    kept BLOB NOT NULL,
    link BLOB NOT NULL
) STRICT;

CREATE TABLE pruned_kept (
    seq INTEGER PRIMARY KEY,
    hash BLOB NOT NULL
) STRICT;

CREATE TABLE summary (
    day TEXT NOT NULL,
    kind TEXT NOT NULL,
    severity TEXT NOT NULL,
    verdict TEXT NOT NULL,
    response TEXT NOT NULL,
    watch TEXT NOT NULL,
    user TEXT NOT NULL,
    records INTEGER NOT NULL,
    PRIMARY KEY (day, kind, severity, verdict, response, watch, user)
) STRICT, WITHOUT ROWID;

-- Deleting a record looks for rows that refer to it.
CREATE INDEX former_seq ON former (seq) WHERE seq IS NOT NULL;

DROP TRIGGER ledger_no_delete;
CREATE TRIGGER ledger_no_delete BEFORE DELETE ON ledger
    WHEN old.seq > coalesce((SELECT seq FROM pruned ORDER BY id DESC LIMIT 1), 0)
    BEGIN SELECT RAISE(ABORT, 'the ledger is append-only'); END;
"#;

/// Which lines changed, and since when there is a sink: one that never succeeded has no other time. Nothing here refers to the ledger by a foreign key: that would keep its records from being pruned.
const V4: &str = r#"
-- AUTOINCREMENT: a number is never given again, since the central database has it too.
CREATE TABLE comparison (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    path BLOB NOT NULL,
    before TEXT NOT NULL,
    after TEXT NOT NULL,
    outcome TEXT NOT NULL,
    old_encoding TEXT,
    new_encoding TEXT,
    UNIQUE (path, before, after)
) STRICT;

CREATE TABLE difference (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    comparison INTEGER NOT NULL REFERENCES comparison(id) ON DELETE CASCADE,
    operation TEXT NOT NULL CHECK (operation IN ('insert', 'update', 'delete')),
    old_line INTEGER NOT NULL,
    old_lines INTEGER NOT NULL,
    new_line INTEGER NOT NULL,
    new_lines INTEGER NOT NULL,
    old_text TEXT,
    new_text TEXT,
    omitted TEXT CHECK (omitted IN ('secret', 'long')),
    old_digest TEXT,
    new_digest TEXT,
    UNIQUE (comparison, old_line, new_line)
) STRICT;

CREATE TABLE event_comparison (
    seq INTEGER NOT NULL,
    since TEXT NOT NULL CHECK (since IN ('approved', 'previous')),
    comparison INTEGER NOT NULL REFERENCES comparison(id),
    PRIMARY KEY (seq, since)
) STRICT, WITHOUT ROWID;
CREATE INDEX event_comparison_by_comparison ON event_comparison (comparison);

CREATE VIEW differences AS
SELECT d.id AS id, c.path AS path, c.before AS before, c.after AS after, d.operation AS operation,
       d.old_line AS old_line, d.old_lines AS old_lines, d.new_line AS new_line, d.new_lines AS new_lines,
       d.old_text AS old_text, d.new_text AS new_text, d.omitted AS omitted,
       d.old_digest AS old_digest, d.new_digest AS new_digest, d.comparison AS comparison
FROM difference d JOIN comparison c ON c.id = d.comparison;

CREATE VIEW event_differences AS
SELECT e.seq AS seq, e.since AS since, d.id AS difference
FROM event_comparison e JOIN difference d ON d.comparison = e.comparison;

ALTER TABLE cursor ADD COLUMN created TEXT;
UPDATE cursor SET created = strftime('%Y-%m-%dT%H:%M:%fZ', 'now');
"#;

pub(super) fn version(db: &Connection) -> rusqlite::Result<i64> {
    db.pragma_query_value(None, "user_version", |row| row.get(0))
}

/// Brings the database up to [`VERSION`], each step whole or not at all.
pub(super) fn migrate(db: &mut Connection) -> rusqlite::Result<()> {
    for (from, sql) in (0i64..).zip(MIGRATIONS) {
        let step = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate)?;
        if version(&step)? == from {
            step.execute_batch(sql)?;
            step.pragma_update(None, "user_version", from + 1)?;
        }
        step.commit()?;
    }
    Ok(())
}
