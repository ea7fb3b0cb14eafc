//! `make drill`: the five servers of `haproxy/failover.cfg` on loopback, for a person. It shows who is up and why, and where
//! writes and reads go; it takes a fault from the keyboard or the command line, shows the transition with milliseconds,
//! and heals.

use std::collections::BTreeSet;
use std::env;
use std::io::{self, BufRead, IsTerminal, Write};
use std::process::ExitCode;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use lab::failover::{Fault, Front, NAMES, Routes, Site, Traffic};
use lab::haproxy::{Release, Worker};
use lab::wait;

/// A transition is over when nothing has changed for this long; a master on probation takes longer, and is waited for.
const QUIET: Duration = Duration::from_secs(4);
/// How often the table is drawn again.
const REDRAW: Duration = Duration::from_millis(500);

const HELP: &str = "\
FAULT DBxx [FAULT DBxx ...]   break: 1 to 2 at once, as in `kill db01` or `stop-applier db01 stop-applier db02`
reload                        reload HAProxy; also after faults, as in `kill db01 reload`
heal                          make all well again
help, quit
faults: ";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let wanted = match parse(&arguments) {
        Ok(wanted) => wanted,
        Err(why) => {
            eprintln!("{why}\n{}", help());
            return ExitCode::from(2);
        }
    };
    println!("starting two masters, three replicas, their xinetd, HAProxy and its clients, on loopback ...");
    // The probation is half of the shipped one: a person waits.
    let site = Site::start();
    let front = Front::start(&site, Release::Host, &[("PROBATION", "5")]);
    let traffic = Traffic::start(&front);
    traffic.until_more_writes(1);
    println!("HAProxy {} at {}: writes 3306, reads 3307, statistics 8404", Release::Host.version(), front.ip);
    let drill = Drill { site, front, traffic };
    if arguments.is_empty() {
        drill.converse();
    } else {
        drill.show();
        drill.break_by(&wanted);
        drill.show();
        drill.heal();
        drill.show();
    }
    println!("cleaning up");
    ExitCode::SUCCESS
}

fn help() -> String {
    format!("{HELP}{}", Fault::ALL.map(Fault::word).join(", "))
}

/// What to do: break these servers, then perhaps reload `HAProxy`.
struct Wanted {
    faults: Vec<(usize, Fault)>,
    reload: bool,
}

/// Pairs of a fault and a server, and perhaps `reload` at the end.
fn parse<S: AsRef<str>>(words: &[S]) -> Result<Wanted, String> {
    let (words, reload) = match words {
        [words @ .., last] if last.as_ref() == "reload" => (words, true),
        _ => (words, false),
    };
    let (pairs, rest) = words.as_chunks::<2>();
    if let Some(word) = rest.first() {
        return Err(format!("`{}` of which server?", word.as_ref()));
    }
    let pair = |[fault, server]: &[S; 2]| {
        let (fault, server) = (fault.as_ref(), server.as_ref());
        let found = Fault::ALL.into_iter().find(|known| known.word() == fault);
        let number = NAMES.iter().position(|name| *name == server);
        Ok((number.ok_or(format!("no server `{server}`"))?, found.ok_or(format!("no fault `{fault}`"))?))
    };
    let faults = pairs.iter().map(pair).collect::<Result<_, String>>()?;
    Ok(Wanted { faults, reload })
}

struct Drill {
    site: Site,
    front: Front,
    traffic: Traffic,
}

impl Drill {
    /// Until the person has had enough; the table is drawn again while nothing is typed.
    fn converse(&self) {
        println!("{}\n", help());
        let lines = keyboard();
        loop {
            let height = self.show();
            print!("> ");
            io::stdout().flush().unwrap();
            let line = loop {
                match lines.recv_timeout(REDRAW) {
                    Ok(line) => break line,
                    Err(RecvTimeoutError::Disconnected) => return,
                    Err(RecvTimeoutError::Timeout) if io::stdout().is_terminal() => {
                        // Over the old one; what is being typed stays where it is.
                        print!("\x1b7\x1b[{height}A\r");
                        self.show();
                        print!("\x1b8");
                        io::stdout().flush().unwrap();
                    }
                    Err(RecvTimeoutError::Timeout) => {}
                }
            };
            let words: Vec<&str> = line.split_whitespace().collect();
            match words[..] {
                [] => {}
                ["quit" | "exit"] => return,
                ["help"] => println!("{}", help()),
                ["heal"] => self.heal(),
                _ => match parse(&words) {
                    Ok(wanted) => self.break_by(&wanted),
                    Err(why) => println!("{why}"),
                },
            }
        }
    }

    fn break_by(&self, Wanted { faults, reload }: &Wanted) {
        let again = faults.iter().find(|(number, _)| !self.site.is_well(*number));
        if let Some((number, _)) = again {
            println!("{} is broken already: heal first", NAMES[*number]);
            return;
        }
        let names = faults.iter().map(|(number, fault)| format!("{} {}", fault.word(), NAMES[*number]));
        let names: Vec<String> = names.chain(reload.then(|| "reload".to_owned())).collect();
        println!("\n== {}", names.join(", "));
        let before = self.front.routes();
        let mut begin = None;
        for (number, fault) in faults {
            let at = self.site.break_by(*number, *fault);
            begin.get_or_insert(at);
        }
        let begin = begin.unwrap_or_else(Instant::now);
        let old = reload.then(|| self.front.haproxy.reload());
        self.watch(begin, before, || old.is_none_or(Worker::has_ended));
    }

