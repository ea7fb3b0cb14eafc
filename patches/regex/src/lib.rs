//! The part of `regex` that the `MySQL` driver uses.
//!
//! `mysql_common` parses the version in the server's greeting with two patterns, and compiling those with the full
//! engine and its Unicode tables is most of the CPU of a whole check (callgrind: 3.3 of 4.0 million instructions, and
//! still 0.11 of 0.4 with `regex-lite`; in time 1.1 ms of CPU for a check with `regex-lite` and 0.8 without, five times 300
//! interleaved runs on an AMD EPYC). So those two are matched by hand, and any other pattern goes to `regex-lite`;
//! all patterns of the driver are ASCII, and so is what they match.
//!
//! One answer differs from the engine's, on purpose: the number of a `MariaDB` greeting is [`MARIADB`]. The driver gives its
//! caller three numbers and nothing else of a greeting, and the number of `MariaDB` 11 may be that of a `MySQL` to come.
//!
//! There is nothing here but what `mysql_common` 0.37 calls. When a driver update fails to compile against this crate, it
//! uses more of `regex` than it did: add that here if it is as simple, or remove the `[patch.crates-io]` entry of the
//! workspace to go back to the full engine. When only its patterns change, they are matched by `regex-lite`, and the
//! gates on instructions say so. It can all go when the driver parses versions without `regex`.

/// What the driver reports as the version of a `MariaDB`: the number that `MariaDB` 10 puts before its own
/// (`5.5.5-10.11.19-MariaDB`) and that later ones leave out. No release of `MySQL` has it (5.5.5 was a milestone of 2010).
pub const MARIADB: (u16, u16, u16) = (5, 5, 5);

/// Matching on bytes, which is all that the driver does.
pub mod bytes {
    use crate::version::{self, Version};

    /// A pattern. It must be ASCII and Unicode-free, as all patterns of the driver are.
    #[derive(Debug, Clone)]
    pub struct Regex(Engine);

    #[derive(Debug, Clone)]
    enum Engine {
        Version(Version),
        Lite(regex_lite::Regex),
    }

    impl Regex {
        /// Compiles a pattern.
        ///
        /// # Errors
        /// When `regex-lite` does not know the pattern.
        pub fn new(pattern: &str) -> Result<Regex, regex_lite::Error> {
            match Version::of(pattern) {
                Some(version) => Ok(Regex(Engine::Version(version))),
                None => Regex::lite(pattern),
            }
        }

        /// The pattern on the general engine.
        pub(crate) fn lite(pattern: &str) -> Result<Regex, regex_lite::Error> {
            regex_lite::Regex::new(pattern).map(|regex| Regex(Engine::Lite(regex)))
        }

        /// Whether the pattern matches; bytes that are not UTF-8 match nothing.
        #[must_use]
        pub fn is_match(&self, bytes: &[u8]) -> bool {
            self.captures(bytes).is_some()
        }

        /// The groups of the first match; bytes that are not UTF-8 match nothing.
        #[must_use]
        pub fn captures<'h>(&self, bytes: &'h [u8]) -> Option<Captures<'h>> {
            let text = std::str::from_utf8(bytes).ok()?;
            match &self.0 {
                Engine::Version(version) => version.parts(text).map(Captures::Version),
                Engine::Lite(regex) => regex.captures(text).map(Captures::Lite),
            }
        }
    }

    /// The groups of a match.
    #[derive(Debug)]
    pub enum Captures<'h> {
        /// The three numbers of a version, by hand.
        Version(version::Parts<'h>),
        /// Those of any other pattern.
        Lite(regex_lite::Captures<'h>),
    }

    impl<'h> Captures<'h> {
        /// Group `index`; of a version 1 to 3.
        #[must_use]
        pub fn get(&self, index: usize) -> Option<Match<'h>> {
            match self {
                Captures::Version(parts) => parts.get(index.checked_sub(1)?).copied().map(Match),
                Captures::Lite(captures) => captures.get(index).map(|found| Match(found.as_str())),
            }
        }
    }

    /// What a group matched.
    #[derive(Debug, Clone, Copy)]
    pub struct Match<'h>(&'h str);

    impl<'h> Match<'h> {
        /// The bytes themselves.
        #[must_use]
        pub fn as_bytes(&self) -> &'h [u8] {
            self.0.as_bytes()
        }
    }
}

/// The two patterns that every login needs, by hand.
mod version {
    /// `packets/mod.rs` of `mysql_common` 0.37: a `MariaDB` greeting.
    pub(crate) const MARIADB: &str = r"^(?:5.5.5-)?(\d{1,2})\.(\d{1,2})\.(\d{1,3})-MariaDB";
    /// The same: any greeting.
    pub(crate) const ANY: &str = r"^(\d{1,2})\.(\d{1,2})\.(\d{1,3})(.*)";

    /// [`crate::MARIADB`], in text.
    const FIVES: Parts<'static> = ["5", "5", "5"];

