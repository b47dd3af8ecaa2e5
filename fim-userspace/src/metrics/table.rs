//! Every metric: what the page is made of, and what `docs/metrics.md` says.

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

#[derive(Debug)]
pub struct Metric {
    pub name: &'static str,
    pub kind: Kind,
    pub labels: &'static [&'static str],
    /// A sentence.
    pub help: &'static str,
}

impl Metric {
    /// As it stands in `docs/metrics.md`.
    pub fn row(&self) -> String {
        let labels: Vec<String> = self.labels.iter().map(|label| format!("`{label}`")).collect();
        format!("| `{}` | {} | {} | {} |", self.name, self.kind.as_str(), labels.join(", "), self.help)
    }
}

macro_rules! metrics {
    ($($id:ident $kind:ident $name:literal $labels:tt $help:literal)*) => {
        $(pub static $id: Metric = Metric { name: $name, kind: Kind::$kind, labels: &$labels, help: $help };)*
        /// In the order of the page.
        pub static ALL: &[&Metric] = &[$(&$id),*];
    };
}

metrics! {
    BUILD Gauge "fim_build_info" ["version", "arch"]
        "Which fim this is; always 1."
    START Gauge "fim_start_time_seconds" []
        "When monitoring began, in seconds since 1970."
    READY Gauge "fim_ready" []
        "Whether every change is caught from now on (1), or fim is still starting (0)."
    TIER Gauge "fim_tier_info" ["tier"]
        "Which tier runs: lsm, fentry, tracepoint, fanotify or scan; always 1."
    BLOCKED Gauge "fim_recording_blocked" []
        "Whether the database takes no records (1), so that responses wait."
    EVENTS Counter "fim_events_total" ["kind", "verdict"]
        "Records written to the ledger, by kind and by verdict; the verdict of records that are about fim itself is none."
    RESPONSES Counter "fim_responses_total" ["kind", "outcome"]
        "Responses to changes, by the kind of change and by how they ended."
    DETECTION Histogram "fim_detection_seconds" []
        "The time from the first report of a sensor until the change was established by comparison; what a scan found is not in it."
    RESTORE Histogram "fim_restore_seconds" []
        "The time from when a change was established until its place was right again."
    RECORD Histogram "fim_record_seconds" []
        "The time from the close of the writer, or from the first report where no close was seen, until the change was in the ledger; what a scan found is not in it."
    QUEUE Gauge "fim_queue_length" ["queue"]
        "How many paths wait to be looked at, and how many records wait to be written."
    OPEN_CHANGES Gauge "fim_open_changes" []
        "Paths that differ from the baseline and were left so."
    HOOK_ATTACHED Gauge "fim_hook_attached" ["hook"]
        "Whether a hook that the tier uses is attached (1) or not (0)."
    HOOK_CALLS Counter "fim_hook_calls_total" ["hook"]
        "How often the kernel called the program of a hook; it begins anew with a reload."
    HOOK_REPORTS Counter "fim_hook_reports_total" ["hook"]
        "How many of these calls were about something watched and were reported."
    HOOK_DROPS Counter "fim_hook_drops_total" ["hook"]
        "How many reports found no room; the watches are then scanned again."
    HOOK_SKIPS Counter "fim_hook_skips_total" ["hook"]
        "How many calls the kernel left out because the same program was under way; the watches are then scanned again."
    GAPS Counter "fim_coverage_gaps_total" []
        "Coverage gaps: times in which reports may have been lost."
    GAPS_OPEN Gauge "fim_coverage_gaps_open" []
        "Coverage gaps that no scan has closed yet."
    LOST Counter "fim_lost_reports_total" []
        "Reports that were lost in coverage gaps, as far as known; it begins anew with a reload."
    WATCH_FILES Gauge "fim_watch_files" ["watch"]
        "Approved entries of a watch; watches are numbered from 1 in the order of the configuration."
    WATCH_SCANNED Gauge "fim_watch_last_scan_timestamp_seconds" ["watch"]
        "When the last scan of a whole watch ended, in seconds since 1970."
    SELF_TEST Gauge "fim_self_test_success" []
        "Whether the sensors saw the last self-test as they must (1) or not (0); there is none before the first."
    SELF_TEST_TIME Gauge "fim_self_test_last_success_timestamp_seconds" []
        "When the last self-test succeeded, in seconds since 1970."
    LEDGER_RECORDS Gauge "fim_ledger_records" []
        "Records in the ledger."
    LEDGER_SEALED Gauge "fim_ledger_last_seal_timestamp_seconds" []
        "When the ledger was last sealed, in seconds since 1970."
    VAULT_BYTES Gauge "fim_vault_bytes" []
        "What the vault's objects take; 0 before they were measured."
    VAULT_ROOM Gauge "fim_vault_room_bytes" []
        "What the vault may still take by its limits and by the room on its file system."
    VAULT_PROBLEMS Gauge "fim_vault_problems" []
        "How many things are wrong with the vault; the status says which."
    SINK_LAG Gauge "fim_sink_lag_records" ["sink"]
        "Records that a sink has not dealt with yet."
    SINK_SUCCESS Gauge "fim_sink_last_success_timestamp_seconds" ["sink"]
        "When something last got through to a sink, in seconds since 1970; there is none before the first time."
    SINK_FAILING Gauge "fim_sink_failing" ["sink"]
        "Whether the last attempt of a sink failed (1) or not (0)."
    SINK_FAILURES Counter "fim_sink_failures_total" ["sink"]
        "Attempts of a sink that failed and are made again."
    SINK_REFUSED Counter "fim_sink_refused_records_total" ["sink"]
        "Records that the receiver of a sink refused for good."
}
