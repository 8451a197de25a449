//! ICMP errors about packets of the VIP: through the tunnel to the socket they speak of, and no farther.

mod common;

use std::io::Write;
use std::net::{Ipv4Addr, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Instant;

use common::bench::*;
use common::errors::*;
use common::net::*;
use common::wire::*;
use common::*;
use handoff_agent::host::{Endpoint, Keeper, Mend};
use handoff_proto::{FRESHNESS_PAST, Micros};
use smoltcp::wire::Ipv4Packet;

/// The path MTU the socket reckons with.
fn path_mtu(stream: &TcpStream) -> u32 {
    // SAFETY: all fields are integers.
    let mut info: libc::tcp_info = unsafe { std::mem::zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&info)).expect("small");
    // SAFETY: the pointers are to that many bytes and to their number, which live during the call.
    let result = unsafe {
        libc::getsockopt(
            stream.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            (&raw mut info).cast(),
            &raw mut length,
        )
    };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    info.tcpi_pmtu
}

#[track_caller]
fn await_path_mtu(stream: &TcpStream, want: u32) {
    let deadline = Instant::now() + PATIENCE;
    while path_mtu(stream) != want {
        assert!(Instant::now() < deadline, "the path MTU is {}, not {want}", path_mtu(stream));
        std::thread::yield_now();
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn fragmentation_needed_reaches_the_socket_it_speaks_of() {
    let (wire, listener) = (Wire::new(), listen());
    let clients = [43_001, 43_002, 43_003].map(|port| wire.client(port));
    let mut streams = clients.map(|client| established(&wire, &listener, &client));
    for stream in &mut streams {
        stream.write_all(&[7; 4_000]).expect("connected");
        assert_eq!(path_mtu(stream), 1500);
    }
    // No socket has this one; its error changes none.
    let nobody = wire.client(43_004);
    let delivered = [("received", 1), ("icmp_delivered", 1)];
    wire.counted(&tunnelled(&nobody, &error(FRAGMENTATION_NEEDED, &quoted(&nobody, 8))), &delivered);
    // As little as RFC 792 demands is quoted, or much.
    wire.counted(&tunnelled(&clients[0], &error(FRAGMENTATION_NEEDED, &quoted(&clients[0], 8))), &delivered);
    await_path_mtu(&streams[0], MTU);
    assert_eq!([1, 2].map(|other| path_mtu(&streams[other])), [1500; 2]);
    wire.counted(
        &tunnelled(&clients[1], &error(FRAGMENTATION_NEEDED, &quoted(&clients[1], 548))),
        &delivered,
    );
    await_path_mtu(&streams[1], MTU);
    // Without a tunnel such an error goes to the stack as ever.
    assert_eq!(path_mtu(&streams[2]), 1500);
    wire.send(&plain(&clients[2], &error(FRAGMENTATION_NEEDED, &quoted(&clients[2], 8))));
    await_path_mtu(&streams[2], MTU);
}

/// A firewall that tracks connections and drops what looks invalid to it, as many do.
#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn a_firewall_lets_errors_about_untracked_connections_pass() {
    let (wire, listener) = (Wire::new(), listen());
    let rules =
        "table inet site { chain input { type filter hook input priority 0; ct state invalid drop; }; }";
    let loaded = std::process::Command::new("nft").arg(rules).status().expect("nft");
    assert!(loaded.success());
    let dir = std::env::temp_dir().join(format!("agt-icmp-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir); // of a run that was killed
    let mut keeper = Keeper::open(&dir, vec![Endpoint { address: VIP, port: PORT }]).expect("ours");
    keeper.mend(&Mend::Notrack).expect("root may");
    let client = wire.client(43_010);
    let mut stream = established(&wire, &listener, &client);
    stream.write_all(&[7; 4_000]).expect("connected");
    let delivered = [("received", 1), ("icmp_delivered", 1)];
    wire.counted(&tunnelled(&client, &error(FRAGMENTATION_NEEDED, &quoted(&client, 8))), &delivered);
    await_path_mtu(&stream, MTU);
    keeper.restore().expect("root may");
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn the_error_comes_out_as_it_went_in() {
    let programs = bench();
    let client = Client::new(33333);
    for kind in [FRAGMENTATION_NEEDED, (3, 1), (11, 0), (12, 0)] {
        let error = error(kind, &quoted(&client, 8));
        let outcome = run(&programs, &tunnelled(&client, &error));
        assert_eq!(
            (outcome.verdict, &outcome.counted[..]),
            (PASS, &[("received", 1), ("icmp_delivered", 1)][..])
        );
        assert_eq!(outcome.frame[14..], error, "{kind:?}");
        assert!(Ipv4Packet::new_checked(&outcome.frame[14..]).expect("IPv4").verify_checksum());
        // What comes without a tunnel passes untouched.
        let frame = plain(&client, &error);
        let outcome = run(&programs, &frame);
        assert_eq!((outcome.verdict, outcome.counted, outcome.frame), (NEXT, vec![], frame));
    }
}

#[test]
#[ignore = "needs root and BPF: scripts/test runs it"]
fn each_fault_of_an_icmp_message_has_its_counter() {
    const QUOTE: usize = INNER + 28;
    let programs = bench();
    let client = Client::new(33333);
    let about = |quoted: &[u8]| tunnelled(&client, &error(FRAGMENTATION_NEEDED, quoted));
    let frame = about(&quoted(&client, 8));
    let of_kind = |kind| tunnelled(&client, &error((kind, 0), &quoted(&client, 8)));
    let elsewhere = Ipv4Addr::new(10, 60, 0, 101).octets();
    let stale = client.issued.since(FRESHNESS_PAST).since(Micros::from_millis(200));
    let cases: [(&str, Vec<u8>); 22] = [
        ("icmp_not_error", of_kind(0)),
        ("icmp_not_error", of_kind(8)),
        ("icmp_not_error", of_kind(4)),
        ("icmp_not_error", of_kind(5)),
        ("icmp_not_error", of_kind(13)),
        ("icmp_not_error", tunnelled(&client, &client.packet(REQUEST))),
        ("icmp_length", about(&quoted(&client, 7))),
        ("icmp_length", about(&[0; 12])),
        ("icmp_length", patched(&frame, INNER + 2, &[0, 57])),
        ("icmp_length", patched(&frame, INNER + 2, &[0, 55])),
        ("truncated", about(&[0; 11])),
        ("inner_not_ipv4", patched(&frame, INNER, &[0x65])),
        ("inner_options", patched(&frame, INNER, &[0x46])),
        ("inner_fragment", patched(&frame, INNER + 6, &[0x20, 0])),
        ("inner_fragment", patched(&frame, INNER + 6, &[0, 1])),
        ("icmp_quote", patched(&frame, QUOTE, &[0x46])),
        ("icmp_quote", patched(&frame, QUOTE + 6, &[0, 1])),
        ("icmp_quote", patched(&frame, QUOTE + 9, &[17])),
        ("icmp_quote", patched(&frame, QUOTE + 12, &elsewhere)),
        // Both ends agree, and it is no VIP; or it is the VIP's address at another port.
        ("not_a_vip", patched(&patched(&frame, QUOTE + 12, &elsewhere), INNER + 16, &elsewhere)),
        ("not_a_vip", patched(&frame, QUOTE + 20, &[0, 81])),
        (
            "stale",
            tunnelled(&Client { issued: stale, ..client }, &error(FRAGMENTATION_NEEDED, &quoted(&client, 8))),
        ),
    ];
    for (counter, frame) in cases {
        println!("{counter}");
        dropped(&programs, &frame, counter);
    }
    // Of another 4-tuple than the tag's: another client, another port.
    dropped(&programs, &patched(&frame, QUOTE + 19, &[77]), "bad_tag");
    dropped(&programs, &patched(&frame, QUOTE + 22, &[0, 1]), "bad_tag");
    for length in UDP..frame.len() {
        assert_ne!(run(&programs, &frame[..length]).verdict, PASS, "{length} bytes");
    }
}
