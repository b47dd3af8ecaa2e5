//! Which lines changed, and where the copies lie: the tables of a real daemon, read as an administrator does.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::hands::world::{World, has};
use crate::fim::{Fim, Policy, Setting};
use crate::report::{Outcome, Report};
use crate::{state, wait};

const APPROVED: &str = "one\ntwo\nthree\nfour\n";
const INSERTED: &str = "one\nnew\nnewer\ntwo\nthree\nfour\n";
const UPDATED: &str = "one\ntwo\n3\nfour\n";
const DELETED: &str = "one\nfour\n";

pub fn run(setting: &Setting, report: &mut Report) {
    for policy in [Policy::Restore, Policy::Alert] {
        let name = policy.name();
        report.case(&format!("lines/rows/{name}"), || rows(setting, policy));
        report.case(&format!("lines/copies/{name}"), || copies(setting, policy));
    }
    report.case("lines/muted", || muted(setting));
    report.case("lines/killed", || killed(setting));
    report.case("lines/secret", || secret(setting));
    report.case("lines/show-and-blame", || show_and_blame(setting));
}

fn io(e: std::io::Error) -> String {
    e.to_string()
}

/// Puts a file with this content in the place of the one at `path`, in one step.
fn put(world: &World<'_>, path: &Path, content: impl AsRef<[u8]>) -> Result<(), String> {
    let fresh = world.fim.outside.join("fresh");
    fs::write(&fresh, content).map_err(io)?;
    fs::rename(&fresh, path).map_err(io)
}

/// Puts it there, and waits until it is recorded; the number of the record.
fn change(world: &World<'_>, path: &Path, content: &str) -> Result<u64, String> {
    let head = world.fim.log_head()?;
    put(world, path, content)?;
    let digest = sha256(content);
    let seq = wait::until(world.setting.patience, || {
        let records = world.fim.log_after(head)?;
        let about = |r: &&crate::record::Record| {
            r.is_about(path) && r.after.as_ref().and_then(|s| s.sha256.as_ref()) == Some(&digest)
        };
        records.iter().find(about).map(|r| r.seq).ok_or_else(|| {
            let all: Vec<String> = records.iter().map(crate::record::Record::brief).collect();
            format!("the change is not recorded: {}", all.join(" "))
        })
    })?;
    compared(world, seq)?;
    Ok(seq)
}

/// Waits until the lines of this record are compared.
fn compared(world: &World<'_>, seq: u64) -> Result<(), String> {
    wait::until(world.setting.patience, || {
        let at: i64 = number(world, "SELECT seq FROM cursor WHERE sink = 'differences'")?;
        if at >= seq as i64 { Ok(()) } else { Err(format!("lines are compared up to {at}, not {seq}")) }
    })
}

fn sha256(content: impl AsRef<[u8]>) -> String {
    Sha256::digest(content).iter().map(|b| format!("{b:02x}")).collect()
}

fn number(world: &World<'_>, sql: &str) -> Result<i64, String> {
    state::open(&world.fim.state)?.query_row(sql, [], |row| row.get(0)).map_err(|e| format!("{sql}: {e}"))
}

/// `operation old_line,old_lines new_line,new_lines "old" "new"` of each row about `path`.
fn told(world: &World<'_>, path: &Path) -> Result<Vec<String>, String> {
    let db = state::open(&world.fim.state)?;
    let sql = "SELECT format('%s %d,%d %d,%d', operation, old_line, old_lines, new_line, new_lines),
                      coalesce(old_text, '-'), coalesce(new_text, '-') FROM differences WHERE path = ?1 ORDER BY id";
    let work = || {
        let mut select = db.prepare(sql)?;
        let row = |row: &rusqlite::Row<'_>| {
            let (what, old, new): (String, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(format!("{what} {old:?} {new:?}"))
        };
        select.query_map([path.as_os_str().as_bytes()], row)?.collect::<Result<Vec<_>, _>>()
    };
    work().map_err(|e: rusqlite::Error| e.to_string())
}

