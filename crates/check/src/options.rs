//! The options that every check has, in addition to those of every program; and a check as configured.

use std::ffi::OsString;
use std::fmt::Write;
use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgAction, ArgMatches, Args, Command, ValueEnum};
use client::command_line::{self, Asked, Configured, Program};
use client::option_file::SHARED_GROUP;
use client::{Account, Target, Watch, duration, options};

use crate::maintenance;
use crate::only_from::{self, OnlyFrom};
use crate::outcome::Outcome;
use crate::render::{Form, Format, Reply};
use crate::request::{Instance, Request};
use crate::share::{Key, Sharing};
use crate::stream;
use crate::verdict::{Verdict, down, misconfigured};
use crate::{Check, Validate};

/// The budget when none is set: below the second that `HAProxy`'s `inter 1s` gives a whole check.
pub const DEFAULT_BUDGET: Duration = Duration::from_millis(900);
/// Where the state of `--share` lives: made at install and at boot, owned by the user of the checks.
const DEFAULT_SHARE_DIR: &str = "/run/mysqlchk";
/// The options that set how and where an answer is shown, who may ask, which instances a request may choose, where a note is,
/// or where answers are shared: the answer is the same whatever they are.
const WITHOUT_BEARING: [&str; 9] = [
    "format",
    "output",
    "quiet",
    "reason-phrase",
    "allow-port",
    "share-dir",
    "maintenance-file",
    "ignore-maintenance",
    "only-from",
];

/// The options that every check has.
#[derive(Debug, Clone, Args)]
#[group(skip)]
struct Options {
    /// Answer within this time, whatever hangs
    #[arg(long, value_name = "TIME", default_value = "900ms", value_parser = duration::parse_positive, help_heading = "Answer")]
    timeout: Duration,
    /// Answer in this form; auto is text on a terminal and in a file of --output, and http elsewhere
    #[arg(long, value_name = "FORM", value_enum, default_value_t, help_heading = "Answer")]
    format: Format,
    /// Put the answer into this file instead of stdout [default: stdout]
    #[arg(long, value_name = "FILE", help_heading = "Answer")]
    output: Option<PathBuf>,
    /// In the text form print nothing when up
    #[arg(long, help_heading = "Answer")]
    quiet: bool,
    /// Put the reason into the HTTP status line, where HAProxy shows it
    #[arg(long, help_heading = "Answer")]
    reason_phrase: bool,
    /// Answer only these addresses and networks, with commas between them; others get a 503 [default: all]
    #[arg(long, value_name = "ADDRESS[/BITS],...", value_parser = only_from::parse, help_heading = "Server")]
    only_from: Option<OnlyFrom>,
    /// Let a request choose this instance with `?port=PORT` (repeat for more)
    #[arg(long, value_name = "PORT", action = ArgAction::Append, value_parser = options::port, help_heading = "Server")]
    allow_port: Vec<u16>,
    /// Read an operator's note from this file; `none` looks for none
    #[arg(long, value_name = "FILE", default_value = maintenance::DEFAULT_FILE, help_heading = "Answer")]
    maintenance_file: PathBuf,
    /// Ask the server even if there is a note
    #[arg(long, help_heading = "Answer")]
    ignore_maintenance: bool,
    /// Share one answer among checks that ask the same question within this time [default: do not share]
    #[arg(long, value_name = "TIME", value_parser = duration::parse_positive, help_heading = "Answer")]
    share: Option<Duration>,
    /// Keep the state of --share in this directory
    #[arg(long, value_name = "DIR", default_value = DEFAULT_SHARE_DIR, help_heading = "Answer")]
    share_dir: PathBuf,
}

#[derive(Debug, Args)]
#[group(skip)]
struct Own<O: Args> {
    #[command(flatten)]
    shared: Options,
    #[command(flatten, next_help_heading = "Rules")]
    rules: O,
}

/// A check as configured.
#[derive(Debug)]
pub struct Plan<O> {
    /// The server to ask when the request names none.
    pub target: Target,
    /// Who logs in.
    pub account: Account,
    /// How the outcome is shown, and in what time.
    pub reply: Reply,
    /// The file that takes the answer; `None` for stdout.
    pub output: Option<PathBuf>,
    /// The options of this check alone.
    pub rules: O,
    /// Of an option file: a list that was typed has been asked before any file was read ([`admit`]).
    only_from: Option<OnlyFrom>,
    allowed_ports: Vec<u16>,
    /// Where a note would be; `None` when none is looked for.
    note: Option<PathBuf>,
    sharing: Option<Sharing>,
    /// The options that bear on the answer, as [`in_force`] writes them; empty where answers are not shared.
    in_force: String,
}

