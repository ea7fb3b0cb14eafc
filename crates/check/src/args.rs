//! The options all checks share, and how option files and the command line become one set of options.
//!
//! As in every `MySQL` program a long option may stand in an option file. So the settings of the files are put before the
//! arguments as if they had been typed there, and one parser reads both; the later one wins.

use std::ffi::OsString;
use std::fmt::Write;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Error, Result, anyhow, bail, ensure};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser};

use crate::duration;
use crate::option_file::{self, SHARED_GROUP, Secret, Setting};
use crate::report::{Format, Style};
use crate::request::{Instance, Request};
use crate::server::{Account, Endpoint, Target};
use crate::share::{Question, Sharing};
use crate::tls;

/// Read when no `--defaults-file` names another, where it exists.
pub const DEFAULT_FILE: &str = "/etc/mysqlchk/my.cnf";
/// Where Debian's servers listen.
pub const DEFAULT_SOCKET: &str = "/run/mysqld/mysqld.sock";
/// The budget when none is set: below the second that `HAProxy`'s `inter 1s` gives a whole check.
pub const DEFAULT_BUDGET: Duration = Duration::from_millis(900);

/// Where the state of `--share` lives: made at install and at boot, owned by the user of the checks.
const DEFAULT_SHARE_DIR: &str = "/run/mysqlchk";
/// What fits into `sockaddr_un` with its final NUL (`unix(7)`).
const SOCKET_PATH_MAX: usize = 107;
/// The words of the `MySQL` and `MariaDB` client programs that mean the same to us: what is taken from [client], where
/// their words stand. `password` is no option.
const CLIENT_WORDS: [&str; 11] = [
    "host",
    "port",
    "protocol",
    "socket",
    "user",
    "ssl",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-verify-server-cert",
];
/// Words of theirs that we do not have, and that say which server is asked or trusted.
const MISSING_WORDS: [&str; 7] =
    ["dns-srv-name", "ssl-capath", "ssl-crl", "ssl-crlpath", "ssl-fp", "ssl-fplist", "tls-sni-servername"];
/// The options that say how an answer is shown, which instances a request may choose, or where answers are shared. The
/// answer is the same whatever they say.
const WITHOUT_BEARING: [&str; 5] = ["format", "quiet", "reason-phrase", "allow-port", "share-dir"];
const DEFAULT_USER: &str = "mysqlchk";
const DEFAULT_PORT: u16 = 3306;

/// The options that every check has.
#[derive(Debug, Clone, Args)]
pub struct Common {
    /// Read options from this file only [default: /etc/mysqlchk/my.cnf where it exists]
    #[arg(long, value_name = "FILE", help_heading = "Server")]
    defaults_file: Option<PathBuf>,
    /// Connect to this host; `localhost` means the socket
    #[arg(long, short = 'h', value_name = "HOST", help_heading = "Server")]
    host: Option<String>,
    /// Connect to this TCP port [default: 3306]; alone it means 127.0.0.1
    #[arg(long, short = 'P', value_name = "PORT", value_parser = port, help_heading = "Server")]
    port: Option<u16>,
    /// Connect to this Unix socket [default: /run/mysqld/mysqld.sock]
    #[arg(long, short = 'S', value_name = "PATH", help_heading = "Server")]
    socket: Option<String>,
    /// Connect over TCP or SOCKET, whatever else is named
    #[arg(long, value_name = "HOW", value_parser = protocol, help_heading = "Server")]
    protocol: Option<Protocol>,
    /// Log in as this account
    #[arg(long, short, value_name = "NAME", default_value = DEFAULT_USER, help_heading = "Server")]
    user: String,
    /// Answer within this time, whatever hangs
    #[arg(long, value_name = "TIME", default_value = "900ms", value_parser = duration::parse_positive, help_heading = "Answer")]
    timeout: Duration,
    /// Answer in this form; auto is text on a terminal and http elsewhere
    #[arg(long, value_name = "FORM", value_enum, default_value_t, help_heading = "Answer")]
    format: Format,
    /// In the text form say nothing when up
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true, help_heading = "Answer")]
    quiet: bool,
    /// Put the reason into the HTTP status line, where HAProxy shows it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1",
          value_parser = switch, hide_default_value = true, help_heading = "Answer")]
    reason_phrase: bool,
    /// Let a request choose this instance with `?port=PORT` (repeat for more)
    #[arg(long, value_name = "PORT", action = ArgAction::Append, value_parser = port, help_heading = "Server")]
    allow_port: Vec<u16>,
    /// Ask on this port when the server is full (MariaDB: `extra_port`, MySQL: `admin_port`)
    #[arg(long, value_name = "PORT", value_parser = port, help_heading = "Server")]
    extra_port: Option<u16>,
    #[command(flatten)]
    tls: tls::Options,
    /// Share one answer among the checks that ask the same within this time [default: do not share]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, help_heading = "Answer")]
    share: Option<Duration>,
    /// Keep the state of --share in this directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_SHARE_DIR, help_heading = "Answer")]
    share_dir: PathBuf,
    /// Show what the option files gave, with the password masked, and exit
    #[arg(long, exclusive = false, help_heading = "Help")]
    print_defaults: bool,
    /// Show this help and exit
    #[arg(long, short = '?', action = ArgAction::Help, help_heading = "Help")]
    help: Option<bool>,
    /// Show the version and exit
    #[arg(long, short = 'V', action = ArgAction::Version, help_heading = "Help")]
    version: Option<bool>,
}

