//! The command line of mysqlchk-ctl(8).

use std::net::IpAddr;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, ensure};
use check::maintenance::{ALL_PROGRAMS, DEFAULT_FILE};
use client::{duration, option_file, options};

use crate::sockets::Place;

/// The longest time to an end: nobody means more, and no date overflows.
const LONGEST: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// The longest reason and owner, in bytes: several notes have room in the file.
const TEXT_MAX: usize = 500;

/// Takes a server out of rotation with a reason and an end, and puts it back; finds out why a check is down.
#[derive(Debug, clap::Parser)]
#[command(version, disable_help_subcommand = true)]
pub(crate) struct Options {
    /// The note
    #[arg(long, value_name = "FILE", default_value = DEFAULT_FILE, global = true, value_parser = note_file)]
    pub(crate) maintenance_file: PathBuf,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, clap::Subcommand)]
pub(crate) enum Command {
    /// Let sessions go on, and keep new ones away
    Drain(Out),
    /// Keep all sessions away
    Down(Out),
    /// Remove the note
    Up(Up),
    /// Show the note; the exit status is 1 while one is in force
    Status,
    /// Find out why a check is down, or will be; the exit status is 1 when something is wrong
    Doctor(Doctor),
}

/// What a note is for.
#[derive(Debug, clap::Args)]
pub(crate) struct Scope {
    /// For this program only
    #[arg(long, value_name = "PROGRAM", value_parser = program)]
    pub(crate) only: Option<String>,
    /// For the instance on this port only
    #[arg(long, value_name = "PORT", value_parser = options::port)]
    pub(crate) instance: Option<u16>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Out {
    /// Why, for everyone who looks
    #[arg(long, value_name = "TEXT")]
    pub(crate) reason: String,
    /// The end: this long from now
    #[arg(long = "for", value_name = "TIME", value_parser = duration::parse_positive, conflicts_with = "no_end")]
    pub(crate) time: Option<Duration>,
    /// Until `mysqlchk-ctl up`
    #[arg(long)]
    pub(crate) no_end: bool,
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// Write the note in this name; a note of another name is left as it is
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
    /// Then wait this long, for every load balancer to see it
    #[arg(long, value_name = "TIME", value_parser = duration::parse, default_value = "0s")]
    pub(crate) settle: Duration,
    /// Then wait until no session is left on the port, at most this long
    #[arg(long, value_name = "TIME", value_parser = duration::parse)]
    pub(crate) wait: Option<Duration>,
    /// The port whose sessions --wait counts, on one address or on all [default: that of --instance, or 3306]
    #[arg(long, value_name = "[ADDRESS:]PORT", value_parser = Place::read)]
    pub(crate) port: Option<Place>,
    /// The option file by which galera-chk(8) is asked about the cluster [default: /etc/mysqlchk/my.cnf where it exists]
    #[arg(long, value_name = "FILE")]
    pub(crate) defaults_file: Option<PathBuf>,
    /// Also for the last member of a Galera cluster, or outside the primary component
    #[arg(long)]
    pub(crate) force: bool,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Up {
    #[command(flatten)]
    pub(crate) scope: Scope,
    /// Only a note of this name
    #[arg(long, value_name = "NAME")]
    pub(crate) owner: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(crate) struct Doctor {
    /// Look at this program only, and expect it to be on
    #[arg(long, value_name = "PROGRAM", value_parser = program)]
    pub(crate) only: Option<String>,
    /// Whether this address may ask: that of a load balancer (repeat for more)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) from: Vec<IpAddr>,
    /// How many ask each check in one --inter: load balancers, times their backends that check
    #[arg(long, value_name = "N", value_parser = options::number::<u32>(1..=100_000))]
    pub(crate) load_balancers: Option<u32>,
    /// How often each of them asks: `inter` of HAProxy
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, default_value = "1s")]
    pub(crate) inter: Duration,
    /// Also look at this configuration of HAProxy
    #[arg(long, value_name = "FILE")]
    pub(crate) haproxy: Option<PathBuf>,
    /// Show what was found in this form
    #[arg(long, value_name = "FORM", value_enum, default_value_t)]
    pub(crate) format: Form,
}

/// How the doctor shows what it found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Form {
    /// A line for each test, and below it the command that cures
    #[default]
    Text,
    /// One object
    Json,
}

impl Scope {
    /// The group of the note.
    pub(crate) fn group(&self) -> String {
        self.only.clone().unwrap_or_else(|| ALL_PROGRAMS.to_owned())
    }

    /// Whether it is neither one program nor one instance.
    pub(crate) fn is_everything(&self) -> bool {
        self.only.is_none() && self.instance.is_none()
    }
}

impl Out {
    /// Where the sessions are that it waits for.
    pub(crate) fn place(&self) -> Place {
        let port = self.scope.instance.unwrap_or(options::DEFAULT_PORT);
        self.port.unwrap_or(Place { ip: None, port })
    }

    /// Refuses what no note can be made of.
    pub(crate) fn validate(&self) -> Result<()> {
        ensure!(self.time.is_some() || self.no_end, "write `--for=30m`, or `--no-end`");
        ensure!(self.time.is_none_or(|time| time <= LONGEST), "`--for` is at most a year: write `--no-end`");
        ensure!(!self.reason.trim().is_empty(), "`--reason` needs a reason");
        ensure!(self.settle <= LONGEST, "`--settle` is at most a year");
        ensure!(self.wait.is_none_or(|wait| wait <= LONGEST), "`--wait` is at most a year");
        ensure!(self.owner.as_ref().is_none_or(|owner| !owner.trim().is_empty()), "`--owner` needs a name");
        let texts = [Some(&self.reason), self.owner.as_ref()];
        ensure!(
            !texts.into_iter().flatten().any(|text| text.contains(char::is_control)),
            "`--reason` and `--owner` are one line, without control characters"
        );
        ensure!(
            texts.into_iter().flatten().all(|text| text.len() <= TEXT_MAX),
            "`--reason` and `--owner` are at most {TEXT_MAX} bytes"
        );
        Ok(())
    }
}

/// Reads the name of the note.
fn note_file(text: &str) -> Result<PathBuf, String> {
    match text {
        "none" => Err("`none` is for a check that reads no note: name the file that the checks read".into()),
        path => Ok(path.into()),
    }
}

/// Reads the name of a program.
fn program(text: &str) -> Result<String, String> {
    let known: Vec<&str> = option_file::programs().collect();
    if known.contains(&text) { Ok(text.to_owned()) } else { Err(format!("must be one of {}", known.join(", "))) }
}

/// Who calls: the user behind `sudo`, or the user.
pub(crate) fn user() -> String {
    let named = ["SUDO_USER", "LOGNAME", "USER"].into_iter().find_map(|name| std::env::var(name).ok());
    named.filter(|name| !name.is_empty()).unwrap_or_else(|| format!("uid {}", rustix::process::getuid().as_raw()))
}