fn equal<T: PartialEq + std::fmt::Debug>(what: &str, is: T, expected: T) -> Result<(), String> {
    if is == expected { Ok(()) } else { Err(format!("{what}: {is:?}, not {expected:?}")) }
}

/// Waits until the file holds what is approved again, in restore mode; puts it there in alert mode.
fn back(world: &World<'_>, path: &Path, policy: Policy) -> Result<(), String> {
    if policy == Policy::Alert {
        // The record is awaited, so that the next change follows the approved version.
        let head = world.fim.log_head()?;
        fs::copy(world.fim.outside.join("approved"), world.fim.outside.join("fresh")).map_err(io)?;
        let times = fs::metadata(world.fim.outside.join("approved")).map_err(io)?.modified().map_err(io)?;
        let fresh = fs::File::options().write(true).open(world.fim.outside.join("fresh")).map_err(io)?;
        fresh.set_modified(times).map_err(io)?;
        fs::rename(world.fim.outside.join("fresh"), path).map_err(io)?;
        return wait::until(world.setting.patience, || {
            let records = world.fim.log_after(head)?;
            let equal = |r: &&crate::record::Record| {
                r.is_about(path) && r.message.as_deref().is_some_and(|m| m.contains("equals its baseline"))
            };
            match records.iter().find(equal) {
                Some(record) => compared(world, record.seq),
                None => Err("that it is as approved again is not recorded".into()),
            }
        });
    }
    wait::until(world.setting.patience, || match fs::read(path) {
        Ok(content) if content == APPROVED.as_bytes() => Ok(()),
        other => Err(format!("not restored: {other:?}")),
    })
}

/// Insert, update and delete give exactly their rows; the same edit again gives none, and is referred to.
fn rows(setting: &Setting, policy: Policy) -> Outcome {
    let world = World::new(setting, &format!("lines-{}", policy.name()), policy, |dir| {
        fs::write(dir.join("text"), APPROVED)?;
        let outside = dir.parent().map(|home| home.join("outside")).unwrap_or_default();
        let approved = outside.join("approved");
        fs::write(&approved, APPROVED)?;
        let times = fs::metadata(dir.join("text"))?.modified()?;
        fs::File::options().write(true).open(approved)?.set_modified(times)
    })?;
    let path = world.path("text");
    let insert = "insert 1,0 2,2 \"-\" \"new\\nnewer\\n\"";
    let update = "update 3,1 3,1 \"three\\n\" \"3\\n\"";
    let delete = "delete 2,2 1,0 \"two\\nthree\\n\" \"-\"";
    let mut seqs = Vec::new();
    for content in [INSERTED, UPDATED, DELETED, INSERTED] {
        seqs.push(change(&world, &path, content)?);
        back(&world, &path, policy)?;
    }
    let mut expected: Vec<String> = [insert, update, delete].map(str::to_owned).into();
    if policy == Policy::Alert {
        // Each way back is a change too.
        let ways = [
            "delete 2,2 1,0 \"new\\nnewer\\n\" \"-\"",
            "update 3,1 3,1 \"3\\n\" \"three\\n\"",
            "insert 1,0 2,2 \"-\" \"two\\nthree\\n\"",
        ];
        expected = expected.into_iter().zip(ways).flat_map(|(to, from)| [to, from.to_owned()]).collect();
    }
    equal("rows", told(&world, &path)?, expected)?;
    let links = |seq: u64| {
        number(
            &world,
            &format!("SELECT count(*) FROM event_differences WHERE seq = {seq} AND since = 'approved'"),
        )
    };
    let of = |seq: u64| {
        number(
            &world,
            &format!("SELECT difference FROM event_differences WHERE seq = {seq} AND since = 'approved'"),
        )
    };
    equal("rows of each event", seqs.iter().map(|s| links(*s)).collect::<Result<Vec<_>, _>>()?, vec![1; 4])?;
    equal("what the repeated edit refers to", of(seqs[3])?, of(seqs[0])?)?;
    // Two versions that follow each other, neither of them approved.
    let before = told(&world, &path)?.len();
    if policy == Policy::Alert {
        change(&world, &path, UPDATED)?;
        change(&world, &path, &UPDATED.replace("one", "1"))?;
        let all = told(&world, &path)?;
        let new: Vec<&str> = all[before..].iter().map(String::as_str).collect();
        let expected = ["update 1,1 1,1 \"one\\n\" \"1\\n\"", update, "update 1,1 1,1 \"one\\n\" \"1\\n\""];
        equal("rows of successive versions", new, expected.to_vec())?;
    }
    state::sound(&world.fim.state)?;
    world.fim.remove();
    Ok(String::new())
}

