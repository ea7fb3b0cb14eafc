//! The part of `regex` that the `MySQL` driver uses, handed to `regex-lite`.
//!
//! `mysql_common` parses the version in the server's greeting with two patterns, and compiling those with the full
//! engine and its Unicode tables is half of the CPU of a whole check (callgrind: 3.3 of 3.5 million instructions). The
//! patterns are ASCII, so is what they match, and `regex-lite` compiles them at a fraction of the price.
//!
//! There is nothing here but what `mysql_common` 0.37 calls. When a driver update fails to compile against this crate, it
//! uses more of `regex` than it did: add that here if it is as simple, or remove the `[patch.crates-io]` entry of the
//! workspace to go back to the full engine. It can go for good when the driver parses versions without `regex`.

/// Matching on bytes, which is all that the driver does.
pub mod bytes {
    /// A compiled pattern. It must be ASCII and Unicode-free, as all patterns of the driver are.
    #[derive(Debug, Clone)]
    pub struct Regex(regex_lite::Regex);

    impl Regex {
        /// Compiles a pattern.
        ///
        /// # Errors
        /// When it is no pattern that `regex-lite` knows.
        pub fn new(pattern: &str) -> Result<Regex, regex_lite::Error> {
            regex_lite::Regex::new(pattern).map(Regex)
        }

        /// Whether the pattern matches; bytes that are not UTF-8 match nothing.
        #[must_use]
        pub fn is_match(&self, bytes: &[u8]) -> bool {
            std::str::from_utf8(bytes).is_ok_and(|text| self.0.is_match(text))
        }

        /// The groups of the first match; bytes that are not UTF-8 match nothing.
        #[must_use]
        pub fn captures<'h>(&self, bytes: &'h [u8]) -> Option<Captures<'h>> {
            self.0.captures(std::str::from_utf8(bytes).ok()?).map(Captures)
        }
    }

    /// The groups of a match.
    #[derive(Debug)]
    pub struct Captures<'h>(regex_lite::Captures<'h>);

    impl<'h> Captures<'h> {
        /// Group `index`; 0 is the whole match.
        #[must_use]
        pub fn get(&self, index: usize) -> Option<Match<'h>> {
            self.0.get(index).map(Match)
        }
    }

    /// What a group matched.
    #[derive(Debug, Clone, Copy)]
    pub struct Match<'h>(regex_lite::Match<'h>);

    impl<'h> Match<'h> {
        /// The bytes themselves.
        #[must_use]
        pub fn as_bytes(&self) -> &'h [u8] {
            self.0.as_str().as_bytes()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes::Regex;

    /// The patterns of `mysql_common` 0.37.3, `packets/mod.rs`.
    const MARIADB: &str = r"^(?:5.5.5-)?(\d{1,2})\.(\d{1,2})\.(\d{1,3})-MariaDB";
    const ANY: &str = r"^(\d{1,2})\.(\d{1,2})\.(\d{1,3})(.*)";

    fn version(pattern: &str, text: &[u8]) -> Option<[Vec<u8>; 3]> {
        let captures = Regex::new(pattern).unwrap().captures(text)?;
        Some([1, 2, 3].map(|group| captures.get(group).unwrap().as_bytes().to_vec()))
    }

    #[test]
    fn the_versions_of_a_greeting_are_told() {
        let expect = |a: &str, b: &str, c: &str| Some([a, b, c].map(|part| part.as_bytes().to_vec()));
        assert_eq!(version(MARIADB, b"5.5.5-10.11.19-MariaDB-0+deb12u1"), expect("10", "11", "19"));
        assert_eq!(version(MARIADB, b"11.8.6-MariaDB"), expect("11", "8", "6"));
        assert_eq!(version(MARIADB, b"9.7.4"), None);
        assert_eq!(version(ANY, b"9.7.4-debian"), expect("9", "7", "4"));
        assert_eq!(version(ANY, b"8.0.22"), expect("8", "0", "22"));
        assert_eq!(version(ANY, b"\xff.0"), None);
        assert!(Regex::new(ANY).unwrap().is_match(b"8.0.22") && !Regex::new(ANY).unwrap().is_match(b"x"));
    }
}
