//! Reads the ledger's rows and checks each by itself, on all processors.

use std::collections::{BTreeMap, HashMap};
use std::thread;

use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use rusqlite::{Connection, Row as SqlRow};

use crate::store::columns::{Facets, all_actors};
use crate::store::ledger::{Hash, link};
use crate::store::span::{Stored, id_of};
use crate::store::{retain, unsigned};

/// Rows that are handed to a thread at once.
const CHUNK: usize = 1024;

/// A row as it is stored.
struct Row {
    seq: i64,
    time_us: i64,
    class: i64,
    actors: Option<i64>,
    path_id: Option<i64>,
    old_path_id: Option<i64>,
    /// What the numbers stand for.
    path: Option<String>,
    old_path: Option<String>,
    prev: Hash,
    hash: Hash,
    body: String,
}

/// What can be said of a row without its neighbours.
pub(super) struct Checked {
    pub seq: i64,
    pub prev: Hash,
    pub hash: Hash,
    pub stored: Stored,
    /// The hash is that of the content.
    pub linked: bool,
    /// The columns say what the content says.
    pub columns: bool,
    /// The checkpoint that this record tells of.
    pub checkpoint: Option<String>,
}

/// The numbers that stand for classes and actors.
struct Names {
    classes: HashMap<i64, [String; 5]>,
    actors: HashMap<i64, String>,
}

impl Names {
    fn read(db: &Connection) -> rusqlite::Result<Self> {
        let class = |row: &SqlRow<'_>| {
            Ok((row.get(0)?, [row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?]))
        };
        let classes = db
            .prepare("SELECT id, kind, severity, verdict, response, watch FROM ledger_class")?
            .query_map([], class)?
            .collect::<Result<_, _>>()?;
        Ok(Self { classes, actors: all_actors(db)? })
    }
}

/// Calls `each` for every row in the order of the ledger; `None` stands for a row that cannot be read.
pub(super) fn each(db: &Connection, mut each: impl FnMut(Option<Checked>)) -> rusqlite::Result<()> {
    let names = Names::read(db)?;
    let workers = thread::available_parallelism().map_or(1, usize::from);
    let (work, jobs) = bounded(2 * workers);
    let (done, results) = unbounded();
    thread::scope(|scope| {
        for _ in 0..workers {
            let (jobs, done, names) = (jobs.clone(), done.clone(), &names);
            scope.spawn(move || check_all(&jobs, &done, names));
        }
        drop(done);
        let mut order = InOrder { next: 0, waiting: BTreeMap::new() };
        let read = read_all(db, |index, rows| {
            // Fails only if every worker is gone, which a panic alone could do; then the scope says so.
            let _ = work.send((index, rows));
            results.try_iter().for_each(|result| order.take(result, &mut each));
        });
        drop(work);
        results.iter().for_each(|result| order.take(result, &mut each));
        read
    })
}

type Job = (u64, Vec<Option<Row>>);
type Done = (u64, Vec<Option<Checked>>);

struct InOrder {
    next: u64,
    waiting: BTreeMap<u64, Vec<Option<Checked>>>,
}

impl InOrder {
    fn take(&mut self, (index, rows): Done, each: &mut impl FnMut(Option<Checked>)) {
        self.waiting.insert(index, rows);
        while let Some(rows) = self.waiting.remove(&self.next) {
            rows.into_iter().for_each(&mut *each);
            self.next += 1;
        }
    }
}

fn read_all(db: &Connection, mut hand_out: impl FnMut(u64, Vec<Option<Row>>)) -> rusqlite::Result<()> {
    let sql = "SELECT l.seq, l.time_us, l.class, l.actors, l.path_id, l.old_path_id, p.path, o.path,
                      l.prev, l.hash, l.body
               FROM ledger l LEFT JOIN ledger_path p ON p.id = l.path_id
               LEFT JOIN ledger_path o ON o.id = l.old_path_id ORDER BY l.seq";
    let mut select = db.prepare_cached(sql)?;
    let mut rows = select.query([])?;
    let (mut index, mut chunk) = (0, Vec::with_capacity(CHUNK));
    while let Some(row) = rows.next()? {
        chunk.push(read(row).ok());
        if chunk.len() == CHUNK {
            hand_out(index, std::mem::replace(&mut chunk, Vec::with_capacity(CHUNK)));
            index += 1;
        }
    }
    hand_out(index, chunk);
    Ok(())
}

fn read(row: &SqlRow<'_>) -> rusqlite::Result<Row> {
    Ok(Row {
        seq: row.get(0)?,
        time_us: row.get(1)?,
        class: row.get(2)?,
        actors: row.get(3)?,
        path_id: row.get(4)?,
        old_path_id: row.get(5)?,
        path: row.get(6)?,
        old_path: row.get(7)?,
        prev: row.get(8)?,
        hash: row.get(9)?,
        body: row.get(10)?,
    })
}

fn check_all(jobs: &Receiver<Job>, done: &Sender<Done>, names: &Names) {
    for (index, rows) in jobs {
        let checked = rows.into_iter().map(|row| Some(check(&row?, names))).collect();
        if done.send((index, checked)).is_err() {
            return;
        }
    }
}

fn check(row: &Row, names: &Names) -> Checked {
    let linked = row.hash == link(&row.prev, unsigned(row.seq), &row.body);
    let facets = serde_json::from_str::<Facets<'_>>(&row.body).ok();
    let columns = facets.as_ref().is_some_and(|f| agree(row, f, names));
    let checkpoint = facets.and_then(|f| {
        let purged = f.kind == "purged";
        f.message.filter(|_| purged).and_then(|m| retain::told_checkpoint(&m).map(str::to_owned))
    });
    Checked {
        seq: row.seq,
        prev: row.prev,
        hash: row.hash,
        stored: Stored {
            time_us: row.time_us,
            id: id_of(&row.hash),
            class: unsigned(row.class),
            actors: unsigned(row.actors.unwrap_or_default()),
            path: unsigned(row.path_id.unwrap_or_default()),
            old_path: unsigned(row.old_path_id.unwrap_or_default()),
        },
        linked,
        columns,
        checkpoint,
    }
}

fn agree(row: &Row, facets: &Facets<'_>, names: &Names) -> bool {
    row.time_us == facets.time_us()
        && agrees(row.path_id, row.path.as_deref(), facets.path.as_deref())
        && agrees(row.old_path_id, row.old_path.as_deref(), facets.old_path.as_deref())
        && names
            .classes
            .get(&row.class)
            .is_some_and(|class| class.each_ref().map(String::as_str) == facets.class())
        && match row.actors {
            None => facets.who().is_none(),
            Some(id) => names.actors.get(&id).is_some_and(|who| facets.who().as_ref() == Some(who)),
        }
}

/// Whether a number and what it stands for say the same as the record.
fn agrees(id: Option<i64>, named: Option<&str>, path: Option<&str>) -> bool {
    named == path && id.is_none() == path.is_none()
}