/// The copy of every altered and every deleted file is found.
fn copies(setting: &Setting, policy: Policy) -> Outcome {
    const FILES: usize = 30;
    let name = format!("copies-{}", policy.name());
    let world = World::new(setting, &name, policy, |dir| {
        (0..FILES).try_for_each(|n| fs::write(dir.join(n.to_string()), format!("approved {n}\n")))
    })?;
    let altered = |n: usize| format!("altered {n}\n").repeat(n * 1000 + 1);
    for n in 0..FILES {
        let path = world.path(n.to_string());
        if n % 3 == 0 { fs::remove_file(&path).map_err(io)? } else { put(&world, &path, altered(n))? }
    }
    let find = |n: usize, digest: &str, reasons: &str| {
        let sql = format!(
            "SELECT count(*) FROM backup_paths WHERE path = CAST('{n}' AS BLOB) AND sha256 = '{digest}' AND reason IN ({reasons})"
        );
        wait::until(setting.patience, || match number(&world, &sql)? {
            0 => Err(format!("no copy {digest} of {n}")),
            _ => Ok(()),
        })
    };
    let reason = if policy == Policy::Alert { "'recorded'" } else { "'altered'" };
    for n in 0..FILES {
        find(n, &sha256(format!("approved {n}\n")), "'approved'")?;
        if n % 3 != 0 {
            find(n, &sha256(altered(n)), reason)?;
        }
    }
    wait::until(setting.patience, || world.fim.at_rest())?;
    let sound = state::sound(&world.fim.state)?;
    // What is only told of is not told again, and not kept again, by the next scan.
    let (head, held) = (world.fim.log_head()?, number(&world, "SELECT count(*) FROM evidence")?);
    let World { fim, daemon, .. } = world;
    daemon.ok_or("no daemon")?.stop(setting.patience)?;
    let daemon = fim.start()?;
    wait::until(setting.patience, || fim.at_rest())?;
    let again: Vec<String> =
        fim.log_after(head)?.iter().filter(|r| r.is_change()).map(crate::record::Record::brief).collect();
    equal("told again", again, Vec::new())?;
    let world = World { setting, fim, daemon: Some(daemon) };
    equal("evidence", number(&world, "SELECT count(*) FROM evidence")?, held)?;
    world.fim.remove();
    Ok(format!("({} copies)", sound.evidence))
}

/// Of a file that changes again and again not every version is kept, and the last one is.
fn muted(setting: &Setting) -> Outcome {
    const CHANGES: usize = 6;
    let fim = Fim::new(setting, &setting.works[0], "lines-muted", Policy::Alert)?;
    let config = fs::read_to_string(&fim.config).map_err(io)?;
    fim.write_config(&(config + "repeat_limit = 2\nrepeat_window = \"4s\"\n")).map_err(io)?;
    fs::write(fim.watched.join("text"), APPROVED).map_err(io)?;
    fim.init()?;
    let daemon = Some(fim.start()?);
    let world = World { setting, fim, daemon };
    let path = world.path("text");
    let version = |n: usize| format!("version {n}\n");
    for n in 1..=CHANGES {
        change(&world, &path, &version(n))?;
    }
    let kept = |n: usize| {
        let digest = sha256(version(n));
        number(
            &world,
            &format!("SELECT count(*) FROM backup_paths WHERE sha256 = '{digest}' AND reason = 'recorded'"),
        )
    };
    wait::until(setting.patience, || match kept(CHANGES)? {
        0 => Err("the last version is not kept".into()),
        _ => Ok(()),
    })?;
    let muted = number(&world, "SELECT count(*) FROM ledger WHERE body ->> '$.muted'")?;
    let copies = (1..=CHANGES).map(kept).sum::<Result<i64, _>>()?;
    if muted > 1 && copies >= CHANGES as i64 {
        return Err(format!("{muted} records were muted, and all {copies} versions were kept"));
    }
    world.fim.remove();
    Ok(format!("({muted} muted, {copies} of {CHANGES} versions kept)"))
}

