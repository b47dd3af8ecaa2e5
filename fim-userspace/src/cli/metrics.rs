//! `fim metrics`: what the running daemon counts and measures, for Prometheus.

use std::process::ExitCode;

use anyhow::bail;

use super::ask;
use crate::config::Config;
use crate::control::{Read, Request};
use crate::core::path::display;
use crate::daemon::control::Client;

pub fn run(config: &Config, json: bool) -> anyhow::Result<ExitCode> {
    match Client::connect(&config.state.dir)? {
        Some(client) => ask::ask(client, request(json), false),
        None => bail!(
            "no fim is running with {}, so there is nothing to measure; start it with `systemctl start fim` or `fim run`",
            display(&config.state.dir)
        ),
    }
}

pub(super) fn request(json: bool) -> Request {
    Request::Read(Read::Metrics { json })
}
