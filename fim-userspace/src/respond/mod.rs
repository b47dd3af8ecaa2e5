//! Carries out response plans: restore, quarantine, delete.