/// What a connection is made over, where an option says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Protocol {
    Tcp,
    Socket,
}

/// Reads a protocol in any case. The client programs have others for Windows.
fn protocol(text: &str) -> Result<Protocol, String> {
    match text.to_ascii_uppercase().as_str() {
        "TCP" => Ok(Protocol::Tcp),
        "SOCKET" => Ok(Protocol::Socket),
        _ => Err("must be TCP or SOCKET".into()),
    }
}

/// Reads a TCP port.
fn port(text: &str) -> Result<u16, String> {
    number(1..=u16::MAX.into())(text)
}

/// Reads a whole number of this range, which `T` has room for: digits and nothing else.
pub fn number<T: TryFrom<u64>>(range: RangeInclusive<u64>) -> impl Fn(&str) -> Result<T, String> + Clone {
    move |text| {
        let digits = Some(text).filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()));
        let number = digits.and_then(|text| text.parse().ok()).filter(|number| range.contains(number));
        let number = number.and_then(|number| T::try_from(number).ok());
        number.ok_or_else(|| format!("must be a number from {} to {}", range.start(), range.end()))
    }
}

/// Reads the value of a flag as the `MySQL` programs do: `--quick`, `--quick=1`, `--quick=OFF`.
///
/// # Errors
/// A word that is neither yes nor no.
pub fn switch(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "on" | "true" | "yes" => Ok(true),
        "0" | "off" | "false" | "no" => Ok(false),
        _ => Err("must be 1 or 0, ON or OFF, TRUE or FALSE".into()),
    }
}

#[derive(Parser)]
#[command(disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
struct Line<O: Args> {
    #[command(flatten)]
    common: Common,
    #[command(flatten, next_help_heading = "Rules")]
    own: O,
}

/// What a run was asked to do.
#[derive(Debug)]
pub enum Asked<O> {
    /// Make the check.
    Check(Box<Plan<O>>),
    /// Show this text to a person: help, version, `--print-defaults`.
    Print(String),
}

/// A check as configured.
#[derive(Debug)]
pub struct Plan<O> {
    /// The server to ask when the request names none.
    pub target: Target,
    /// Who logs in.
    pub account: Account,
    /// What the whole run may take.
    pub budget: Duration,
    /// How the verdict is shown.
    pub style: Style,
    /// Whether and how answers are shared.
    pub sharing: Option<Sharing>,
    /// The options of this check alone.
    pub own: O,
    host: Option<String>,
    allowed_ports: Vec<u16>,
    /// The options that bear on the answer, as [`in_force`] writes them; empty where answers are not shared.
    in_force: String,
}

impl<O> Plan<O> {
    /// The question this check asks of `target`, when answers are shared: the options in force, and the instance when a
    /// request chose it. The password is no option; the file that gave it is.
    #[must_use]
    pub fn question(&self, target: &Target) -> Option<Question> {
        let sharing = self.sharing.as_ref()?;
        let (program, version, in_force) = (self.style.program, env!("CARGO_PKG_VERSION"), &self.in_force);
        let chosen = if *target == self.target { String::new() } else { format!(" ?port={}", target.endpoint) };
        Some(Question::new(sharing, program, format!("{program} {version}{in_force}{chosen}")))
    }

