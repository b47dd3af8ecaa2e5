//! Those that are told: a server for webhooks, Twilio as its published description has it, a mail server. Each writes down
//! what it was sent.

pub mod http;
pub mod smtp;
pub mod twilio;

use std::sync::{Arc, Mutex, PoisonError};

/// A list that one thread writes and another reads.
#[derive(Debug)]
pub struct Seen<T>(Arc<Mutex<Vec<T>>>);

impl<T: Clone> Seen<T> {
    pub fn all(&self) -> Vec<T> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn push(&self, what: T) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(what);
    }
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for Seen<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}
