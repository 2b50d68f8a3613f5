//! What makes digests of personal data useless to whoever guesses.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// 128 random bits, for one record.
#[derive(Clone, Debug)]
pub struct Salt([u8; 22]);

impl Salt {
    /// The salt of these bits.
    pub fn new(bits: u128) -> Self {
        let mut text = [b'A'; 22];
        // 16 bytes are 22 digits.
        let _ = URL_SAFE_NO_PAD.encode_slice(bits.to_be_bytes(), &mut text);
        Self(text)
    }

    /// Its base64url.
    pub fn text(&self) -> &str {
        str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn salts_are_base64url_of_all_bits() {
        assert_eq!(Salt::new(0).text(), "AAAAAAAAAAAAAAAAAAAAAA");
        assert_eq!(Salt::new(u128::MAX).text(), "_____________________w");
    }
}
