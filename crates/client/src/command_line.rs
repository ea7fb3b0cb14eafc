//! How option files and the command line become one set of options.
//!
//! As in every `MySQL` program a long option may stand in an option file. So the settings of the files are put before the
//! arguments as if they had been typed there, and one parser reads both; the later one wins.

use std::ffi::{OsStr, OsString};
use std::mem::ManuallyDrop;
use std::path::{Path, PathBuf};

use anyhow::{Error, Result, anyhow, ensure};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Arg, ArgAction, ArgMatches, Args, Command, CommandFactory, FromArgMatches, Parser, value_parser};

use crate::endpoint::{Account, Target};
use crate::option_file::{self, Setting};
use crate::options::{DEFAULT_FILE, HELP, Options, switch};
use crate::trusted::Secret;
use crate::watch::Watch;

/// The words of the `MySQL` and `MariaDB` client programs that mean the same to us: what is taken from [client], where
/// their words stand. `password` is not an option.
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
/// Words of theirs that we do not have, and that decide which server is asked or trusted.
const MISSING_WORDS: [&str; 7] =
    ["dns-srv-name", "ssl-capath", "ssl-crl", "ssl-crlpath", "ssl-fp", "ssl-fplist", "tls-sni-servername"];

/// The group of all client programs, ours and theirs.
const CLIENT_GROUP: &str = "client";

/// The program whose options are read.
#[derive(Debug, Clone, Copy)]
pub struct Program<'a> {
    /// Its name.
    pub name: &'static str,
    /// Its groups in option files beside [client]; a setting in a later one wins.
    pub groups: &'a [&'a str],
    /// What it does, for `--help`.
    pub about: &'static str,
    /// Its version.
    pub version: &'static str,
}

/// What the options ask for.
#[derive(Debug)]
pub enum Asked<O> {
    /// Run, with these options.
    Run(Configured<O>),
    /// Show this text to a person: help, version, `--print-defaults`.
    Print(String),
}

/// A program as configured.
#[derive(Debug)]
pub struct Configured<O> {
    /// The server to ask.
    pub target: Target,
    /// Who logs in.
    pub account: Account,
    /// The options of this program alone.
    pub own: O,
}

#[derive(Parser)]
#[command(disable_help_flag = true, disable_version_flag = true, args_override_self = true)]
struct Line<O: Args> {
    #[command(flatten)]
    shared: Options,
    #[command(flatten)]
    own: O,
}

/// Reads the option files and the command line of `program`; `arguments` begins with its name. `inspect` sees the
/// arguments in force before they are taken apart.
///
/// # Errors
/// An option file that cannot be used; an option or value that does not exist. The message names the place and the cure.
pub fn parse<O: Args>(
    program: Program<'_>,
    arguments: &[OsString],
    watch: &dyn Watch,
    inspect: impl FnOnce(&Command, &ArgMatches),
) -> Result<Asked<O>> {
    let name = program.name;
    let typed: Vec<OsString> = arguments.iter().skip(1).cloned().map(dashes_for_underscores).collect();
    let command = Line::<O>::command().name(name).about(program.about).version(program.version);
    let command = command.override_usage(format!("{name} [OPTIONS]")).mut_args(as_switch);
    // Never dropped: to take it apart is 4 % of the instructions of a process that ends anyway.
    let mut command = ManuallyDrop::new(command);
    command.build();

    let groups: Vec<&str> = [CLIENT_GROUP].iter().chain(program.groups).copied().collect();
    let files = match &defaults_file(&typed)? {
        Some(file) => option_file::read(file, &groups, watch)?,
        None => option_file::read_if_there(Path::new(DEFAULT_FILE), &groups, watch)?,
    };
    let settings = drop_overruled(files.settings, &groups, &typed);
    let from_files = settings
        .iter()
        .filter_map(|setting| as_argument(setting, &command, &program).transpose())
        .collect::<Result<Vec<_>>>()?;

    let line =
        [OsString::from(name)].into_iter().chain(from_files.iter().map(OsString::from)).chain(typed.iter().cloned());
    let mut matches = match command.try_get_matches_from_mut(line) {
        Ok(matches) => matches,
        Err(error) if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) => {
            return Ok(Asked::Print(error.to_string()));
        }
        Err(error) => return Err(in_our_words(&error, &settings, &typed)),
    };
    inspect(&command, &matches);
    let Line { shared, own } =
        Line::<O>::from_arg_matches_mut(&mut matches).map_err(|error| in_our_words(&error, &settings, &typed))?;
    if shared.print_defaults {
        return Ok(Asked::Print(defaults_as_text(name, &from_files, files.password.as_ref())));
    }
    let (target, account) = shared.resolve(files.password)?;
    Ok(Asked::Run(Configured { target, account, own }))
}

/// Makes each flag one of the `MySQL` programs: `--quick`, `--quick=1`, `--quick=OFF`. A `bool` is off when it is not given.
fn as_switch(argument: Arg) -> Arg {
    let is_bool = argument.get_value_parser().type_id() == value_parser!(bool).type_id();
    if !is_bool || argument.get_help_heading() == Some(HELP) {
        return argument;
    }
    let is_flag = matches!(argument.get_action(), ArgAction::SetTrue);
    let argument = argument
        .value_name("BOOL")
        .num_args(0..=1)
        .require_equals(true)
        .default_missing_value("1")
        .value_parser(switch)
        .action(ArgAction::Set);
    if is_flag { argument.default_value("0").hide_default_value(true) } else { argument }
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
#[must_use]
pub fn value_of(option: &str, typed: &[impl AsRef<OsStr>]) -> Option<OsString> {
    let mut found = None;
    for (at, argument) in typed.iter().enumerate() {
        let rest = argument.as_ref().to_str().and_then(|text| text.strip_prefix(option));
        match rest.map(|rest| (rest, rest.strip_prefix('='))) {
            Some(("", _)) => found = typed.get(at + 1).map(|value| value.as_ref().to_owned()),
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

/// A setting as it would be typed; `None` for one that we may ignore. A word that is not an option is not shown:
/// it may be a password that slipped onto a line of its own.
fn as_argument(setting: &Setting, command: &Command, program: &Program<'_>) -> Result<Option<String>> {
    let Setting { group, key, value, place, .. } = setting;
    let name_of_program = program.name;
    let own = program.groups.first().unwrap_or(&name_of_program);
    let (loose, name) = key.strip_prefix("loose-").map_or((false, key.as_str()), |name| (true, name));
    let in_client = group == CLIENT_GROUP;
    match option_and_value(name, value.as_deref(), command) {
        Some((option, _)) if in_client && !CLIENT_WORDS.contains(&option) => {
            // Of the client library it is a number of seconds; ours has a unit.
            let theirs = option == "timeout" && value.as_ref().is_some_and(|value| value.parse::<u64>().is_ok());
            ensure!(theirs, "{place}: `{option}` does not belong in [client]: move it to [{own}]");
            Ok(None)
        }
        Some((option, None)) => Ok(Some(format!("--{option}"))),
        Some((option, Some(value))) => Ok(Some(format!("--{option}={value}"))),
        None => {
            ensure!(loose || in_client, "{place}: this is not an option of {name_of_program} for an option file");
            ensure!(
                loose || !MISSING_WORDS.contains(&name),
                "{place}: `{name}` is not supported: write `loose-{name}` to ignore it"
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
            "a password option would show in ps: write `password=` in an option file".to_owned()
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
mod tests;
