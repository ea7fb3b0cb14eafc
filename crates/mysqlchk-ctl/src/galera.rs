//! Whether a Galera cluster can do without this node, as `galera-chk` sees it.

use std::env;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use anyhow::{Result, bail};
use serde_json::Value;

/// Refuses for a node outside the primary component and for the last member. A server that is not a Galera node, and one that
/// cannot be asked, is nothing to protect.
///
/// # Errors
/// Such a node, with the option that does it all the same.
pub(crate) fn ensure_not_needed() -> Result<()> {
    // The one that was installed with this program.
    let beside = env::current_exe().ok().and_then(|path| Some(path.parent()?.join("galera-chk")));
    let program = beside.filter(|path| path.exists()).unwrap_or_else(|| PathBuf::from("galera-chk"));
    let asked = Command::new(program).args(["--format=json", "--ignore-maintenance"]).stdin(Stdio::null()).output();
    let answer = asked.ok().and_then(|output| serde_json::from_slice::<Value>(&output.stdout).ok()).unwrap_or_default();
    judge(answer.get("facts").unwrap_or(&Value::Null))
}

fn judge(facts: &Value) -> Result<()> {
    let text = |name: &str| facts.get(name).and_then(Value::as_str).unwrap_or_default();
    if !["1", "ON"].contains(&text("wsrep_on")) {
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
