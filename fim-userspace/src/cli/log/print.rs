//! Records as lines, as JSON, or one in full.

use std::collections::HashMap;
use std::io::{self, BufWriter, Write};

use serde_json::Value;

use super::user_name;
use crate::core::event::Record;
use crate::sink::line::{self, printable};

pub struct Printer<W: Write> {
    out: BufWriter<W>,
    json: bool,
    names: HashMap<u32, Option<String>>,
}

impl<W: Write> Printer<W> {
    pub fn new(out: W, json: bool) -> Self {
        Self { out: BufWriter::new(out), json, names: HashMap::new() }
    }

    pub fn print(&mut self, records: &[Record]) -> io::Result<()> {
        for record in records {
            if self.json {
                serde_json::to_writer(&mut self.out, record).map_err(io::Error::from)?;
                self.out.write_all(b"\n")?;
            } else {
                self.line(record)?;
            }
        }
        self.out.flush()
    }

    /// Everything that the record knows.
    pub fn in_full(&mut self, record: &Record) -> io::Result<()> {
        if self.json {
            return self.print(std::slice::from_ref(record));
        }
        self.line(record)?;
        let value = serde_json::to_value(record).map_err(io::Error::from)?;
        let mut fields = Vec::new();
        flatten(String::new(), &value, &mut fields);
        let width = fields.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
        for (name, text) in fields {
            writeln!(self.out, "  {name:width$}  {}", printable(&text))?;
        }
        self.out.flush()
    }

    fn line(&mut self, record: &Record) -> io::Result<()> {
        let names = &mut self.names;
        let mut name_of = |uid| names.entry(uid).or_insert_with(|| user_name(uid)).clone();
        writeln!(self.out, "{}", line::line(record, &mut name_of))
    }
}

/// `actor.uid` and so on; what is not known is left out.
fn flatten(name: String, value: &Value, fields: &mut Vec<(String, String)>) {
    let inner = |key: &str| if name.is_empty() { key.to_owned() } else { format!("{name}.{key}") };
    match value {
        Value::Null => {}
        Value::Object(map) => map.iter().for_each(|(key, value)| flatten(inner(key), value, fields)),
        Value::Array(list) if list.iter().any(Value::is_object) => {
            for (index, value) in list.iter().enumerate() {
                flatten(inner(&index.to_string()), value, fields);
            }
        }
        Value::Array(list) if list.is_empty() => {}
        Value::Array(list) => {
            let texts: Vec<String> = list.iter().map(text).collect();
            fields.push((name, texts.join(" ")));
        }
        value => fields.push((name, text(value))),
    }
}

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
