//! A page as Prometheus' own parser reads it, which none of fim's code has a part in.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde::Deserialize;

const PARSER: &str = include_str!("../../../data/prometheus/parse.py");

#[derive(Debug, Deserialize)]
pub struct Sample {
    pub name: String,
    #[serde(rename = "type")]
    pub kind: String,
    pub help: String,
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

pub struct Page(pub Vec<Sample>);

impl Page {
    pub fn parse(text: &str) -> Result<Self, String> {
        let failed = |e: std::io::Error| format!("/usr/bin/python3: {e}");
        let mut child = Command::new("/usr/bin/python3")
            .args(["-c", PARSER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        // What it has not read when it fails, it says why.
        let _ = child.stdin.take().ok_or("no standard input")?.write_all(text.as_bytes());
        let done = child.wait_with_output().map_err(failed)?;
        if !done.status.success() {
            let why = String::from_utf8_lossy(&done.stderr);
            return Err(format!("Prometheus' parser (python3-prometheus-client) does not take it: {why}"));
        }
        let lines = String::from_utf8_lossy(&done.stdout);
        let samples = lines.lines().map(serde_json::from_str).collect::<Result<Vec<_>, _>>();
        samples.map(Self).map_err(|e| e.to_string())
    }

    /// The one sample with this name and these labels.
    pub fn value(&self, name: &str, labels: &[(&str, &str)]) -> Result<f64, String> {
        let own = |sample: &&Sample| {
            sample.name == name
                && sample.labels.len() == labels.len()
                && labels.iter().all(|(key, value)| sample.labels.get(*key).is_some_and(|v| v == value))
        };
        match self.0.iter().filter(own).collect::<Vec<_>>()[..] {
            [sample] => Ok(sample.value),
            ref found => Err(format!("{} samples of {name} {labels:?}", found.len())),
        }
    }

    /// Fails where it is not this.
    pub fn expect(&self, name: &str, labels: &[(&str, &str)], wanted: f64) -> Result<(), String> {
        match self.value(name, labels)? {
            value if value == wanted => Ok(()),
            value => Err(format!("{name} {labels:?} is {value}, not {wanted}")),
        }
    }
}

/// What the port answers: head and body.
pub fn get(address: SocketAddr, patience: Duration) -> Result<(String, String), String> {
    let failed = |e: std::io::Error| format!("{address}: {e}");
    let mut stream = TcpStream::connect(address).map_err(failed)?;
    stream.set_read_timeout(Some(patience)).map_err(failed)?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").map_err(failed)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(failed)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(format!("no answer: {answer}"))?;
    Ok((head.to_owned(), body.to_owned()))
}
