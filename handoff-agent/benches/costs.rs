//! What the agent costs a backend: the BPF programs per packet, and one report. As root: `cargo bench -p handoff-agent`.
//!
//! Each figure is the least of several runs: what disturbs a run only ever makes it longer. The programs run under
//! `BPF_PROG_TEST_RUN`, in a network namespace of their own, with one connection that was handed off.

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::bpf::{PROGRAM_EGRESS, PROGRAM_INGRESS, watch_sockets};
use handoff_agent::frame::{Segment, client_packet};
use handoff_agent::load::{LoadMeter, Servers, Tree, begin_counting};
use handoff_agent::sys::diag::{State, tcp_sockets};
use handoff_proto::{FourTuple, Seq};
use libbpf_rs::ProgramInput;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustix::time::{ClockId, clock_gettime};
use smoltcp::wire::TcpControl;

const RUNS: usize = 15;
const REPEAT: u32 = 100_000;

/// Nanoseconds a program takes for a frame.
fn packet_ns(wire: &Wire, name: &'static str, frame: &[u8]) -> u128 {
    let program = wire.programs.program(name).expect("there");
    let once = || {
        let input = ProgramInput { data_in: Some(frame), repeat: REPEAT, ..ProgramInput::default() };
        program.test_run(input).expect("the kernel runs it").duration
    };
    (0..RUNS).map(|_| once()).min().unwrap_or(Duration::ZERO).as_nanos()
}

/// A frame from `source` with the numbers of an established connection.
fn frame(tuple: &FourTuple, seq: Seq, ack: Seq, payload: &[u8]) -> Vec<u8> {
    let segment =
        Segment { seq, ack: Some(ack), control: TcpControl::None, timestamps: Some((1, 1)), payload };
    let mut frame = vec![0; 12];
    frame.extend_from_slice(&[8, 0]);
    frame.extend_from_slice(&client_packet(tuple, &segment).expect("IPv4"));
    frame
}

fn turned(tuple: &FourTuple) -> FourTuple {
    FourTuple {
        client: tuple.vip,
        client_port: tuple.vip_port,
        vip: tuple.client,
        vip_port: tuple.client_port,
    }
}

fn packets() {
    let wire = Wire::new();
    let listener: TcpListener = listen();
    let client = wire.client(50_001);
    let _stream = established(&wire, &listener, &client);
    let (tuple, back) = (client.tuple, turned(&client.tuple));
    let (seq, ack) = (BASE_SEQ.add(18), BASE_ACK);
    let other = FourTuple { vip: HOST.into(), vip_port: 9_999, ..tuple };
    println!("nanoseconds a packet, least of {RUNS} runs of {REPEAT}:");
    for (what, program, frame) in [
        ("ingress, TCP of somebody else's", PROGRAM_INGRESS, frame(&other, seq, ack, &[0; 1_000])),
        ("ingress, plain acknowledgment", PROGRAM_INGRESS, frame(&tuple, seq, ack.add(1), b"")),
        ("ingress, plain data", PROGRAM_INGRESS, frame(&tuple, seq, ack.add(1), &[0; 1_000])),
        ("egress, TCP of somebody else's", PROGRAM_EGRESS, frame(&turned(&other), ack, seq, &[0; 1_000])),
        ("egress, acknowledgment", PROGRAM_EGRESS, frame(&back, ack.add(1), seq, b"")),
        ("egress, data", PROGRAM_EGRESS, frame(&back, ack.add(1), seq, &[0; 1_400])),
        ("egress, first data", PROGRAM_EGRESS, frame(&back, ack, seq, &[0; 1_400])),
    ] {
        println!("  {:>5}  {what}", packet_ns(&wire, program, &frame));
    }
}

/// Microseconds of processor time this thread takes for something, least of several runs.
fn cpu_us(mut act: impl FnMut()) -> u64 {
    let now = || {
        let time = clock_gettime(ClockId::ThreadCPUTime);
        u64::try_from(time.tv_sec * 1_000_000 + time.tv_nsec / 1_000).unwrap_or(0)
    };
    let once = |_| {
        let begun = now();
        act();
        let took = now() - begun;
        thread::sleep(Duration::from_millis(55)); // a load asked for at once is that of before
        took
    };
    (0..RUNS).map(once).min().unwrap_or(0)
}

fn reports() {
    allow_many_files();
    let net = Net::new();
    net.add_address("lo", VIP);
    let programs = ready_programs(net.data_index);
    let maps = programs.maps();
    let listener = listen();
    let servers = Servers::new(Tree::host(), None, vec![vip()]);
    let (mut open, mut clients) = (Vec::new(), Vec::new());
    println!("microseconds of processor time for one report, least of {RUNS} runs:");
    println!("  connections  counted by BPF  by listing  listing alone");
    for count in [0, 1_000, 10_000] {
        let more = count - open.len();
        if more > 0 {
            clients.push(Clients::connect(more));
        }
        open.extend((0..more).map(|_| accept(&listener).0));
        begin_counting(maps).expect("writable");
        let listing = cpu_us(|| drop(tcp_sockets(State::Established, Some(PORT)).expect("readable")));
        // A new meter begins with a list; after that, the counter goes on for a minute.
        let watch = watch_sockets(&programs).expect("attachable");
        let mut load = LoadMeter::new(maps, &servers, "data0", vec![vip()], true);
        load.read();
        thread::sleep(Duration::from_millis(55));
        let counted = cpu_us(|| _ = black_box(load.read()));
        assert_eq!(load.read().established, Some(open.len() as u64));
        drop(watch);
        let listed = cpu_us(|| {
            _ = black_box(LoadMeter::new(maps, &servers, "data0", vec![vip()], false).read());
        });
        println!("  {count:>11}  {counted:>14}  {listed:>10}  {listing:>13}");
    }
}

fn allow_many_files() {
    let most = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: most, maximum: most }).expect("up to the limit");
}

/// A process that holds the clients' ends of connections: one may not have as many files open as both ends take.
struct Clients(Child);

const CONNECT: &str = "connect";

impl Clients {
    fn connect(count: usize) -> Self {
        let itself = std::env::current_exe().expect("a program");
        let mut command = Command::new(itself);
        command.args([CONNECT, &count.to_string()]).stdin(Stdio::piped());
        Self(command.spawn().expect("it runs"))
    }

    /// What such a process does: it ends with its standard input.
    fn hold(count: usize) {
        allow_many_files();
        let _open: Vec<TcpStream> =
            (0..count).map(|_| TcpStream::connect((VIP, PORT)).expect("on lo")).collect();
        let _ = std::io::stdin().read(&mut [0]);
    }
}

impl Drop for Clients {
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}

fn main() {
    let arguments: Vec<String> = std::env::args().collect();
    if let Some([_, count]) =
        arguments.get(1..).filter(|words| words.first().is_some_and(|word| word == CONNECT))
    {
        return Clients::hold(count.parse().expect("a number"));
    }
    thread::spawn(packets).join().expect("measured");
    thread::spawn(reports).join().expect("measured");
}
