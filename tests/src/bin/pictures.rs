//! `make pictures`: the pictures of the documents, from a real run. `docs/drill.svg` is a recording of the drill, and
//! `docs/stats.png` the statistics page of `HAProxy`.

use std::env;
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use lab::failover::{Fault, Front, Site, row};
use lab::haproxy::Release;
use lab::scratch::Scratch;
use lab::{daemon, shipped};

/// What is typed into the drill.
const TYPED: [&str; 4] = ["kill db01", "heal", "drift db03", "heal"];

/// How long `HAProxy` may take to notice.
const BOUND: Duration = Duration::from_secs(60);

fn main() {
    println!("recording the drill: {}", TYPED.join(", "));
    write("docs/drill.svg", |file| fs::write(file, animation(&record())).unwrap());
    println!("taking the statistics page");
    write("docs/stats.png", photograph);
}

fn write(name: &str, make: impl FnOnce(&Path)) {
    let file = shipped::file(name);
    make(&file);
    println!("{name}: {} bytes", fs::metadata(file).unwrap().len());
}

// ---------------------------------------------------------------------------------------------------------------------
// The recording

/// A line of the terminal, and when it came.
struct Line {
    at: Duration,
    text: String,
}

/// Runs the drill with [`TYPED`].
fn record() -> Vec<Line> {
    let mut command = Command::new(env::current_exe().unwrap().with_file_name("drill"));
    let mut drill = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    // It takes the next line when it is done with the last one.
    writeln!(drill.stdin.take().unwrap(), "{}", TYPED.join("\n")).unwrap();
    let begin = Instant::now();
    let lines = BufReader::new(drill.stdout.take().unwrap()).lines().map(Result::unwrap);
    let lines = lines.map(|text| Line { at: begin.elapsed(), text }).collect();
    assert!(drill.wait().unwrap().success(), "the drill failed");
    lines
}

/// The columns and rows of the terminal, and the size of a character in pixels.
const COLUMNS: usize = 112;
const ROWS: usize = 30;
const WIDTH: f64 = 7.2;
const HEIGHT: usize = 17;

/// A pause of the drill is shown for at most this long.
const PAUSE_MAX: Duration = Duration::from_millis(1500);
/// How long the screen stands still before something is typed.
const READING: Duration = Duration::from_secs(4);
/// And at the end, before all begins again.
const END: Duration = Duration::from_secs(5);

/// The lab has its sockets in another place in each run; a host has it here.
fn on_a_host(text: &str) -> String {
    let place = |text: &str| {
        let at = text.find("/tmp/mysqlchk-")?;
        let end = at + text.get(at..)?.find("/mysql.sock")? + "/mysql.sock".len();
        Some((at, end))
    };
    let mut text = text.to_owned();
    while let Some((at, end)) = place(&text) {
        text.replace_range(at..end, "/run/mysqld/mysqld.sock");
    }
    text
}

/// The lines as a terminal shows them, from the table before the first command to the table after the last one.
fn screen(recorded: &[Line]) -> Vec<Line> {
    let first = recorded.iter().position(|line| line.text.starts_with("---")).expect("a table");
    let (mut shown, mut at, mut before) = (Vec::new(), Duration::ZERO, recorded[first].at);
    for Line { at: came, text } in &recorded[first..] {
        at += came.saturating_sub(before).min(PAUSE_MAX);
        before = *came;
        // The prompt; the drill repeats what is typed, for its output may be no terminal.
        if text == "> " {
            continue;
        }
        let Some(text) = text.strip_prefix("== ") else {
            let text: Vec<char> = on_a_host(text.trim_end()).chars().collect();
            let rows = text.chunks(COLUMNS).map(String::from_iter);
            // An empty line is a row, too.
            let rows = rows.chain(text.is_empty().then(String::new));
            shown.extend(rows.map(|text| Line { at, text }));
            continue;
        };
        at += READING;
        shown.push(Line { at, text: format!("> {text}") });
    }
    // `> cleaning up`, after the last prompt.
    shown.pop();
    shown
}

