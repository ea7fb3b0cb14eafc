//! The port of a service: who listens there, and what HAProxy would get.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, Shutdown, SocketAddr, TcpStream};
use std::process::Command;
use std::time::{Duration, Instant};

use check::PROBES;
use client::duration;

use super::program::Run;
use super::service::{By, Service};
use super::{Finding, Report};
use crate::processes::Process;
use crate::sockets;

/// How much longer than the budget of the check its answer may take on the way.
const GRACE: Duration = Duration::from_secs(2);
/// An answer is a few hundred bytes.
const ANSWER_MAX: u64 = 64 * 1024;

pub(super) fn examine(service: &Service, run: &Run, has_note: bool, report: &mut Report) {
    let about = format!("port {}", service.port);
    let holder = sockets::listener(service.ip, service.port);
    let expected = match &service.by {
        By::Xinetd(_) => "xinetd",
        By::Systemd(unit) => unit.listener(),
    };
    let holder = match holder {
        None => {
            let found = format!("nobody listens, and {} is on", service.name);
            report.add(Finding::fail(about, found).cured_by(service.restart()));
            return;
        }
        // Not root: it is not seen who it is.
        Some(inode) => Process::with_socket(inode),
    };
    if let Some(other) = holder.filter(|holder| holder.name != expected) {
        let found = format!("{} (process {}) listens, not {expected}", other.name, other.id);
        let stop = stop(&other);
        report.add(Finding::fail(about, found).cured_by(format!("{stop} && {}", service.restart())));
        return;
    }
    let ip = service.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    for (name, request) in PROBES {
        let address = SocketAddr::new(ip, service.port);
        match ask(address, request, run.budget + GRACE) {
            Ok(answer) if answer.is_refusal() && !answer.is_of(&run.reason) => {
                report.add(Finding::warn(
                    about,
                    format!("{ip} may not ask, so its answer is not seen: {}", answer.reason),
                ));
                return;
            }
            Ok(answer) if answer.time > run.budget => {
                let took =
                    duration::show(Duration::from_millis(answer.time.as_millis().try_into().unwrap_or(u64::MAX)));
                let found = format!("the answer to {name} took {took}, --timeout is {}", duration::show(run.budget));
                report.add(Finding::warn(&*about, found));
            }
            // With a note the service answers what the note says.
            Ok(answer) if !has_note && (answer.status == 200) != run.is_up() => {
                let found =
                    format!("answers {} to {name}, and {} is {} by itself", answer.reason, service.name, run.verdict);
                report.add(Finding::fail(about, found).cured_by(service.restart()));
                return;
            }
            Ok(answer) => report.add(Finding::ok(&*about, format!("a whole answer to {name}: {}", answer.reason))),
            Err(why) => {
                report.add(
                    Finding::fail(&*about, format!("no whole answer to {name}: {why}")).cured_by(service.restart()),
                );
            }
        }
    }
}

/// The command that ends whoever holds a port: its unit, else the process.
fn stop(process: &Process) -> String {
    let show = Command::new("systemctl").args(["whoami", &process.id.to_string()]).output();
    let unit = show.ok().filter(|done| done.status.success());
    let unit = unit.map(|done| String::from_utf8_lossy(&done.stdout).trim().to_owned());
    match unit.filter(|unit| unit.ends_with(".service")) {
        Some(unit) => format!("systemctl disable --now {unit}"),
        // The port is free once it has ended.
        None => format!("kill {0} && timeout 10 tail --pid={0} -f /dev/null", process.id),
    }
}

/// What came back.
struct Answer {
    status: u16,
    /// The body, or the status line where there is none.
    reason: String,
    time: Duration,
}

impl Answer {
    /// xinetd's banner, or the refusal of `--only-from`.
    fn is_refusal(&self) -> bool {
        self.reason.contains("this address may not ask") || self.reason.starts_with("down: not for ")
    }

    fn is_of(&self, reason: &str) -> bool {
        self.reason.ends_with(reason)
    }
}

/// Asks as HAProxy does, and judges what comes.
fn ask(address: SocketAddr, request: &[u8], limit: Duration) -> Result<Answer, String> {
    let words = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing within {}", duration::show(limit)),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        kind => kind.to_string(),
    };
    let begin = Instant::now();
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(words)?;
    stream.set_read_timeout(Some(limit)).map_err(words)?;
    stream.set_write_timeout(Some(limit)).map_err(words)?;
    stream.write_all(request).map_err(words)?;
    let mut bytes = Vec::new();
    let read = (&stream).take(ANSWER_MAX).read_to_end(&mut bytes);
    let _ = stream.shutdown(Shutdown::Both);
    let text = String::from_utf8_lossy(&bytes).into_owned();
    match read {
        // xinetd leaves what it refuses unread, and a reset follows its banner.
        Err(error) if !text.contains("this address may not ask") => return Err(words(error)),
        _ => {}
    }
    let (status, reason) = judge(&text)?;
    Ok(Answer { status, reason, time: begin.elapsed() })
}

/// The status of an answer and its reason, where it is a whole one.
fn judge(text: &str) -> Result<(u16, String), String> {
    if text.is_empty() {
        return Err("an empty one".to_owned());
    }
    let mut lines = text.split_inclusive('\n');
    let first = lines.next().unwrap_or_default().trim_end();
    let mut words = first.split(' ');
    let status = words.next().filter(|word| word.starts_with("HTTP/1.")).and_then(|_| words.next()?.parse().ok());
    let status = status.ok_or_else(|| format!("its first line is `{}`", first.chars().take(60).collect::<String>()))?;
    let head: Vec<&str> = lines.by_ref().map(str::trim_end).take_while(|line| !line.is_empty()).collect();
    let body: String = lines.collect();
    let length = head.iter().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        value.trim().parse::<usize>().ok().filter(|_| name.eq_ignore_ascii_case("content-length"))
    });
    match length {
        Some(length) if length != body.len() => {
            Err(format!("its Content-Length is {length}, it has {} bytes", body.len()))
        }
        _ => Ok((status, Some(body.trim_end()).filter(|body| !body.is_empty()).unwrap_or(first).to_owned())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_whole_or_it_is_none() {
        let of = |head: &str, body: &str| judge(&format!("{}\n\n{body}", head.replace(';', "\n")));
        assert_eq!(of("HTTP/1.1 200 OK;Content-Length: 3", "up\n"), Ok((200, "up".into())));
        assert_eq!(of("HTTP/1.1 503 no", ""), Ok((503, "HTTP/1.1 503 no".into())));
        assert!(of("HTTP/1.1 200 OK;content-length: 4", "up\n").is_err());
        assert!(of("up 50%", "").is_err());
        assert!(judge("").is_err());
    }
}
