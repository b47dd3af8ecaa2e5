//! Calls that the kernel skips in the fentry tier: it makes none of a program that another process, preempted, is still
//! in the middle of on that processor. No program can prevent that, so the daemon has to tell of each.

use serde_json::Value;

use crate::record::Record;

const SAID: &str = "the kernel skipped calls of ";

/// Calls that the daemon's last life has told of in the ledger, and that the kernel counts, by `fim status`.
pub fn told_and_counted(records: &[Record], status: &Value) -> (u64, u64) {
    let life = records.iter().rposition(|r| r.kind == "started").map_or(records, |at| &records[at..]);
    let told = life.iter().filter(|r| is_of_them(r)).filter_map(lost).sum();
    let hooks = status.get("counters").and_then(Value::as_object);
    let of_files = hooks.into_iter().flatten().filter(|(name, _)| !name.starts_with("sched_process_"));
    (told, of_files.filter_map(|(_, counters)| counters.get("skipped")?.as_u64()).sum())
}

/// Whether the record tells of skipped calls, and of nothing else.
pub fn is_of_them(record: &Record) -> bool {
    record.kind == "coverage_gap" && record.message.as_deref().is_some_and(|m| m.contains(SAID))
}

/// Gaps of skipped calls whose scan is not in the ledger: each is followed by one.
pub fn not_scanned(records: &[Record]) -> Vec<u64> {
    let rescanned = records.iter().filter(|r| r.kind == "rescanned").map(|r| r.seq).max().unwrap_or(0);
    records.iter().filter(|r| is_of_them(r) && r.seq > rescanned).map(|r| r.seq).collect()
}

/// "… (7 reports lost): …"
fn lost(record: &Record) -> Option<u64> {
    let (_, rest) = record.message.as_deref()?.split_once('(')?;
    rest.split_once(" reports lost)")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn record(seq: u64, kind: &str, message: &str) -> Record {
        serde_json::from_value(json!({"seq": seq, "kind": kind, "message": message, "response": "none", "id": "x", "time": "t", "tier": "fentry"}))
            .expect("a record")
    }

    #[test]
    fn only_skipped_calls_that_were_told_of_and_scanned_for_are_accepted() {
        let gap =
            "Ebpf may have missed changes (7 reports lost): the kernel skipped calls of file_open, which …";
        let mut records = vec![
            record(1, "started", "began"),
            record(2, "coverage_gap", gap),
            record(3, "rescanned", "62 files compared"),
            record(4, "started", "again"),
            record(5, "coverage_gap", gap),
        ];
        let status = json!({"counters": {"file_open": {"skipped": 7}, "sched_process_exec": {"skipped": 2}}});
        assert_eq!(told_and_counted(&records, &status), (7, 7), "one life's, and no process hook's");
        assert_eq!(not_scanned(&records), [5]);
        records.push(record(6, "rescanned", "62 files compared"));
        assert!(not_scanned(&records).is_empty());
        let other = "Ebpf may have missed changes (7 reports lost): the ring of reports was full; …";
        assert!(!is_of_them(&record(7, "coverage_gap", other)));
    }
}
