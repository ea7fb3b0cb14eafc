//! The system users that checks run as.

use std::fs;

use crate::shell::system;

/// A system user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Account {
    pub(crate) name: String,
    pub(crate) uid: u32,
    /// Its own group.
    pub(crate) gid: u32,
}

impl Account {
    /// The user of this name; `None` where there is none. `getent` knows also those that are in no file: a static program does not.
    pub(crate) fn named(name: &str) -> Option<Account> {
        Account::read(&entry("passwd", name)?)
    }

    /// The groups that it is in, and these, by name or number.
    pub(crate) fn groups_and(&self, more: &[String]) -> Vec<String> {
        let own = system("id").args(["-G", "--", &self.name]).output();
        let own = own.map_or_else(|_| String::new(), |shown| String::from_utf8_lossy(&shown.stdout).into_owned());
        own.split_whitespace().chain(more.iter().map(String::as_str)).map(str::to_owned).collect()
    }

    /// Reads a line of `passwd(5)`.
    fn read(line: &str) -> Option<Account> {
        let mut fields = line.split(':');
        let name = fields.next()?.to_owned();
        let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
        Some(Account { name, uid, gid })
    }
}

/// The id of a group.
pub(crate) fn group(name: &str) -> Option<u32> {
    entry("group", name)?.split(':').nth(2)?.parse().ok()
}

/// The line of a name in one of the databases of `getent`, or in the file of that database where there is no `getent`.
fn entry(database: &str, name: &str) -> Option<String> {
    if let Ok(found) = system("getent").args([database, "--", name]).output() {
        return Some(String::from_utf8_lossy(&found.stdout).trim_end().to_owned()).filter(|line| !line.is_empty());
    }
    let file = fs::read_to_string(format!("/etc/{database}")).ok()?;
    file.lines().find(|line| line.split(':').next() == Some(name)).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_of_passwd_is_a_user() {
        let read = Account::read("mysqlchk:x:998:997::/nonexistent:/usr/sbin/nologin\n");
        assert_eq!(read, Some(Account { name: "mysqlchk".into(), uid: 998, gid: 997 }));
        assert_eq!(Account::read(""), None);
    }
}