    /// The server that a request asks for: the configured one, or that of `?port=`.
    ///
    /// # Errors
    /// When the request is none, names an instance that it may not choose, or leaves open which one it means.
    pub fn chosen(&self, request: &Request) -> Result<Target> {
        match request {
            Request::Garbage(what) => bail!(*what),
            Request::Http { instance: Instance::Port(port), .. } => self.instance(port),
            Request::Http { instance: Instance::Unclear, .. } if !self.allowed_ports.is_empty() => {
                bail!("the request does not name its port plainly: write `?port=PORT`")
            }
            Request::Http { .. } | Request::Silence => Ok(self.target.clone()),
        }
    }

    /// The instance that `?port=` asks for, on the same host over TCP. The extra port is that of another instance.
    ///
    /// # Errors
    /// When it is no port, or none that `--allow-port` names.
    fn instance(&self, port: &str) -> Result<Target> {
        let Ok(number) = self::port(port) else {
            bail!("`port={}` in the request is no port", port.get(..16).unwrap_or(port));
        };
        ensure!(
            self.allowed_ports.contains(&number),
            "port {number} is not allowed: start with `--allow-port {number}`"
        );
        let endpoint = beside(self.host.as_ref(), number);
        Ok(Target { endpoint, extra: None, tls: self.target.tls.clone() })
    }
}

/// Reads the option files and the command line of `program`.
///
/// # Errors
/// An option file that cannot be used; an option or value that does not exist. The message names the place and the cure.
pub fn parse<O: Args>(
    program: &'static str,
    about: &'static str,
    validate: impl FnOnce(&O) -> Result<(), String>,
    arguments: impl IntoIterator<Item = OsString>,
) -> Result<Asked<O>> {
    let typed: Vec<OsString> = arguments.into_iter().skip(1).map(dashes_for_underscores).collect();
    let mut command = Line::<O>::command()
        .name(program)
        .about(about)
        .version(env!("CARGO_PKG_VERSION"))
        .override_usage(format!("{program} [OPTIONS]"));
    command.build();

    let named = defaults_file(&typed)?;
    let files = match &named {
        Some(file) => option_file::read(file, &groups(program))?,
        None => option_file::read_if_there(Path::new(DEFAULT_FILE), &groups(program))?,
    };
    let settings = drop_overruled(files.settings, &groups(program), &typed);
    let from_files = settings
        .iter()
        .filter_map(|setting| as_argument(setting, &command, program).transpose())
        .collect::<Result<Vec<_>>>()?;

    let line =
        [OsString::from(program)].into_iter().chain(from_files.iter().map(OsString::from)).chain(typed.iter().cloned());
    let mut matches = match command.try_get_matches_from_mut(line) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Asked::Print(error.to_string()));
        }
        Err(error) => return Err(in_our_words(&error, &settings, &typed)),
    };
    let in_force = if matches.contains_id("share") { in_force(&command, &matches) } else { String::new() };
    let Line { common, own } =
        Line::<O>::from_arg_matches_mut(&mut matches).map_err(|error| in_our_words(&error, &settings, &typed))?;
    if common.print_defaults {
        return Ok(Asked::Print(defaults_as_text(program, &from_files, files.password.as_ref())));
    }
    validate(&own).map_err(Error::msg)?;
    Ok(Asked::Check(Box::new(plan(program, common, own, files.password, in_force)?)))
}

/// The options that bear on the answer, with the values they have after files and command line, each as ` --option="value"`.
/// Quoted, a value cannot look like another option or line.
fn in_force(command: &Command, matches: &ArgMatches) -> String {
    let mut text = String::new();
    for argument in command.get_arguments() {
        let Some(option) = argument.get_long().filter(|option| !WITHOUT_BEARING.contains(option)) else { continue };
        for value in matches.get_raw(argument.get_id().as_str()).into_iter().flatten() {
            let _ = write!(text, " --{option}=\"{}\"", value.as_encoded_bytes().escape_ascii());
        }
    }
    text
}

/// Host and port name a server, and so does a socket: of the two the one that was named last counts, in the order of the
/// groups and then the command line. Within one group a socket wins over a port, as in every `MySQL` program, and the
/// host `localhost` names no server.
fn drop_overruled(mut settings: Vec<Setting>, groups: &[&str], typed: &[OsString]) -> Vec<Setting> {
    let is_typed = |long: &str, short: &str| {
        let mut words = typed.iter().filter_map(|word| word.to_str());
        words.any(|word| word.split('=').next() == Some(long) || word.starts_with(short))
    };
    for level in 1..=groups.len() {
        let (earlier, group) = (groups.get(..level).unwrap_or_default(), groups.get(level));
        let named = |key: &str| {
            let of_group =
                |setting: &&Setting| group.is_some_and(|group| setting.group == **group) && setting.key == key;
            settings.iter().filter(of_group).any(|setting| setting.value.as_deref() != Some("localhost"))
        };
        let typed_host =
            value_of("--host", typed).or_else(|| value_of("-h", typed)).is_some_and(|host| host != "localhost");
        let [host, port, socket] = match group {
            Some(_) => ["host", "port", "socket"].map(named),
            None => [typed_host, is_typed("--port", "-P"), is_typed("--socket", "-S")],
        };
        let overruled: &[&str] = match (host || port, socket) {
            (true, false) => &["socket", "protocol"],
            (false, true) => &["host", "port", "protocol"],
            _ => continue,
        };
        settings.retain(|setting| !(earlier.contains(&&*setting.group) && overruled.contains(&&*setting.key)));
    }
    settings
}

