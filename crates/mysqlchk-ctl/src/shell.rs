//! Words as a shell has them: read from a line, and written so that they stay one; and the system's own programs.

use std::process::{Command, Stdio};

/// A program of the system, with nothing to read. The `PATH` of whoever became root may lead to other ones.
pub(crate) fn system(program: &str) -> Command {
    let mut command = Command::new(program);
    command.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// A text without what a terminal obeys.
pub(crate) fn plain(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

/// A word as a shell has to be given it.
pub(crate) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// The words of a line, quotes and escapes resolved, up to what begins a comment; `None` where there are none.
pub(crate) fn words(line: &str, comment: Option<char>) -> Vec<String> {
    let mut words = Vec::new();
    let mut word = String::new();
    let mut quote = None;
    let mut is_word = false;
    let mut chars = line.chars();
    while let Some(c) = chars.next() {
        match (c, quote) {
            ('\'' | '"', None) => (quote, is_word) = (Some(c), true),
            (c, Some(open)) if c == open => quote = None,
            ('\\', None | Some('"')) => word.extend(chars.next()),
            (c, None) if Some(c) == comment => break,
            (c, None) if c.is_whitespace() => {
                if is_word {
                    words.push(std::mem::take(&mut word));
                }
                is_word = false;
            }
            _ => {
                word.push(c);
                is_word = true;
            }
        }
    }
    if is_word {
        words.push(word);
    }
    words
}

/// A text that stands in the pattern of an `s/.../.../` of `sed`, where it means itself.
pub(crate) fn pattern(text: &str) -> String {
    escaped(text, r"/\.*[]^$")
}

/// A text that `sed` puts in its place.
pub(crate) fn replacement(text: &str) -> String {
    escaped(text, r"/\&")
}

fn escaped(text: &str, special: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if special.contains(c) {
            out.push('\\');
        }
        out.push(c);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_shell_would_read_in_another_way_is_quoted() {
        for (word, expected) in [
            ("/etc/xinetd.d/mysqlchk", "/etc/xinetd.d/mysqlchk"),
            ("", "''"),
            ("a b", "'a b'"),
            ("it's", r"'it'\''s'"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(quoted(word), expected);
        }
        assert_eq!(words(r#"a "b c" 'd "e' "f\"g" # h"#, Some('#')), ["a", "b c", "d \"e", "f\"g"]);
        assert_eq!(words("A=b#c D=", None), ["A=b#c", "D="]);
        assert_eq!(plain("a\n\u{1b}[1mb"), "a??[1mb");
        assert_eq!(pattern("a/b.c"), r"a\/b\.c");
        assert_eq!(replacement("a/b&c"), r"a\/b\&c");
    }
}
