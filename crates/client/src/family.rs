//! Which servers speak which SQL.

/// Which family of servers answers. The greeting of a `MariaDB` begins with `5.5.5-` or has `-MariaDB` in it; a `MariaDB`
/// whose option `version` hides that is taken for a `MySQL` of that version.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Family {
    /// `MariaDB`, any version.
    MariaDb,
    /// `MySQL`, Percona Server or XtraDB Cluster, with its version.
    MySql(u16, u16, u16),
}

impl Family {
    /// From what the driver makes of a greeting with our stand-in for `regex`; the real one does not have this constant.
    pub(crate) fn from_version(version: (u16, u16, u16)) -> Family {
        match version {
            regex::MARIADB => Family::MariaDb,
            (major, minor, patch) => Family::MySql(major, minor, patch),
        }
    }
}
