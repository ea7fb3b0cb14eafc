//! What a service runs: that it can be run, and what it answers to its own user.

use std::fs;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::MetadataExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use check::DEFAULT_BUDGET;
use client::{command_line, duration, options};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::retry_on_intr;
use serde_json::Value;

use super::service::{By, Service, Setting};
use super::{Finding, Report, reason};
use crate::account::{self, Account};
use crate::shell::quoted;

/// How many runs are timed.
const RUNS: usize = 20;
/// How much longer than its budget a check may take until it is ended.
const GRACE: Duration = Duration::from_secs(5);
/// What is read of what a check writes, in bytes.
const ANSWER_MAX: u64 = 256 * 1024;

/// A check as its user sees it.
#[derive(Debug)]
pub(super) struct Run {
    /// `up`, `drain` or `down`.
    pub(super) verdict: String,
    pub(super) reason: String,
    pub(super) budget: Duration,
    /// The options in force, as they are typed, those of the option files first; a password as stars.
    options: Vec<String>,
}

impl Run {
    pub(super) fn is_up(&self) -> bool {
        self.verdict == "up"
    }

    /// The value of an option; the last one counts.
    pub(super) fn option(&self, option: &str) -> Option<String> {
        command_line::value_of(option, &self.options)?.into_string().ok()
    }

    /// Whether an option could lead elsewhere than to the socket.
    pub(super) fn may_ask_elsewhere(&self) -> bool {
        let is_elsewhere = |option: &String| {
            ["--host", "--port", "--protocol"].iter().any(|long| option.starts_with(long))
                || ["-h", "-P", "-S", "-u"].iter().any(|short| option.starts_with(short))
        };
        self.options.iter().any(is_elsewhere)
    }

    pub(super) fn option_file(&self) -> String {
        self.option("--defaults-file").unwrap_or_else(|| options::DEFAULT_FILE.to_owned())
    }
}

/// Runs the check of a service; `None` where it cannot be run.
pub(super) fn examine(service: &Service, has_note: bool, report: &mut Report) -> Option<Run> {
    let Some(mut account) = Account::named(&service.user) else {
        report.add(without_user(service));
        return None;
    };
    if let Some(gid) = service.group.as_deref().and_then(account::group) {
        account.gid = gid;
    }
    let shown = match of_file(service, &account) {
        Ok(()) => output(service, &account, &["--print-defaults"], DEFAULT_BUDGET + GRACE),
        Err(finding) => {
            report.add(finding);
            return None;
        }
    };
    if shown.is_empty() {
        report.add(of_rights(service, &account));
        return None;
    }
    report.add(Finding::ok(&service.name, format!("runs {} as {}", service.program.display(), service.user)));
    if let Some(finding) = selinux(service) {
        report.add(finding);
    }
    let lines = shown.lines().skip(1).map(str::to_owned).chain(service.arguments.iter().cloned());
    let mut run =
        Run { verdict: String::new(), reason: String::new(), budget: DEFAULT_BUDGET, options: lines.collect() };
    run.budget = run.option("--timeout").and_then(|text| duration::parse(&text).ok()).unwrap_or(DEFAULT_BUDGET);
    let mut times = Vec::new();
    while times.len() < RUNS {
        let more = if has_note { &["--format=json", "--ignore-maintenance"][..] } else { &["--format=json"] };
        let begin = Instant::now();
        let answer = output(service, &account, more, run.budget + GRACE);
        times.push(begin.elapsed());
        let Ok(answer) = serde_json::from_str::<Value>(&answer) else {
            report.add(Finding::fail(
                &service.name,
                format!("gives no verdict within {}", duration::show(run.budget + GRACE)),
            ));
            return None;
        };
        let text = |name: &str| answer.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        (run.verdict, run.reason) = (text("verdict"), text("reason"));
        // Twenty of these would take long, and say no more.
        if !run.is_up() {
            break;
        }
    }
    let found = format!("{}: {}", run.verdict, run.reason);
    report.add(if run.is_up() {
        Finding::ok(&service.name, found)
    } else {
        Finding::fail(&service.name, found).cured_by(reason::cure(&run, service, &account))
    });
    if run.is_up() {
        report.add(of_times(service, &run, times));
    }
    Some(run)
}

