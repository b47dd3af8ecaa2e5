//! One page, whole in itself: no script, no style, font or picture from outside; black on white when printed.

use maud::{DOCTYPE, Markup, PreEscaped, html};

use super::tally::{UNKNOWN, user};
use super::{Change, Control, Coverage, Report, Standing, chart};
use crate::sink::line::printable;

const STYLE: &str = include_str!("report.css");

pub fn page(report: &Report) -> String {
    let title = format!("File integrity report for {}", report.host);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                // A browser is to run and to load nothing, whatever a file's name says.
                meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                (heading(report, &title))
                (coverage(&report.coverage))
                (changes(report))
                (unauthorised(report))
                (chain(report))
                (controls(&report.controls))
            }
        }
    }
    .into_string()
}

fn heading(report: &Report, title: &str) -> Markup {
    let counts = &report.changes.counts;
    let figures = [
        (counts.changes, "changes"),
        (counts.authorised, "authorised"),
        (counts.changes - counts.authorised, "not authorised"),
        (counts.restored + counts.quarantined + counts.deleted, "put right"),
        (counts.failed, "responses failed"),
    ];
    html! {
        header {
            h1 { (title) }
            p { (moment(&report.since)) " to " (moment(&report.until)) ", UTC. Made by fim " (report.version) " at " (moment(&report.generated)) "." }
            dl.figures { @for (number, what) in figures { div { dt { (number) } dd { (what) } } } }
        }
    }
}

fn coverage(coverage: &Coverage) -> Markup {
    html! {
        section {
            h2 { "Coverage" }
            table {
                thead { tr { th { "Watched" } th.n { "Entries" } th { "Severity" } th { "What is done" } } }
                tbody {
                    @for watch in &coverage.watches {
                        tr { td { code { (watch.path) } } td.n { (watch.entries) } td { (watch.severity) } td { (watch.response) } }
                    }
                }
            }
            p {
                @match &coverage.baseline_taken {
                    Some(time) => { "The baseline was taken " (moment(time)) " by " (coverage.baseline_by.as_deref().unwrap_or("somebody")) ". " }
                    None => { "No baseline has been taken. " }
                }
                "fim watched during " strong { (format!("{:.2} %", coverage.watched * 100.0)) } " of the period"
                @if coverage.troubles > 0 { ", and said " (coverage.troubles) " time(s) that something was wrong with its own means" }
                "."
            }
            table {
                thead { tr { th { "Watching from" } th { "until" } th { "ended" } } }
                tbody {
                    @for run in &coverage.runs {
                        tr {
                            td { (moment(&run.from)) @if run.began_before { " or before (older records were removed)" } }
                            td { (run.until.as_deref().map_or_else(|| "now".into(), moment)) }
                            td { @if run.cut_short { "without saying so" } @else if run.until.is_some() { "as told" } @else { "goes on" } }
                        }
                    }
                }
            }
            @if coverage.gaps.is_empty() { p { "No coverage gap." } }
            @else {
                table {
                    thead { tr { th { "Coverage gap" } th { "Watch" } th { "Why" } th { "Made up for by a scan" } } }
                    tbody {
                        @for gap in &coverage.gaps {
                            tr {
                                td { (moment(&gap.time)) }
                                td { code { (gap.watch.as_deref().unwrap_or("all")) } }
                                td { (printable(&gap.reason)) }
                                td { (gap.closed.as_deref().map_or_else(|| "not yet".into(), moment)) }
                            }
                        }
                    }
                }
            }
        }
    }
}

fn changes(report: &Report) -> Markup {
    let changes = &report.changes;
    html! {
        section {
            h2 { "Changes" }
            (chart::days("By day", &changes.days))
            (chart::bars("By kind", &changes.by_kind))
            (chart::bars("By severity", &changes.by_severity))
            (chart::bars("By user (who logged in, where that is known)", &changes.by_user))
            (chart::bars("By program", &changes.by_program))
            @if !report.by_package.is_empty() { (chart::bars("By package that owns the file", &report.by_package)) }
            (chart::bars("Paths that changed most", &changes.top_paths))
        }
    }
}

fn unauthorised(report: &Report) -> Markup {
    let changes = &report.changes;
    html! {
        section {
            h2 { "Changes that nobody authorised" }
            @if changes.unauthorised.is_empty() { p.none { "None in this period." } }
            @else {
                table.changes {
                    thead { tr { th.n { "No." } th { "Time" } th { "What" } th { "Path" } th { "Who" } th { "Response" } } }
                    tbody { @for change in &changes.unauthorised { (one(change)) } }
                }
                @if changes.unauthorised_more > 0 { p { (changes.unauthorised_more) " more are in the ledger: " code { "fim log" } "." } }
            }
        }
    }
}

fn one(change: &Change) -> Markup {
    let uid = change.auid.or(change.uid);
    let who = match (uid, change.exe.as_deref()) {
        (None, None) => UNKNOWN.to_owned(),
        (None, Some(exe)) => printable(exe),
        (Some(_), exe) => {
            format!("{}, {}", user(uid), exe.map_or_else(|| "unknown program".into(), printable))
        }
    };
    html! {
        tr {
            td.n { (change.seq) }
            td.whole { (moment(&change.time)) }
            td.whole { (change.kind) }
            td { code { (printable(&change.path)) } @if let Some(old) = &change.old_path { br; "was " code { (printable(old)) } } }
            td { (who) @if let Some(pid) = change.pid { ", pid " (pid) } }
            td.whole { (change.response) @if let Some(error) = &change.error { ": " (printable(error)) } }
        }
    }
}

fn chain(report: &Report) -> Markup {
    html! {
        section {
            h2 { "The ledger" }
            @match &report.chain.fault {
                None => p { strong.ok { "Whole." } " All " (report.chain.sound) " records are as they were written; each carries the hash of the one before." }
                Some(fault) => p { strong.bad { "Not whole: " (fault) "." } " The " (report.chain.sound) " records before that are as they were written." }
            }
            p { "Hash of the last sound record: " code { (report.chain.head) } }
        }
    }
}

fn controls(controls: &[Control]) -> Markup {
    html! {
        section {
            h2 { "Requirements" }
            p { "What this period gives evidence for, and what it does not. Whether that meets a requirement is the auditor's to say." }
            table {
                thead { tr { th { "Standard" } th { "Requirement" } th { "Asks" } th { "Here" } } }
                tbody {
                    @for control in controls {
                        tr {
                            td { (control.standard) }
                            td { (control.id) }
                            td { (control.asks) }
                            td { (standing(control.standing)) ": " (control.because) "." }
                        }
                    }
                }
            }
        }
    }
}

fn standing(standing: Standing) -> Markup {
    match standing {
        Standing::Evidence => html! { strong.ok { "evidence" } },
        Standing::Partly => html! { strong { "partly" } },
        Standing::Missing => html! { strong.bad { "not here" } },
    }
}

/// To the second; the ledger has the rest.
fn moment(time: &str) -> String {
    time.get(..19).unwrap_or(time).replace('T', " ")
}
