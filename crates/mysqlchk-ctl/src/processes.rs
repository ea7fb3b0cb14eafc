//! The processes of this host, as `/proc` shows them (proc(5)).

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

/// A process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) id: u32,
    /// At most 15 bytes of the name of its program.
    pub(crate) name: String,
}

impl Process {
    fn all() -> impl Iterator<Item = Process> {
        let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
        entries.filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            let name = fs::read_to_string(entry.path().join("comm")).ok()?.trim_end().to_owned();
            Some(Process { id, name })
        })
    }

    /// The daemon of this name that has our network: one of a container has its own ports. Anybody can give a process a name, so
    /// it must be root's, and run a program of that name that is root's as well.
    pub(crate) fn daemon(name: &str) -> Option<Process> {
        let own = fs::read_link("/proc/self/ns/net").ok();
        let has_our_network = |process: &Process| fs::read_link(process.path("ns/net")).ok() == own;
        Process::all()
            .filter(|process| process.name == name)
            .find(|process| process.is_roots(name) && has_our_network(process))
    }

    fn is_roots(&self, program: &str) -> bool {
        let status = fs::read_to_string(self.path("status")).unwrap_or_default();
        let ids = status.lines().find_map(|line| line.strip_prefix("Uid:"));
        let is_root = ids.is_some_and(|ids| ids.split_whitespace().all(|id| id == "0"));
        let path = fs::read_link(self.path("exe")).unwrap_or_default();
        let owner = fs::metadata(self.path("exe")).map(|about| about.uid());
        is_root && owner.is_ok_and(|owner| owner == 0) && path.file_name().is_some_and(|name| name == program)
    }

    /// The unit of systemd that it belongs to.
    pub(crate) fn unit(&self) -> Option<String> {
        let groups = fs::read_to_string(self.path("cgroup")).ok()?;
        let last = groups.lines().find_map(|line| line.strip_prefix("0::"))?.rsplit('/').next()?.to_owned();
        last.ends_with(".service").then_some(last)
    }

    /// The first process that has the socket of this inode open.
    pub(crate) fn with_socket(inode: u64) -> Option<Process> {
        let link = PathBuf::from(format!("socket:[{inode}]"));
        Process::all().find(|process| {
            let open = fs::read_dir(process.path("fd")).into_iter().flatten().flatten();
            open.into_iter().any(|fd| fs::read_link(fd.path()).is_ok_and(|to| to == link))
        })
    }

    fn path(&self, name: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/{name}", self.id))
    }

    /// What it was started with; empty where that cannot be seen.
    pub(crate) fn arguments(&self) -> Vec<String> {
        self.strings("cmdline")
    }

    /// Its environment, as it was at its start.
    pub(crate) fn environment(&self) -> Vec<(String, String)> {
        let pairs = self.strings("environ");
        pairs.iter().filter_map(|pair| pair.split_once('=')).map(|(n, v)| (n.to_owned(), v.to_owned())).collect()
    }

    fn strings(&self, name: &str) -> Vec<String> {
        let bytes = fs::read(self.path(name)).unwrap_or_default();
        let strings = bytes.split(|byte| *byte == 0).map(|bytes| String::from_utf8_lossy(bytes).into_owned());
        let mut strings: Vec<String> = strings.collect();
        // Each ends with a NUL.
        strings.pop();
        strings
    }

    /// When it was started, in seconds since 1970, by the clock as it is set now.
    pub(crate) fn started(&self) -> Option<i64> {
        let stat = fs::read_to_string(self.path("stat")).ok()?;
        // The name may hold blanks and parentheses; the 22nd field counts from the first.
        let ticks: i64 = stat.rsplit_once(')')?.1.split_whitespace().nth(19)?.parse().ok()?;
        let boot = fs::read_to_string("/proc/stat").ok()?;
        let boot: i64 = boot.lines().find_map(|line| line.strip_prefix("btime "))?.trim().parse().ok()?;
        Some(boot + ticks / TICKS)
    }
}

/// Ticks of a second in `/proc`: the same on every Linux (`USER_HZ`).
const TICKS: i64 = 100;

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::{SystemTime, UNIX_EPOCH};

    #[test]
    fn this_process_was_started_just_now() {
        let id = std::process::id();
        let process = Process::all().find(|process| process.id == id).unwrap();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        let age = i64::try_from(now).unwrap() - process.started().unwrap();
        assert!((-1..600).contains(&age), "{age}");
        assert!(!process.arguments().is_empty());
    }
}