/// What a run was asked to do.
#[derive(Debug)]
pub enum Task<O> {
    /// Make the check.
    Check(Box<Plan<O>>),
    /// Show this text to a person.
    Print(String),
}

/// Admits the client by an `--only-from` that was typed, as in a service: before any file is read. One in an option file
/// counts once that is read.
///
/// # Errors
/// As [`OnlyFrom::admit`].
pub fn admit(arguments: &[OsString]) -> Result<(), Verdict> {
    typed_only_from(arguments).map_or(Ok(()), |only_from| only_from.admit())
}

fn typed_only_from(arguments: &[OsString]) -> Option<OnlyFrom> {
    let typed = command_line::value_of("--only-from", arguments.get(1..).unwrap_or_default());
    only_from::parse(typed?.to_str()?).ok()
}

/// Reads the option files and the command line of a check.
///
/// # Errors
/// An option file that cannot be used; an option or value that does not exist; options that contradict each other. The
/// reason names the place and the cure.
pub fn read<C: Check>(arguments: &[OsString], watch: &dyn Watch) -> Result<Task<C::Options>, Verdict> {
    let groups = [SHARED_GROUP, C::NAME];
    let program = Program { name: C::NAME, groups: &groups, about: C::ABOUT, version: env!("CARGO_PKG_VERSION") };
    let mut in_force = String::new();
    let note = |command: &Command, matches: &ArgMatches| {
        if matches.contains_id("share") {
            in_force = self::in_force(command, matches);
        }
    };
    let asked = command_line::parse::<Own<C::Options>>(program, arguments, watch, note);
    match asked.map_err(|error| misconfigured(format!("{error:#}")))? {
        Asked::Print(text) => Ok(Task::Print(text)),
        Asked::Run(mut configured) => {
            configured.own.shared.only_from.take_if(|_| typed_only_from(arguments).is_some());
            configured.own.rules.validate().map_err(misconfigured)?;
            Ok(Task::Check(Box::new(Plan::new(C::NAME, configured, in_force))))
        }
    }
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

impl<O: Args> Plan<O> {
    fn new(program: &'static str, configured: Configured<Own<O>>, in_force: String) -> Plan<O> {
        let Configured { target, account, own: Own { shared, rules } } = configured;
        let Options { timeout: budget, quiet, reason_phrase, .. } = shared;
        let form = stream::form(shared.format, shared.output.is_some());
        Plan {
            target,
            account,
            reply: Reply { program, form, budget, quiet, reason_phrase, head: false },
            output: shared.output,
            rules,
            only_from: shared.only_from,
            allowed_ports: shared.allow_port,
            note: Some(shared.maintenance_file).filter(|file| !shared.ignore_maintenance && file.as_os_str() != "none"),
            sharing: shared.share.map(|limit| Sharing { limit, directory: shared.share_dir }),
            in_force,
        }
    }
}

impl<O> Plan<O> {
    /// Admits the client by the list of an option file, where there is one.
    ///
    /// # Errors
    /// As [`OnlyFrom::admit`].
    pub fn admit(&self) -> Result<(), Verdict> {
        self.only_from.as_ref().map_or(Ok(()), OnlyFrom::admit)
    }

    /// The server that a request asks for: the configured one, or that of `?port=`.
    ///
    /// # Errors
    /// Bytes that are not a request; a request that names an instance it may not choose, or does not name one plainly.
    pub fn target(&self, request: &Request) -> Result<Target, Verdict> {
        match request {
            Request::Garbage(what) => Err(down(*what)),
            Request::Http { instance: Instance::Port(port), .. } => self.instance(port),
            Request::Http { instance: Instance::Unclear, .. } if !self.allowed_ports.is_empty() => {
                Err(down("the request does not name its port plainly: write `?port=PORT`"))
            }
            Request::Http { .. } | Request::Silence => Ok(self.target.clone()),
        }
    }

    /// The instance of `?port=`, on the same host over TCP.
    fn instance(&self, port: &str) -> Result<Target, Verdict> {
        match options::port(port) {
            Err(_) => Err(down(format!("`port={}` in the request is not a port", port.get(..16).unwrap_or(port)))),
            Ok(number) if self.allowed_ports.contains(&number) => Ok(self.target.on_port(number)),
            Ok(number) => Err(down(format!("port {number} is not allowed: start with `--allow-port {number}`"))),
        }
    }

    /// Looks for an operator's note that takes `target` out, or that cannot be read.
    #[must_use]
    pub fn note(&self, target: &Target, watch: &dyn Watch) -> Option<Outcome> {
        self.note.as_ref().and_then(|file| maintenance::look(file, self.reply.program, target.port, watch))
    }

    /// What identifies an answer of this check about `target`, when answers are shared: the options in force, and the
    /// instance when a request chose it. The password is not an option, but the file that holds it is.
    #[must_use]
    pub fn key(&self, target: &Target) -> Option<Key> {
        let sharing = self.sharing.as_ref()?;
        let (program, version, in_force) = (self.reply.program, env!("CARGO_PKG_VERSION"), &self.in_force);
        let chosen = if *target == self.target { String::new() } else { format!(" ?port={}", target.endpoint) };
        Some(Key::new(sharing, program, format!("{program} {version}{in_force}{chosen}")))
    }

    /// Whether the facts of this run are shown, here or by a check that shares its answer.
    #[must_use]
    pub fn wants_facts(&self) -> bool {
        self.reply.form == Form::Json || self.sharing.is_some()
    }

    /// Whether the numbers of this run are shown, here or by a check that shares its answer.
    #[must_use]
    pub fn wants_gauges(&self) -> bool {
        self.reply.form.shows_gauges() || self.sharing.is_some()
    }
}

/// How a run answers whose options cannot be read: in the form that was typed, where it can be recognised.
#[must_use]
pub fn reply_without_options(program: &'static str, arguments: &[OsString]) -> Reply {
    let typed = command_line::value_of("--format", arguments.get(1..).unwrap_or_default());
    let format = typed.and_then(|value| Format::from_str(value.to_str()?, false).ok()).unwrap_or_default();
    let form = stream::form(format, typed_output(arguments).is_some());
    // The reason is all the operator gets to see of a check that is not configured, so it goes where HAProxy shows it.
    Reply { program, form, budget: DEFAULT_BUDGET, quiet: false, reason_phrase: true, head: false }
}

/// The file of `--output` that was typed: an error in an option file goes there, too, so that no old answer stands there.
#[must_use]
pub fn typed_output(arguments: &[OsString]) -> Option<PathBuf> {
    command_line::value_of("--output", arguments.get(1..).unwrap_or_default()).map(PathBuf::from)
}

#[cfg(test)]
mod tests {
    use super::*;
    use client::Session;
    use std::os::unix::fs::PermissionsExt;

    /// Of the name that every check gives its own: clap makes a group of each, and no two may be the same.
    #[derive(Debug, Args)]
    struct Options {
        #[arg(long)]
        require_writable: bool,
        #[arg(long, value_parser = |text: &str| Ok::<_, String>(Unshown(text.into())))]
        unshown: Option<Unshown>,
    }

    /// A value whose `Debug` shows nothing, like that of a secret.
    #[derive(Clone)]
    struct Unshown(#[expect(dead_code, reason = "only its place in the key counts")] String);

    impl std::fmt::Debug for Unshown {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            Ok(())
        }
    }

    impl Validate for Options {}

    struct Status;

    impl Check for Status {
        const NAME: &'static str = "mysqlchk-status";
        const ABOUT: &'static str = "";
        type Options = Options;
        type Facts = ();

        fn probe(_: &mut Session<'_>, _: &Options) -> Result<(), Verdict> {
            Ok(())
        }

        fn judge((): &(), _: &Options) -> Verdict {
            down("")
        }
    }

    /// The plan of this option file and these words.
    fn plan(text: &str, words: &[&str]) -> Plan<Options> {
        let name = format!("plan-{}-{:?}.cnf", std::process::id(), std::thread::current().id());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, text).unwrap();
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
        let option = format!("--defaults-file={}", file.display());
        let line: Vec<_> = ["program", &option].into_iter().chain(words.iter().copied()).map(OsString::from).collect();
        let task = read::<Status>(&line, &());
        std::fs::remove_file(&file).unwrap();
        match task.unwrap() {
            Task::Check(plan) => *plan,
            Task::Print(text) => panic!("{text}"),
        }
    }

    #[test]
    fn answers_are_shared_only_by_the_same_question() {
        let key = |text: &str, words: &[&str]| {
            let plan = plan(text, &[&["--share=500ms"], words].concat());
            format!("{:?}", plan.key(&plan.target).unwrap())
        };
        let plain = key("", &[]);
        assert_eq!(
            plain,
            key("", &["--format=json", "--output=/a", "--quiet", "--reason-phrase", "--allow-port=3307"])
        );
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
        let several = plan("", &["--share=500ms", "--allow-port=3307"]);
        let asked = |target: &Target| format!("{:?}", several.key(target));
        assert_ne!(asked(&several.instance("3307").unwrap()), asked(&several.target));
        assert!(!key("[client]\npassword=hidden\n", &[]).contains("hidden"));
        let unshared = plan("", &[]);
        assert!(unshared.key(&unshared.target).is_none());
    }
}
