//! What is pinned, and what a successor makes of it.

mod common;

use std::path::PathBuf;

use common::net::*;
use common::*;
use handoff_agent::bpf::abi::RECORDS_NOT_BEGUN;
use handoff_agent::bpf::{self, Attachment, BpfError, Maps, Programs, Steering};
use handoff_proto::MessageType;
use handoff_proto::header::Detail;

/// A pin directory of the test's own; what a failed test leaves there goes with it.
struct Pins(PathBuf);

impl Pins {
    fn new(name: &str) -> Self {
        Self(PathBuf::from(format!("/sys/fs/bpf/agt-pins-{}-{name}", std::process::id())))
    }

    fn load(&self, records: u32) -> Programs {
        Programs::load(records, Some(&self.0)).expect("root loads and pins BPF programs")
    }

    fn maps(&self) -> Maps {
        Maps::pinned(&self.0).expect("pinned")
    }

    fn since_us(&self) -> u64 {
        self.maps().settings().expect("readable").records_since_us
    }
}

impl Drop for Pins {
    fn drop(&mut self) {
        if let Err(error) = bpf::detach(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

fn steering<'a>(programs: &'a Programs, net: &Net, afresh: bool) -> Steering<'a> {
    Steering::new(programs.maps(), HOST, net.data_index, 1, afresh).expect("writable")
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn records_begin_when_their_programs_are_attached() {
    let net = Net::new();
    net.add_address("lo", VIP);
    let pins = Pins::new("begin");
    let programs = pins.load(RECORDS);
    let attachment = Attachment::new(&programs, net.data_index, &pins.0).expect("attached");
    steering(&programs, &net, true).begin_records().expect("writable");
    let first_us = pins.since_us();
    assert_ne!(first_us, RECORDS_NOT_BEGUN);
    make_ready(programs.maps(), net.data_index); // since two seconds
    drop((attachment, programs));

    // A successor with a larger memory is killed before it attaches: the old programs, which no longer share records
    // with what comes, take nothing.
    drop(pins.load(2 * RECORDS));
    let caught = net.client(50_001);
    net.send(&caught.frame(REQUEST));
    let refused = net.await_answer(&caught);
    assert_eq!((refused.header.kind, refused.header.detail), (MessageType::Refused, Detail::NotReady));

    // The next one finds those records, and that they have not begun.
    let programs = pins.load(2 * RECORDS);
    assert_eq!(pins.since_us(), RECORDS_NOT_BEGUN);
    let attachment = Attachment::new(&programs, net.data_index, &pins.0).expect("attached");
    assert!(attachment.taken_over);
    steering(&programs, &net, false).begin_records().expect("writable");
    let second_us = pins.since_us();
    assert!(first_us < second_us && second_us < RECORDS_NOT_BEGUN, "{first_us} {second_us}");

    // A third one of the same size goes on with them.
    drop((attachment, programs));
    let programs = pins.load(2 * RECORDS);
    steering(&programs, &net, false).begin_records().expect("writable");
    assert_eq!(pins.since_us(), second_us);
}

/// A new agent that remembers more exchanges the records while a client waits for its response.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_connection_outlives_the_records_it_began_under() {
    let net = Net::new();
    net.add_address("lo", VIP);
    let listener = listen();
    let pins = Pins::new("outlives");
    let programs = pins.load(RECORDS);
    let attachment = Attachment::new(&programs, net.data_index, &pins.0).expect("attached");
    make_ready(programs.maps(), net.data_index); // since two seconds
    let client = net.client(50_011);
    net.send(&client.frame(REQUEST));
    let (mut stream, _) = accept(&listener);
    assert_reads(&mut stream, REQUEST);
    net.await_reply(&client, "acknowledgment", |reply| reply.ack == BASE_SEQ.add(18));
    drop((attachment, programs));

    let programs = pins.load(2 * RECORDS);
    let attachment = Attachment::new(&programs, net.data_index, &pins.0).expect("attached");
    let delivered = || programs.maps().counters().expect("readable").value("delivered_unrecorded");
    // Before the records have begun, and when they have: with the agent ready and without.
    let next = |seq, payload: &[u8]| {
        Client { seq: BASE_SEQ.add(seq), issued: switch_now(), ..client }.frame(payload)
    };
    net.send(&next(0, REQUEST));
    net.send(&next(18, b"more"));
    assert_reads(&mut stream, b"more");
    assert_eq!(delivered(), 2);
    steering(&programs, &net, false).begin_records().expect("writable");
    net.send(&next(0, REQUEST));
    net.send(&next(22, b"and more"));
    assert_reads(&mut stream, b"and more");
    assert_eq!(delivered(), 4);
    assert_nothing_to_accept(&listener);
    drop(attachment);
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn pins_belong_to_one_agent_at_a_time() {
    let _net = Net::new();
    let pins = Pins::new("lock");
    let programs = pins.load(RECORDS);
    let second = Programs::load(RECORDS, Some(&pins.0)).err();
    assert!(matches!(second, Some(BpfError::Busy(_))), "{second:?}");
    assert!(matches!(bpf::detach(&pins.0), Err(BpfError::Busy(_))));
    pins.maps().counters().expect("reading is free, and everything is still there");
    drop(programs);
    drop(pins.load(RECORDS));
    bpf::detach(&pins.0).expect("nobody else");
    assert!(!pins.0.exists());
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_root_of_a_file_system_is_nobodys_pin_directory() {
    let _net = Net::new();
    let link = std::env::temp_dir().join(format!("agt-pins-{}-link", std::process::id()));
    std::os::unix::fs::symlink("/sys/fs/bpf", &link).expect("writable");
    for dir in [&PathBuf::from("/sys/fs/bpf"), &link] {
        let refused = Programs::load(RECORDS, Some(dir)).err();
        assert!(matches!(refused, Some(BpfError::MountPoint(_))), "{refused:?}");
        assert!(matches!(bpf::detach(dir), Err(BpfError::MountPoint(_))));
    }
    std::fs::remove_file(&link).expect("ours");
    assert!(!PathBuf::from("/sys/fs/bpf/records").exists(), "nothing was pinned there");
}
