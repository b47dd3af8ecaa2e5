//! Keys that only move forward.

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use sha2::{Digest, Sha256};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::Seal;

/// What [`VerificationKey`]'s text begins with.
const PREFIX: &str = "fim-seal-1";
/// Digits of its text between two hyphens.
const GROUP: usize = 8;

/// One epoch's key. From it the keys of all later epochs follow, and of none before.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct EpochKey(pub(super) [u8; 32]);

impl fmt::Debug for EpochKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("EpochKey(…)")
    }
}

impl EpochKey {
    fn hmac(&self) -> Hmac<Sha256> {
        // A key shorter than SHA-256's block is filled up with zeros (RFC 2104, 2).
        let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
        block[..self.0.len()].copy_from_slice(&self.0);
        let hmac = Hmac::<Sha256>::new(&block);
        block.zeroize();
        hmac
    }

    #[cfg(test)]
    pub fn for_tests(byte: u8) -> Self {
        Self([byte; 32])
    }

    /// The next epoch's key: HMAC-SHA256 of a fixed text.
    pub fn next(&self) -> Self {
        let mut mac = self.hmac();
        mac.update(b"fim seal next");
        Self(mac.finalize().into_bytes().into())
    }

    fn mac(&self, seal: &Seal) -> Hmac<Sha256> {
        let mut mac = self.hmac();
        for part in [
            b"fim seal 1\0".as_slice(),
            seal.setup.as_bytes(),
            &seal.epoch.to_be_bytes(),
            &seal.time_us.to_be_bytes(),
            &seal.seq.to_be_bytes(),
            &seal.hash,
            seal.reason.as_bytes(),
        ] {
            mac.update(part);
        }
        if let Some(beside) = &seal.beside {
            mac.update(b"\0beside\0");
            mac.update(beside);
        }
        mac
    }

    pub fn sign(&self, seal: &Seal) -> [u8; 32] {
        self.mac(seal).finalize().into_bytes().into()
    }

    /// Whether `seal` was made with this key; takes the same time whatever differs.
    pub fn made(&self, seal: &Seal) -> bool {
        self.mac(seal).verify_slice(&seal.mac).is_ok()
    }
}

/// The key of the first epoch, to be kept elsewhere: with it every seal can be checked, and made.
#[derive(Clone, Debug)]
pub struct VerificationKey(pub(super) EpochKey);

impl VerificationKey {
    /// A new one, from the kernel's random numbers.
    pub fn generate() -> std::io::Result<Self> {
        let mut key = EpochKey([0; 32]);
        getrandom::fill(&mut key.0).map_err(|e| std::io::Error::other(e.to_string()))?;
        Ok(Self(key))
    }

    /// Names this key's seals without telling anything of it.
    pub fn setup(&self) -> String {
        let mut hasher = Sha256::new();
        hasher.update(b"fim seal setup");
        hasher.update(self.0.0);
        hex(&hasher.finalize()[..8])
    }

    /// For people to keep: groups of hexadecimal digits, the last of them a checksum.
    pub fn text(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new(self.0.0.to_vec());
        let sum = Sha256::digest(&bytes[..]);
        bytes.extend_from_slice(&sum[..4]);
        let digits = Zeroizing::new(hex(&bytes));
        let mut text = Zeroizing::new(String::with_capacity(96));
        text.push_str(PREFIX);
        for group in digits.as_bytes().chunks(GROUP) {
            text.push('-');
            text.extend(group.iter().map(|b| char::from(*b)));
        }
        text
    }

    /// Reads [`text`](Self::text), however it is cut into lines or groups. `None` for anything else: a digit that is
    /// wrong shows in the checksum.
    pub fn parse(text: &str) -> Option<Self> {
        let tidy: Zeroizing<String> = Zeroizing::new(
            text.chars().filter(|c| !c.is_whitespace() && *c != '-').flat_map(char::to_lowercase).collect(),
        );
        let digits = tidy.strip_prefix("fimseal1")?;
        if digits.len() != 72 || !digits.is_ascii() {
            return None;
        }
        let mut bytes = Zeroizing::new([0u8; 36]);
        for (i, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&digits[2 * i..2 * i + 2], 16).ok()?;
        }
        let mut key = EpochKey([0; 32]);
        key.0.copy_from_slice(&bytes[..32]);
        (Sha256::digest(key.0)[..4] == bytes[32..]).then_some(Self(key))
    }

    /// The keys of all epochs, from the first on.
    pub(super) fn epochs(&self) -> impl Iterator<Item = EpochKey> {
        std::iter::successors(Some(self.0.clone()), |key| Some(key.next()))
    }
}

pub(super) fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    bytes.iter().fold(String::with_capacity(2 * bytes.len()), |mut text, b| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{b:02x}");
        text
    })
}
