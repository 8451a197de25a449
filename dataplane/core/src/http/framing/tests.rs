use proptest::prelude::*;

use super::*;
use crate::http::{Fields, Parsed, parse};

fn of(fields: &str) -> Result<Framing, Unclear> {
    Framing::of(format!("POST / HTTP/1.1\r\nHost: a\r\n{fields}\r\n").as_bytes())
}

#[test]
fn a_head_says_how_its_body_ends() {
    for (fields, framing) in [
        ("", Framing::Bodiless),
        ("Content-Length: 0\r\n", Framing::Length(0)),
        ("content-length:5\r\n", Framing::Length(5)),
        ("Content-Length: \t 5 \t\r\n", Framing::Length(5)),
        ("Content-Length: 0000000000000000000000000000000012\r\n", Framing::Length(12)),
        ("Content-Length: 9223372036854775807\r\n", Framing::Length(LENGTH_BYTES_MAX)),
        ("Transfer-Encoding: chunked\r\n", Framing::Chunked),
        ("TRANSFER-ENCODING:  Chunked \r\n", Framing::Chunked),
        ("X-Content-Length: 7\r\nTE: chunked\r\nTrailer: X\r\nExpect: 100-continue\r\n", Framing::Bodiless),
    ] {
        assert_eq!(of(fields), Ok(framing), "{fields:?}");
    }
}

#[test]
fn where_two_servers_could_see_different_ends_it_is_unclear() {
    for (fields, why) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", Unclear::LengthAndCoding),
        ("Transfer-Encoding: identity\r\nContent-Length: 5\r\n", Unclear::LengthAndCoding),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", Unclear::Lengths),
        ("Content-Length: 5\r\nContent-length: 5\r\n", Unclear::Lengths),
        ("Content-Length: 5, 5\r\n", Unclear::Lengths),
        ("Content-Length:\r\n", Unclear::Length),
        ("Content-Length: +5\r\n", Unclear::Length),
        ("Content-Length: -5\r\n", Unclear::Length),
        ("Content-Length: 0x5\r\n", Unclear::Length),
        ("Content-Length: 5 5\r\n", Unclear::Length),
        ("Content-Length: 5.0\r\n", Unclear::Length),
        ("Content-Length: \u{665}\r\n", Unclear::Length), // ARABIC-INDIC DIGIT FIVE
        ("Content-Length: 9223372036854775808\r\n", Unclear::TooLong),
        ("Content-Length: 18446744073709551621\r\n", Unclear::TooLong), // 2^64 + 5
        ("Content-Length: 99999999999999999999999999999999999999999\r\n", Unclear::TooLong),
        ("Transfer-Encoding:\r\n", Unclear::Coding),
        ("Transfer-Encoding: gzip\r\n", Unclear::Coding),
        ("Transfer-Encoding: chunked, gzip\r\n", Unclear::Coding),
        ("Transfer-Encoding: gzip, chunked\r\n", Unclear::Coding),
        ("Transfer-Encoding: chunked, chunked\r\n", Unclear::Coding),
        ("Transfer-Encoding: chunked;q=1\r\n", Unclear::Coding),
        ("Transfer-Encoding: xchunked\r\n", Unclear::Coding),
        ("Transfer-Encoding: \u{b5}chunked\r\n", Unclear::Coding),
        ("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n", Unclear::Coding),
        ("Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n", Unclear::Coding),
        ("Upgrade: websocket\r\nConnection: upgrade\r\n", Unclear::Tunnel),
        ("Content-Length: 5\n", Unclear::LineEnd),
        ("Transfer-Encoding: chunked\nX: y\r\n", Unclear::LineEnd),
    ] {
        assert_eq!(of(fields), Err(why), "{fields:?}");
    }
    for (head, why) in [
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", Unclear::CodingBeforeHttp11),
        ("CONNECT a:443 HTTP/1.1\r\nHost: a:443\r\n\r\n", Unclear::Tunnel),
        ("GET / HTTP/1.1\r\nHost: a\r\n\n", Unclear::LineEnd),
        ("\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", Unclear::LineEnd),
        ("GET / HTTP/1.1\nHost: a\n\n", Unclear::LineEnd),
    ] {
        assert_eq!(Framing::of(head.as_bytes()), Err(why), "{head:?}");
    }
    assert_eq!(Framing::of(b"POST / HTTP/1.0\r\nContent-Length: 3\r\n\r\n"), Ok(Framing::Length(3)));
    assert_eq!(Framing::of(b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Framing::Bodiless));
}

#[test]
fn only_one_whole_head_is_framed() {
    let head = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
    for cut in 0..head.len() {
        assert_eq!(Framing::of(&head[..cut]), Err(Unclear::NoHead), "cut at {cut}");
    }
    assert_eq!(Framing::of(head), Ok(Framing::Length(5)));
    assert_eq!(Framing::of(&[&head[..], b"h"].concat()), Err(Unclear::NoHead), "a byte of the body too many");
    let crowded = format!("GET / HTTP/1.1\r\n{}\r\n", "A: b\r\n".repeat(HEADER_COUNT_MAX + 1));
    assert_eq!(Framing::of(crowded.as_bytes()), Err(Unclear::NoHead));
}

#[test]
fn a_counted_body_ends_with_its_last_byte() {
    for (length, pieces) in [
        (0, &[(0, Fed::Ended(0)), (3, Fed::Ended(0))][..]),
        (5, &[(0, Fed::More), (4, Fed::More), (1, Fed::Ended(1)), (9, Fed::Ended(0))]),
        (5, &[(9, Fed::Ended(5)), (9, Fed::Ended(0))]),
    ] {
        let mut body = Body::new(Framing::Length(length));
        for (count, fed) in pieces {
            assert_eq!(body.feed(&b"123456789"[..*count]), Ok(*fed), "{count} bytes of {length}");
        }
    }
    let mut longest = Body::new(Framing::Length(LENGTH_BYTES_MAX));
    assert_eq!(longest.feed(b"123"), Ok(Fed::More));
    assert_eq!(longest, Body::Counted(LENGTH_BYTES_MAX - 3));
    assert_eq!(Body::new(Framing::Bodiless).feed(b"GET"), Ok(Fed::Ended(0)));
    assert_eq!(Body::new(Framing::Chunked).feed(b"0\r\n\r\nGET"), Ok(Fed::Ended(5)));
}

proptest! {
    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = Framing::of(&bytes);
    }

    /// Whatever is dispatched has an answer, and whoever has one is dispatched at the same length.
    #[test]
    fn it_takes_for_a_head_what_the_parser_takes_for_one(
        fields in proptest::collection::vec(
            ("(Content-Length|Transfer-Encoding|Upgrade|X)", "(chunked|[0-9]{0,22}|[!-~]{0,8})", "\r?\n"), 0..5),
    ) {
        let mut text = String::from("POST / HTTP/1.1\r\n");
        fields.iter().for_each(|(name, value, end)| text += &format!("{name}: {value}{end}"));
        text += "\r\n";
        let mut room = Fields::default();
        let Parsed::Complete(head) = parse(text.as_bytes(), &mut room) else { panic!("{text:?}") };
        prop_assert_eq!(head.bytes, text.len());
        prop_assert_ne!(Framing::of(text.as_bytes()), Err(Unclear::NoHead));
    }
}
