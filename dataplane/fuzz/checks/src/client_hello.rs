//! ClientHellos: read once and in one way, however they are cut into records and come in pieces.
//!
//! The first byte chooses the size of records. The rest is taken as a stream, and as a handshake message to be cut into them.

use baton_core::tls::{Fault, HELLO_BYTES_MAX, Hello, Parsed, Scratch, parse};

/// Longest stream of which every prefix is read; of longer ones, some.
const EVERY_PREFIX_BYTES_MAX: usize = 300;
/// Type and length in front of the message.
const HANDSHAKE_HEADER_BYTES: usize = 4;

/// Reads a ClientHello.
///
/// # Panics
/// A hello that is read differently when it comes in pieces or in other records, that depends on what follows it or on what the
/// scratch held, or that has what no hello has.
pub fn client_hello(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    stream(rest);
    in_records(rest, usize::from(*first));
}

fn scratch(fill: u8) -> Box<Scratch> {
    Box::new([fill; HELLO_BYTES_MAX])
}

fn stream(bytes: &[u8]) {
    let (mut clean, mut dirty) = (scratch(0), scratch(0xee));
    let parsed = parse(bytes, &mut clean);
    assert_eq!(parsed, parse(bytes, &mut dirty), "what the scratch held shows");
    let end = match parsed {
        Parsed::Complete(hello) => {
            expect_sound(&hello, bytes);
            let own = &bytes[..hello.bytes];
            assert_eq!(parse(own, &mut dirty), parsed, "what follows changes it");
            hello.bytes
        }
        _ => bytes.len(),
    };
    expect_told_once(&bytes[..end], parsed);
}

/// As bytes come the answer is `Partial` until there is another, and that one stays.
fn expect_told_once(bytes: &[u8], last: Parsed<'_>) {
    let step = bytes.len() / EVERY_PREFIX_BYTES_MAX + 1;
    let mut room = scratch(0);
    let mut is_told = false;
    for length in (0..bytes.len()).step_by(step).chain(bytes.len().checked_sub(1)) {
        let parsed = parse(&bytes[..length], &mut room);
        is_told |= parsed != Parsed::Partial;
        if is_told {
            assert!(
                !matches!(last, Parsed::Complete(_) | Parsed::Partial),
                "{parsed:?} of {length} bytes, then {last:?}"
            );
            assert_eq!(parsed, last, "of {length} bytes");
        }
    }
}

/// Whatever a hello says stands in the stream, within the bounds of RFC 8446, 6066 and 7301.
fn expect_sound(hello: &Hello<'_>, stream: &[u8]) {
    assert!(hello.bytes <= stream.len());
    assert!(hello.session_id.len() <= 32);
    assert!(hello.version.is_none_or(|version| version.number() >> 8 == 3));
    let mut protocols = hello.protocols;
    assert!(protocols.all(|name| !name.is_empty() && name.len() <= 255));
    if let Some(name) = hello.server_name {
        assert!((1..=253).contains(&name.len()), "{name:?}");
        let is_sound = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        assert!(name.bytes().all(is_sound) && !name.contains("..") && !name.starts_with('.'), "{name:?}");
        assert!(name.parse::<core::net::IpAddr>().is_err(), "{name:?} is an address");
    }
}

/// Takes the bytes as a message without its header, cuts it into records, and reads it again.
fn in_records(bytes: &[u8], size: usize) {
    let message = &bytes[..bytes.len().min(HELLO_BYTES_MAX - HANDSHAKE_HEADER_BYTES)];
    let length = u32::try_from(message.len()).expect("short").to_be_bytes();
    let handshake = [&[1], &length[1..], message].concat();
    let (whole, pieces) = (records(&handshake, HELLO_BYTES_MAX), records(&handshake, size + 1));
    let (mut room, mut other_room) = (scratch(0), scratch(0));
    match (parse(&whole, &mut room), parse(&pieces, &mut other_room)) {
        (Parsed::Complete(hello), Parsed::Complete(other)) => {
            assert_eq!((hello.bytes, other.bytes), (whole.len(), pieces.len()));
            assert_eq!(
                Hello { bytes: 0, ..hello },
                Hello { bytes: 0, ..other },
                "in records of {} bytes",
                size + 1
            );
            expect_sound(&hello, &whole);
        }
        (Parsed::Malformed(fault), Parsed::Malformed(other)) => {
            assert_eq!(fault, other, "in records of {} bytes", size + 1);
            let of_records =
                [Fault::RecordLength, Fault::Interleaved, Fault::NoHello, Fault::TooLong, Fault::Trailing];
            assert!(!of_records.contains(&fault), "{fault:?} of sound records");
        }
        other => panic!("{other:?} in records of {} bytes", size + 1),
    }
}

fn records(handshake: &[u8], size: usize) -> Vec<u8> {
    let record = |fragment: &[u8]| {
        let length = u16::try_from(fragment.len()).expect("short").to_be_bytes();
        [&[22, 3, 1], &length[..], fragment].concat()
    };
    handshake.chunks(size).flat_map(record).collect()
}
