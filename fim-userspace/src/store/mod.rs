//! SQLite: baseline, ledger, cursors; and the vault.

pub mod vault;
