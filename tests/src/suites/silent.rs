//! Changes that make no event and move no time: only reading again finds them.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, UNIX_EPOCH};

use super::table::place::{approved, approved_file};
use crate::fim::{Fim, Policy, Setting};
use crate::report::{Outcome, Report};
use crate::sys::Mapped;
use crate::wait;

pub fn run(setting: &Setting, report: &mut Report) {
    report.case("silent/store-in-a-mapped-page", || mapped(setting));
}

/// Older than any clock tick of a file system that fim takes into account.
const SETTLED: Duration = Duration::from_millis(200);

/// A store into a page of tmpfs that has long been mapped: the kernel neither tells of it nor changes a time.
fn mapped(setting: &Setting) -> Outcome {
    let work = tmpfs(setting)?;
    let fim = Fim::new(setting, &work, "silent", Policy::Restore)?;
    let config = std::fs::read_to_string(&fim.config).map_err(|e| e.to_string())?;
    let config = config.replacen("[sensor]\n", "[sensor]\nscan_period = \"1s\"\n", 1);
    fim.write_config(&config).map_err(|e| e.to_string())?;
    let file = fim.watched.join("file");
    let content = approved("file");
    approved_file(&file, &content).map_err(|e| e.to_string())?;
    let mut mapping = Mapped::open(&file).map_err(|e| e.to_string())?;
    mapping.store(&content).map_err(|e| e.to_string())?;
    // A baseline taken within a tick of the last change is not trusted anyway.
    wait::until(setting.patience, || {
        let meta = std::fs::metadata(&file).map_err(|e| e.to_string())?;
        let changed = UNIX_EPOCH + Duration::new(meta.ctime() as u64, meta.ctime_nsec() as u32);
        if changed.elapsed().is_ok_and(|age| age > SETTLED) {
            Ok(())
        } else {
            Err("the file is too young".into())
        }
    })?;
    fim.init()?;
    let daemon = fim.start()?;
    let before = std::fs::metadata(&file).and_then(|m| m.modified()).map_err(|e| e.to_string())?;
    mapping.store(b"evil").map_err(|e| e.to_string())?;
    let after = std::fs::metadata(&file).and_then(|m| m.modified()).map_err(|e| e.to_string())?;
    if before != after && std::fs::read(&file).is_ok_and(|now| now.starts_with(b"evil")) {
        return Err("the store moved a time, so this is no test of the rolling scan".into());
    }
    wait::until(setting.patience, || {
        let records = fim.log_after(0)?;
        match records.iter().find(|r| r.is_about(&file) && r.kind == "modified") {
            Some(record) if record.response == "restored" => Ok(()),
            Some(record) => Err(format!("it was found and not undone: {}", record.brief())),
            None => Err("the store was not found".into()),
        }
    })?;
    if std::fs::read(&file).map_err(|e| e.to_string())? != content {
        return Err("the file does not have its approved content".into());
    }
    daemon.stop(setting.patience)?;
    drop(mapping);
    fim.remove();
    Ok("(found by reading again)".into())
}

fn tmpfs(setting: &Setting) -> Result<PathBuf, String> {
    const TMPFS_MAGIC: i64 = 0x0102_1994;
    let is_tmpfs = |path: &Path| rustix::fs::statfs(path).is_ok_and(|fs| fs.f_type == TMPFS_MAGIC);
    let shm = PathBuf::from("/dev/shm");
    let found = setting.works.iter().chain([&shm]).find(|path| is_tmpfs(path)).cloned();
    found.ok_or_else(|| "there is no tmpfs: neither a work directory nor /dev/shm".into())
}
