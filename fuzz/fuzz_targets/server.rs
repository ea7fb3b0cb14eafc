//! Most of what libFuzzer makes of recorded packets ends at their lengths and numbers. So most of the time one packet is
//! changed, and the lengths are made right again.

#![no_main]

use std::ffi::{CStr, c_char};

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

/// What is said in place of the program is leaked on purpose, since a signal handler may read it until the process ends.
/// Nothing else may leak.
const LEAKS: &CStr = c"leak:watchdog::alarm::if_late\nleak:watchdog::alarm::if_crashed\n";

/// Asked by `LeakSanitizer`.
#[unsafe(no_mangle)]
extern "C" fn __lsan_default_suppressions() -> *const c_char {
    LEAKS.as_ptr()
}

fuzz_target!(|input: &[u8]| targets::server::run(input));

fuzz_mutator!(|data: &mut [u8], size: usize, max_size: usize, seed: u32| {
    let mut packets = data[..size].split_first().map_or_else(Vec::new, |(_, sent)| split(sent));
    if seed % 4 == 0 || packets.is_empty() {
        return fuzzer_mutate(data, size, max_size);
    }
    change(&mut packets, seed / 4, max_size);
    let sent = join(&packets);
    let size = (1 + sent.len()).min(max_size);
    data[1..size].copy_from_slice(&sent[..size - 1]);
    size
});

struct Packet {
    number: u8,
    payload: Vec<u8>,
}

/// The packets: three bytes of length, one of the number, the payload. The last one may end early.
fn split(mut sent: &[u8]) -> Vec<Packet> {
    let mut packets = Vec::new();
    while let Some(([low, middle, high, number], rest)) = sent.split_first_chunk() {
        let length = u32::from_le_bytes([*low, *middle, *high, 0]) as usize;
        let (payload, rest) = rest.split_at(length.min(rest.len()));
        packets.push(Packet { number: *number, payload: payload.to_vec() });
        sent = rest;
    }
    packets
}

fn join(packets: &[Packet]) -> Vec<u8> {
    let bytes = |packet: &Packet| {
        let length = (packet.payload.len() as u32).to_le_bytes();
        [&length[..3], &[packet.number], &packet.payload].concat()
    };
    packets.iter().flat_map(bytes).collect()
}

fn change(packets: &mut Vec<Packet>, dice: u32, max_size: usize) {
    let (what, which) = (dice % 8, (dice / 8) as usize % packets.len());
    let number = packets[which].number;
    match what {
        0 => drop(packets.remove(which)),
        1 => {
            let payload = packets[which].payload.clone();
            packets.insert(which, Packet { number, payload });
        }
        2 => packets[which].number = number.wrapping_add(1),
        // A packet more or less: those that follow count on.
        3 => (0..).zip(&mut packets[which..]).for_each(|(more, packet)| packet.number = number.wrapping_add(more)),
        _ => {
            let payload = &mut packets[which].payload;
            let size = payload.len();
            payload.resize((2 * size + 64).min(max_size), 0);
            let room = payload.len();
            let size = fuzzer_mutate(payload, size.min(room), room);
            payload.truncate(size);
        }
    }
}
