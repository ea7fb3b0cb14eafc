//! Why a server gave no answer: our words, and the server's error number where it sent one.
//!
//! The text of a server never gets here, as it can hold user names and data.

use std::fmt;
use std::io::ErrorKind;

/// Why a server gave no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    words: String,
    code: Option<u16>,
    privilege: Option<&'static str>,
}

impl Error {
    /// An error that is not the server's.
    pub(crate) fn new(words: impl Into<String>) -> Error {
        Error { words: words.into(), code: None, privilege: None }
    }

    /// What cannot be done because of `why`.
    pub(crate) fn cannot(what: &str, why: &str) -> Error {
        Error::new(format!("cannot {what}: {why}"))
    }

    /// A refusal of the server. Of its `text` only the name of a privilege is kept.
    pub(crate) fn refused(what: &str, code: u16, text: &str) -> Error {
        let privilege = PRIVILEGES.into_iter().find(|name| text.contains(name));
        Error { code: Some(code), privilege, ..Error::cannot(what, &words(code)) }
    }

    /// The server's error number; `None` when the error is not the server's.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        self.code
    }

    /// Whether the server refused with one of these numbers.
    #[must_use]
    pub fn is(&self, codes: &[u16]) -> bool {
        self.code.is_some_and(|code| codes.contains(&code))
    }

    /// The privilege that is missing, where the server names one.
    #[must_use]
    pub fn privilege(&self) -> Option<&'static str> {
        self.privilege
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.words)
    }
}

impl std::error::Error for Error {}

/// The privileges that a server may name in a refusal.
const PRIVILEGES: [&str; 7] = [
    "REPLICATION CLIENT",
    "REPLICATION SLAVE ADMIN",
    "REPLICATION MASTER ADMIN",
    "SLAVE MONITOR",
    "REPLICA MONITOR",
    "BINLOG MONITOR",
    "REPLICATION SLAVE",
];

/// Defines each number under its name in the manuals, and one table of all numbers with our words.
macro_rules! server_errors {
    ($($name:ident = $code:literal $words:literal)*) => {
        $(#[doc = $words] pub const $name: u16 = $code;)*
        const WORDS: &[(u16, &str)] = &[$(($code, $words)),*];
    };
}

// Source: the error references of `MySQL` 9.4 and `MariaDB` 11.8.
server_errors! {
    ER_DISK_FULL = 1021 "the disk is full"
    ER_CON_COUNT_ERROR = 1040 "too many connections"
    ER_DBACCESS_DENIED_ERROR = 1044 "missing privilege"
    ER_ACCESS_DENIED_ERROR = 1045 "access denied"
    ER_UNKNOWN_COM_ERROR = 1047 "the node is not ready"
    ER_BAD_DB_ERROR = 1049 "no such database"
    ER_SERVER_SHUTDOWN = 1053 "the server is shutting down"
    ER_BAD_FIELD_ERROR = 1054 "no such column"
    ER_PARSE_ERROR = 1064 "syntax error"
    ER_RECORD_FILE_FULL = 1114 "the table or its disk is full"
    ER_HOST_IS_BLOCKED = 1129 "this host is blocked"
    ER_HOST_NOT_PRIVILEGED = 1130 "this host is not allowed"
    ER_TABLEACCESS_DENIED_ERROR = 1142 "missing privilege"
    ER_NO_SUCH_TABLE = 1146 "no such table"
    ER_KEY_DOES_NOT_EXITS = 1176 "no such index"
    ER_UNKNOWN_SYSTEM_VARIABLE = 1193 "unknown system variable"
    ER_TOO_MANY_USER_CONNECTIONS = 1203 "too many connections of this account"
    ER_LOCK_WAIT_TIMEOUT = 1205 "a lock was not granted in time"
    ER_LOCK_DEADLOCK = 1213 "deadlock"
    ER_USER_LIMIT_REACHED = 1226 "the account has reached one of its limits"
    ER_SPECIFIC_ACCESS_DENIED_ERROR = 1227 "missing privilege"
    ER_OPTION_PREVENTS_STATEMENT = 1290 "an option of the server forbids it"
    ER_QUERY_INTERRUPTED = 1317 "the statement was killed"
    ER_TABLE_DEF_CHANGED = 1412 "the table was changed meanwhile"
    ER_ACCESS_DENIED_NO_PASSWORD_ERROR = 1698 "access denied"
    ER_MUST_CHANGE_PASSWORD = 1820 "the password has expired"
    ER_MUST_CHANGE_PASSWORD_LOGIN = 1862 "the password has expired"
    ER_STATEMENT_TIMEOUT_MARIADB = 1969 "the statement took too long"
    ER_QUERY_TIMEOUT = 3024 "the statement took too long"
    ER_SERVER_OFFLINE_MODE = 3032 "the server is in offline mode"
    ER_ACCOUNT_HAS_BEEN_LOCKED = 3118 "the account is locked"
    ER_SECURE_TRANSPORT_REQUIRED = 3159 "the server requires TLS, set `ssl-mode`"
    ER_ACCOUNT_HAS_BEEN_LOCKED_MARIADB = 4151 "the account is locked"
}

fn words(code: u16) -> String {
    match WORDS.iter().find(|(known, _)| *known == code) {
        Some((_, words)) => format!("{words} ({code})"),
        None => format!("error {code}"),
    }
}

/// Our words for an error of the connection.
pub(crate) fn io_words(kind: ErrorKind) -> String {
    match kind {
        ErrorKind::NotFound => "no such socket".into(),
        // Such as a link-local address of IPv6 without its interface. The length of a socket's path is checked before.
        ErrorKind::InvalidInput => "the system rejects this address".into(),
        ErrorKind::BrokenPipe
        | ErrorKind::UnexpectedEof
        | ErrorKind::ConnectionReset
        | ErrorKind::ConnectionAborted => "the server closed the connection".into(),
        ErrorKind::InvalidData => "the reply is not the MySQL protocol".into(),
        kind => kind.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_our_words_and_the_number() {
        let error = Error::refused("log in", ER_ACCESS_DENIED_ERROR, "Access denied for user 't'");
        assert_eq!(error.to_string(), "cannot log in: access denied (1045)");
        assert!(error.is(&[ER_ACCESS_DENIED_ERROR]) && !error.is(&[ER_PARSE_ERROR]));
        assert_eq!(Error::refused("query", 4242, "secret").to_string(), "cannot query: error 4242");
        assert_eq!(Error::new("x").code(), None);
    }

    #[test]
    fn a_missing_privilege_is_named_as_the_server_names_it() {
        let text = "Access denied; you need (at least one of) the SUPER, SLAVE MONITOR privilege(s) for this operation";
        let error = Error::refused("query", ER_SPECIFIC_ACCESS_DENIED_ERROR, text);
        assert_eq!(error.to_string(), "cannot query: missing privilege (1227)");
        assert_eq!(error.privilege(), Some("SLAVE MONITOR"));
    }
}