    /// Major, minor and patch.
    pub type Parts<'h> = [&'h str; 3];

    /// One of the two.
    #[derive(Debug, Clone, Copy)]
    pub(crate) enum Version {
        MariaDb,
        Any,
    }

    impl Version {
        pub(crate) fn of(pattern: &str) -> Option<Version> {
            match pattern {
                MARIADB => Some(Version::MariaDb),
                ANY => Some(Version::Any),
                _ => None,
            }
        }

        pub(crate) fn parts(self, text: &str) -> Option<Parts<'_>> {
            match self {
                Version::Any => match numbers(text)? {
                    (_, rest) if rest.contains("-MariaDB") => Some(FIVES),
                    (parts, _) => Some(parts),
                },
                Version::MariaDb => {
                    let mariadb = |text| numbers(text).filter(|(_, rest)| rest.starts_with("-MariaDB"));
                    let prefixed = text.strip_prefix("5.5.5-").and_then(mariadb);
                    prefixed.or_else(|| mariadb(text)).map(|(parts, _)| parts)
                }
            }
        }
    }

    /// `10.11.19` and what follows it.
    fn numbers(text: &str) -> Option<(Parts<'_>, &str)> {
        let (major, rest) = number(text, 2)?;
        let (minor, rest) = number(rest.strip_prefix('.')?, 2)?;
        let (patch, rest) = number(rest.strip_prefix('.')?, 3)?;
        Some(([major, minor, patch], rest))
    }

    /// One to `most` digits, and what follows them.
    fn number(text: &str, most: usize) -> Option<(&str, &str)> {
        let digits = text.bytes().take(most).take_while(u8::is_ascii_digit).count();
        if digits == 0 { None } else { text.split_at_checked(digits) }
    }
}

#[cfg(test)]
mod tests {
    use super::bytes::Regex;
    use super::version::{ANY, MARIADB};

    fn parts(regex: &Regex, text: &[u8]) -> Option<[Vec<u8>; 3]> {
        let captures = regex.captures(text)?;
        Some([1, 2, 3].map(|group| captures.get(group).unwrap().as_bytes().to_vec()))
    }

    #[test]
    fn the_versions_of_a_greeting_are_told() {
        let expect = |a: &str, b: &str, c: &str| Some([a, b, c].map(|part| part.as_bytes().to_vec()));
        let [mariadb, any] = [MARIADB, ANY].map(|pattern| Regex::new(pattern).unwrap());
        assert_eq!(parts(&mariadb, b"5.5.5-10.11.19-MariaDB-0+deb12u1"), expect("10", "11", "19"));
        assert_eq!(parts(&mariadb, b"11.8.6-MariaDB"), expect("11", "8", "6"));
        assert_eq!(parts(&mariadb, b"9.7.4"), None);
        assert_eq!(parts(&any, b"9.7.4-debian"), expect("9", "7", "4"));
        assert_eq!(parts(&any, b"\xff.0"), None);
        // In one place each: behind the prefix, without it, and after a build number (`MariaDB` Enterprise).
        for mariadb in
            ["5.5.5-10.11.19-MariaDB-0+deb12u1", "11.8.6-MariaDB", "11.4.5-3-MariaDB-enterprise-log", "5.5.5-10.4.34"]
        {
            assert_eq!(parts(&any, mariadb.as_bytes()), expect("5", "5", "5"), "{mariadb}");
        }
        assert_eq!(parts(&any, b"10.0.0"), expect("10", "0", "0"));
        assert!(any.is_match(b"8.0.22") && !any.is_match(b"x"));
    }

    #[test]
    fn matching_by_hand_finds_what_the_engine_finds() {
        let texts = [
            "",
            "8",
            "8.0",
            "8.0.",
            "8.0.22",
            "8.0.22-log",
            "8.0.2222",
            "100.0.1",
            "10.100.1",
            "10.11.19-MariaDB",
            "x8.0.22",
            "5.5.5-10.11.19-MariaDB-0+deb12u1",
            "5.5.5-10.4.34",
            "5.5.5",
            "5.5.5-MariaDB",
            "11.8.6-MariaDB-ubu",
            "10.11.1900-MariaDB",
            "8.0.35-27.1",
            "8..1",
            ".8.0.1",
            "8.0.x",
            "8.0.22\n",
            "10.11.19-mariadb",
            "9.7.4 ",
            "99.99.999-MariaDB",
            "\u{663}.0.1",
        ];
        for pattern in [MARIADB, ANY] {
            let (by_hand, engine) = (Regex::new(pattern).unwrap(), Regex::lite(pattern).unwrap());
            // But for the number of a `MariaDB`.
            for text in texts.into_iter().filter(|text| pattern == MARIADB || !text.contains("-MariaDB")) {
                assert_eq!(parts(&by_hand, text.as_bytes()), parts(&engine, text.as_bytes()), "{pattern} {text:?}");
            }
        }
    }

    #[test]
    fn any_other_pattern_is_left_to_the_engine() {
        let date = Regex::new(r"^\d{4}-\d{2}-\d{2}$").unwrap();
        assert!(date.is_match(b"2026-11-21") && !date.is_match(b"2026-11-2"));
    }
}
