use proptest::prelude::*;

use super::*;

/// A hello's parts, to be spoiled one by one.
#[derive(Clone, Debug)]
struct Parts {
    version: u16,
    session_id: Vec<u8>,
    suites: Vec<u8>,
    methods: Vec<u8>,
    extensions: Option<Vec<(u16, Vec<u8>)>>,
}

fn usual() -> Parts {
    Parts {
        version: 0x0303,
        session_id: vec![7; 32],
        suites: vec![0x13, 0x01],
        methods: vec![0],
        extensions: Some(vec![(0, server_name(b"a.example")), (16, protocols(&[b"h2", b"http/1.1"]))]),
    }
}

fn vector(size: usize, content: &[u8]) -> Vec<u8> {
    [&content.len().to_be_bytes()[8 - size..], content].concat()
}

fn server_name(name: &[u8]) -> Vec<u8> {
    vector(2, &[&[0][..], &vector(2, name)].concat())
}

fn protocols(names: &[&[u8]]) -> Vec<u8> {
    vector(2, &names.iter().map(|name| vector(1, name)).collect::<Vec<_>>().concat())
}

impl Parts {
    fn with(kind: u16, content: Vec<u8>) -> Self {
        Self { extensions: Some(vec![(kind, content)]), ..usual() }
    }

    /// The message, its header included.
    fn message(&self) -> Vec<u8> {
        let mut body = self.version.to_be_bytes().to_vec();
        body.extend([5; 32]);
        body.extend(vector(1, &self.session_id));
        body.extend(vector(2, &self.suites));
        body.extend(vector(1, &self.methods));
        if let Some(extensions) = &self.extensions {
            let one =
                |(kind, content): &(u16, Vec<u8>)| [&kind.to_be_bytes()[..], &vector(2, content)].concat();
            body.extend(vector(2, &extensions.iter().map(one).collect::<Vec<_>>().concat()));
        }
        [&[CLIENT_HELLO][..], &vector(3, &body)].concat()
    }

    fn stream(&self) -> Vec<u8> {
        record(&self.message())
    }
}

fn record(fragment: &[u8]) -> Vec<u8> {
    [&[CONTENT_HANDSHAKE, 3, 1][..], &vector(2, fragment)].concat()
}

/// What is made of bytes, without what borrows the scratch.
#[derive(Debug, PartialEq)]
enum Seen {
    Complete {
        name: Option<String>,
        protocols: Vec<Vec<u8>>,
        session_id: Vec<u8>,
        version: Option<Version>,
        bytes: usize,
    },
    Partial,
    NotTls,
    Malformed(Fault),
}

fn see(bytes: &[u8]) -> Seen {
    // Not zeros: whatever of the scratch was not written must not be seen.
    match parse(bytes, &mut [0xaa; HELLO_BYTES_MAX]) {
        Parsed::Complete(hello) => Seen::Complete {
            name: hello.server_name.map(str::to_owned),
            protocols: hello.protocols.map(<[u8]>::to_vec).collect(),
            session_id: hello.session_id.to_vec(),
            version: hello.version,
            bytes: hello.bytes,
        },
        Parsed::Partial => Seen::Partial,
        Parsed::NotTls => Seen::NotTls,
        Parsed::Malformed(fault) => Seen::Malformed(fault),
    }
}

/// The first answer there is as bytes come one by one, which must be that for all of them.
fn see_in_pieces(bytes: &[u8]) -> Seen {
    let all = see(bytes);
    let first = (0..bytes.len()).map(|cut| see(&bytes[..cut])).find(|seen| *seen != Seen::Partial);
    assert_eq!(first.as_ref().unwrap_or(&all), &all, "{bytes:02x?}");
    all
}

