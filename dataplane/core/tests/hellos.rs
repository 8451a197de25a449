//! ClientHellos of real clients against what tshark reads in them (`vectors/tls/README.md`).

use baton_core::tls::{HELLO_BYTES_MAX, Hello, Parsed, Version, parse};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "note")]
    _note: String,
    hellos: Vec<Vector>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Vector {
    name: String,
    #[serde(rename = "made_by")]
    _made_by: String,
    stream: String,
    server_name: Option<String>,
    protocols: Vec<String>,
    session_id: String,
    legacy_version: u16,
    versions: Vec<u16>,
}

fn bytes(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn vectors() -> impl Iterator<Item = (Vector, Vec<u8>)> {
    let text = include_str!("vectors/tls/hellos.json");
    let document: Document = serde_json::from_str(text).expect("the vectors' own form");
    document.hellos.into_iter().map(|vector| {
        let stream = bytes(&vector.stream);
        (vector, stream)
    })
}

fn hello<'a>(stream: &[u8], scratch: &'a mut [u8; HELLO_BYTES_MAX], name: &str) -> Hello<'a> {
    match parse(stream, scratch) {
        Parsed::Complete(hello) => hello,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn what_tshark_reads_in_a_hello_is_read() {
    let mut scratch = [0; HELLO_BYTES_MAX];
    for (vector, stream) in vectors() {
        let hello = hello(&stream, &mut scratch, &vector.name);
        assert_eq!(hello.bytes, stream.len(), "{}", vector.name);
        assert_eq!(hello.server_name, vector.server_name.as_deref(), "{}", vector.name);
        assert_eq!(hello.session_id, bytes(&vector.session_id), "{}", vector.name);
        let highest = vector.versions.iter().copied().filter(|version| version >> 8 == 3).max();
        assert_eq!(
            hello.version.map(Version::number),
            highest.or(Some(vector.legacy_version)),
            "{}",
            vector.name
        );
        let protocols: Vec<_> = hello.protocols.collect();
        assert_eq!(protocols.len(), vector.protocols.len(), "{}", vector.name);
        for (ours, theirs) in protocols.into_iter().zip(&vector.protocols) {
            let is_grease = matches!(ours, [one, two] if one == two && one & 0x0f == 0x0a);
            assert!(is_grease || ours == theirs.as_bytes(), "{}: {ours:?} {theirs:?}", vector.name);
        }
    }
}

/// A connection is looked at whenever bytes have come: until the last byte is there, there is no hello, and whatever comes
/// behind does not change it.
#[test]
fn a_hello_is_partial_at_every_cut_and_complete_at_its_end() {
    let (mut scratch, mut other) = ([0; HELLO_BYTES_MAX], [0; HELLO_BYTES_MAX]);
    for (vector, stream) in vectors() {
        for cut in 0..stream.len() {
            assert_eq!(parse(&stream[..cut], &mut scratch), Parsed::Partial, "{} cut at {cut}", vector.name);
        }
        let longer = [&stream[..], b"\x17\x03\x03\x00\x05early"].concat();
        let (hello, same) =
            (hello(&stream, &mut scratch, &vector.name), hello(&longer, &mut other, &vector.name));
        assert_eq!(same, hello, "{}", vector.name);
    }
}
