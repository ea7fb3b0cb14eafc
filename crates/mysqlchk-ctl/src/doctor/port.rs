//! The port of a service: who listens there, and what HAProxy would get.

use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use check::PROBES;
use client::duration;

use super::program::Run;
use super::service::{By, Service};
use super::{Finding, Report};
use crate::processes::Process;
use crate::shell::quoted;
use crate::sockets;

/// How much longer than the budget of the check its answer may take on the way.
const GRACE: Duration = Duration::from_secs(2);
/// An answer is a few hundred bytes.
const ANSWER_MAX: usize = 64 * 1024;
/// In what xinetd sends to whom it turns away.
const BANNER: &str = "this address may not ask";

pub(super) fn examine(service: &Service, run: &Run, has_note: bool, report: &mut Report) {
    let about = format!("port {}", service.port);
    let (expected, name) = match &service.by {
        By::Xinetd(entry) => (entry.process, "xinetd"),
        By::Systemd(unit) => (Some(unit.process()), "systemd"),
    };
    let Some(inode) = sockets::listener(service.ip, service.port) else {
        let found = format!("nobody listens, and {} is on", service.name);
        report.add(Finding::fail(about, found).cured_by(service.restart()));
        return;
    };
    // Not root: it is not seen who it is.
    if let Some(other) = Process::with_socket(inode).filter(|holder| Some(holder.id) != expected) {
        let found = format!("{} (process {}) listens, not {name}", other.name, other.id);
        // It may be somebody's database: 9200 is the port of Elasticsearch as well.
        let cure = format!("# {} && {}", stop(&other), service.restart());
        report.add(Finding::fail(about, found).cured_by(cure));
        return;
    }
    let ip = service.ip.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
    if service.lets_in(ip) == Some(false) {
        report.add(Finding::ok(about, format!("not asked: {ip} is not in only_from")));
        return;
    }
    let form = service.argument("--format");
    if form.as_deref() == Some("agent") {
        report.add(match exchange(SocketAddr::new(ip, service.port), b"", run.budget + GRACE) {
            Ok(bytes) if bytes.ends_with(b"\n") => {
                let line = String::from_utf8_lossy(&bytes);
                Finding::ok(about, format!("a whole answer of an agent: {}", line.trim_end()))
            }
            Ok(_) => Finding::fail(about, "no whole answer of an agent").cured_by(service.restart()),
            Err(why) => Finding::fail(about, format!("no whole answer of an agent: {why}")).cured_by(service.restart()),
        });
        return;
    }
    // Metrics are there also when the check is down; and with a note a service answers what that says.
    let is_verdict = !has_note && form.as_deref() != Some("prometheus");
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
            Ok(answer) if is_verdict && (answer.status == 200) != run.is_up() => {
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
    match process.unit() {
        Some(unit) => format!("systemctl disable --now {}", quoted(&unit)),
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
        self.reason.contains(BANNER) || self.reason.starts_with("down: not for ")
    }

    fn is_of(&self, reason: &str) -> bool {
        self.reason.ends_with(reason)
    }
}

/// Asks as HAProxy does, and judges what comes.
fn ask(address: SocketAddr, request: &[u8], limit: Duration) -> Result<Answer, String> {
    let begin = Instant::now();
    let bytes = exchange(address, request, limit)?;
    let (status, reason) = judge(&String::from_utf8_lossy(&bytes))?;
    Ok(Answer { status, reason, time: begin.elapsed() })
}

/// Sends a request, and returns all that comes within this time.
fn exchange(address: SocketAddr, request: &[u8], limit: Duration) -> Result<Vec<u8>, String> {
    let words = |error: std::io::Error| match error.kind() {
        ErrorKind::WouldBlock | ErrorKind::TimedOut => format!("nothing within {}", duration::show(limit)),
        ErrorKind::ConnectionReset => "connection reset".to_owned(),
        kind => kind.to_string(),
    };
    let end = Instant::now() + limit;
    let mut stream = TcpStream::connect_timeout(&address, limit).map_err(words)?;
    stream.set_write_timeout(Some(limit)).map_err(words)?;
    stream.write_all(request).map_err(words)?;
    let mut bytes = Vec::new();
    let mut chunk = [0; 4096];
    while bytes.len() < ANSWER_MAX {
        let left = end.saturating_duration_since(Instant::now());
        // Zero would be no limit.
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(words)?;
        match stream.read(&mut chunk) {
            Ok(0) => return Ok(bytes),
            Ok(length) if !left.is_zero() => bytes.extend(chunk.iter().take(length)),
            Ok(_) => return Err(format!("no end of it within {}", duration::show(limit))),
            // xinetd leaves what it refuses unread, and a reset follows its banner.
            Err(_) if String::from_utf8_lossy(&bytes).contains(BANNER) => return Ok(bytes),
            Err(error) => return Err(words(error)),
        }
    }
    Err("it has no end".to_owned())
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
        // Of a page of metrics the first line is enough.
        _ => Ok((status, body.lines().next().unwrap_or(first).to_owned())),
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
