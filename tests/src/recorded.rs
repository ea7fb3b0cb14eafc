//! Rows on record, served in the place of a server that is not to be had: as much of the protocol as a check speaks.
//!
//! A recording is a text file of `tests/recordings`. It greets with the version of its server, says which variables that
//! server has, and holds the answers to statements: the columns by name, or an error. A test changes single values of it,
//! and only those of columns that are there. What is not on record is refused as such, and no test expects that.
//!
//! ```text
//! include FILE                     all of another recording, before what follows
//! greeting VERSION
//! variables NAME @@NAME ...        an unknown one is error 1193; one after @@ has session scope alone
//! query STATEMENT                  `...` stands for anything; the first that matches answers
//! row / NAME = VALUE               a row with its columns; NULL is NULL
//! columns NAME ... / | VALUE | ... the same for many short rows, or for none
//! error CODE STATE MESSAGE
//! ```

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::{address, shipped};

/// Where every recording listens, on an address of its own.
const PORT: u16 = 3306;
/// `SERVER_STATUS_AUTOCOMMIT`, and `SERVER_MORE_RESULTS_EXISTS`.
const STATUS: u16 = 2;
const MORE: u16 = 8;
/// `CLIENT_PROTOCOL_41` and what came with it, several statements, plugins; no TLS, and `EOF` packets.
const CAPABILITIES: u32 = 0x000b_a20f;

/// What a server answers, statement by statement.
#[derive(Clone, Debug, Default)]
pub struct Recording {
    greeting: String,
    variables: Vec<String>,
    answers: Vec<Answer>,
}

#[derive(Clone, Debug)]
struct Answer {
    statement: String,
    columns: Vec<String>,
    rows: Vec<Vec<Option<String>>>,
    error: Option<(u16, String, String)>,
}

impl Recording {
    /// The recording of this name.
    #[must_use]
    #[track_caller]
    pub fn read(name: &str) -> Self {
        let path = shipped::file(&format!("tests/recordings/{name}"));
        let text = fs::read_to_string(&path).unwrap_or_else(|error| panic!("{name}: {error}"));
        Self::default().and_then(&text)
    }

    /// With these lines before all that is there: they answer first.
    #[must_use]
    #[track_caller]
    pub fn first(mut self, text: &str) -> Self {
        let mut added = Self::default().and_then(text);
        added.answers.append(&mut self.answers);
        Self { answers: added.answers, ..self }
    }

    /// As another version that has the same answers.
    #[must_use]
    pub fn greets(self, version: &str) -> Self {
        Self { greeting: version.to_owned(), ..self }
    }

