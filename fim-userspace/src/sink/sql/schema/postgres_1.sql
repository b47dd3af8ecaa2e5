-- The tables of the central database, version 1. docs/central.md describes them.
-- Hash indexes on paths: a row of a B-tree holds 2704 bytes at most, a path more.

CREATE TABLE IF NOT EXISTS fim_schema (
    version bigint NOT NULL,
    applied timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (version)
);

CREATE TABLE hosts (
    host_id varchar(64) NOT NULL,
    name text NOT NULL,
    version text NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_seen timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (host_id)
);
CREATE INDEX hosts_last_seen ON hosts (last_seen);

CREATE TABLE ledgers (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    first_seen timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_seen timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_seq bigint,
    last_hash bytea,
    PRIMARY KEY (host_id, generation)
);

CREATE TABLE events (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    seq bigint NOT NULL,
    id varchar(32) NOT NULL,
    time timestamptz,
    host text NOT NULL,
    kind varchar(32) NOT NULL,
    path text,
    path_raw bytea,
    old_path text,
    old_path_raw bytea,
    watch text,
    severity varchar(32) NOT NULL,
    verdict varchar(32),
    authorised_by text,
    response varchar(32) NOT NULL,
    planned varchar(32),
    method text,
    error text,
    message text,
    tier varchar(32) NOT NULL,
    muted boolean NOT NULL,
    actor_pid bigint,
    actor_ppid bigint,
    actor_uid bigint,
    actor_gid bigint,
    actor_euid bigint,
    actor_auid bigint,
    actor_session bigint,
    actor_tty text,
    actor_comm text,
    actor_exe text,
    actor_container text,
    actor_confidence varchar(32),
    before_type varchar(32),
    before_sha256 varchar(64),
    before_size bigint,
    before_mode varchar(32),
    before_uid bigint,
    before_gid bigint,
    before_mtime timestamptz,
    after_type varchar(32),
    after_sha256 varchar(64),
    after_size bigint,
    after_mode varchar(32),
    after_uid bigint,
    after_gid bigint,
    after_mtime timestamptz,
    body text NOT NULL,
    prev bytea NOT NULL,
    hash bytea NOT NULL,
    received timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (host_id, generation, seq)
);
CREATE INDEX events_time ON events (time);
CREATE INDEX events_path ON events USING hash (path);
CREATE INDEX events_path_raw ON events USING hash (path_raw);
CREATE INDEX events_after_sha256 ON events (after_sha256);

CREATE TABLE backup_paths (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL,
    time timestamptz,
    watch text NOT NULL,
    path text NOT NULL,
    path_raw bytea NOT NULL,
    sha256 varchar(64) NOT NULL,
    size bigint,
    reason text NOT NULL,
    PRIMARY KEY (host_id, generation, seq, number)
);
CREATE INDEX backup_paths_path ON backup_paths USING hash (path);
CREATE INDEX backup_paths_path_raw ON backup_paths USING hash (path_raw);
CREATE INDEX backup_paths_sha256 ON backup_paths (sha256);

CREATE TABLE comparisons (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    comparison bigint NOT NULL,
    path text NOT NULL,
    path_raw bytea NOT NULL,
    before_sha256 varchar(64),
    after_sha256 varchar(64),
    outcome varchar(32) NOT NULL,
    old_encoding varchar(32),
    new_encoding varchar(32),
    PRIMARY KEY (host_id, generation, comparison)
);
CREATE INDEX comparisons_path ON comparisons USING hash (path);

CREATE TABLE differences (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    comparison bigint NOT NULL,
    old_line bigint NOT NULL,
    old_lines bigint NOT NULL,
    new_line bigint NOT NULL,
    new_lines bigint NOT NULL,
    operation varchar(32) NOT NULL,
    old_text text,
    new_text text,
    omitted varchar(32),
    old_digest varchar(64),
    new_digest varchar(64),
    PRIMARY KEY (host_id, generation, comparison, old_line, new_line)
);

CREATE TABLE event_comparisons (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    seq bigint NOT NULL,
    since varchar(32) NOT NULL,
    comparison bigint NOT NULL,
    PRIMARY KEY (host_id, generation, seq, since)
);

CREATE TABLE conflicts (
    host_id varchar(64) NOT NULL,
    generation varchar(32) NOT NULL,
    seq bigint NOT NULL,
    reason varchar(32) NOT NULL,
    hash bytea NOT NULL,
    expected bytea,
    prev bytea,
    body text,
    found timestamptz NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (host_id, generation, seq, reason, hash)
);

INSERT INTO fim_schema (version) VALUES (1);
