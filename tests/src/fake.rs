//! What a real server cannot be made to do: to stay silent, to send one byte at a time or anything at all, to be far
//! away, to let no client in. What a real server would answer on record is [`crate::recorded`].

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketFlags, SocketType, addr::SocketAddrArg, connect, listen, socket_with};

use crate::{address, wait};

/// A server may be slow to read; a test that waits for longer has failed.
const BOUND: Duration = Duration::from_secs(60);

/// Listens on an address of its own and answers nothing, for as long as the value lives.
#[must_use]
pub fn silent() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind((address::fresh(), 0)).unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// Another way to a server: what is sent arrives this much later, in both directions, and no slower.
#[must_use]
pub fn far(server: SocketAddr, later: Duration) -> SocketAddr {
    let (listener, address) = silent();
    thread::spawn(move || {
        for near in listener.incoming().map(Result::unwrap) {
            let far = TcpStream::connect(server).unwrap();
            for stream in [&near, &far] {
                stream.set_nodelay(true).unwrap();
            }
            carry(near.try_clone().unwrap(), far.try_clone().unwrap(), later);
            carry(far, near, later);
        }
    });
    address
}

/// Carries what one side sends to the other, until either is closed.
fn carry(mut from: TcpStream, mut to: TcpStream, later: Duration) {
    let (departures, arrivals) = channel::<(Instant, Vec<u8>)>();
    thread::spawn(move || {
        let mut bytes = [0; 65536];
        while let Ok(length @ 1..) = from.read(&mut bytes) {
            if departures.send((Instant::now() + later, bytes[..length].to_vec())).is_err() {
                return;
            }
        }
    });
    thread::spawn(move || {
        for (due, bytes) in arrivals {
            wait::dawdle(due.saturating_duration_since(Instant::now()));
            if to.write_all(&bytes).is_err() {
                break;
            }
        }
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// The arguments with which a check gets there.
#[must_use]
pub fn arguments(address: SocketAddr) -> Vec<String> {
    vec![format!("--host={}", address.ip()), format!("--port={}", address.port())]
}

/// Greets one client of the listener and goes on with a byte now and then: each single read of the client succeeds.
pub fn drip(listener: TcpListener) {
    thread::spawn(move || {
        let greeting = b"\x4a\0\0\0\x0a5.5.5-10.11.19-MariaDB\0".iter().chain(std::iter::repeat_n(&b'x', 200));
        if let Ok((mut client, _)) = listener.accept() {
            for byte in greeting {
                if client.write_all(&[*byte]).is_err() {
                    return;
                }
                wait::dawdle(Duration::from_millis(20));
            }
        }
    });
}

/// Makes the accept queue of a listener as short as it gets, and fills it: the next client hangs in `connect()`, for as long
/// as the value lives.
#[must_use]
pub fn fill(listener: &impl AsFd, family: AddressFamily, there: &impl SocketAddrArg) -> Vec<OwnedFd> {
    listen(listener, 0).unwrap();
    let mut held = Vec::new();
    loop {
        assert!(held.len() < 100, "the queue does not fill");
        let client = socket_with(family, SocketType::STREAM, SocketFlags::NONBLOCK, None).unwrap();
        match connect(&client, there) {
            Ok(()) => {}
            Err(Errno::AGAIN) => return held,
            Err(Errno::INPROGRESS) => {
                // On loopback a connection is there at once, or not at all.
                let moment = Timespec::try_from(Duration::from_millis(100)).unwrap();
                if poll(&mut [PollFd::new(&client, PollFlags::OUT)], Some(&moment)).unwrap() == 0 {
                    held.push(client);
                    return held;
                }
            }
            Err(error) => panic!("{error}"),
        }
        held.push(client);
    }
}

/// A server that sends anything.
#[derive(Debug)]
pub struct Fake {
    /// Where it listens.
    pub address: SocketAddr,
    received: Arc<Mutex<Vec<u8>>>,
}

impl Fake {
    /// Sends these bytes in turn to each client, the next after the client has sent something; then no more, and waits for
    /// its end.
    #[must_use]
    pub fn sending(turns: Vec<Vec<u8>>) -> Self {
        Self::sending_each(vec![turns])
    }

    /// The same with turns of its own for each client, in their order; those that come later get those of the last.
    #[must_use]
    pub fn sending_each(clients: Vec<Vec<Vec<u8>>>) -> Self {
        let (listener, address) = silent();
        let fake = Self { address, received: Arc::default() };
        let all = Arc::clone(&fake.received);
        thread::spawn(move || {
            for (number, client) in listener.incoming().enumerate() {
                let turns = &clients[number.min(clients.len() - 1)];
                let mut client = client.unwrap();
                client.set_read_timeout(Some(BOUND)).unwrap();
                let mut chunk = [0; 64 * 1024];
                let mut receive = |client: &mut TcpStream| match client.read(&mut chunk) {
                    Ok(count @ 1..) => all.lock().unwrap().write_all(&chunk[..count]).is_ok(),
                    _ => false,
                };
                for (turn, bytes) in turns.iter().enumerate() {
                    let is_last = turn + 1 == turns.len();
                    if client.write_all(bytes).is_err() || (!is_last && !receive(&mut client)) {
                        break;
                    }
                }
                let _ = client.shutdown(Shutdown::Write);
                // Until the client has gone: a close with bytes unread would be a reset.
                while receive(&mut client) {}
            }
        });
        fake
    }

    /// What all clients have sent.
    #[must_use]
    pub fn received(&self) -> String {
        String::from_utf8_lossy(&self.received.lock().unwrap_or_else(PoisonError::into_inner)).into_owned()
    }
}

/// One packet of the protocol.
#[must_use]
pub fn packet(number: u8, payload: &[u8]) -> Vec<u8> {
    let [a, b, c, _] = u32::try_from(payload.len()).unwrap().to_le_bytes();
    [&[a, b, c, number], payload].concat()
}

/// The greeting of a server, after which comes a login: no TLS, no compression.
#[must_use]
pub fn greeting() -> Vec<u8> {
    let parts: [&[u8]; 10] = [
        b"\x0a5.5.5-10.11.19-MariaDB\0",
        &[7, 0, 0, 0],
        b"abcdefgh\0",
        // Capabilities without TLS and compression, utf8mb4, autocommit.
        &[0xfe, 0xf7],
        &[45, 2, 0],
        &[0x0f, 0x00],
        &[21],
        &[0; 10],
        b"ijklmnopqrst\0",
        b"mysql_native_password\0",
    ];
    packet(0, &parts.concat())
}

/// Everything is in order: no rows, no warning.
pub const OK: &[u8] = &[0, 0, 0, 2, 0, 0, 0];
