//! Whether a Galera cluster can do without this node, as `galera-chk` sees it.

use std::env;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use anyhow::{Result, bail};
use serde_json::Value;

use crate::account::Account;

/// The user of the checks, as `make install` makes it: an account without a password lets in nobody else.
const CHECK_USER: &str = "mysqlchk";

/// Refuses for a node outside the primary component and for the last member. A server that is not a Galera node, or that is
/// down, is nothing to protect; that nobody could be asked is said on standard error.
///
/// # Errors
/// Such a node, with the option that does it all the same.
pub(crate) fn ensure_not_needed(option_file: Option<&Path>, instance: Option<u16>) -> Result<()> {
    let answer =
        ask(option_file, instance).ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok());
    let answer = answer.unwrap_or_default();
    if let Some(facts) = answer.get("facts").filter(|facts| !facts.is_null()) {
        return judge(facts);
    }
    let reason = answer.get("reason").and_then(Value::as_str).unwrap_or("galera-chk cannot be run");
    let _ = writeln!(io::stderr(), "mysqlchk-ctl: cannot tell whether this is a Galera node: {reason}");
    Ok(())
}

/// Whether this host is a Galera node; `None` where its server does not say.
pub(crate) fn is_node() -> Option<bool> {
    let answer: Value = serde_json::from_slice(&ask(None, None).ok()?.stdout).ok()?;
    let facts = answer.get("facts").filter(|facts| !facts.is_null())?;
    Some(is_on(facts))
}

fn is_on(facts: &Value) -> bool {
    facts.get("wsrep_on").and_then(Value::as_str).is_some_and(|on| ["1", "ON"].contains(&on))
}

/// What the `galera-chk` says that was installed with this program, asked as the user of the checks.
fn ask(option_file: Option<&Path>, instance: Option<u16>) -> io::Result<Output> {
    let beside = env::current_exe().ok().and_then(|path| Some(path.parent()?.join("galera-chk")));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("galera-chk"));
    let mut command = Command::new(program);
    if let Some(file) = option_file {
        command.arg("--defaults-file").arg(file);
    }
    command.args(["--format=json", "--ignore-maintenance"]).stdin(Stdio::null()).stderr(Stdio::null());
    if let Some(port) = instance {
        command.arg(format!("--port={port}"));
    }
    if let Some(user) = Account::named(CHECK_USER).filter(|_| rustix::process::geteuid().is_root()) {
        command.uid(user.uid).gid(user.gid);
    }
    command.output()
}

fn judge(facts: &Value) -> Result<()> {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default();
    if !is_on(facts) {
        return Ok(());
    }
    let status = text("wsrep_cluster_status");
    if !status.eq_ignore_ascii_case("Primary") {
        bail!("wsrep_cluster_status is {status}, not Primary: repair the cluster first, or add `--force`");
    }
    if facts.get("wsrep_cluster_size").and_then(Value::as_u64) == Some(1) {
        bail!("this node is the last member of its cluster: start another one first, or add `--force`");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_cluster_keeps_its_last_member() {
        let node =
            |status: &str, size| json!({"wsrep_on": "1", "wsrep_cluster_status": status, "wsrep_cluster_size": size});
        assert!(judge(&node("Primary", 2)).is_ok());
        assert!(judge(&node("Primary", 1)).unwrap_err().to_string().contains("last member"));
        assert!(judge(&node("non-Primary", 3)).unwrap_err().to_string().contains("not Primary"));
        assert!(judge(&json!({"wsrep_on": "0"})).is_ok());
        assert!(judge(&Value::Null).is_ok());
    }
}
