//! What agents tell the switch, as text: what is taken, and what is not whoever sends it.

use handoff_proto::channel::PLAINTEXT_BYTES_MAX;
use handoff_proto::control::{AcceptQueue, FromAgent, Load, Rate, Response, SESSIONS_MAX, Sessions, Traffic};
use handoff_proto::{TlsSessionId, Vip};
use proptest::prelude::*;
use serde_json::{from_str, json, to_value};

fn vip() -> Vip {
    Vip { address: [10, 60, 0, 100].into(), port: 443 }
}

/// The text a message of TLS sessions has with this in the place of an id.
fn sessions_with(id: &serde_json::Value) -> String {
    json!({ "type": "sessions", "vip": { "address": "10.60.0.100", "port": 443 }, "ids": [id] }).to_string()
}

#[test]
fn session_ids_stand_in_hex_of_their_own_length() {
    let id = |bytes: &[u8]| TlsSessionId::new(bytes).expect("1 to 32 bytes");
    let message = FromAgent::Sessions(Sessions { vip: vip(), ids: vec![id(&[0xa0, 0x0f]), id(&[7; 32])] });
    let text = json!({
        "type": "sessions",
        "vip": { "address": "10.60.0.100", "port": 443 },
        "ids": ["a00f", "0707070707070707070707070707070707070707070707070707070707070707"],
    });
    assert_eq!(to_value(&message).expect("writable"), text);
    assert_eq!(from_str::<FromAgent>(&text.to_string()).expect("as written"), message);
    // A zero at the end belongs to the id.
    assert_ne!(id(&[1]), id(&[1, 0]));
    assert_eq!(id(&[1, 0]).as_bytes(), [1, 0]);
}

#[test]
fn what_is_no_session_id_is_refused_and_said_to_be() {
    assert_eq!(TlsSessionId::new(&[]), None);
    assert_eq!(TlsSessionId::new(&[0; 33]), None);
    for wrong in [
        json!(""),
        json!("a"),
        json!("a0f"),
        json!("g0"),
        json!("+1"),
        json!(" 1"),
        json!("ü"),
        json!("0x"),
        json!("00".repeat(33)),
        json!("0".repeat(1 << 15)),
        json!(7),
        json!(null),
        json!([160, 15]),
    ] {
        let error = from_str::<FromAgent>(&sessions_with(&wrong)).expect_err("no session id").to_string();
        assert!(error.contains("1 to 32 bytes in hex digits"), "{wrong}: {error}");
    }
    assert!(from_str::<FromAgent>(&sessions_with(&json!("A00f"))).is_ok(), "capitals are hex digits, too");
}

proptest! {
    #[test]
    fn every_session_id_comes_back(bytes in prop::collection::vec(any::<u8>(), 1..=32)) {
        let id = TlsSessionId::new(&bytes).expect("1 to 32 bytes");
        prop_assert_eq!(id.as_bytes(), &bytes[..]);
        prop_assert_eq!(from_str::<TlsSessionId>(&serde_json::to_string(&id).expect("writable")).expect("hex"), id);
    }
}

/// A message that is as long as its limits allow fits the channel.
#[test]
fn as_many_sessions_as_one_message_may_hold_fit_a_frame() {
    let address = "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff".parse().expect("an address");
    let ids = vec![TlsSessionId::new(&[0xff; 32]).expect("32 bytes"); SESSIONS_MAX];
    let message = FromAgent::Sessions(Sessions { vip: Vip { address, port: u16::MAX }, ids });
    let length = serde_json::to_string(&message).expect("writable").len();
    assert!(length <= PLAINTEXT_BYTES_MAX, "{length} bytes");
}

#[test]
fn what_a_host_cannot_tell_is_absent_and_not_zero() {
    let text = json!({
        "established": null, "born": null, "refused": null, "accept_queue": null, "server_cpu_permille": null,
        "cpu_busy_permille": null, "memory_pressure_permille": null, "response": null, "traffic": null, "rate": null,
        "rx_bytes": null, "tx_bytes": null,
    });
    assert_eq!(to_value(Load::default()).expect("writable"), text);
    assert_eq!(from_str::<Load>("{}").expect("nothing is known"), Load::default());
    let full = Load {
        established: Some(12),
        born: Some(40),
        refused: Some(2),
        accept_queue: Some(AcceptQueue { length: 3, limit: 511 }),
        server_cpu_permille: Some(250),
        cpu_busy_permille: Some(125),
        memory_pressure_permille: Some(0),
        response: Some(Response { mean_us: 810, count: 77 }),
        traffic: Some(Traffic { bytes_in: 1, packets_in: 2, bytes_out: u64::MAX, packets_out: 4 }),
        rate: Some(Rate { bytes_per_s: 5, packets_per_s: 6 }),
        rx_bytes: Some(7),
        tx_bytes: Some(8),
    };
    let text = serde_json::to_string(&full).expect("writable");
    assert_eq!(from_str::<Load>(&text).expect("as written"), full);
    for wrong in [
        r#"{"established":-1}"#,
        r#"{"server_cpu_permille":65536}"#,
        r#"{"accept_queue":{"length":1}}"#,
        r#"{"response":{"mean_us":4294967296,"count":1}}"#,
        r#"{"traffic":{"bytes_in":1}}"#,
        r#"{"rate":7}"#,
        r#"{"temperature":20}"#,
    ] {
        assert!(from_str::<Load>(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_fill_of_an_accept_queue_is_within_bounds() {
    let permille = |length, limit| AcceptQueue { length, limit }.permille();
    assert_eq!(
        [permille(0, 128), permille(64, 128), permille(128, 128), permille(129, 128)],
        [0, 500, 1_000, 1_000]
    );
    assert_eq!([permille(0, 0), permille(1, 0)], [0, 1_000], "a listener with no room at all");
    assert_eq!([permille(u32::MAX, 1), permille(u32::MAX, u32::MAX)], [1_000, 1_000]);
}
