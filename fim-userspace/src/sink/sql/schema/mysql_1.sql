-- The tables of the central database, version 1. docs/central.md describes them.
-- CREATE … IF NOT EXISTS: the server commits each statement by itself, so a half of this may be there already.

CREATE TABLE IF NOT EXISTS fim_schema (
    version bigint NOT NULL,
    applied datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (version)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS hosts (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    name mediumtext NOT NULL,
    version mediumtext NOT NULL,
    first_seen datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_seen datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (host_id),
    KEY hosts_last_seen (last_seen)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS ledgers (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    first_seen datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_seen datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    last_seq bigint,
    last_hash binary(32),
    PRIMARY KEY (host_id, generation)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS events (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq bigint NOT NULL,
    id varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    time datetime(6),
    host mediumtext NOT NULL,
    kind varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    path mediumtext,
    path_raw mediumblob,
    old_path mediumtext,
    old_path_raw mediumblob,
    watch mediumtext,
    severity varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    verdict varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    authorised_by mediumtext,
    response varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    planned varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    method mediumtext,
    error mediumtext,
    message mediumtext,
    tier varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    muted boolean NOT NULL,
    actor_pid bigint,
    actor_ppid bigint,
    actor_uid bigint,
    actor_gid bigint,
    actor_euid bigint,
    actor_auid bigint,
    actor_session bigint,
    actor_tty mediumtext,
    actor_comm mediumtext,
    actor_exe mediumtext,
    actor_container mediumtext,
    actor_confidence varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    before_type varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    before_sha256 varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
    before_size bigint,
    before_mode varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    before_uid bigint,
    before_gid bigint,
    before_mtime datetime(6),
    after_type varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    after_sha256 varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
    after_size bigint,
    after_mode varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    after_uid bigint,
    after_gid bigint,
    after_mtime datetime(6),
    body longtext NOT NULL,
    prev binary(32) NOT NULL,
    hash binary(32) NOT NULL,
    received datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (host_id, generation, seq),
    KEY events_time (time),
    KEY events_path (path(255)),
    KEY events_path_raw (path_raw(255)),
    KEY events_after_sha256 (after_sha256)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS backup_paths (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq bigint NOT NULL,
    number bigint NOT NULL,
    time datetime(6),
    watch mediumtext NOT NULL,
    path mediumtext NOT NULL,
    path_raw mediumblob NOT NULL,
    sha256 varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    size bigint,
    reason mediumtext NOT NULL,
    PRIMARY KEY (host_id, generation, seq, number),
    KEY backup_paths_path (path(255)),
    KEY backup_paths_path_raw (path_raw(255)),
    KEY backup_paths_sha256 (sha256)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS comparisons (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    comparison bigint NOT NULL,
    path mediumtext NOT NULL,
    path_raw blob NOT NULL,
    before_sha256 varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
    after_sha256 varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
    outcome varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    old_encoding varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    new_encoding varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    PRIMARY KEY (host_id, generation, comparison),
    KEY comparisons_path (path(255))
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS differences (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    comparison bigint NOT NULL,
    old_line bigint NOT NULL,
    old_lines bigint NOT NULL,
    new_line bigint NOT NULL,
    new_lines bigint NOT NULL,
    operation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    old_text mediumtext,
    new_text mediumtext,
    omitted varchar(32) CHARACTER SET ascii COLLATE ascii_bin,
    old_digest varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
    new_digest varchar(64) CHARACTER SET ascii COLLATE ascii_bin,
    PRIMARY KEY (host_id, generation, comparison, old_line, new_line)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS event_comparisons (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq bigint NOT NULL,
    since varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    comparison bigint NOT NULL,
    PRIMARY KEY (host_id, generation, seq, since)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

CREATE TABLE IF NOT EXISTS conflicts (
    host_id varchar(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    generation varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    seq bigint NOT NULL,
    reason varchar(32) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    hash binary(32) NOT NULL,
    expected binary(32),
    prev binary(32),
    body longtext,
    found datetime(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    PRIMARY KEY (host_id, generation, seq, reason, hash)
) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin;

INSERT INTO fim_schema (version) VALUES (1);
