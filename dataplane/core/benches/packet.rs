//! What one packet costs the core, in memory, on one CPU: `cargo bench -p baton-core`.
//!
//! Each kind of packet is measured over many connections (1,000 and 100,000; `BATON_BENCH_FLOWS=1000000` sets another number),
//! taken in order, so that the caches see what a switch with that many connections sees. `floor` is what any
//! forwarder must do with the same frames: copy, parse Ethernet and IPv4, swap the hardware addresses.

#![expect(missing_docs, reason = "criterion_group! makes a public function")]
#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "what is measured reads no clock; who measures does"
)]

use core::net::Ipv4Addr;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use baton_core::ids::{BackendIndex, PoolIndex};
use baton_core::policy::{Conditions, Pool, Rule, Rules};
use baton_core::switch::{Backend, Learned, Service};
use baton_core::wire::{self, Ethernet, Ipv4, MacAddress};
use baton_core::{
    Counters, Entropy, Frame, Lcore, Micros, Network, Outbox, Settings, Snapshot, Switch, Verdict,
};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use handoff_proto::keys::Key;
use handoff_proto::{KeyId, KeyRing, Vip};
use smoltcp::wire::{
    IpProtocol, Ipv4Packet, Ipv4Repr, TcpControl, TcpOption, TcpPacket, TcpRepr, TcpSeqNumber,
    TcpTimestampRepr,
};

const NOW: Micros = Micros::from_secs(1_800_000_000);
/// When the switch started: long enough ago that it takes new connections for what they are.
const STARTED: Micros = Micros::from_secs(1_799_999_900);
const SWITCH: MacAddress = MacAddress([2, 0, 0, 0, 0, 1]);
const ROUTER: MacAddress = MacAddress([2, 0, 0, 0, 0, 2]);
const BACKEND: MacAddress = MacAddress([2, 0, 0, 0, 0, 3]);
const VIP: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 100);
const REQUEST: &[u8] =
    b"GET /files/index.html HTTP/1.1\r\nHost: www.example.org\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n";
const CLIENT_ISN: i32 = 1000;
const HEADROOM: usize = 128;
const IP_AT: usize = wire::ETHERNET_BYTES;
const TCP_AT: usize = IP_AT + wire::IPV4_BYTES;

struct Nowhere;

impl Outbox for Nowhere {
    fn transmit(&mut self, _: &[u8]) -> bool {
        true
    }

    fn share(&mut self, _: Learned) {}
}

fn switch(flow_count_max: usize) -> Switch {
    let snapshot = Snapshot {
        vips: vec![Service::http(Vip { address: VIP.into(), port: 80 })],
        backends: vec![Backend::at(Ipv4Addr::new(10, 60, 0, 11).into())],
        pools: vec![Pool::of([BackendIndex(0)])],
        rules: Rules::new(vec![Rule::to_pool(Conditions::default(), PoolIndex(0))]),
        ..Snapshot::bare(KeyRing::new(vec![Key::new(KeyId(1), [7; 32])]).expect("one key"))
    };
    let settings = Settings {
        network: Network { address: Ipv4Addr::new(10, 60, 0, 1), prefix_bits: 24, gateway: None },
        mtu_bytes: 1500,
        flow_count_max,
        hold_count_max: 16,
        hold_timeout: Micros::from_secs(10),
        unconfirmed_timeout: Micros::from_secs(300),
        established_timeout: Micros::from_secs(900),
        closing_timeout: Micros::from_secs(60),
        window_scale: 7,
    };
    let (counters, entropy) = (Arc::new(Counters::default()), Entropy::from_seed(1));
    let mut switch = Switch::new(
        Lcore { number: 0, count: 1, mac: SWITCH },
        settings,
        Arc::new(snapshot),
        counters,
        entropy,
        STARTED,
    )
    .expect("good settings");
    switch.learn(Learned { address: Ipv4Addr::new(10, 60, 0, 11), mac: BACKEND }, NOW);
    switch
}

fn segment(
    client: u32,
    control: TcpControl,
    seq: i32,
    ack: Option<i32>,
    tsecr: u32,
    payload: &[u8],
) -> Vec<u8> {
    let source = Ipv4Addr::from_bits(0x0a32_0000 | client >> 15);
    let is_syn = control == TcpControl::Syn;
    let tcp = TcpRepr {
        src_port: u16::try_from(1024 + (client & 0x7fff)).expect("below 33,792"),
        dst_port: 80,
        control,
        seq_number: TcpSeqNumber(seq),
        ack_number: ack.map(TcpSeqNumber),
        window_len: 64_240,
        window_scale: is_syn.then_some(7),
        max_seg_size: is_syn.then_some(1460),
        sack_permitted: is_syn,
        sack_ranges: [None; 3],
        timestamp: Some(TcpTimestampRepr { tsval: 5, tsecr }),
        payload,
    };
    let mut frame = vec![0; TCP_AT + tcp.buffer_len()];
    frame[..6].copy_from_slice(&SWITCH.0);
    frame[6..12].copy_from_slice(&ROUTER.0);
    frame[12] = 8;
    let ip = Ipv4Repr {
        src_addr: source,
        dst_addr: VIP,
        next_header: IpProtocol::Tcp,
        payload_len: tcp.buffer_len(),
        hop_limit: 64,
    };
    ip.emit(&mut Ipv4Packet::new_unchecked(&mut frame[IP_AT..]), &Default::default());
    tcp.emit(
        &mut TcpPacket::new_unchecked(&mut frame[TCP_AT..]),
        &source.into(),
        &VIP.into(),
        &Default::default(),
    );
    frame
}