fn name_in(content: Vec<u8>) -> Result<Option<String>, Fault> {
    match see(&Parts::with(0, content).stream()) {
        Seen::Complete { name, .. } => Ok(name),
        Seen::Malformed(fault) => Err(fault),
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_does_not_begin_as_tls_is_told_at_once() {
    for bytes in [
        &b"GET / HTTP/1.1\r\n"[..],
        b"PRI * HTTP/2.0\r\n",
        b"SSH-2.0-x\r\n",
        b"\0",
        b"\x15\x03\x01\0\x02\x01\0", // an alert
        b"\x17\x03\x03\0\x01x",
        b"\x16\x02\x00", // not 3.x
        b"\x16\xfe\xfd", // DTLS 1.2
        b"\x80\x2e\x02", // SSL 2.0, but no hello
    ] {
        assert_eq!(see_in_pieces(bytes), Seen::NotTls, "{bytes:02x?}");
    }
    // RFC 5246, appendix E.2: 46 bytes, a hello, version 3.1.
    assert_eq!(see_in_pieces(b"\x80\x2e\x01\x03\x01\0\x15\0\0\0\x10"), Seen::Malformed(Fault::Ssl2));
    assert_eq!(see(b""), Seen::Partial);
}

#[test]
fn records_that_do_not_carry_one_hello_are_malformed() {
    let message = usual().message();
    let (first, second) = message.split_at(40);
    let with_header = |header: &[u8], rest: &[u8]| [header, rest].concat();
    for (bytes, fault) in [
        (with_header(&[22, 3, 1, 0, 0], b""), Fault::RecordLength),
        (with_header(&[22, 3, 1, 0x40, 1], b""), Fault::RecordLength),
        ([record(first), vec![22, 3, 3, 0, 0]].concat(), Fault::RecordLength),
        ([record(first), vec![21]].concat(), Fault::Interleaved),
        ([record(first), vec![23, 3, 3, 0, 1, 0], record(second)].concat(), Fault::Interleaved),
        ([record(first), vec![22, 2]].concat(), Fault::Interleaved),
        (record(&[2, 0, 0, 1, 0]), Fault::NoHello), // a ServerHello
        (record(&[0, 0, 0, 0]), Fault::NoHello),    // a HelloRequest
        (record(&[1, 0, 0x3f, 0xfd]), Fault::TooLong),
        (record(&[1, 0xff, 0xff, 0xff]), Fault::TooLong),
        (record(&[&message[..], &[0]].concat()), Fault::Trailing),
        (record(&[&message[..], &message[..]].concat()), Fault::Trailing),
        ([record(first), record(&[second, &[1]].concat())].concat(), Fault::Trailing),
        (record(&[1, 0, 0, 0]), Fault::Length),
    ] {
        assert_eq!(see_in_pieces(&bytes), Seen::Malformed(fault), "{bytes:02x?}");
    }
}

#[test]
fn each_part_is_held_to_its_bounds() {
    let length = Seen::Malformed(Fault::Length);
    for (parts, what) in [
        (Parts { session_id: vec![0; 33], ..usual() }, "session id"),
        (Parts { suites: vec![], ..usual() }, "no cipher suite"),
        (Parts { suites: vec![0; 3], ..usual() }, "half a cipher suite"),
        (Parts { methods: vec![], ..usual() }, "no compression method"),
        (Parts::with(16, vec![]), "protocols without a list"),
        (Parts::with(16, protocols(&[])), "no protocol"),
        (Parts::with(16, protocols(&[b"h2", b""])), "a protocol without a name"),
        (Parts::with(16, vec![0, 3, 3, b'h', b'2']), "a protocol longer than its list"),
        (Parts::with(16, vec![0, 2, 2, b'h', b'2']), "a list longer than the extension"),
        (Parts::with(16, vec![0, 3, 2, b'h', b'2', 0]), "more than the list of protocols"),
        (Parts::with(43, vec![]), "versions without a list"),
        (Parts::with(43, vec![0]), "no version"),
        (Parts::with(43, vec![3, 3, 4, 3]), "half a version"),
        (Parts::with(43, vec![2, 3, 4, 0]), "more than the list of versions"),
        (Parts::with(43, vec![4, 3, 4]), "fewer versions than the list has"),
        (Parts::with(0, vec![0]), "half a length of a name list"),
        (Parts::with(0, vec![0, 5, 0, 0, 2, b'a']), "a name list longer than the extension"),
        (Parts::with(0, vec![0, 4, 0, 0, 2, b'a']), "a name longer than its list"),
    ] {
        assert_eq!(see(&parts.stream()), length, "{what}");
    }
    for version in [0, 0x0002, 0x0200, 0xfefd] {
        let parts = Parts { version, ..usual() };
        assert_eq!(see(&parts.stream()), Seen::Malformed(Fault::Version), "{version:#06x}");
    }
    for kind in [0, 16, 43] {
        let content = match kind {
            0 => server_name(b"a"),
            16 => protocols(&[b"h2"]),
            _ => vec![2, 3, 4],
        };
        let parts = Parts {
            extensions: Some(vec![(kind, content.clone()), (9, vec![]), (kind, content)]),
            ..usual()
        };
        assert_eq!(see(&parts.stream()), Seen::Malformed(Fault::Repeated), "{kind}");
    }
    // Others may stand there twice as far as we are concerned: they are not read.
    let parts = Parts { extensions: Some(vec![(9, vec![1]), (9, vec![2])]), ..usual() };
    assert!(matches!(see(&parts.stream()), Seen::Complete { name: None, .. }));
}

#[test]
fn a_message_cut_short_or_drawn_out_inside_is_malformed() {
    let message = usual().message();
    for end in HANDSHAKE_HEADER_BYTES..message.len() {
        let mut short = message[..end].to_vec();
        short[3] = u8::try_from(end - HANDSHAKE_HEADER_BYTES).expect("short");
        // Without extensions it is whole, which is where these begin.
        let is_whole = end == HANDSHAKE_HEADER_BYTES + 2 + 32 + 33 + 4 + 2;
        assert_eq!(matches!(see(&record(&short)), Seen::Complete { .. }), is_whole, "cut at {end}");
    }
    let mut long = [&message[..], &[0]].concat();
    long[3] += 1;
    assert_eq!(see(&record(&long)), Seen::Malformed(Fault::Length));
}

#[test]
fn a_hello_may_be_as_long_as_the_bound() {
    let with_padding =
        |count| Parts { extensions: Some(vec![(0, server_name(b"a")), (21, vec![0; count])]), ..usual() };
    let rest = with_padding(0).message().len();
    let longest = with_padding(HELLO_BYTES_MAX - rest);
    assert_eq!(longest.message().len(), HELLO_BYTES_MAX);
    for fragment in [HELLO_BYTES_MAX, 9000, 1000, 3] {
        let stream: Vec<u8> = longest.message().chunks(fragment).flat_map(record).collect();
        let Seen::Complete { name, bytes, .. } = see(&stream) else { panic!("in records of {fragment}") };
        assert_eq!((name.as_deref(), bytes), (Some("a"), stream.len()), "in records of {fragment}");
    }
    let message = longest.message();
    let (first, second) = message.split_at(9000);
    let stream = [record(first), record(&[second, &[0]].concat())].concat();
    assert_eq!(see(&stream), Seen::Malformed(Fault::Trailing), "a byte that finds no room");
    let longer: Vec<u8> =
        with_padding(HELLO_BYTES_MAX - rest + 1).message().chunks(1000).flat_map(record).collect();
    assert_eq!(see(&longer[..9]), Seen::Malformed(Fault::TooLong), "told by its header");
}

#[test]
fn versions_are_the_extensions_if_there_is_one() {
    for (version, list, highest) in [
        (0x0303, None, Some(Version::TLS_1_2)),
        (0x0300, None, Version::new(0x0300)),
        (0x0304, None, Some(Version::TLS_1_2)), // RFC 8446, section 4.2.1
        (0x0303, Some(&[0x03, 0x04][..]), Some(Version::TLS_1_3)),
        (0x0303, Some(&[0xfa, 0xfa, 0x03, 0x02, 0x7f, 0x1c]), Version::new(0x0302)),
        (0x0303, Some(&[0x0a, 0x0a]), None),
    ] {
        let extensions = list.map_or(vec![], |list| vec![(43, vector(1, list))]);
        let parts = Parts { version, extensions: Some(extensions), ..usual() };
        let Seen::Complete { version: seen, .. } = see(&parts.stream()) else { panic!("{list:02x?}") };
        assert_eq!(seen, highest, "{version:#06x} {list:02x?}");
    }
    let bare = Parts { extensions: None, session_id: vec![], ..usual() };
    let complete = Seen::Complete {
        name: None,
        protocols: vec![],
        session_id: vec![],
        version: Some(Version::TLS_1_2),
        bytes: bare.stream().len(),
    };
    assert_eq!(see_in_pieces(&bare.stream()), complete);
}

#[test]
fn a_server_name_is_a_name_of_the_dns() {
    let label = "a".repeat(63);
    let longest = format!("{label}.{label}.{label}.{}", "b".repeat(61));
    for (written, name) in [
        ("a", Some("a")),
        ("WWW.Example.org", Some("WWW.Example.org")),
        ("a.example.", Some("a.example")),
        ("_x.xn--bcher-kva.3com.example", Some("_x.xn--bcher-kva.3com.example")),
        (longest.as_str(), Some(longest.as_str())),
        ("10.0.0.1", None),
        ("2001:db8::1", None),
    ] {
        assert_eq!(name_in(server_name(written.as_bytes())), Ok(name.map(str::to_owned)), "{written:?}");
    }
    let (long_label, long_name) = (format!("{label}a.example"), format!("{longest}b"));
    for written in [
        "",
        ".",
        "..",
        ".a",
        "a..b",
        "a..",
        "a b",
        "a/b",
        "a:443",
        "a@b",
        "*.a",
        "-a.b",
        "a-.b",
        "a\0",
        "b\u{fc}cher.example",
        "[::1]",
        "a,b",
        &long_label,
        &long_name,
    ] {
        assert_eq!(name_in(server_name(written.as_bytes())), Err(Fault::ServerName), "{written:?}");
    }
    for (content, what) in [
        (vector(2, &[]), "an empty list"),
        (vector(2, &[1, 0, 1, b'a']), "another type of name"),
        (vector(2, &[0, 0, 1, b'a', 0, 0, 1, b'b']), "two names"),
        (vector(2, &[0, 0, 1, b'a', 1, 0, 1, b'b']), "a name of another type behind it"),
        ([server_name(b"a"), vec![0]].concat(), "more than the list"),
        (server_name(b"\xff"), "no text"),
    ] {
        assert_eq!(name_in(content), Err(Fault::ServerName), "{what}");
    }
    // What a server sends back; a client does not.
    assert_eq!(name_in(vec![]), Err(Fault::Length));
}

/// Cuts a message into records of these lengths, again and again.
fn cut(message: &[u8], lengths: &[usize]) -> Vec<u8> {
    let (mut stream, mut rest) = (Vec::new(), message);
    for length in lengths.iter().cycle() {
        let (fragment, behind) = rest.split_at((*length).min(rest.len()));
        stream.extend(record(fragment));
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    stream
}

fn parts() -> impl Strategy<Value = (Parts, Option<String>, Vec<Vec<u8>>)> {
    let name = prop::option::of("[a-zA-Z0-9_]{1,20}(\\.[a-z]{1,10}){1,4}");
    let names = proptest::collection::vec(proptest::collection::vec(any::<u8>(), 1..12), 0..5);
    let unknown =
        proptest::collection::vec((50..u16::MAX, proptest::collection::vec(any::<u8>(), 0..40)), 0..6);
    let session_id = proptest::collection::vec(any::<u8>(), 0..=32);
    (name, names, unknown, session_id, any::<prop::sample::Index>()).prop_map(
        |(name, names, unknown, session_id, at)| {
            let mut extensions = unknown;
            let at = at.index(extensions.len() + 1);
            if let Some(name) = &name {
                extensions.insert(at, (0, server_name(name.as_bytes())));
            }
            if !names.is_empty() {
                extensions.push((16, protocols(&names.iter().map(Vec::as_slice).collect::<Vec<_>>())));
            }
            (Parts { extensions: Some(extensions), session_id, ..usual() }, name, names)
        },
    )
}

proptest! {
    #[test]
    fn what_was_written_is_read_however_records_cut_it(
        (parts, name, names) in parts(),
        lengths in proptest::collection::vec(1..300usize, 1..5),
        behind: Vec<u8>,
    ) {
        let mut stream = cut(&parts.message(), &lengths);
        let bytes = stream.len();
        stream.extend(behind);
        prop_assert_eq!(
            see(&stream),
            Seen::Complete { name, protocols: names, session_id: parts.session_id, version: Some(Version::TLS_1_2), bytes }
        );
    }

    /// Good or not: the first answer that is not `Partial` stays.
    #[test]
    fn an_answer_does_not_change_as_bytes_come(
        (parts, _, _) in parts(),
        lengths in proptest::collection::vec(1..100usize, 1..5),
        spoiled in proptest::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
    ) {
        let mut stream = cut(&parts.message(), &lengths);
        for (place, byte) in spoiled {
            let place = place.index(stream.len());
            stream[place] = byte;
        }
        see_in_pieces(&stream);
    }

    #[test]
    fn no_bytes_make_it_panic(mut bytes: Vec<u8>, begin in 0..3usize) {
        let header = [&b""[..], b"\x16\x03\x01\0\x80", b"\x16\x03\x01\0\x80\x01\0\0\x70"][begin];
        bytes.splice(..0, header.iter().copied());
        see_in_pieces(&bytes);
    }
}