    /// With this value in each row that has the column, or that is of this name in a table of names and values.
    #[must_use]
    #[track_caller]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        let mut found = false;
        for answer in &mut self.answers {
            let column = answer.columns.iter().position(|column| column == name);
            for row in &mut answer.rows {
                let at = column.or_else(|| (row.len() == 2 && row[0].as_deref() == Some(name)).then_some(1));
                if let Some(at) = at {
                    row[at] = cell(value);
                    found = true;
                }
            }
        }
        assert!(found, "nothing of this name is on record: {name}");
        self
    }

    /// With one more row where these columns are: like the last one, but for them.
    #[must_use]
    #[track_caller]
    pub fn another(mut self, values: &[(&str, &str)]) -> Self {
        let mut found = false;
        for Answer { columns, rows, .. } in &mut self.answers {
            let places = values.iter().map(|(name, _)| columns.iter().position(|column| column == name));
            if let (Some(places), Some(last)) = (places.collect::<Option<Vec<_>>>(), rows.last()) {
                let mut row = last.clone();
                places.into_iter().zip(values).for_each(|(at, (_, value))| row[at] = cell(value));
                rows.push(row);
                found = true;
            }
        }
        assert!(found, "no row on record has these columns: {values:?}");
        self
    }

    /// The columns of the answer to a statement.
    #[must_use]
    pub fn columns(&self, statement: &str) -> Vec<String> {
        let answer = self.answers.iter().find(|answer| matches(&answer.statement, statement));
        answer.map(|answer| answer.columns.clone()).unwrap_or_default()
    }

    #[track_caller]
    fn and_then(mut self, text: &str) -> Self {
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (word, rest) = line.split_once(' ').unwrap_or((line, ""));
            let answer = self.answers.last_mut();
            match (word, answer) {
                ("include", _) => self = Self::read(rest),
                ("greeting", _) => rest.clone_into(&mut self.greeting),
                ("variables", _) => self.variables.extend(rest.split(' ').map(str::to_owned)),
                ("query", _) => {
                    let (columns, rows) = (Vec::new(), Vec::new());
                    self.answers.push(Answer { statement: rest.to_owned(), columns, rows, error: None });
                }
                ("error", Some(answer)) => {
                    let words: Vec<&str> = rest.splitn(3, ' ').collect();
                    answer.error = Some((words[0].parse().unwrap(), words[1].to_owned(), words[2].to_owned()));
                }
                ("columns", Some(answer)) => answer.columns = rest.split(' ').map(str::to_owned).collect(),
                ("row", Some(answer)) => answer.rows.push(Vec::new()),
                ("|", Some(answer)) => answer.rows.push(rest.split(" | ").map(cell).collect()),
                (name, Some(Answer { columns, rows, .. })) => {
                    let value = rest.strip_prefix('=').unwrap_or_else(|| panic!("no line of a recording: {line}"));
                    let row = rows.last_mut().unwrap();
                    row.push(cell(value.trim()));
                    columns.resize_with(columns.len().max(row.len()), || name.to_owned());
                    assert_eq!(columns[row.len() - 1], name, "all rows of an answer have the same columns");
                }
                (_, None) => panic!("no line of a recording: {line}"),
            }
        }
        self
    }

    /// The packets that answer one statement, and whether it worked.
    fn answer(&self, statement: &str, more: bool) -> (Vec<Vec<u8>>, bool) {
        if let Some(error) = statement.split("@@").skip(1).find_map(|rest| self.unknown(rest)) {
            return (vec![error], false);
        }
        let Some(answer) = self.answers.iter().find(|answer| matches(&answer.statement, statement)) else {
            return (vec![refusal(1105, "HY000", "not on record")], false);
        };
        if let Some((code, state, message)) = &answer.error {
            return (vec![refusal(*code, state, message)], false);
        }
        let end = |status: u16| [&[0xfe, 0, 0][..], &status.to_le_bytes()].concat();
        let mut packets = vec![length(answer.columns.len())];
        packets.extend(answer.columns.iter().map(|name| column(name)));
        packets.push(end(STATUS));
        packets.extend(answer.rows.iter().map(|row| row.iter().flat_map(|value| text(value.as_deref())).collect()));
        packets.push(end(if more { STATUS | MORE } else { STATUS }));
        (packets, true)
    }

    /// The error for a variable that this server has not, or not in this scope.
    fn unknown(&self, rest: &str) -> Option<Vec<u8>> {
        let is_end = |c: char| !(c.is_ascii_alphanumeric() || c == '_');
        let (global, rest) = rest.strip_prefix("global.").map_or((false, rest), |rest| (true, rest));
        let name = rest.split(is_end).next().unwrap_or_default();
        if self.variables.iter().any(|variable| variable == name) {
            return None;
        }
        match (self.variables.contains(&format!("@@{name}")), global) {
            (true, false) => None,
            (true, true) => Some(refusal(1238, "HY000", &format!("Variable '{name}' is a SESSION variable"))),
            (false, _) => Some(refusal(1193, "HY000", &format!("Unknown system variable '{name}'"))),
        }
    }
}

fn cell(value: &str) -> Option<String> {
    (value != "NULL").then(|| value.to_owned())
}

/// Whether a statement is as recorded, where `...` stands for anything.
#[must_use]
pub fn matches(recorded: &str, statement: &str) -> bool {
    let mut parts: Vec<&str> = recorded.split("...").collect();
    let last = parts.pop().unwrap_or_default();
    let Some((first, middle)) = parts.split_first() else { return statement == last };
    let rest = middle.iter().try_fold(statement.strip_prefix(first), |rest, part| {
        rest.map(|rest| rest.split_once(part).map(|(_, rest)| rest))
    });
    rest.flatten().is_some_and(|rest| rest.ends_with(last))
}

