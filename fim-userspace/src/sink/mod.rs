//! Readers of the ledger, each with its own durable cursor.