fn without_user(service: &Service) -> Finding {
    if let By::Systemd(unit) = &service.by
        && unit.has_dynamic_user
    {
        let found = "DynamicUser=yes: the doctor cannot be a user that is made for each connection";
        return Finding::warn(&service.name, found).cured_by(format!("# {}", unit.static_user()));
    }
    let found = format!("its user {} does not exist", service.user);
    let cure = format!("useradd --system --no-create-home --shell /usr/sbin/nologin {}", quoted(&service.user));
    Finding::fail(&service.name, found).cured_by(service.and_reload(&cure))
}

fn of_times(service: &Service, run: &Run, mut times: Vec<Duration>) -> Finding {
    times.sort();
    let (middle, last) = (times.get(times.len() / 2), times.last());
    let (middle, longest) = (middle.copied().unwrap_or_default(), last.copied().unwrap_or_default());
    let millis = |time: Duration| format!("{:.1} ms", time.as_secs_f64() * 1000.0);
    let found = format!(
        "{RUNS} runs took {}, the longest {}; --timeout is {}",
        millis(middle),
        millis(longest),
        duration::show(run.budget)
    );
    if longest * 2 < run.budget {
        return Finding::ok(&service.name, found);
    }
    let cure = match service.argument("--timeout") {
        Some(_) if run.budget < DEFAULT_BUDGET => service.set_argument("--timeout", "900ms"),
        _ => "# find what the server waits for; or raise --timeout, `timeout check` and `inter` together".to_owned(),
    };
    Finding::warn(&service.name, found).cured_by(cure)
}

/// Whether the program is there; one that is run as root must be root's.
fn of_file(service: &Service, account: &Account) -> Result<(), Finding> {
    let path = &service.program;
    let about = fs::metadata(path).map_err(|error| {
        let why =
            if error.kind() == ErrorKind::NotFound { "no such file".to_owned() } else { error.kind().to_string() };
        let finding = Finding::fail(&service.name, format!("cannot find its program {}: {why}", path.display()));
        match beside_us(service.program_name()) {
            Some(here) => finding.cured_by(service.set(Setting::Program, &here.display().to_string())),
            None => finding.cured_by("# install the package, or correct the path"),
        }
    })?;
    if account.uid == 0 && (about.uid() != 0 || about.mode() & 0o022 != 0) {
        let found = format!("{} is run as root, and others may change it", path.display());
        return Err(Finding::fail(&service.name, found));
    }
    Ok(())
}

/// Why this user cannot run a program that is there.
fn of_rights(service: &Service, account: &Account) -> Finding {
    let path = &service.program;
    let closed = path.ancestors().find(|path| !fs::metadata(path).is_ok_and(|about| may_execute(&about, account)));
    let Some(closed) = closed else {
        return Finding::fail(&service.name, format!("{} cannot be run by {}", path.display(), service.user));
    };
    let found = format!("{} may not run {}: see {}", service.user, path.display(), closed.display());
    let mode = if closed == path { "755" } else { "a+x" };
    let cure = service.and_reload(&format!("chmod {mode} {}", quoted(&closed.display().to_string())));
    // The directory of a person is closed on purpose.
    let cure = if path.starts_with("/usr") { cure } else { format!("# {cure}") };
    Finding::fail(&service.name, found).cured_by(cure)
}

/// By owner, group and mode.
pub(super) fn may_execute(about: &fs::Metadata, account: &Account) -> bool {
    let class = if about.uid() == account.uid {
        6
    } else if about.gid() == account.gid {
        3
    } else {
        0
    };
    if account.uid == 0 { about.mode() & 0o111 != 0 } else { about.mode() >> class & 1 == 1 }
}