/// A recording that listens, for as long as this process lives.
#[derive(Debug)]
pub struct Recorded {
    address: Ipv4Addr,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Recorded {
    /// Serves a recording on an address of its own.
    #[must_use]
    pub fn serve(recording: Recording) -> Self {
        let address = address::fresh();
        let listener = TcpListener::bind((address, PORT)).unwrap();
        let asked = Arc::<Mutex<Vec<String>>>::default();
        let served = Self { address, asked: Arc::clone(&asked) };
        thread::spawn(move || {
            let recording = Arc::new(recording);
            for client in listener.incoming().flatten() {
                let (recording, asked) = (Arc::clone(&recording), Arc::clone(&asked));
                // A client that hangs up ends its thread, and that is all.
                thread::spawn(move || drop(talk(client, &recording, &asked)));
            }
        });
        served
    }

    /// The arguments with which a check gets here.
    #[must_use]
    pub fn arguments(&self) -> [String; 3] {
        [format!("--host={}", self.address), format!("--port={PORT}"), "--user=recorded".to_owned()]
    }

    /// What it was asked since the last time: each `COM_QUERY` with its exact text, and any other command by its number.
    #[must_use]
    pub fn statements(&self) -> Vec<String> {
        std::mem::take(&mut *self.asked.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

fn talk(mut client: TcpStream, recording: &Recording, asked: &Mutex<Vec<String>>) -> std::io::Result<()> {
    const QUIT: u8 = 1;
    const QUERY: u8 = 3;
    let capabilities = CAPABILITIES.to_le_bytes();
    let greeting = [
        &[10][..],
        recording.greeting.as_bytes(),
        b"\0\x01\0\0\0abcdefgh\0",
        &capabilities[..2],
        b"\x21\x02\0",
        &capabilities[2..],
        b"\x15\0\0\0\0\0\0\0\0\0\0abcdefghijkl\0mysql_native_password\0",
    ];
    send(&mut client, 0, &[greeting.concat()])?;
    let (number, _) = receive(&mut client)?;
    send(&mut client, number + 1, &[b"\0\0\0\x02\0\0\0".to_vec()])?;
    loop {
        let (number, command) = receive(&mut client)?;
        let text = String::from_utf8_lossy(&command[1..]).into_owned();
        let packets = match command[0] {
            QUIT => return Ok(()),
            QUERY => {
                let statements: Vec<&str> = text.split("; ").collect();
                let mut packets = Vec::new();
                for (at, statement) in statements.iter().enumerate() {
                    let (answer, worked) = recording.answer(statement, at + 1 < statements.len());
                    packets.extend(answer);
                    if !worked {
                        break;
                    }
                }
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                packets
            }
            other => {
                asked.lock().unwrap_or_else(PoisonError::into_inner).push(format!("command {other}"));
                vec![refusal(1047, "08S01", "Unknown command")]
            }
        };
        send(&mut client, number + 1, &packets)?;
    }
}

fn send(client: &mut TcpStream, mut number: u8, packets: &[Vec<u8>]) -> std::io::Result<()> {
    let mut bytes = Vec::new();
    for packet in packets {
        bytes.extend(&u32::try_from(packet.len()).unwrap().to_le_bytes()[..3]);
        bytes.push(number);
        bytes.extend(packet);
        number = number.wrapping_add(1);
    }
    client.write_all(&bytes)
}

fn receive(client: &mut TcpStream) -> std::io::Result<(u8, Vec<u8>)> {
    let mut head = [0; 4];
    client.read_exact(&mut head)?;
    let mut packet = vec![0; usize::from(head[0]) + (usize::from(head[1]) << 8) + (usize::from(head[2]) << 16)];
    client.read_exact(&mut packet)?;
    Ok((head[3], packet))
}

fn refusal(code: u16, state: &str, message: &str) -> Vec<u8> {
    [&[0xff][..], &code.to_le_bytes(), b"#", state.as_bytes(), message.as_bytes()].concat()
}

/// A length as the protocol has it; nothing on record is longer than two bytes can say.
fn length(length: usize) -> Vec<u8> {
    match u8::try_from(length) {
        Ok(short) if short < 0xfb => vec![short],
        _ => [&[0xfc][..], &u16::try_from(length).unwrap().to_le_bytes()].concat(),
    }
}

fn text(value: Option<&str>) -> Vec<u8> {
    value.map_or(vec![0xfb], |value| [length(value.len()), value.as_bytes().to_vec()].concat())
}

/// A column of text (`MYSQL_TYPE_VAR_STRING`) in UTF-8.
fn column(name: &str) -> Vec<u8> {
    let names = [Some("def"), Some(""), Some(""), Some(""), Some(name), Some("")];
    [names.into_iter().flat_map(text).collect(), b"\x0c\x21\0\0\x04\0\0\xfd\0\0\0\0\0".to_vec()].concat()
}