/// Frames of many clients at the same point of their connection.
struct Frames {
    syns: Vec<Vec<u8>>,
    idle_acks: Vec<Vec<u8>>,
    requests: Vec<Vec<u8>>,
    acks: Vec<Vec<u8>>,
}

impl Frames {
    fn of(clients: u32) -> Self {
        let mut switch = switch(1);
        let mut frames =
            Self { syns: Vec::new(), idle_acks: Vec::new(), requests: Vec::new(), acks: Vec::new() };
        let mut buffer = [0; 2048];
        for client in 0..clients {
            let syn = segment(client, TcpControl::Syn, CLIENT_ISN, None, 0, &[]);
            give(&mut switch, &mut buffer, &syn);
            let answer = TcpPacket::new_unchecked(&buffer[HEADROOM + TCP_AT..]);
            let ack = answer.seq_number() + 1;
            let mut options = answer.options();
            let tsval = loop {
                match TcpOption::parse(options).expect("our own options") {
                    (_, TcpOption::TimeStamp { tsval, .. }) => break tsval,
                    (rest, _) => options = rest,
                }
            };
            let next = CLIENT_ISN + 1;
            let behind = next + i32::try_from(REQUEST.len()).expect("short");
            frames.syns.push(syn);
            frames.idle_acks.push(segment(client, TcpControl::None, next, Some(ack.0), tsval, &[]));
            frames.requests.push(segment(client, TcpControl::Psh, next, Some(ack.0), tsval, REQUEST));
            frames.acks.push(segment(client, TcpControl::None, behind, Some((ack + 500).0), tsval, &[]));
        }
        frames
    }
}

fn give(switch: &mut Switch, buffer: &mut [u8], bytes: &[u8]) -> Verdict {
    buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
    let mut frame = Frame::new(buffer, HEADROOM, bytes.len()).expect("a large buffer");
    switch.receive(&mut frame, NOW, &mut Nowhere)
}

/// Times `rounds` frames, all of which must get the same verdict; `prepare` makes a fresh switch for each pass over them.
fn time(rounds: u64, frames: &[Vec<u8>], expected: Verdict, prepare: impl Fn() -> Switch) -> Duration {
    let mut buffer = [0; 2048];
    let mut total = Duration::ZERO;
    let mut left = usize::try_from(rounds).expect("a 64-bit machine");
    while left > 0 {
        let pass = &frames[..left.min(frames.len())];
        let mut switch = prepare();
        let begin = Instant::now();
        for bytes in pass {
            assert_eq!(give(&mut switch, &mut buffer, bytes), expected);
        }
        total += begin.elapsed();
        left -= pass.len();
    }
    total
}

fn floor(rounds: u64, frames: &[Vec<u8>]) -> Duration {
    let mut buffer = [0; 2048];
    let begin = Instant::now();
    for bytes in frames.iter().cycle().take(usize::try_from(rounds).expect("a 64-bit machine")) {
        buffer[HEADROOM..HEADROOM + bytes.len()].copy_from_slice(bytes);
        let mut frame = Frame::new(&mut buffer, HEADROOM, bytes.len()).expect("a large buffer");
        let ethernet = Ethernet::parse(frame.bytes()).expect("our own frame");
        black_box(Ipv4::parse(frame.bytes()).expect("our own frame"));
        wire::redirect(&mut frame, ethernet.destination, ethernet.source);
    }
    begin.elapsed()
}

fn packets(criterion: &mut Criterion) {
    let asked = std::env::var("BATON_BENCH_FLOWS").ok().map(|text| text.parse().expect("a number of flows"));
    for clients in asked.map_or(vec![1_000, 100_000], |count: u32| vec![count]) {
        let room = usize::try_from(clients).expect("a 64-bit machine") + 1;
        let frames = Frames::of(clients);
        let mut group = criterion.benchmark_group("packet");
        let mut bench = |name: &str, measure: &dyn Fn(u64) -> Duration| {
            group.bench_function(BenchmarkId::new(name, clients), |bencher| bencher.iter_custom(measure));
        };
        let established = || {
            let (mut switch, mut buffer) = (switch(room), [0; 2048]);
            for bytes in frames.requests.iter().chain(&frames.acks) {
                give(&mut switch, &mut buffer, bytes);
            }
            switch
        };
        bench("floor", &|rounds| floor(rounds, &frames.acks));
        bench("syn", &|rounds| time(rounds, &frames.syns, Verdict::Reply, || switch(1)));
        bench("idle_ack", &|rounds| time(rounds, &frames.idle_acks, Verdict::Absorb, || switch(1)));
        bench("handoff", &|rounds| time(rounds, &frames.requests, Verdict::Forward, || switch(room)));
        bench("established", &|rounds| time(rounds, &frames.acks, Verdict::Forward, established));
        group.finish();
    }
}

criterion_group!(benches, packets);
criterion_main!(benches);
