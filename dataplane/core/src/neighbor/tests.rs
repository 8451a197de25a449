use super::*;

const US: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 1);
const US_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 0, 1]);
const THEM: Ipv4Addr = Ipv4Addr::new(10, 60, 0, 11);
const THEM_MAC: EthernetAddress = EthernetAddress([2, 0, 0, 0, 1, 0x0b]);
const START: Micros = Micros::from_secs(1_000);

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("hex")).collect()
}

fn after_ms(millis: u64) -> Micros {
    START.plus(Micros::from_millis(millis))
}

#[test]
fn frames_are_those_of_rfc_826_to_the_byte() {
    let question = hex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001
        020000000001 0a3c0001 000000000000 0a3c000b");
    assert_eq!(request(THEM, US, US_MAC).to_vec(), question, "a question");
    let own = hex("ffffffffffff 020000000001 0806 0001 0800 06 04 0001
        020000000001 0a3c0001 000000000000 0a3c0001");
    assert_eq!(announcement(US, US_MAC).to_vec(), own, "an announcement");
    let asked = Arp { is_request: true, sender: THEM, sender_mac: THEM_MAC, target: US };
    let answer = hex("02000000010b 020000000001 0806 0001 0800 06 04 0002
        020000000001 0a3c0001 02000000010b 0a3c000b");
    assert_eq!(reply(US, US_MAC, &asked).to_vec(), answer, "an answer");
}

#[test]
fn what_is_said_is_read() {
    let question = request(THEM, US, US_MAC);
    let expected = Arp { is_request: true, sender: US, sender_mac: US_MAC, target: THEM };
    assert_eq!(Arp::parse(&question), Some(expected));
    let padded = [&question[..], &[0; 18]].concat();
    assert_eq!(Arp::parse(&padded), Some(expected), "as short frames are on the wire");
    let answer = reply(THEM, THEM_MAC, &expected);
    let read = Arp { is_request: false, sender: THEM, sender_mac: THEM_MAC, target: US };
    assert_eq!(Arp::parse(&answer), Some(read));
}

#[test]
fn every_truncation_and_impossible_field_is_none() {
    let question = request(THEM, US, US_MAC);
    for length in 0..question.len() {
        assert_eq!(Arp::parse(&question[..length]), None, "{length} bytes");
    }
    for (at, value, what) in [
        (15, 2, "hardware type"),
        (16, 9, "protocol type"),
        (18, 7, "hardware length"),
        (18, 255, "hardware length"),
        (19, 16, "protocol length"),
        (21, 0, "operation"),
        (21, 3, "operation"),
        (20, 1, "operation"),
        (22, 3, "a multicast sender"),
    ] {
        let mut changed = question;
        changed[at] = value;
        assert_eq!(Arp::parse(&changed), None, "{what}");
    }
    let mut nobody = question;
    nobody[22..28].copy_from_slice(&[0xff; 6]);
    assert_eq!(Arp::parse(&nobody), None, "a broadcast sender");
}

#[test]
fn an_entry_is_made_once_and_only_entries_learn() {
    let mut neighbors = Neighbors::default();
    let hop = neighbors.entry(THEM, START);
    assert_eq!(neighbors.entry(THEM, START), hop);
    assert_eq!((neighbors.mac(hop), neighbors.iter().count()), (None, 1));
    assert_eq!(neighbors.learn(US, US_MAC, START), None, "no next hop");
    assert_eq!(neighbors.iter().count(), 1, "strangers fill no table");
    assert_eq!(neighbors.learn(THEM, THEM_MAC, START), Some(true));
    assert_eq!(neighbors.learn(THEM, THEM_MAC, START), Some(false));
    assert_eq!(neighbors.learn(THEM, US_MAC, START), Some(true), "it moved");
    assert_eq!(neighbors.mac(hop), Some(US_MAC));
}

#[test]
fn an_unknown_hop_is_asked_for_twice_a_second_and_each_in_turn() {
    let mut neighbors = Neighbors::default();
    neighbors.entry(THEM, START);
    neighbors.entry(US, START);
    for round in 0..3 {
        let now = after_ms(500 * round);
        assert_eq!(neighbors.due(now), Some(THEM));
        assert_eq!(neighbors.due(now), Some(US));
        assert_eq!(neighbors.due(after_ms(500 * round + 499)), None);
    }
}

#[test]
fn a_hop_that_joins_while_others_wait_is_asked_for_at_once() {
    let mut neighbors = Neighbors::default();
    assert_eq!(neighbors.due(START), None, "nobody there");
    neighbors.entry(THEM, START);
    assert_eq!(neighbors.due(START), Some(THEM));
    assert_eq!(neighbors.due(after_ms(1)), None);
    neighbors.entry(US, after_ms(2));
    assert_eq!(neighbors.due(after_ms(2)), Some(US));
    assert_eq!(neighbors.due(after_ms(2)), None);
    neighbors.learn(THEM, THEM_MAC, after_ms(3));
    assert_eq!(neighbors.due(after_ms(501)), None, "an answer puts the next question off");
    assert_eq!(neighbors.due(after_ms(502)), Some(US));
}

#[test]
fn a_known_hop_is_refreshed_every_ten_seconds_and_forgotten_after_forty_five() {
    let mut neighbors = Neighbors::default();
    let hop = neighbors.entry(THEM, START);
    neighbors.learn(THEM, THEM_MAC, START);
    assert_eq!(neighbors.due(after_ms(9_999)), None);
    assert_eq!(neighbors.due(after_ms(10_000)), Some(THEM));
    neighbors.learn(THEM, THEM_MAC, after_ms(10_001));
    let mut forgotten_at = None;
    for millis in (10_001..70_000).step_by(50) {
        while neighbors.due(after_ms(millis)).is_some() {}
        if forgotten_at.is_none() && neighbors.mac(hop).is_none() {
            forgotten_at = Some(millis);
        }
    }
    let forgotten_at = forgotten_at.expect("silent for a minute");
    assert!((55_001..=55_600).contains(&forgotten_at), "forgotten at {forgotten_at} ms");
    neighbors.learn(THEM, THEM_MAC, after_ms(80_000));
    assert_eq!(neighbors.mac(hop), Some(THEM_MAC), "an answer is welcome at any time");
}