/// The program of this name that was installed with this one.
fn beside_us(name: &str) -> Option<PathBuf> {
    let path = std::env::current_exe().ok()?.parent()?.join(name);
    path.exists().then_some(path)
}

/// `SELinux`, where it is in force: xinetd runs what has the type `bin_t`.
fn selinux(service: &Service) -> Option<Finding> {
    let is_enforcing = fs::read_to_string("/sys/fs/selinux/enforce").is_ok_and(|text| text.trim() == "1");
    let mut context = vec![0; 256];
    let path = &service.program;
    let length =
        is_enforcing.then(|| rustix::fs::getxattr(path, "security.selinux", context.as_mut_slice()).ok())??;
    context.truncate(length);
    let context = String::from_utf8_lossy(&context).trim_end_matches('\0').to_owned();
    let kind = context.split(':').nth(2).unwrap_or_default();
    let found = format!("SELinux is enforcing, {} is {context}", path.display());
    Some(if ["bin_t", "inetd_child_exec_t"].contains(&kind) {
        Finding::ok(&service.name, found)
    } else {
        let cure = format!("restorecon -v {}", quoted(&path.display().to_string()));
        Finding::warn(&service.name, found).cured_by(cure)
    })
}

/// What the check writes, run as its service would: its user, its arguments, its environment, and nothing to read.
fn output(service: &Service, account: &Account, more: &[&str], limit: Duration) -> String {
    let mut command = as_user(service, account);
    command.args(&service.arguments).args(more).env_clear().current_dir("/");
    command.envs(service.environment.iter().map(|(name, value)| (name, value)));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
    let Ok(mut child) = command.spawn() else { return String::new() };
    let answer = child.stdout.take().and_then(|stdout| read_until(stdout, Instant::now() + limit));
    if answer.is_none() {
        let _ = child.kill();
    }
    let _ = child.wait();
    answer.unwrap_or_default()
}

/// All that comes from a program; `None` where it does not end in time.
fn read_until(mut stdout: ChildStdout, end: Instant) -> Option<String> {
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok()?;
        let ready = retry_on_intr(|| poll(&mut [PollFd::new(&stdout, PollFlags::IN)], Some(&left))).ok()?;
        let length = if ready == 0 { return None } else { stdout.read(&mut chunk).ok()? };
        bytes.extend(chunk.get(..length)?);
        if length == 0 {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
        if bytes.len() as u64 > ANSWER_MAX {
            return None;
        }
    }
}

/// In a session of its own: a program of another user shall not reach the terminal of root.
fn as_user(service: &Service, account: &Account) -> Command {
    let mut command = Command::new("/usr/bin/setsid");
    if rustix::process::geteuid().is_root() {
        if service.has_all_groups {
            // The standard library sets no other groups.
            command.arg("/usr/bin/setpriv").arg(format!("--reuid={}", account.uid));
            command.arg(format!("--regid={}", account.gid));
            match &*service.more_groups {
                [] => command.arg("--init-groups"),
                more => command.arg(format!("--groups={}", account.groups_and(more).join(","))),
            };
            command.arg("--");
        } else {
            command.uid(account.uid).gid(account.gid);
        }
    }
    command.arg(&service.program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_of_an_option_counts() {
        let arguments = ["--timeout", "2s", "--reason-phrase", "--only-from=::1", "-h", "db"].map(str::to_owned);
        let options = ["--timeout=1s".to_owned()].into_iter().chain(arguments).collect();
        let run = Run { verdict: "up".into(), reason: String::new(), budget: DEFAULT_BUDGET, options };
        assert_eq!(run.option("--timeout").as_deref(), Some("2s"));
        assert_eq!(run.option("--only").as_deref(), None);
        assert_eq!(run.option_file(), "/etc/mysqlchk/my.cnf");
    }
}
