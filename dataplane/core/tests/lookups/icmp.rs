//! ICMP errors go to the backend whose packet they quote.

use baton_core::flow::State;
use baton_core::{DropReason, Event, Verdict};

use crate::common::client::Client;
use crate::common::packets::{ACK, Ip, TcpFrame, checksum, ethernet, ipv4, read_message};
use crate::common::world::{
    BACKENDS, ROUTER_MAC, SECRET, SWITCH, SWITCH_MAC, VIP, World, backend_of, is_authentic,
};
use crate::support::{ask, stranger};

/// A router far away.
const ROUTER: Ip = [10, 9, 8, 7];
const ICMP: u8 = 10;

/// An error of a router about a packet of the VIP, of which it quotes `quoted` bytes.
pub(crate) fn icmp_error(kind: u8, code: u8, packet: &[u8], quoted: usize) -> Vec<u8> {
    let mut message = vec![kind, code, 0, 0, 0, 0, 0x05, 0x14]; // a next hop's MTU of 1300
    message.extend(&packet[..quoted]);
    let sum = checksum(&message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    ethernet(SWITCH_MAC, ROUTER_MAC, 0x0800, &ipv4(ROUTER, VIP, 1, &message))
}

/// A segment of a backend to `client`, as it left under the VIP's address.
pub(crate) fn segment_of_vip(client: &Client) -> TcpFrame {
    TcpFrame {
        to: ROUTER_MAC,
        from: [2, 0, 0, 0, 1, 11],
        source: client.vip,
        destination: client.address,
        source_port: client.vip_port,
        destination_port: client.port,
        seq: client.peer_isn.wrapping_add(1),
        ack: client.isn.wrapping_add(1),
        flags: ACK,
        options: Vec::new(),
        payload: vec![b'y'; 1400],
    }
}

/// Changes a quoted packet.
fn changed(packet: &[u8], at: usize, value: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    packet[at] = value;
    packet
}

#[test]
fn an_error_about_a_flow_on_this_network_goes_on_by_hardware_address() {
    let mut world = World::new();
    let (client, sent, backend) = world.established(Client::new(), "/files/a");
    let packet = segment_of_vip(&client).packet();
    for (kind, code) in [(3, 4), (3, 1), (11, 0), (12, 0)] {
        for quoted in [28, 548] {
            let error = icmp_error(kind, code, &packet, quoted);
            world.give(&error).expect_direct(&error, backend);
        }
    }
    assert_eq!(world.event(Event::IcmpErrorsForwarded), 8);
    world.give(&client.fin(sent));
    let error = icmp_error(3, 4, &packet, 28);
    world.give(&error).expect_direct(&error, backend);
    // The backend speaks before its client confirms the flow.
    let (client, outcome) = world.request(Client::at_port(2), "/files/a");
    let error = icmp_error(3, 4, &segment_of_vip(&client).packet(), 28);
    world.give(&error).expect_direct(&error, backend_of(&outcome.message()));
}

#[test]
fn an_error_about_a_flow_behind_a_router_goes_on_in_the_tunnel() {
    let mut world = World::new();
    let (client, _, _) = world.established(Client::new(), "/routed/a");
    let error = icmp_error(3, 4, &segment_of_vip(&client).packet(), 548);
    let outcome = world.give(&error);
    assert_eq!(outcome.verdict, Verdict::Forward);
    let message = read_message(&outcome.frame);
    assert_eq!((message.kind, message.outer.destination, message.outer.to), (ICMP, BACKENDS[2], ROUTER_MAC));
    assert_eq!((message.outer.source, message.issued), (SWITCH, world.now.0));
    assert_eq!(message.inner, error[14..], "whole and untouched");
    // The tag is that of the connection it speaks of, as a client's packet would name it.
    let tagged = crate::common::packets::Message { inner: client.ack(0)[14..].to_vec(), ..message };
    assert!(is_authentic(&tagged, SECRET));
    assert_eq!(world.event(Event::IcmpErrorsForwarded), 1);
}

#[test]
fn an_error_about_nothing_a_backend_sent_is_dropped() {
    let mut world = World::new();
    let mut client = Client::new();
    world.connect(&mut client);
    let error = icmp_error(3, 4, &segment_of_vip(&client).packet(), 28);
    world.expect_drop(&error, DropReason::IcmpUnowned); // no flow
    world.give(&client.data(0, b"GET /fi"));
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Holding));
    world.expect_drop(&error, DropReason::IcmpUnowned);
    world.give(&client.data(7, b"\0\r\n\r\n"));
    assert_eq!(world.flow(client.tuple()).map(|flow| flow.state), Some(State::Answered));
    world.expect_drop(&error, DropReason::IcmpUnowned);
    let sought = Client { port: 2, ..stranger() };
    ask(&mut world, &sought.ack(0));
    let error = icmp_error(3, 4, &segment_of_vip(&sought).packet(), 28);
    world.expect_drop(&error, DropReason::IcmpUnowned);
    assert_eq!(world.event(Event::IcmpErrorsForwarded), 0);
}

#[test]
fn what_is_no_error_about_a_packet_of_the_vip_is_dropped() {
    let mut world = World::new();
    let (client, _, _) = world.established(Client::new(), "/files/a");
    let packet = segment_of_vip(&client).packet();
    let elsewhere = ipv4([10, 60, 0, 101], client.address, 6, &segment_of_vip(&client).segment());
    let mut bad_sum = icmp_error(3, 4, &packet, 28);
    bad_sum[37] ^= 1;
    for (name, frame) in [
        ("another of our addresses quoted", icmp_error(3, 4, &elsewhere, 28)),
        ("a client's packet quoted", icmp_error(3, 4, &client.ack(0)[14..], 28)),
        ("an echo reply", icmp_error(0, 0, &packet, 28)),
        ("a redirect", icmp_error(5, 1, &packet, 28)),
        ("a quote without both ports", icmp_error(3, 4, &packet, 23)),
        ("a quote without an IP header", icmp_error(3, 4, &packet, 19)),
        ("no quote", icmp_error(3, 4, &packet, 0)),
        ("UDP quoted", icmp_error(3, 4, &changed(&packet, 9, 17), 28)),
        ("a later fragment quoted", icmp_error(3, 4, &changed(&packet, 7, 1), 28)),
        ("options quoted", icmp_error(3, 4, &changed(&packet, 0, 0x46), 28)),
        ("IPv6 quoted", icmp_error(3, 4, &changed(&packet, 0, 0x65), 28)),
        ("a bad checksum", bad_sum),
    ] {
        let outcome = world.give(&frame);
        assert_eq!(outcome.verdict, Verdict::Drop(DropReason::IcmpOther), "{name}");
    }
    let mut away = icmp_error(3, 4, &packet, 28);
    let header = ipv4(ROUTER, BACKENDS[0], 1, &away[34..]);
    away[14..].copy_from_slice(&header);
    world.expect_drop(&away, DropReason::NotVip);
}

#[test]
fn an_error_too_long_for_the_tunnel_is_dropped() {
    let mut world = World::new();
    let (client, _, _) = world.established(Client::new(), "/routed/a");
    let error = icmp_error(3, 4, &segment_of_vip(&client).packet(), 1400);
    world.expect_drop(&error, DropReason::TooLong);
}
