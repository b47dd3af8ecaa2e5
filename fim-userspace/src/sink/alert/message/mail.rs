//! A message as the two bodies of a mail.

use maud::{DOCTYPE, html};

use super::card::Card;

/// Characters of the subject.
const SUBJECT: usize = 200;

pub struct Mail {
    pub subject: String,
    pub text: String,
    pub html: String,
}

pub fn mail(card: &Card) -> Mail {
    let severity = card.severity.as_str();
    Mail { subject: format!("[fim] {severity}: {}", card.title(SUBJECT)), text: text(card), html: html(card) }
}

fn text(card: &Card) -> String {
    let mut out = format!("{}\n\n", card.title(usize::MAX));
    for (what, value) in &card.facts {
        out.push_str(&format!("{:<10}{value}\n", format!("{what}:")));
    }
    if !card.lines.is_empty() {
        out.push('\n');
    }
    for line in &card.lines {
        out.push_str(&format!("    {line}\n"));
    }
    out
}

fn html(card: &Card) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head { meta charset="utf-8"; title { "fim" } }
            body style="font-family: sans-serif" {
                h2 { (card.title(usize::MAX).as_str()) }
                table cellpadding="4" {
                    @for (what, value) in &card.facts {
                        tr {
                            th align="left" valign="top" { (what) }
                            td style="font-family: monospace; word-break: break-all" { (value.as_str()) }
                        }
                    }
                }
                @if !card.lines.is_empty() {
                    pre { @for line in &card.lines { (line.as_str()) "\n" } }
                }
            }
        }
    };
    page.into_string()
}