fn groups(program: &str) -> [&str; 3] {
    ["client", SHARED_GROUP, program]
}

fn plan<O>(
    program: &'static str,
    common: Common,
    own: O,
    password: Option<Secret>,
    in_force: String,
) -> Result<Plan<O>> {
    let named_localhost = common.host.as_deref() == Some("localhost");
    let host = common.host.filter(|host| host != "localhost" && !host.is_empty());
    let socket = common.socket.filter(|socket| !socket.is_empty());
    let port = common.port;
    let endpoint = match (common.protocol, &host, socket, port) {
        (Some(Protocol::Socket), Some(host), ..) => {
            bail!("`--protocol SOCKET` and `--host {host}` exclude each other")
        }
        (Some(Protocol::Tcp), ..) | (None, Some(_), ..) => beside(host.as_ref(), port.unwrap_or(DEFAULT_PORT)),
        (_, None, Some(socket), _) => Endpoint::Socket(path_of_socket(socket)?),
        (None, None, None, Some(port)) if named_localhost && port != DEFAULT_PORT => {
            bail!("`--host localhost` means the socket, so port {port} would not be used: write `--host 127.0.0.1`")
        }
        (None, None, None, Some(port)) if !named_localhost => beside(None, port),
        (_, None, None, _) => Endpoint::Socket(DEFAULT_SOCKET.into()),
    };
    let extra = common.extra_port.map(|port| beside(host.as_ref(), port));
    let target = Target { endpoint, extra, tls: common.tls.resolve()? };
    Ok(Plan {
        target,
        account: Account { user: common.user, password },
        budget: common.timeout,
        style: Style {
            program,
            form: common.format.resolve(),
            quiet: common.quiet,
            reason_phrase: common.reason_phrase,
        },
        sharing: common.share.map(|limit| Sharing { limit, directory: common.share_dir }),
        own,
        host,
        allowed_ports: common.allow_port,
        in_force,
    })
}

/// A port of the host that was named, or of this one.
fn beside(host: Option<&String>, port: u16) -> Endpoint {
    Endpoint::Tcp(host.cloned().unwrap_or_else(|| "127.0.0.1".into()), port)
}

/// A path that a socket can have.
fn path_of_socket(path: String) -> Result<String> {
    ensure!(!path.starts_with('@'), "`--socket {path}`: abstract sockets are not supported, write a path or `--host`");
    ensure!(
        path.len() <= SOCKET_PATH_MAX,
        "`--socket` is {} bytes long, the limit is {SOCKET_PATH_MAX}: {path}",
        path.len()
    );
    Ok(path)
}

/// The style of a run whose options could not be read: the form that was typed, where it can be recognised.
#[must_use]
pub fn style_of_last_resort(program: &'static str, arguments: impl IntoIterator<Item = OsString>) -> Style {
    let typed: Vec<OsString> = arguments.into_iter().skip(1).collect();
    let format = match value_of("--format", &typed).and_then(|value| value.into_string().ok()).as_deref() {
        Some("text") => Format::Text,
        Some("json") => Format::Json,
        Some("http") => Format::Http,
        _ => Format::Auto,
    };
    // The reason is all the operator gets to see of a check that is not configured, so it goes where HAProxy shows it.
    Style { program, form: format.resolve(), quiet: false, reason_phrase: true }
}

/// `--max_lag` is `--max-lag`, as in every `MySQL` program.
fn dashes_for_underscores(argument: OsString) -> OsString {
    match argument.to_str() {
        Some(text) if text.starts_with("--") => {
            let (name, value) = text.split_at(text.find('=').unwrap_or(text.len()));
            OsString::from(name.replace('_', "-") + value)
        }
        _ => argument,
    }
}

