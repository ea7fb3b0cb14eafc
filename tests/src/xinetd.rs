//! The shipped service files behind the real super-server.
//!
//! A file is taken as it is; a test changes single attributes (`bind`, `port`, `user`, `server`) and every other
//! line stays as shipped.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::time::Duration;

use crate::daemon::{Daemon, program};
use crate::http::Reply;
use crate::scratch::Scratch;
use crate::{address, user};

/// Debian's `xinetd.conf`, with the log turned on.
const DEFAULTS: &str = "\
defaults
{
\tlog_type = FILE DIR/log
\tlog_on_success = PID HOST EXIT DURATION
\tlog_on_failure = HOST
}
includedir DIR/xinetd.d
";

/// The text of one file of services, perhaps with some attributes changed.
#[derive(Clone, Debug)]
pub struct Services(String);

impl Services {
    /// The text of a file in `xinetd.d/`.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// Reads a file in the form of `xinetd.d/`.
    #[must_use]
    pub fn read(path: impl AsRef<std::path::Path>) -> Self {
        let path = path.as_ref();
        Self(std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display())))
    }

    /// The service `control`: `sleep` for `time`, on port 9299 of `ip`. What it takes longer is the machine's doing, and
    /// that of xinetd, which starts one program after the other.
    #[must_use]
    pub fn control(ip: Ipv4Addr, time: Duration) -> Self {
        Self::new(format!(
            "service control\n{{\n\tdisable = no\n\ttype = UNLISTED\n\tbind = {ip}\n\tport = 9299\n\tprotocol = tcp\n\
             \tsocket_type = stream\n\twait = no\n\tuser = {}\n\tserver = {}\n\tserver_args = {}\n\
             \tcps = 1000 1\n\tlog_on_success =\n}}\n",
            user::unprivileged().name,
            program("sleep").display(),
            time.as_secs_f64(),
        ))
    }

    /// Gives `attribute` of `service` this value; the line is added when the file has none.
    #[must_use]
    pub fn set(self, service: &str, attribute: &str, value: impl ToString) -> Self {
        self.change(service, attribute, |_| value.to_string())
    }

    /// Adds to the value of `attribute` of `service`.
    #[must_use]
    pub fn append(self, service: &str, attribute: &str, value: &str) -> Self {
        self.change(service, attribute, |old| format!("{old} {value}").trim().to_owned())
    }

    /// The value of an attribute.
    #[must_use]
    pub fn value(&self, service: &str, attribute: &str) -> Option<String> {
        let mut inside = "";
        self.0.lines().find_map(|line| {
            inside = name_of_service(line).unwrap_or(inside);
            assignment(line)
                .filter(|(name, _)| inside == service && *name == attribute)
                .map(|(_, value)| value.to_owned())
        })
    }

    /// The names of the services, in the order of the file.
    #[must_use]
    pub fn names(&self) -> Vec<String> {
        self.0.lines().filter_map(name_of_service).map(str::to_owned).collect()
    }

    /// Where `service` is going to listen.
    #[must_use]
    #[track_caller]
    pub fn address(&self, service: &str) -> SocketAddr {
        let value = |name| self.value(service, name).unwrap_or_else(|| panic!("{service} has no {name}"));
        let ip: IpAddr = value("bind").parse().unwrap();
        SocketAddr::new(ip, value("port").parse().unwrap())
    }

    /// The text.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.0
    }

    fn change(self, service: &str, attribute: &str, value: impl Fn(&str) -> String) -> Self {
        assert!(self.names().iter().any(|name| name == service), "no service {service} in:\n{}", self.0);
        let absent = self.value(service, attribute).is_none();
        let mut inside = "";
        let mut text = String::new();
        for line in self.0.lines() {
            inside = name_of_service(line).unwrap_or(inside);
            match assignment(line) {
                Some((name, old)) if inside == service && name == attribute => {
                    text += &format!("{}= {}", &line[..line.find('=').unwrap()], value(old));
                }
                None if inside == service && absent && line.trim() == "}" => {
                    text += &format!("\t{attribute} = {}\n{line}", value(""));
                }
                _ => text += line,
            }
            text.push('\n');
        }
        Self(text)
    }
}

/// What a client may see that xinetd turns away: the whole banner, or nothing at all. xinetd closes with the request
/// unread, so a reset follows its banner and may discard it on the way; a load balancer takes either for down. A client
/// that sent nothing always gets the banner, and a clean end.
///
/// Whether it was the banner.
///
/// # Errors
/// What it was instead: part of the banner, or another answer.
pub fn refusal(banner: &str, request: &[u8], reply: &Reply) -> Result<bool, String> {
    let whole = reply.bytes == banner.as_bytes();
    // Only a request that nobody read makes a reset.
    if whole && !reply.reset || (whole || reply.bytes.is_empty()) && !request.is_empty() {
        return Ok(whole);
    }
    Err(format!("after {:?}: {reply:?}", String::from_utf8_lossy(request)))
}

fn name_of_service(line: &str) -> Option<&str> {
    line.trim().strip_prefix("service ").map(|rest| rest.trim_end_matches('{').trim())
}

fn assignment(line: &str) -> Option<(&str, &str)> {
    let (name, value) = line.split_once('=').filter(|_| !line.trim_start().starts_with('#'))?;
    Some((name.trim(), value.trim()))
}

/// A running xinetd.
#[derive(Debug)]
pub struct Xinetd {
    daemon: Daemon,
    scratch: Scratch,
}

impl Xinetd {
    /// Starts it with these files, the way Debian's own `xinetd.conf` does, and waits until every port listens.
    ///
    /// As root it stays root, since only root may give a service the `user` of its file.
    #[must_use]
    #[track_caller]
    pub fn start(files: &[Services]) -> Self {
        let scratch = Scratch::new("xinetd");
        scratch.dir("xinetd.d");
        for (number, services) in files.iter().enumerate() {
            scratch.file(&format!("xinetd.d/file{number}"), services.text());
        }
        let configuration = scratch.file("xinetd.conf", DEFAULTS.replace("DIR", &scratch.path().display().to_string()));
        let mut command = Command::new(program("xinetd"));
        command.arg("-f").arg(&configuration).arg("-pidfile").arg(scratch.join("pid"));
        command.arg("-filelog").arg(scratch.join("log")).arg("-dontfork").current_dir(scratch.path());
        let mut daemon = Daemon::start(&mut command, &scratch.join("output"));
        daemon.watch_log(&scratch.join("log"));
        let enabled = |file: &Services, name: &str| file.value(name, "disable").is_none_or(|value| value == "no");
        let ports: Vec<_> = files
            .iter()
            .flat_map(|file| {
                file.names().into_iter().filter(|name| enabled(file, name)).map(|name| file.address(&name))
            })
            .collect();
        daemon.until_ready(Duration::from_secs(60), || ports.iter().all(|&port| address::listens(port)));
        Self { daemon, scratch }
    }

    /// The process: to freeze it, or to end it.
    pub fn daemon(&mut self) -> &mut Daemon {
        &mut self.daemon
    }

    /// What it logged.
    #[must_use]
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.scratch.join("log")).unwrap_or_default()
    }
}
