//! What a receiver says may hold what it was told: a token out of the address, a password that it complains about.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use reqwest::Url;

use crate::config::Secret;

/// Stands for a secret in what is shown.
const SHOWN: &str = "(secret)";
/// Parts of an address that are shorter are names, not tokens.
const TOKEN: usize = 8;

/// Secrets in the forms in which they go over the wire; never shown.
#[derive(Default)]
pub struct Hidden(Vec<Secret>);

impl Hidden {
    /// A password or key, and who signs in with it, if anybody does.
    pub fn add(&mut self, user: Option<&str>, secret: &Secret) {
        let plain = secret.expose();
        self.text(plain);
        self.encoded(plain);
        if let Some(user) = user {
            self.encoded(&format!("{user}:{plain}"));
            self.encoded(&format!("\0{user}\0{plain}"));
        }
    }

    /// The path and the query of an address.
    pub fn address(&mut self, url: &Url) {
        let parts = url.path().split('/').chain(url.query().into_iter().flat_map(|q| q.split(['&', '='])));
        for part in parts.filter(|part| part.len() >= TOKEN) {
            self.text(part);
            if let Ok(decoded) = percent_encoding::percent_decode_str(part).decode_utf8() {
                self.text(&decoded);
            }
        }
    }

    fn encoded(&mut self, plain: &str) {
        [STANDARD, STANDARD_NO_PAD, URL_SAFE_NO_PAD].iter().for_each(|way| self.text(&way.encode(plain)));
        let form: String = form_urlencoded::byte_serialize(plain.as_bytes()).collect();
        self.text(&form);
    }

    fn text(&mut self, text: &str) {
        if !text.is_empty() && !self.0.iter().any(|known| known.expose() == text) {
            self.0.push(Secret::new(text));
            // One may be part of another.
            self.0.sort_by_key(|secret| std::cmp::Reverse(secret.expose().len()));
        }
    }

    /// `text` without any of them. To be asked before anything is cut off or escaped.
    pub fn cover(&self, text: &str) -> String {
        self.0.iter().fold(text.to_owned(), |text, secret| text.replace(secret.expose(), SHOWN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_form_of_a_secret_comes_through() {
        let mut hidden = Hidden::default();
        hidden.add(Some("fim"), &Secret::new("p w+d"));
        hidden.address(
            &"https://h/services/T0000000x/%41bcdefgh?key=abcdefghij&v=2".parse().expect("an address"),
        );
        let said = format!(
            "no p w+d, p+w%2Bd, {}, {}, {}; /services/T0000000x/%41bcdefgh, Abcdefgh, abcdefghij, v=2",
            STANDARD.encode("p w+d"),
            STANDARD.encode("fim:p w+d"),
            STANDARD.encode("\0fim\0p w+d"),
        );
        let s = SHOWN;
        assert_eq!(hidden.cover(&said), format!("no {s}, {s}, {s}, {s}, {s}; /{s}/{s}/{s}, {s}, {s}, v=2"));
    }
}
