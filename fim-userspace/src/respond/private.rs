//! Names under which fim works beside a watched file: `.fim-` and 16 hexadecimal digits.

use std::collections::BTreeSet;
use std::hash::{BuildHasher, RandomState};
use std::sync::{LazyLock, Mutex, MutexGuard, PoisonError};

use crate::core::path::escape;

const PREFIX: &[u8] = b".fim-";
const DIGITS: usize = 16;

/// Of the whole process: every scan must know what every responder is doing.
static IN_FLIGHT: LazyLock<Mutex<BTreeSet<Vec<u8>>>> = LazyLock::new(Mutex::default);

/// Whether `name` has the form of a private name. Anybody can make such a name.
pub fn is_private_name(name: &[u8]) -> bool {
    name.strip_prefix(PREFIX).is_some_and(|digits| {
        digits.len() == DIGITS && digits.iter().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// Whether this process is working under that name right now. A scan passes such names over; any other private name is a
/// leftover or a forgery, and goes through [`super::Responder::recover`].
pub fn is_in_flight(name: &[u8]) -> bool {
    in_flight().contains(name)
}

fn in_flight() -> MutexGuard<'static, BTreeSet<Vec<u8>>> {
    IN_FLIGHT.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A private name, in flight for as long as this lives.
#[derive(Debug)]
pub struct PrivateName(Vec<u8>);

impl PrivateName {
    /// A name that cannot be guessed beforehand: the standard library's keyed hash with keys from the kernel.
    pub fn fresh() -> Self {
        let random = RandomState::new().hash_one(0);
        let name = [PREFIX, format!("{random:016x}").as_bytes()].concat();
        in_flight().insert(name.clone());
        Self(name)
    }

    /// Takes a leftover's name over.
    pub fn adopt(name: &[u8]) -> Self {
        in_flight().insert(name.to_vec());
        Self(name.to_vec())
    }

    pub fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for PrivateName {
    fn drop(&mut self) {
        in_flight().remove(&self.0);
    }
}

impl std::fmt::Display for PrivateName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&escape(&self.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn knows_its_own_names_and_no_others() {
        let name = PrivateName::fresh();
        assert!(is_private_name(name.bytes()) && is_in_flight(name.bytes()));
        assert_ne!(PrivateName::fresh().bytes(), name.bytes());
        let bytes = name.bytes().to_vec();
        drop(name);
        assert!(!is_in_flight(&bytes));
        for other in [
            ".fim-",
            ".fim-0123456789abcde",
            ".fim-0123456789abcdef0",
            ".fim-0123456789ABCDEF",
            "fim-0123456789abcdef",
        ] {
            assert!(!is_private_name(other.as_bytes()), "{other}");
        }
    }
}
