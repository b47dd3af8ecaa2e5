//! The rows, and how they are printed.

#[derive(Default)]
pub struct Table {
    limits: Vec<(String, String)>,
    rows: Vec<Row>,
}

pub struct Row {
    pub what: String,
    pub fim: String,
    /// The value that the target bounds, as text.
    pub against: String,
    pub target: String,
    /// `None` where there is nothing to meet.
    pub met: Option<bool>,
    pub peers: String,
}

impl Table {
    pub fn limit(&mut self, what: &str, value: String) {
        println!("   {what}: {value}");
        self.limits.push((what.into(), value));
    }

    pub fn row(&mut self, row: Row) {
        println!("-> {}: {} ({}); {}; {}", row.what, row.fim, row.against, verdict(row.met), row.peers);
        self.rows.push(row);
    }

    pub fn failed(&mut self, what: &str, why: &str) {
        self.rows.push(Row {
            what: what.into(),
            fim: "not measured to the end".into(),
            against: why.replace(['|', '\n'], " "),
            target: String::new(),
            met: None,
            peers: String::new(),
        });
    }

    pub fn markdown(&self) -> String {
        let mut out = String::from("| the machine's limits | |\n|---|---|\n");
        for (what, value) in &self.limits {
            out.push_str(&format!("| {what} | {value} |\n"));
        }
        out.push_str("\n| what | fim | against the limit | target | | peers |\n|---|---|---|---|---|---|\n");
        for row in &self.rows {
            let Row { what, fim, against, target, met, peers } = row;
            out.push_str(&format!(
                "| {what} | {fim} | {against} | {target} | {} | {peers} |\n",
                verdict(*met)
            ));
        }
        out
    }
}

fn verdict(met: Option<bool>) -> &'static str {
    match met {
        Some(true) => "met",
        Some(false) => "**missed**",
        None => "",
    }
}

/// Seconds as people read them.
pub fn seconds(value: f64) -> String {
    match value {
        v if v < 0.001 => format!("{:.0} µs", v * 1e6),
        v if v < 1.0 => format!("{:.1} ms", v * 1e3),
        v => format!("{v:.2} s"),
    }
}

pub fn percent(part: f64) -> String {
    format!("{:+.1} %", part * 100.0)
}

/// `name value, name value` of those that were measured.
pub fn list(medians: &super::rounds::Medians, names: &[&str], show: impl Fn(f64) -> String) -> String {
    let shown = names.iter().filter_map(|name| Some(format!("{name} {}", show(medians.get(name)?))));
    shown.collect::<Vec<_>>().join(", ")
}