/// The value last typed for `--option` or `-o`: in the next word, after `=`, or right after a short option.
fn value_of(option: &str, typed: &[OsString]) -> Option<OsString> {
    let mut found = None;
    for (at, argument) in typed.iter().enumerate() {
        let rest = argument.to_str().and_then(|text| text.strip_prefix(option));
        match rest.map(|rest| (rest, rest.strip_prefix('='))) {
            Some(("", _)) => found = typed.get(at + 1).cloned(),
            Some((_, Some(value))) => found = Some(value.into()),
            Some((value, None)) if !option.starts_with("--") => found = Some(value.into()),
            _ => {}
        }
    }
    found
}

fn defaults_file(typed: &[OsString]) -> Result<Option<PathBuf>> {
    match value_of("--defaults-file", typed) {
        Some(path) if path.is_empty() => Err(anyhow!("`--defaults-file` needs the path of a file")),
        path => Ok(path.map(PathBuf::from)),
    }
}

/// A setting as it would be typed; `None` for one that is not ours and need not be. A word that is no option is not shown:
/// it may be a password that slipped onto a line of its own.
fn as_argument(setting: &Setting, command: &Command, program: &str) -> Result<Option<String>> {
    let Setting { group, key, value, place } = setting;
    let (loose, name) = key.strip_prefix("loose-").map_or((false, key.as_str()), |name| (true, name));
    let in_client = group == "client";
    match option_and_value(name, value.as_deref(), command) {
        Some((option, _)) if in_client && !CLIENT_WORDS.contains(&option) => {
            // Of the client library it is a number of seconds; ours has a unit.
            let theirs = option == "timeout" && value.as_ref().is_some_and(|value| value.parse::<u64>().is_ok());
            ensure!(theirs, "{place}: `{option}` does not belong in [client]: move it to [{SHARED_GROUP}]");
            Ok(None)
        }
        Some((option, None)) => Ok(Some(format!("--{option}"))),
        Some((option, Some(value))) => Ok(Some(format!("--{option}={value}"))),
        None => {
            ensure!(loose || in_client, "{place}: this is not an option of {program} for an option file");
            ensure!(
                loose || !MISSING_WORDS.contains(&name),
                "{place}: `{name}` is not supported: write `loose-{name}` to do without"
            );
            Ok(None)
        }
    }
}

/// The option that `name` means in an option file, and its value; `None` when there is none.
fn option_and_value<'a>(
    name: &'a str,
    value: Option<&'a str>,
    command: &Command,
) -> Option<(&'a str, Option<&'a str>)> {
    let known = |name: &str| command.get_arguments().find(|argument| argument.get_long() == Some(name));
    if ["help", "version", "print-defaults", "defaults-file"].contains(&name) {
        return None;
    }
    if known(name).is_some() {
        return Some((name, value));
    }
    // "Program Option Modifiers": skip- and disable- switch a flag off, enable- switches it on.
    [("skip-", "0"), ("disable-", "0"), ("enable-", "1")].into_iter().find_map(|(prefix, value)| {
        let flag = name.strip_prefix(prefix)?;
        let takes_none = known(flag)?.get_num_args()?.min_values() == 0;
        takes_none.then_some((flag, Some(value)))
    })
}

/// What clap found wrong, in our words, with the place when it stands in a file. Never the value of an unknown option,
/// and never a stray word: either may be a password.
fn in_our_words(error: &clap::Error, settings: &[Setting], typed: &[OsString]) -> Error {
    let text = |kind| match error.get(kind) {
        Some(ContextValue::String(text)) => Some(text.as_str()),
        Some(ContextValue::Strings(texts)) => texts.first().map(String::as_str),
        _ => None,
    };
    let argument = text(ContextKind::InvalidArg).unwrap_or_default();
    let name = argument.split([' ', '=', '[']).next().unwrap_or_default();
    let value = text(ContextKind::InvalidValue).unwrap_or_default();
    let message = match error.kind() {
        ErrorKind::UnknownArgument if name == "--password" || (name.starts_with("-p") && !name.starts_with("--")) => {
            "there is no password option, it would show in ps: write `password=` into an option file".to_owned()
        }
        ErrorKind::UnknownArgument if name.starts_with('-') => format!("unknown option `{name}`, see --help"),
        ErrorKind::UnknownArgument => "unexpected argument: there are only options, see --help".to_owned(),
        ErrorKind::InvalidValue if value.is_empty() => format!("`{name}` needs a value"),
        ErrorKind::NoEquals => format!("`{name}` needs its value after `=`"),
        ErrorKind::TooManyValues | ErrorKind::WrongNumberOfValues => format!("`{name}` takes one value"),
        ErrorKind::InvalidValue => {
            let valid = match error.get(ContextKind::ValidValue) {
                Some(ContextValue::Strings(words)) => words.join(", "),
                _ => String::new(),
            };
            format!("`{name} {value}`: must be one of {valid}")
        }
        ErrorKind::ValueValidation => {
            let why = std::error::Error::source(error).map_or_else(|| "not valid".to_owned(), ToString::to_string);
            format!("`{name} {value}`: {why}")
        }
        _ => error.to_string().lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned(),
    };
    let was_typed = value_of(name, typed).is_some_and(|typed| typed == value);
    let is_meant = |setting: &&Setting| {
        name.strip_prefix("--") == Some(setting.key.trim_start_matches("loose-"))
            && setting.value.as_deref().unwrap_or_default() == value
    };
    match settings.iter().rev().find(is_meant) {
        Some(setting) if !was_typed => anyhow!("{}: {message}", setting.place),
        _ => anyhow!(message),
    }
}

