//! Charts as SVG, drawn into the page: no script, nothing from outside.

use maud::{Markup, html};

use super::{Day, Share};

const WIDTH: u32 = 720;
const BAR: u32 = 20;
const LABEL: u32 = 280;
const HEIGHT: u32 = 160;

/// Horizontal bars, one for each name. The label is cut at its beginning: the end of a path says more.
pub fn bars(title: &str, shares: &[Share]) -> Markup {
    let most = shares.iter().map(|share| share.changes).max().unwrap_or(1).max(1);
    let height = BAR * u32::try_from(shares.len()).unwrap_or(u32::MAX / BAR);
    let room = WIDTH - LABEL - 60;
    html! {
        figure {
            figcaption { (title) }
            @if shares.is_empty() { p.none { "Nothing in this period." } }
            @else {
                svg role="img" aria-label=(title) viewBox=(format!("0 0 {WIDTH} {height}")) width=(WIDTH) height=(height) {
                    @for (row, share) in (0u32..).zip(shares) {
                        @let top = row * BAR;
                        @let length = (u64::from(room) * share.changes / most).max(1);
                        text x=(LABEL - 8) y=(top + 14) text-anchor="end" { (end_of(&share.name, 40)) title { (share.name) } }
                        rect.bar x=(LABEL) y=(top + 3) width=(length) height=(BAR - 6) {}
                        text x=(u64::from(LABEL) + length + 6) y=(top + 14) { (share.changes) }
                    }
                }
            }
        }
    }
}

/// One column a day, authorised changes below the others.
pub fn days(title: &str, days: &[Day]) -> Markup {
    let most = days.iter().map(|day| day.authorised + day.other).max().unwrap_or(1).max(1);
    let step = (f64::from(WIDTH - 60) / days.len().max(1) as f64).min(48.0);
    let high = |n: u64| n as f64 / most as f64 * f64::from(HEIGHT - 40);
    html! {
        figure {
            figcaption { (title) }
            @if days.is_empty() { p.none { "Nothing in this period." } }
            @else {
                svg role="img" aria-label=(title) viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) width=(WIDTH) height=(HEIGHT) {
                    text x="0" y="12" { (most) }
                    line x1="50" x2=(WIDTH) y1=(HEIGHT - 22) y2=(HEIGHT - 22) {}
                    @for (column, day) in days.iter().enumerate() {
                        @let left = 54.0 + step * column as f64;
                        @let below = high(day.authorised);
                        @let above = high(day.other);
                        @let ground = f64::from(HEIGHT - 22);
                        g {
                            title { (day.date) ": " (day.authorised) " authorised, " (day.other) " not" }
                            rect.ok x=(tenth(left)) y=(tenth(ground - below)) width=(tenth(step * 0.8)) height=(tenth(below)) {}
                            rect.bad x=(tenth(left)) y=(tenth(ground - below - above)) width=(tenth(step * 0.8)) height=(tenth(above)) {}
                        }
                    }
                    @if let Some(first) = days.first() { text x="50" y=(HEIGHT - 6) { (first.date) } }
                    @if let [_, .., last] = days { text x=(WIDTH) y=(HEIGHT - 6) text-anchor="end" { (last.date) } }
                }
                p.legend { span.ok { "■" } " authorised  " span.bad { "■" } " not authorised" }
            }
        }
    }
}

fn tenth(x: f64) -> String {
    format!("{x:.1}")
}

fn end_of(text: &str, most: usize) -> String {
    let count = text.chars().count();
    if count <= most {
        return text.to_owned();
    }
    let tail: String = text.chars().skip(count + 1 - most).collect();
    format!("…{tail}")
}
