//! Writes shell completions for every program into the directory that is given: `bash/NAME`, `zsh/_NAME` and `fish/NAME.fish`.
//! A package is made with them; the programs do not carry them.
//!
//! The options are those that `--help` of each program shows: the programs come from `MYSQLCHK_BIN`.

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, ValueHint};
use clap_complete::{Shell, generate_to};
use lab::program::binary;
use lab::shipped;

fn main() {
    let out = PathBuf::from(std::env::args_os().nth(1).expect("a directory to write to"));
    for program in shipped::installed_programs() {
        for (shell, directory) in [(Shell::Bash, "bash"), (Shell::Zsh, "zsh"), (Shell::Fish, "fish")] {
            let directory = out.join(directory);
            fs::create_dir_all(&directory).unwrap();
            let written = generate_to(shell, &mut command(program, &[]), program, &directory).unwrap();
            if shell == Shell::Bash {
                // Of a program with a hyphen in its name clap_complete 4.6 looks for subcommands under two names, and finds none.
                let [wrong, right] = ["__subcmd__", "__"].map(|joint| program.replace('-', joint));
                let text = fs::read_to_string(&written).unwrap().replace(&wrong, &right);
                fs::remove_file(written).unwrap();
                // As the package bash-completion looks for it.
                fs::write(directory.join(program), text).unwrap();
            }
        }
    }
}

/// The command line of a program, or of one of its subcommands.
fn command(program: &'static str, subcommand: &[&'static str]) -> clap::Command {
    let mut help = Command::new(binary(program));
    help.args(subcommand).arg("--help").stdin(Stdio::null());
    let text = String::from_utf8(help.output().unwrap().stdout).unwrap();
    // clap keeps references; this process ends soon.
    let text: &'static str = text.leak();
    let name = subcommand.last().copied().unwrap_or(program);
    let about = text.lines().next().unwrap_or_default();
    let bare = clap::Command::new(name).about(about).disable_help_flag(true).disable_help_subcommand(true);
    let subcommands = text.split_once("\nCommands:\n").map(|(_, rest)| rest.split("\n\n").next().unwrap());
    let names = subcommands.into_iter().flat_map(str::lines).filter_map(|line| line.split_whitespace().next());
    let subcommands = names.map(|name| command(program, &[name])).collect::<Vec<_>>();
    bare.args(items(text).into_iter().map(|item| option(item.leak()))).subcommands(subcommands)
}

/// The lines of a help text that are about one option each: they begin with it, and end at the next one or at a heading.
fn items(text: &str) -> Vec<String> {
    let mut items: Vec<String> = Vec::new();
    let mut is_option = false;
    for line in text.lines() {
        if line.trim_start().starts_with('-') && line.find('-') < Some(8) {
            items.push(String::new());
            is_option = true;
        } else if !line.starts_with(' ') && !line.is_empty() {
            is_option = false;
        }
        if let Some(item) = items.last_mut().filter(|_| is_option) {
            *item += line.trim();
            item.push('\n');
        }
    }
    items
}

/// One option, from lines like `-h, --host <HOST>`, its words after two spaces or on the next line.
fn option(item: &'static str) -> Arg {
    let (first, rest) = item.split_once('\n').unwrap();
    let (head, words) = first.split_once("  ").unwrap_or((first, rest.split('\n').next().unwrap()));
    let long = head.split("--").nth(1).unwrap();
    let (long, value) = long.find([' ', '[', '<']).map_or((long, ""), |at| (&long[..at], long[at..].trim()));
    let mut option = Arg::new(long).long(long).help(words.trim());
    if let Some(letter) = head.chars().nth(1).filter(|letter| *letter != '-') {
        option = option.short(letter);
    }
    if !value.starts_with('<') {
        // `[=<BOOL>]` may be left out.
        return option.action(ArgAction::SetTrue);
    }
    let possible = item.split("ossible values:").nth(1).map(|list| list.split(']').next().unwrap());
    let values: Vec<&str> = possible.map_or(Vec::new(), |list| {
        // A list in one line, or one value a line: `- never: Not while it is a donor`.
        let lines = list.lines().filter_map(|line| line.trim().strip_prefix("- ")?.split(':').next());
        let lines: Vec<&str> = lines.collect();
        if lines.is_empty() { list.split(',').map(str::trim).collect() } else { lines }
    });
    let option = option.action(ArgAction::Append);
    match value.trim_matches(['<', '>']) {
        _ if !values.is_empty() => option.value_parser(PossibleValuesParser::new(values)),
        "FILE" | "PATH" => option.value_hint(ValueHint::FilePath),
        "PROGRAM" => option.value_parser(PossibleValuesParser::new(shipped::programs())),
        _ => option.value_hint(ValueHint::Other),
    }
}
