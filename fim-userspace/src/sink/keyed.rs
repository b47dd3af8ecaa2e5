//! HMAC-SHA256 with a key of any length.

use hmac::{Hmac, KeyInit};
use sha2::{Digest, Sha256};
use zeroize::Zeroize;

/// Ready to be fed. Of a key that is longer than a block its digest counts, a shorter one is filled up with zeros
/// (RFC 2104, 2).
pub fn keyed(key: &[u8]) -> Hmac<Sha256> {
    let mut block = hmac::digest::Key::<Hmac<Sha256>>::default();
    let mut digest = Sha256::digest(key);
    let own: &[u8] = if key.len() > block.len() { &digest } else { key };
    block[..own.len()].copy_from_slice(own);
    let hmac = Hmac::new(&block);
    block.zeroize();
    digest.zeroize();
    hmac
}

#[cfg(test)]
mod tests {
    use hmac::Mac;

    use super::*;

    #[test]
    fn keys_of_every_length_are_as_the_standard_has_them() {
        for length in [0, 1, 32, 63, 64, 65, 131, 1_000] {
            let key: Vec<u8> = (0..length).map(|n| n as u8).collect();
            let theirs = Hmac::<Sha256>::new_from_slice(&key).expect("any length").chain_update("text");
            let ours = keyed(&key).chain_update("text");
            assert_eq!(ours.finalize().into_bytes(), theirs.finalize().into_bytes(), "{length}");
        }
    }
}