fn defaults_as_text(program: &str, from_files: &[String], password: Option<&Secret>) -> String {
    let mut text = format!("{program} would have been started with the following arguments:\n");
    let masked = password.map(|_| "--password=*****".to_owned());
    for argument in from_files.iter().chain(&masked) {
        text.push_str(argument);
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    /// Of the name that every check gives its own: clap makes a group of each, and no two may be the same.
    #[derive(Debug, Args)]
    struct Options {
        #[arg(long, value_parser = switch, num_args = 0..=1, require_equals = true, default_value = "0", default_missing_value = "1")]
        require_writable: bool,
        #[arg(long, value_parser = |text: &str| Ok::<_, String>(Unshown(text.into())))]
        unshown: Option<Unshown>,
    }

    /// A value that keeps itself to itself, as a secret does.
    #[derive(Clone)]
    struct Unshown(#[expect(dead_code, reason = "only its place in the key counts")] String);

    impl std::fmt::Debug for Unshown {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Ok(())
        }
    }

    /// Parses an option file of this text and these words.
    fn parsed(text: &str, words: &[&str]) -> Result<Plan<Options>> {
        let name = format!("args-{}-{:?}.cnf", std::process::id(), std::thread::current().id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let option = format!("--defaults-file={}", file.display());
        let line = ["program", &option].into_iter().chain(words.iter().copied()).map(OsString::from);
        let asked = parse::<Options>("mysqlchk-status", "", |_| Ok(()), line.collect::<Vec<_>>());
        std::fs::remove_file(&file).unwrap();
        match asked? {
            Asked::Check(plan) => Ok(*plan),
            Asked::Print(text) => bail!(text),
        }
    }

    fn endpoint(text: &str, words: &[&str]) -> String {
        parsed(text, words).map_or_else(|error| format!("{error:#}"), |plan| plan.target.endpoint.to_string())
    }

    #[test]
    fn the_server_named_last_is_the_one() {
        let localhost = "`--host localhost` means the socket, so port 3307 would not be used: write `--host 127.0.0.1`";
        for (text, words, expected) in [
            ("", &[][..], DEFAULT_SOCKET),
            ("", &["--port=3307"], "127.0.0.1:3307"),
            ("", &["-h", "::1"], "[::1]:3306"),
            ("", &["--host=localhost"], DEFAULT_SOCKET),
            ("", &["--host=localhost", "--port=3307"], localhost),
            ("[client]\nsocket=/a\nport=3307\n", &[], "/a"),
            ("[client]\nhost=localhost\nsocket=/a\nport=3307\n", &[], "/a"),
            ("[client]\nsocket=/a\n[mysqlchk]\nport=3307\n", &[], "127.0.0.1:3307"),
            ("[mysqlchk]\nhost=db01\nport=3307\n[mysqlchk-status]\nsocket=/a\n", &[], "/a"),
            ("[client]\nsocket=/a\n", &["--port=3307"], "127.0.0.1:3307"),
            ("[client]\nsocket=/a\n", &["-P3307"], "127.0.0.1:3307"),
            ("[client]\nsocket=/a\n", &["--host=localhost"], "/a"),
            ("[client]\nsocket=/a\n", &["-h", "localhost"], "/a"),
            ("[client]\nsocket=/a\n", &["-hlocalhost"], "/a"),
            ("[client]\nsocket=/a\n", &["-hdb01"], "db01:3306"),
            ("[client]\nsocket=/a\n", &["--host=localhost", "--port=3307"], localhost),
            ("[client]\nhost=db01\nport=3307\n", &["--socket=/a"], "/a"),
            ("[client]\nhost=db01\nport=3307\n", &["--host=db02"], "db02:3307"),
            ("[client]\nsocket=/a\n", &["--socket="], DEFAULT_SOCKET),
            ("[client-server]\nsocket=/a\n[CLIENT-MARIADB]\nport=3307\nhost=db01\n", &["--socket=/b"], "/b"),
            ("[client-mariadb]\nhost=db01\n", &[], "db01:3306"),
            ("[client]\nprotocol=tcp\n", &[], "127.0.0.1:3306"),
            ("[client]\nprotocol=TCP\nsocket=/a\nport=3307\n", &[], "127.0.0.1:3307"),
            ("[client]\nprotocol=TCP\nhost=localhost\nport=3307\n", &[], "127.0.0.1:3307"),
            ("[client]\nprotocol=tcp\nhost=db01\n", &[], "db01:3306"),
            ("[client]\nprotocol=tcp\nhost=db01\n", &["--socket=/a"], "/a"),
            ("[client]\nprotocol=socket\nport=3307\n", &[], DEFAULT_SOCKET),
            ("[client]\nprotocol=socket\nsocket=/a\n", &["--port=3307"], "127.0.0.1:3307"),
            ("[client]\nsocket=/a\n", &["--protocol=TCP"], "127.0.0.1:3306"),
            ("[client]\nprotocol=socket\nhost=db01\n", &[], "`--protocol SOCKET` and `--host db01` exclude each other"),
            ("", &["--protocol=pipe"], "`--protocol pipe`: must be TCP or SOCKET"),
        ] {
            assert_eq!(endpoint(text, words), expected, "{text:?} {words:?}");
        }
    }

    #[test]
    fn a_socket_that_cannot_be_is_refused() {
        let long = "/".repeat(SOCKET_PATH_MAX);
        assert_eq!(endpoint("", &["--socket", &long]), long);
        let longer = format!("`--socket` is 108 bytes long, the limit is 107: {long}/");
        assert_eq!(endpoint("", &["--socket", &format!("{long}/")]), longer);
        let abstract_socket = "`--socket @mysql`: abstract sockets are not supported, write a path or `--host`";
        assert_eq!(endpoint("[client]\nsocket=@mysql\n", &[]), abstract_socket);
    }

    #[test]
    fn a_server_that_is_full_is_asked_on_its_extra_port() {
        let extra = |words: &[&str]| parsed("", words).unwrap().target.extra.map(|extra| extra.to_string());
        assert_eq!(extra(&[]), None);
        assert_eq!(extra(&["--extra-port=3307"]).unwrap(), "127.0.0.1:3307");
        assert_eq!(extra(&["--socket=/a", "--extra-port=3307"]).unwrap(), "127.0.0.1:3307");
        assert_eq!(extra(&["--host=db01", "--extra-port=3307"]).unwrap(), "db01:3307");
    }

    #[test]
    fn a_number_is_digits_within_its_range() {
        let number = number::<u32>(1..=4_294_967_295);
        assert_eq!((number("1"), number("4294967295")), (Ok(1), Ok(u32::MAX)));
        for wrong in ["", "0", "4294967296", "99999999999999999999", "-1", "+1", "1.5", "x", " 1"] {
            assert_eq!(number(wrong).unwrap_err(), "must be a number from 1 to 4294967295", "{wrong}");
        }
    }

    #[test]
    fn flags_are_switched_as_in_every_mysql_program() {
        for (text, words, expected) in [
            ("", &[][..], false),
            ("", &["--require-writable"], true),
            ("", &["--require_writable=ON"], true),
            ("[mysqlchk]\nrequire_writable\n", &[], true),
            ("[mysqlchk]\nloose-require-writable\n", &[], true),
            ("[mysqlchk]\nrequire-writable\n", &["--require-writable=0"], false),
            ("[mysqlchk]\nrequire-writable\n[mysqlchk-status]\nskip-require-writable\n", &[], false),
            ("[mysqlchk]\nrequire-writable=0\nenable-require-writable\n", &[], true),
        ] {
            assert_eq!(parsed(text, words).unwrap().own.require_writable, expected, "{text:?} {words:?}");
        }
    }

    #[test]
    fn answers_are_shared_only_by_the_same_question() {
        let key = |text: &str, words: &[&str]| {
            let plan = parsed(text, &[&["--share=500ms"], words].concat()).unwrap();
            format!("{:?}", plan.question(&plan.target).unwrap())
        };
        let plain = key("", &[]);
        assert_eq!(plain, key("", &["--format=json", "--quiet", "--reason-phrase", "--allow-port=3307"]));
        for words in [
            &["--require-writable"][..],
            &["--user=other"],
            &["--socket=/a"],
            &["--port=3307"],
            &["--timeout=800ms"],
            &["--share=400ms"],
            &["--share-dir=/a"],
            &["--extra-port=3307"],
            &["--ssl-mode=REQUIRED"],
            &["--ssl-ca=/a"],
            &["--unshown=a"],
        ] {
            assert_ne!(plain, key("", words), "{words:?}");
        }
        assert_ne!(key("", &["--unshown=a"]), key("", &["--unshown=b"]));
        // What is in force counts, and not how it came to be.
        assert_eq!(plain, key("", &["--timeout=900ms"]));
        assert_eq!(
            key("[mysqlchk]\nuser=a\nrequire-writable\n", &["--user=b"]),
            key("", &["--require-writable=1", "-ub"])
        );
        let several = parsed("", &["--share=500ms", "--allow-port=3307"]).unwrap();
        let asked = |target: &Target| format!("{:?}", several.question(target));
        assert_ne!(asked(&several.instance("3307").unwrap()), asked(&several.target));
        assert!(!key("[client]\npassword=hidden\n", &[]).contains("hidden"));
        let unshared = parsed("", &[]).unwrap();
        assert!(unshared.question(&unshared.target).is_none());
    }

    #[test]
    fn of_the_words_of_the_client_programs_those_that_mean_the_same_are_taken() {
        let refused = |line: &str| {
            let error = parsed(&format!("[client]\n{line}\n"), &[]).err();
            error.map(|error| format!("{error:#}").split_once(".cnf:2: ").unwrap().1.to_owned())
        };
        for line in [
            "timeout=5",
            "loose-timeout=5",
            "connect-timeout=5",
            "ssl-cipher=x",
            "tls-version=TLSv1.3",
            "no-auto-rehash",
            "some-word",
            "max-lag=1s",
            "help",
            "skip-ssl",
            "ssl-verify-server-cert=0",
            "loose-ssl-capath=/a",
        ] {
            assert_eq!(refused(line), None, "{line}");
        }
        let budget = parsed("[client]\ntimeout=5\n", &[]).unwrap().budget;
        assert_eq!(budget, DEFAULT_BUDGET);
        for (line, word) in [
            ("timeout=500ms", "timeout"),
            ("timeout", "timeout"),
            ("require-writable", "require-writable"),
            ("loose_require_writable=0", "require-writable"),
            ("skip-require-writable", "require-writable"),
            ("format=json", "format"),
            ("share=1s", "share"),
            ("allow-port=3307", "allow-port"),
            ("extra-port=3307", "extra-port"),
        ] {
            let expected = format!("`{word}` does not belong in [client]: move it to [mysqlchk]");
            assert_eq!(refused(line), Some(expected), "{line}");
        }
        for (line, word) in
            [("ssl-capath=/a", "ssl-capath"), ("ssl_crl=/a", "ssl-crl"), ("dns-srv-name=a", "dns-srv-name")]
        {
            let expected = format!("`{word}` is not supported: write `loose-{word}` to do without");
            assert_eq!(refused(line), Some(expected), "{line}");
        }
    }

    #[test]
    fn a_message_names_the_place_and_keeps_secrets() {
        let refused = |text: &str, words: &[&str]| format!("{:#}", parsed(text, words).unwrap_err());
        assert!(refused("[mysqlchk]\nport=x\n", &[]).ends_with(".cnf:2: `--port x`: must be a number from 1 to 65535"));
        assert_eq!(refused("", &["--port=70000"]), "`--port 70000`: must be a number from 1 to 65535");
        for words in
            [&["--pasword=hidden"][..], &["hidden"], &["-phidden"], &["--password=hidden"], &["--password", "hidden"]]
        {
            assert!(!refused("", words).contains("hidden"), "{words:?}");
        }
        for line in
            ["hidden", "!hidden", "!hidden x", "hidden=", "hidden=hidden", "loose hidden", "[hidden", "a='hidden"]
        {
            let message = refused(&format!("[mysqlchk]\n{line}\n"), &[]);
            assert!(message.contains(".cnf:2: ") && !message.contains("hidden"), "{message}");
        }
    }
}