    fn heal(&self) {
        println!("\n== heal");
        let (before, begin) = (self.front.routes(), Instant::now());
        thread::scope(|scope| {
            let cure = scope.spawn(|| self.site.heal());
            self.watch(begin, before, || cure.is_finished());
        });
    }

    /// Prints what changes, with milliseconds, until all is done and nothing has changed for a while.
    fn watch(&self, begin: Instant, mut routes: Routes, is_done: impl Fn() -> bool) {
        let mut told = self.reasons();
        let mut writers = Vec::new();
        let mut last = Instant::now();
        wait::until("the end of the transition", Duration::from_secs(120), || {
            for line in self.site.comparisons() {
                stamp(begin, &format!("compare {line}"));
            }
            let (now, reasons, wrote) = (self.front.routes(), self.reasons(), self.traffic.seen().writers(begin));
            for reason in reasons.iter().filter(|reason| !told.contains(*reason)) {
                stamp(begin, &format!("check   {reason}"));
            }
            if wrote.len() > writers.len() {
                stamp(begin, &format!("client  {} accepts writes", wrote.last().unwrap()));
            }
            if now != routes {
                stamp(begin, &format!("traffic {}", line(&now)));
            }
            // Whoever counts its good or bad checks is not done.
            let counts = reasons.iter().any(|reason| {
                reason.split(' ').any(|word| {
                    word.split_once('/').is_some_and(|(n, m)| n.parse::<u8>().is_ok() && m.parse::<u8>().is_ok())
                })
            });
            if now != routes || wrote != writers || counts || !is_done() {
                last = Instant::now();
            }
            told.extend(reasons);
            (routes, writers) = (now, wrote);
            last.elapsed() > QUIET
        });
        let seen = self.traffic.seen();
        let (pause, overlap) = (seen.pause(begin, Instant::now()), seen.overlap());
        println!("   longest wait of a write: {} ms; two writers: {} ms\n", pause.as_millis(), overlap.as_millis());
    }

    /// What the checks say that are not up, but for those that run just now.
    fn reasons(&self) -> BTreeSet<String> {
        self.front.reasons().into_iter().filter(|reason| !reason.contains(" * ")).collect()
    }

    /// The table, and how many lines it has.
    fn show(&self) -> usize {
        let lines = self.front.haproxy.servers();
        let find = |proxy: &str, server: &str| {
            lines.iter().find(|line| line.proxy == proxy && line.server == server).cloned().unwrap_or_default()
        };
        let rule = "-".repeat(100);
        let mut text =
            format!("{rule}\n{:<5} {:<6} {:<5} {:<8} {:<11} why not\n", "", "writes", "reads", "status", "replication");
        let routes = self.front.routes();
        for name in NAMES {
            let (status, replication, steady) = (find("status", name), find("replication", name), find("steady", name));
            let failback = find("failback", name);
            let worst = [&status, &replication].into_iter().find(|line| !["", "UP"].contains(&&*line.status));
            let why = match worst {
                Some(line) => line.last_chk.clone(),
                None if steady.status.starts_with("DOWN") => {
                    format!("has not replicated for a while: {}", steady.status)
                }
                None if routes.write != Some(name) && failback.status.starts_with("DOWN") => {
                    format!("does not take the writes back yet: {}", failback.status)
                }
                None => String::new(),
            };
            let mark = |yes: bool| if yes { "yes" } else { "-" };
            let (write, read) = (mark(routes.write == Some(name)), mark(routes.read.contains(name)));
            let row = format!("{name:<5} {write:<6} {read:<5} {:<8} {:<11} {why}", status.status, replication.status);
            let colour = if read == "yes" { "32" } else { "31" };
            text += &paint(colour, &format!("{row:<100.100}"));
            text.push('\n');
        }
        println!("{text}{rule}");
        NAMES.len() + 3
    }
}

fn line(routes: &Routes) -> String {
    let read: Vec<&str> = routes.read.iter().copied().collect();
    let read = if read.is_empty() { "nowhere".to_owned() } else { read.join(" ") };
    format!("writes to {}, reads to {read}", routes.write.unwrap_or("nowhere"))
}

fn stamp(begin: Instant, what: &str) {
    println!("{:>7} ms  {what}", begin.elapsed().as_millis());
}

fn paint(code: &str, text: &str) -> String {
    if io::stdout().is_terminal() { format!("\x1b[{code}m{text}\x1b[0m") } else { text.trim_end().to_owned() }
}

/// Lines as they are typed; it ends with them.
fn keyboard() -> Receiver<String> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            if tell.send(line).is_err() {
                break;
            }
        }
    });
    told
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reload_comes_alone_or_after_faults() {
        let parsed = |line: &str| {
            let words: Vec<&str> = line.split_whitespace().collect();
            parse(&words).map(|wanted| (wanted.faults, wanted.reload))
        };
        assert_eq!(parsed("reload"), Ok((vec![], true)));
        assert_eq!(parsed("kill db01 reload"), Ok((vec![(0, Fault::Kill)], true)));
        assert_eq!(parsed("kill db01 lag db02"), Ok((vec![(0, Fault::Kill), (1, Fault::Lag)], false)));
        assert_eq!(parsed("reload db01"), Err("no fault `reload`".to_owned()));
        assert_eq!(parsed("kill"), Err("`kill` of which server?".to_owned()));
    }
}
