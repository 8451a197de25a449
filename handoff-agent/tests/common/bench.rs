//! Frames into the ingress program under `BPF_PROG_TEST_RUN`, and what it makes of them.

use handoff_agent::bpf::{PROGRAM_INGRESS, Programs};
use handoff_agent::frame::{Answer, answer};
use libbpf_rs::ProgramInput;
use smoltcp::wire::Ipv4Packet;

use super::coverage::Loaded;
use super::*;

pub const NEXT: u32 = u32::MAX;
pub const PASS: u32 = 0;
pub const DROP: u32 = 2;
pub const REDIRECT: u32 = 7;

pub struct Outcome {
    pub verdict: u32,
    pub frame: Vec<u8>,
    pub counted: Vec<(&'static str, u64)>,
}

/// Programs in a namespace with neither listener nor connection.
pub fn bench() -> Loaded {
    enter_new_netns();
    ready_programs(1)
}

pub fn run(programs: &Programs, frame: &[u8]) -> Outcome {
    run_in(programs, PROGRAM_INGRESS, frame)
}

pub fn run_in(programs: &Programs, name: &'static str, frame: &[u8]) -> Outcome {
    let before = programs.maps().counters().expect("readable");
    let mut out = vec![0; 4096];
    let program = programs.program(name).expect("there");
    let input = ProgramInput { data_in: Some(frame), data_out: Some(&mut out), ..ProgramInput::default() };
    let output = program.test_run(input).expect("the kernel runs it");
    let (verdict, frame) = (output.return_value, output.data.expect("asked for").to_vec());
    let after = programs.maps().counters().expect("readable");
    Outcome { verdict, frame, counted: changes(&before, &after) }
}

/// Runs a frame that must be dropped for one reason.
#[track_caller]
pub fn dropped(programs: &Programs, frame: &[u8], counter: &'static str) {
    let outcome = run(programs, frame);
    assert_eq!((outcome.verdict, &outcome.counted[..]), (DROP, &[("received", 1), (counter, 1)][..]));
}

/// Runs a frame that must be answered; returns the answer.
#[track_caller]
pub fn answered(programs: &Programs, client: &Client, frame: &[u8], counter: &'static str) -> Answer {
    let outcome = run(programs, frame);
    assert_eq!((outcome.verdict, &outcome.counted[..]), (REDIRECT, &[("received", 1), (counter, 1)][..]));
    assert_eq!(outcome.frame[..12], [&frame[6..12], &frame[..6]].concat(), "MAC addresses swapped");
    let (was, is) =
        (Ipv4Packet::new_unchecked(&frame[14..]), Ipv4Packet::new_unchecked(&outcome.frame[14..]));
    assert_eq!((is.src_addr(), is.dst_addr()), (was.dst_addr(), was.src_addr()), "addresses swapped");
    assert_eq!((is.hop_limit(), is.dont_frag(), is.ident()), (64, true, was.ident()));
    assert_eq!(outcome.frame[34..38], frame[34..38], "UDP ports as they came");
    assert_eq!(outcome.frame[40..42], [0, 0], "no UDP checksum");
    answer(&outcome.frame, &client.tuple, &tag_key()).expect("an answer of ours")
}

/// The very frame that answers a client's message: MAC addresses, IP addresses and header turned round, tagged anew.
pub fn answer_frame(client: &Client, header: &Header, inner: &[u8]) -> Vec<u8> {
    let came = client.path();
    let path = Path {
        source_mac: came.destination_mac,
        destination_mac: came.source_mac,
        source: came.destination,
        destination: came.source,
        ..came
    };
    wrapped(&path, header, &client.tuple, &tag_key(), inner)
}

pub fn patched(frame: &[u8], at: usize, bytes: &[u8]) -> Vec<u8> {
    let mut frame = frame.to_vec();
    frame[at..at + bytes.len()].copy_from_slice(bytes);
    frame
}

pub const OUTER: usize = 14;
pub const UDP: usize = OUTER + 20;
pub const HEADER: usize = UDP + 8;
pub const INNER: usize = HEADER + 56;
pub const TCP: usize = INNER + 20;
