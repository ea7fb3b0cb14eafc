//! Commands for a shell: text -> text that it reads as one word.

/// A word as a shell has to be given it.
pub(super) fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

/// A text that stands in the pattern of an `s/.../.../` of `sed`, where it means itself.
pub(super) fn pattern(text: &str) -> String {
    escaped(text, r"/\.*[]^$")
}

/// A text that `sed` puts in its place.
pub(super) fn replacement(text: &str) -> String {
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
        assert_eq!(pattern("a/b.c"), r"a\/b\.c");
        assert_eq!(replacement("a/b&c"), r"a\/b\&c");
    }
}
