//! Request heads: however a head comes in pieces, it is read once and in one way.

use baton_core::http::{Fields, HEADER_COUNT_MAX, Head, Parsed, parse};

/// Longest input of which every prefix is read; of longer ones those around the end of the head.
const EVERY_PREFIX_BYTES_MAX: usize = 600;

/// Reads `bytes` as the first ones of a connection, whole and in every prefix.
///
/// # Panics
/// A head that is read differently when it comes in pieces, that is not what stands in front of the bytes behind it, or that
/// a reading by hand takes otherwise.
pub fn http_head(bytes: &[u8]) {
    match parse(bytes, &mut Fields::default()) {
        Parsed::Complete(head) => {
            expect_sound(bytes, &head);
            let (own, rest) = bytes.split_at(head.bytes);
            assert_eq!(
                parse(own, &mut Fields::default()),
                Parsed::Complete(head),
                "what follows a head changes it: {rest:?}"
            );
            expect_partial_in_front_of(own);
        }
        Parsed::Partial => expect_partial_in_front_of(bytes),
        Parsed::TooManyFields => {
            let lines = bytes.split(|byte| *byte == b'\n').count();
            assert!(lines > HEADER_COUNT_MAX, "too many fields in {lines} lines");
            expect_refused_once_and_for_all(bytes);
        }
        Parsed::Malformed => expect_refused_once_and_for_all(bytes),
    }
}

/// What is unfinished can still become anything: no prefix of a head may be refused or taken for a whole one.
fn expect_partial_in_front_of(bytes: &[u8]) {
    for length in lengths(bytes.len()) {
        let prefix = bytes.get(..length).unwrap_or_default();
        let mut room = Fields::default();
        let parsed = parse(prefix, &mut room);
        assert_eq!(parsed, Parsed::Partial, "the first {length} of {} bytes", bytes.len());
    }
}

/// What is refused stays so, whatever follows, and was unfinished before.
fn expect_refused_once_and_for_all(bytes: &[u8]) {
    let mut refused = None;
    for length in lengths(bytes.len()) {
        let prefix = bytes.get(..length).unwrap_or_default();
        match reading(prefix) {
            Reading::Partial => assert_eq!(refused, None, "no longer refused with {length} bytes"),
            Reading::Complete => panic!("whole with the first {length} bytes, then refused"),
            now => assert_eq!(*refused.get_or_insert(now), now, "for another reason with {length} bytes"),
        }
    }
    for more in [&b"\r\n\r\n"[..], b" / HTTP/1.1\r\nHost: a\r\n\r\n"] {
        let longer = reading(&[bytes, more].concat());
        assert!(matches!(longer, Reading::Malformed | Reading::TooManyFields), "{longer:?} with {more:?}");
    }
}

/// The answer without what borrows from the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reading {
    Complete,
    Partial,
    TooManyFields,
    Malformed,
}

fn reading(bytes: &[u8]) -> Reading {
    match parse(bytes, &mut Fields::default()) {
        Parsed::Complete(_) => Reading::Complete,
        Parsed::Partial => Reading::Partial,
        Parsed::TooManyFields => Reading::TooManyFields,
        Parsed::Malformed => Reading::Malformed,
    }
}

/// Lengths of the prefixes to look at, none of them the whole.
fn lengths(whole: usize) -> impl Iterator<Item = usize> {
    let step = whole / EVERY_PREFIX_BYTES_MAX + 1;
    (0..whole.saturating_sub(8)).step_by(step).chain(whole.saturating_sub(8)..whole)
}

/// Reads the head by hand, from RFC 9112 alone, as far as rules look at it.
fn expect_sound(bytes: &[u8], head: &Head<'_>) {
    let own = bytes.get(..head.bytes).expect("no longer than what was given");
    let text = String::from_utf8_lossy(own);
    let mut lines = own
        .split(|byte| *byte == b'\n')
        .map(|line| line.strip_suffix(b"\r").unwrap_or(line))
        .skip_while(|line| line.is_empty());
    let request = lines.next().expect("a request line");
    let words: Vec<&[u8]> = request.split(|byte| *byte == b' ').filter(|word| !word.is_empty()).collect();
    let [method, target, version] = words[..] else { panic!("three words in the first line of {text:?}") };
    assert_eq!(head.method.as_bytes(), method, "{text:?}");
    assert!(matches!(version, b"HTTP/1.0" | b"HTTP/1.1"), "{text:?}");
    let fields: Vec<&[u8]> = lines.collect();
    let [fields @ .., b"", b""] = &fields[..] else {
        panic!("an empty line at the end, and none before, in {text:?}")
    };
    assert!(fields.iter().all(|field| !field.is_empty()), "no empty line within {text:?}");
    assert!(fields.len() <= HEADER_COUNT_MAX);
    let hosts: Vec<&[u8]> = fields
        .iter()
        .filter_map(|field| {
            let (name, value) = field.split_at(field.iter().position(|byte| *byte == b':')?);
            name.eq_ignore_ascii_case(b"host").then(|| value.get(1..).unwrap_or_default().trim_ascii())
        })
        .collect();
    assert!(hosts.len() <= 1, "several hosts in {text:?}");
    expect_target(head, target, hosts.first().copied(), &text);
}

/// The path is a piece of the target, the host one of the target or of the Host field.
fn expect_target(head: &Head<'_>, target: &[u8], field: Option<&[u8]>, text: &str) {
    assert!(!head.path.contains(['?', ' ', '\r', '\n']), "{text:?}");
    let piece = |whole: &[u8], part: &str| {
        part.is_empty() || whole.windows(part.len()).any(|at| at == part.as_bytes())
    };
    match target {
        [b'/', ..] => {
            let path = target.split(|byte| *byte == b'?').next().unwrap_or_default();
            assert_eq!(head.path.as_bytes(), path, "{text:?}");
        }
        b"*" => assert_eq!(head.path, "*"),
        _ if head.method == "CONNECT" => assert_eq!(head.path, ""),
        _ => assert!(head.path == "/" || head.path.starts_with('/') && piece(target, head.path), "{text:?}"),
    }
    let Some(host) = head.host else {
        assert_eq!(field, None, "a Host field was passed over in {text:?}");
        return;
    };
    assert!(
        !host.contains(['/', '@', ' ', '\t', '[', ']', '?', '#', '\\', ',']),
        "host {host:?} of {text:?}"
    );
    assert!(
        piece(target, host) || field.is_some_and(|field| piece(field, host)),
        "host {host:?} of {text:?}"
    );
}