/// Whenever the daemon dies, every change is compared once in the end.
fn killed(setting: &Setting) -> Outcome {
    const ROUNDS: usize = 6;
    let World { fim, daemon, .. } =
        World::new(setting, "lines-killed", Policy::Restore, |dir| fs::write(dir.join("text"), APPROVED))?;
    let mut world = World { setting, fim, daemon };
    let path = world.path("text");
    for n in 0..ROUNDS {
        let head = world.fim.log_head()?;
        // Many runs of lines, so that there is something to die in.
        let content: String = (0..3000).map(|line| format!("{n} {line}\nfour\n")).collect();
        put(&world, &path, content)?;
        wait::until(setting.patience, || {
            match world.fim.log_after(head)?.iter().any(|r| r.is_about(&path)) {
                true => Ok(()),
                false => Err("not recorded".into()),
            }
        })?;
        world.daemon.take().ok_or("no daemon")?.kill()?;
        world.daemon = Some(world.fim.start()?);
        back(&world, &path, Policy::Restore)?;
    }
    let head = world.fim.log_head()?;
    compared(&world, head)?;
    let unfinished = number(&world, "SELECT count(*) FROM comparison WHERE outcome <> 'lines'")?;
    equal("comparisons without lines", unfinished, 0)?;
    let uneven = "SELECT count(*) FROM comparison c WHERE c.after <> '' AND c.before <> '' AND
                  (SELECT sum(new_lines) - sum(old_lines) FROM difference d WHERE d.comparison = c.id) <> 5996";
    equal("comparisons with other lines", number(&world, uneven)?, 0)?;
    let missing =
        "SELECT count(*) FROM ledger l WHERE kind = 'modified' AND body ->> '$.after.sha256' IS NOT NULL
                   AND body ->> '$.after.sha256' <> body ->> '$.before.sha256'
                   AND NOT EXISTS (SELECT 1 FROM event_comparison e WHERE e.seq = l.seq)";
    equal("changes without lines", number(&world, missing)?, 0)?;
    let twice = "SELECT count(*) FROM (SELECT 1 FROM difference GROUP BY comparison, old_line, new_line HAVING count(*) > 1)";
    equal("differences that are there twice", number(&world, twice)?, 0)?;
    world.fim.remove();
    Ok(format!("({ROUNDS} kills)"))
}