/// The lines as a picture that moves, without scripts: each appears at its time, and the oldest scroll away.
fn animation(recorded: &[Line]) -> String {
    let lines = screen(recorded);
    let total = lines.last().expect("lines").at + END;
    let percent = |at: Duration| format!("{:.2}%", 100.0 * at.as_secs_f64() / total.as_secs_f64());
    let mut moments: Vec<Duration> = lines.iter().map(|line| line.at).collect();
    moments.dedup();
    let (mut appear, mut scroll, mut body) = (String::new(), String::new(), String::new());
    for (number, moment) in moments.iter().enumerate() {
        let is_shown = |line: &&Line| line.at <= *moment;
        let top = lines.iter().filter(is_shown).count().saturating_sub(ROWS) * HEIGHT;
        write!(scroll, "{}{{transform:translateY(-{top}px)}}", percent(*moment)).unwrap();
        if number > 0 {
            let at = percent(*moment);
            writeln!(appear, "@keyframes m{number}{{0%{{visibility:hidden}}{at}{{visibility:visible}}}}").unwrap();
        }
        writeln!(body, "<g style=\"animation-name:m{number}\">").unwrap();
        for (row, line) in lines.iter().enumerate().filter(|(_, line)| line.at == *moment && !line.text.is_empty()) {
            // In any font the columns are aligned.
            let length = line.text.chars().count() as f64 * WIDTH;
            let (y, class) = (HEIGHT * row + 13, class(&line.text));
            let text = line.text.replace('&', "&amp;").replace('<', "&lt;");
            writeln!(body, "<text y=\"{y}\" class=\"{class}\" textLength=\"{length:.1}\">{text}</text>").unwrap();
        }
        body += "</g>\n";
    }
    let (width, height) = (COLUMNS as f64 * WIDTH, ROWS * HEIGHT);
    let (outer, tall, seconds) = (width + 30.0, height + 50, total.as_secs_f64());
    let typed = TYPED.join(", ");
    format!(
        r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {outer} {tall}" width="{outer}" height="{tall}" role="img" aria-labelledby="title">
<title id="title">A recording of the drill: {typed}. After each, which checks change, where writes and reads go, and the table of the five servers.</title>
<style>
text{{font:12px ui-monospace,SFMono-Regular,Menlo,Consolas,"DejaVu Sans Mono",monospace;fill:#c9d1d9;white-space:pre}}
.typed{{fill:#fff;font-weight:bold}}
.in{{fill:#7ee787}}
.out{{fill:#ff7b72}}
.traffic{{fill:#d2a8ff}}
.client{{fill:#79c0ff}}
.compare{{fill:#ffa657}}
.dim{{fill:#8b949e}}
g g{{animation:{seconds:.1}s step-end infinite}}
.lines{{animation:scroll {seconds:.1}s step-end infinite}}
@keyframes scroll{{{scroll}}}
{appear}@media(prefers-reduced-motion:reduce){{g,g g{{animation:none!important}}}}
</style>
<rect width="{outer}" height="{tall}" rx="8" fill="#0d1117"/>
<text x="15" y="22" class="dim">make drill (a real run; pauses are shortened)</text>
<svg x="15" y="36" width="{width}" height="{height}">
<g class="lines" xml:space="preserve">
{body}</g>
</svg>
</svg>
"##
    )
}

/// The colour of a line.
fn class(text: &str) -> &'static str {
    let words: Vec<&str> = text.split_whitespace().collect();
    match words[..] {
        [">", ..] => "typed",
        [name, _, "yes", ..] if name.starts_with("db") => "in",
        [name, ..] if name.starts_with("db") => "out",
        [_, "ms", "traffic", ..] => "traffic",
        [_, "ms", "client", ..] => "client",
        [_, "ms", "compare", ..] => "compare",
        [first, ..] if first.starts_with("---") => "dim",
        _ => "plain",
    }
}

// ---------------------------------------------------------------------------------------------------------------------
// The statistics page

/// The page as a browser shows it, of servers that are up, one that is down and one that is drained.
fn photograph(file: &Path) {
    let site = Site::start();
    let front = Front::start(&site, Release::Host, &[]);
    front.until("at the start", &row(0));
    site.break_by(2, Fault::Drift);
    site.break_by(3, Fault::Drain);
    front.haproxy.until("read", "db03", "DOWN", BOUND);
    front.haproxy.until("read", "db04", "NOLB", BOUND);

    let url = format!("http://{}:8404/;norefresh?scope=replication", front.ip);
    let page = Command::new(daemon::program("curl")).args(["--silent", "--fail", &url]).output().unwrap().stdout;
    let page = String::from_utf8(page).unwrap().replace("</head>", &format!("<style>{REASONS}</style></head>"));
    let scratch = Scratch::new("browser");
    let mut chromium = Command::new(daemon::program("chromium"));
    chromium.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--hide-scrollbars",
    ]);
    chromium.arg(format!("--user-data-dir={}", scratch.dir("profile").display()));
    chromium.arg(format!("--screenshot={}", file.display())).arg(format!("--window-size={SIZE}"));
    let status = chromium.arg(scratch.file("page.html", page)).stderr(Stdio::null()).status().unwrap();
    assert!(status.success(), "chromium: {status}");
}

/// What fits the page, in pixels.
const SIZE: &str = "1370,482";

/// Shows the reasons at once that the page shows below the pointer.
const REASONS: &str = "td.ac > u > div.tips { visibility: visible; position: static }";

#[cfg(test)]
mod tests {
    use super::*;

    fn recorded() -> Vec<Line> {
        let line = |&(millis, text): &(u64, &str)| Line { at: Duration::from_millis(millis), text: text.to_owned() };
        let wide = "x".repeat(COLUMNS + 1);
        [
            (0, "starting ..."),
            (9000, "-----"),
            (9000, "db01  yes    yes"),
            (9000, "> "),
            (9000, "== kill db01"),
            (9100, ""),
            (9200, "    200 ms  check   a<b & c"),
            (9300, &wide),
            (60000, "-----"),
            (60000, "> cleaning up"),
        ]
        .iter()
        .map(line)
        .collect()
    }

    #[test]
    fn a_pause_is_short_and_a_command_waits_for_who_reads() {
        let shown: Vec<_> =
            screen(&recorded()).iter().map(|line| (line.at.as_millis(), line.text.chars().take(9).collect())).collect();
        let wanted = [
            (0, "-----"),
            (0, "db01  yes"),
            (4000, "> kill db"),
            (4100, ""),
            (4200, "    200 m"),
            (4300, "xxxxxxxxx"),
            (4300, "x"),
            (5800, "-----"),
        ];
        assert_eq!(shown, wanted.map(|(at, text)| (at, text.to_owned())));
    }

    #[test]
    fn each_line_appears_at_its_time() {
        let picture = animation(&recorded());
        // 4 s of 5.8 s and the end.
        assert!(picture.contains("@keyframes m1{0%{visibility:hidden}37.04%{visibility:visible}}"), "{picture}");
        assert!(picture.contains(">    200 ms  check   a&lt;b &amp; c</text>"), "{picture}");
        assert_eq!(picture.matches("<text ").count(), 8, "{picture}");
    }
}
