//! SQLite: baseline, ledger, cursors; and the vault.