/// What a secret file says is nowhere but in the vault, and shown only when it is asked for.
fn secret(setting: &Setting) -> Outcome {
    const WORD: &str = "hunter2-is-the-word";
    let world = World::new(setting, "lines-secret", Policy::Alert, |dir| {
        fs::write(dir.join("server.key"), "begin\nold\nend\n")
    })?;
    let path = world.path("server.key");
    let seq = change(&world, &path, &format!("begin\n{WORD}\nend\n"))?.to_string();
    equal("rows", told(&world, &path)?, vec!["update 2,1 2,1 \"-\" \"-\"".to_owned()])?;
    let keyed = number(
        &world,
        "SELECT count(*) FROM differences WHERE omitted = 'secret' AND length(new_digest) = 64",
    )?;
    equal("keyed digests", keyed, 1)?;
    let to = world.fim.home.join("exported").to_string_lossy().into_owned();
    let place = path.to_string_lossy().into_owned();
    let digest = sha256(format!("begin\n{WORD}\nend\n"));
    let hidden: [&[&str]; 6] = [
        &["diff", &place],
        &["diff", "--json", &place],
        &["show", &seq],
        &["show", "--json", &seq],
        &["blame", &place],
        &["blame", "--json", &place],
    ];
    for args in hidden {
        let answer = world.words(args)?;
        let code = i32::from(args[0] == "diff");
        let said = answer.expect(code)?;
        if said.contains(WORD) || said.contains("old\n") || said.is_empty() {
            return Err(format!("fim {} says: {said}", args.join(" ")));
        }
        let shown = world.words(&[args, &["--secret"]].concat())?.expect(code)?;
        has(&shown, &[WORD])?;
    }
    let accepted = world.about(&["accept", "--yes"], &path)?.expect(0)?;
    if accepted.contains(WORD) {
        return Err(format!("fim accept says: {accepted}"));
    }
    world.words(&["vault", "export", &digest, "--to", &to])?.refused(&["secret", "--secret"])?;
    world.words(&["vault", "export", &digest, "--to", &to, "--secret"])?.expect(0)?;
    equal("the export", fs::read_to_string(&to).map_err(io)?, format!("begin\n{WORD}\nend\n"))?;
    for name in ["fim.db", "fim.db-wal"] {
        let bytes = fs::read(world.fim.state.join(name)).map_err(io)?;
        if bytes.windows(WORD.len()).any(|at| at == WORD.as_bytes()) {
            return Err(format!("the secret stands in {name}"));
        }
    }
    world.settled()?;
    Ok(String::new())
}

/// One event in full, and each line with the event that made it; before and after it is accepted.
fn show_and_blame(setting: &Setting) -> Outcome {
    let world =
        World::new(setting, "lines-blame", Policy::Alert, |dir| fs::write(dir.join("text"), APPROVED))?;
    let path = world.path("text");
    let first = change(&world, &path, "one\ntwo\nthree\nfour\nfive \x1b[31m\n")?;
    let second = change(&world, &path, "zero\none\n2\nthree\nfour\nfive \x1b[31m\n")?;
    let said = world.words(&["show", &second.to_string()])?.expect(0)?;
    has(
        &said,
        &[
            "modified",
            "@@ -1,4 +1,6 @@",
            "@@ -1,5 +1,6 @@",
            "+zero",
            "-two",
            "+2",
            "+five \\x1b[31m",
            "(approved)",
            "(previous)",
            "recorded",
        ],
    )?;
    let id = world.fim.log_after(0)?.into_iter().find(|r| r.seq == second).ok_or("no record")?.id;
    let json = world.words(&["show", "--json", &id[..12]])?.expect(0)?;
    let value: Value = serde_json::from_str(&json).map_err(|e| format!("{e}: {json}"))?;
    equal("comparisons", value["compared"].as_array().map(Vec::len), Some(2))?;
    equal("the row", value["compared"][1]["differences"][1]["new"]["text"].as_str(), Some("2\n"))?;
    world.words(&["show", "999999"])?.refused(&["no event 999999"])?;
    let origins = |args: &[&str]| -> Result<Vec<Option<u64>>, String> {
        let text = world.about(&[&["blame", "--json"], args].concat(), &path)?.expect(0)?;
        let lines: Result<Vec<Value>, _> = text.lines().map(serde_json::from_str).collect();
        Ok(lines.map_err(|e| e.to_string())?.iter().map(|line| line["from"]["seq"].as_u64()).collect())
    };
    let expected = vec![Some(second), None, Some(second), None, None, Some(first)];
    equal("who made each line", origins(&[])?, expected.clone())?;
    equal("of the approved version", origins(&["--accepted"])?, vec![None; 4])?;
    let said = world.about(&["blame"], &path)?.expect(0)?;
    has(&said, &["baseline", "| three", "| five \\x1b[31m", &format!("{first} ")])?;
    world.about(&["accept", "--yes"], &path)?.expect(0)?;
    equal("once it is accepted", origins(&["--accepted"])?, expected)?;
    world.about(&["blame"], &world.path("nothing"))?.refused(&["not there"])?;
    world.settled()?;
    Ok(String::new())
}
