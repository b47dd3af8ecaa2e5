//! `fim seal`: keys that prove the ledger.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::json;

use crate::config::Config;
use crate::daemon::clock::realtime_ns;
use crate::store::seal::{self, KeyFile, Sealer, VerificationKey};
use crate::store::{Lock, Store};

#[derive(Debug, clap::Subcommand)]
pub enum Action {
    /// Make a sealing key and print its verification key, once
    Setup {
        /// Begin anew although there is a key already
        #[arg(long)]
        replace: bool,
    },
}

pub fn run(config: &Config, action: &Action, json: bool) -> anyhow::Result<ExitCode> {
    let Action::Setup { replace } = action;
    let _lock = Lock::acquire(&config.state.dir)?;
    let mut store = Store::open(&config.state.dir)?;
    if !replace && !matches!(KeyFile::peek(store.dir()), Ok(None)) {
        bail!(
            "sealing is set up already; if its verification key is lost, begin anew with `fim seal setup --replace`. What \
             was sealed before can then be proven with the old key only"
        );
    }
    show(&Sealer::set_up(&mut store, realtime_ns() / 1_000)?, json);
    Ok(ExitCode::SUCCESS)
}

/// Sets sealing up unless it is; `fim init` ends with it.
pub(super) fn set_up_once(config: &Config, json: bool) -> anyhow::Result<()> {
    let _lock = Lock::acquire(&config.state.dir)?;
    let mut store = Store::open(&config.state.dir)?;
    match Sealer::open(store.dir()) {
        Ok(None) => show(&Sealer::set_up(&mut store, realtime_ns() / 1_000)?, json),
        // The baseline is another one now.
        Ok(Some(mut sealer)) => drop(sealer.seal(&mut store, realtime_ns() / 1_000, seal::STARTED)?),
        // A damaged key is the matter of `fim seal setup`.
        Err(_) => {}
    }
    Ok(())
}

/// The only time that the key is told.
fn show(key: &VerificationKey, json: bool) {
    let text = key.text();
    if json {
        println!("{}", json!({ "verification_key": *text }));
        return;
    }
    println!(
        "The ledger is sealed from now on. This verification key proves it, and is kept nowhere on this host:\n"
    );
    println!("  {}\n", *text);
    println!("Keep it elsewhere, on paper or another machine; whoever has it could forge seals. Use it with");
    println!("`fim log verify --key FILE`.");
}
