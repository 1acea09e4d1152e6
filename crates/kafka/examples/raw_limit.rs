//! What this machine takes to receive batches, check them and write them, and nothing else: the limit for the produce path.
//!
//!     cargo run --release -p millpond-kafka --example raw_limit -- serve FILE
//!     cargo run --release -p millpond-kafka --example raw_limit -- send ADDRESS BATCH_BYTES MEGABYTES
//!
//! `serve` says where it listens, takes frames (a length of 4 bytes, then a record batch), checks each one's CRC-32C, appends it to the
//! file and answers with 4 bytes, until nobody is connected any more. Then it says what processor time that took. `send`
//! keeps five frames under way, as a producer does.

#![allow(clippy::print_stdout)] // Its figures are for bench/.

use std::fs::File;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};

use millpond_records::{BatchBuilder, BatchOptions, verify_crc};

const IN_FLIGHT: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["serve", file] => serve(file),
        ["send", address, batch_bytes, megabytes] => {
            send(address, batch_bytes.parse().unwrap(), megabytes.parse().unwrap());
        }
        _ => panic!("serve FILE, or send ADDRESS BATCH_BYTES MEGABYTES"),
    }
}

fn serve(path: &str) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    println!("{}", listener.local_addr().unwrap());
    let mut file = File::create(path).unwrap();
    let (mut socket, _) = listener.accept().unwrap();
    socket.set_nodelay(true).unwrap();
    let before = processor_seconds();
    let (mut frame, mut bytes) = (Vec::new(), 0u64);
    let mut len = [0; 4];
    while socket.read_exact(&mut len).is_ok() {
        frame.resize(u32::from_be_bytes(len) as usize, 0);
        socket.read_exact(&mut frame).unwrap();
        verify_crc(&frame).unwrap();
        file.write_all(&frame).unwrap();
        socket.write_all(&len).unwrap();
        bytes += frame.len() as u64;
    }
    println!("{{\"bytes\": {bytes}, \"cpu\": {:.3}}}", processor_seconds() - before);
}

/// User and system time of this process so far.
fn processor_seconds() -> f64 {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    // SAFETY: it reads a constant of the system.
    let ticks_a_second = unsafe { libc::sysconf(libc::_SC_CLK_TCK) };
    [11, 12].iter().map(|place: &usize| fields[*place].parse::<f64>().unwrap()).sum::<f64>() / ticks_a_second as f64
}

fn send(address: &str, batch_bytes: usize, megabytes: u64) {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    let mut builder = BatchBuilder::new(BatchOptions::default());
    while builder.len() + 1024 <= batch_bytes {
        builder.push(1_700_000_000_000, None, Some(&[b'v'; 1000]), &[]);
    }
    let batch = builder.build();
    let mut frame = u32::try_from(batch.len()).unwrap().to_be_bytes().to_vec();
    frame.extend_from_slice(&batch);
    let count = megabytes * 1_000_000 / batch.len() as u64;
    let mut answer = [0; 4];
    for sent in 0..count {
        socket.write_all(&frame).unwrap();
        if sent >= IN_FLIGHT as u64 {
            socket.read_exact(&mut answer).unwrap();
        }
    }
    for _ in 0..count.min(IN_FLIGHT as u64) {
        socket.read_exact(&mut answer).unwrap();
    }
}
