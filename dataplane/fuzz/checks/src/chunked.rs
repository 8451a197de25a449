//! Where a request ends: its framing, and the chunked coding followed to its end.
//!
//! The first byte chooses the pieces the bytes come in, and whether they are a request from its head on or a chunked body.

use baton_core::http::{
    Body, Chunked, EXTENSION_BYTES_MAX, Fed, Fields, Framing, LENGTH_BYTES_MAX, Parsed, SIZE_DIGITS_MAX,
    TRAILER_BYTES_MAX, TRAILER_COUNT_MAX, Unclear, parse,
};

/// Follows a body to its end.
///
/// # Panics
/// An end that depends on the pieces the bytes come in, or is another than a reading by hand finds; one that moves, or a refusal
/// that is taken back.
pub fn chunked(bytes: &[u8]) {
    let Some((first, rest)) = bytes.split_first() else { return };
    let (is_body, piece) = (first & 1 == 0, usize::from(first >> 1) + 1);
    if is_body {
        let fed = expect_pieces_alike(rest, piece, Framing::Chunked);
        expect_as_by_hand(rest, fed);
        return;
    }
    let mut fields = Fields::default();
    let Parsed::Complete(head) = parse(rest, &mut fields) else { return };
    let (head, body) = rest.split_at(head.bytes);
    match Framing::of(head) {
        Ok(framing) => {
            expect_told(head, framing);
            let fed = expect_pieces_alike(body, piece, framing);
            if framing == Framing::Chunked {
                expect_as_by_hand(body, fed);
            }
        }
        Err(why) => assert!(why != Unclear::NoHead, "{} bytes are a head to one reader alone", head.len()),
    }
}

/// Gives a body whole, and in pieces; returns what became of it.
fn expect_pieces_alike(bytes: &[u8], piece: usize, framing: Framing) -> Result<Fed, Unclear> {
    let whole = Body::new(framing).feed(bytes);
    let mut body = Body::new(framing);
    let (mut taken, mut pieces) = (0, Ok(Fed::More));
    for part in bytes.chunks(piece) {
        pieces = body.feed(part);
        match pieces {
            Ok(Fed::More) => taken += part.len(),
            Ok(Fed::Ended(count)) => {
                assert!(count <= part.len());
                taken += count;
                break;
            }
            Err(_) => break,
        }
    }
    match (whole, pieces) {
        (Ok(Fed::Ended(end)), _) if bytes.is_empty() => assert_eq!(end, 0),
        (Ok(Fed::Ended(end)), Ok(Fed::Ended(_))) => {
            assert_eq!(end, taken, "another end in pieces of {piece} bytes");
            let (own, _) = bytes.split_at(end);
            assert_eq!(Body::new(framing).feed(own), whole, "what follows moves the end");
            assert_eq!(body.feed(b"GET / HTTP/1.1\r\n"), Ok(Fed::Ended(0)), "it has ended");
            if end > 0 {
                assert_eq!(Body::new(framing).feed(&own[..end - 1]), Ok(Fed::More), "it ends a byte earlier");
            }
        }
        (Ok(Fed::More), Ok(Fed::More)) => assert_eq!(taken, bytes.len()),
        (Err(why), Err(other)) => {
            assert_eq!(why, other, "in pieces of {piece} bytes");
            assert_eq!(body.feed(b"0\r\n\r\n"), Err(why), "a refusal that is taken back");
        }
        other => panic!("{other:?} in pieces of {piece} bytes"),
    }
    whole
}

/// What the head says stands in it.
fn expect_told(head: &[u8], framing: Framing) {
    let text = String::from_utf8_lossy(head).to_ascii_lowercase();
    let fields = |name: &str| text.split("\r\n").filter(|line| line.starts_with(name)).count();
    let told = (fields("content-length:"), fields("transfer-encoding:"));
    let expected = match framing {
        Framing::Bodiless => (0, 0),
        Framing::Length(length) => {
            assert!(length <= LENGTH_BYTES_MAX);
            (1, 0)
        }
        Framing::Chunked => (0, 1),
    };
    assert_eq!(told, expected, "{framing:?} of {text:?}");
    assert!(text.ends_with("\r\n\r\n") && !text.replace("\r\n", "").contains('\n'), "{text:?}");
}

/// What a reading of the whole by hand finds; of unfinished lines it says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Found {
    Unfinished,
    End(usize),
    Refused,
}

fn expect_as_by_hand(bytes: &[u8], fed: Result<Fed, Unclear>) {
    let found = by_hand(bytes);
    match fed {
        Ok(Fed::Ended(end)) => assert_eq!(found, Found::End(end)),
        Ok(Fed::More) => assert_eq!(found, Found::Unfinished),
        // What is wrong with an unfinished line shows before its end.
        Err(why) => assert!(!matches!(found, Found::End(_)), "refused as {why}, ends by hand at {found:?}"),
    }
    let again = Chunked::new().feed(bytes);
    assert_eq!(again, fed, "the coding itself says otherwise than the body");
}

/// Reads a chunked body line by line (RFC 9112, section 7.1).
fn by_hand(bytes: &[u8]) -> Found {
    let mut at = 0;
    loop {
        let Some(line) = line_of(&bytes[at..]) else { return Found::Unfinished };
        let Some(size) = size_of(line) else { return Found::Refused };
        at += line.len() + 2;
        if size == 0 {
            return trailer(bytes, at);
        }
        let Some(end) = usize::try_from(size).ok().and_then(|size| at.checked_add(size)) else {
            return Found::Unfinished;
        };
        match bytes.get(end..) {
            None | Some([] | [b'\r']) => return Found::Unfinished,
            Some([b'\r', b'\n', ..]) => at = end + 2,
            Some(_) => return Found::Refused,
        }
    }
}

/// The bytes up to the first CR LF, if there is one.
fn line_of(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|pair| pair == b"\r\n").map(|end| &bytes[..end])
}

fn is_text(bytes: &[u8]) -> bool {
    bytes.iter().all(|byte| matches!(byte, b'\t' | b' '..=b'~' | 0x80..))
}

/// The size in a chunk's first line.
fn size_of(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, behind) = line.split_at(digits);
    if digits.is_empty() || digits.len() > usize::from(SIZE_DIGITS_MAX) {
        return None;
    }
    let extension = behind.trim_ascii_start();
    let is_extension = extension.first() == Some(&b';') && is_text(behind);
    if !(behind.is_empty() || is_extension && behind.len() <= usize::from(EXTENSION_BYTES_MAX)) {
        return None;
    }
    let size = u64::from_str_radix(core::str::from_utf8(digits).ok()?, 16).ok()?;
    (size <= LENGTH_BYTES_MAX).then_some(size)
}

fn trailer(bytes: &[u8], begin: usize) -> Found {
    let (mut at, mut fields) = (begin, 0);
    loop {
        let Some(line) = line_of(&bytes[at..]) else { return Found::Unfinished };
        at += line.len() + 2;
        if at - begin > usize::from(TRAILER_BYTES_MAX) {
            return Found::Refused;
        }
        if line.is_empty() {
            return Found::End(at);
        }
        fields += 1;
        let colon = line.iter().position(|byte| *byte == b':');
        let is_field = colon.is_some_and(|colon| {
            let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
            colon > 0 && line[..colon].iter().all(is_name) && is_text(&line[colon + 1..])
        });
        if !is_field || fields > usize::from(TRAILER_COUNT_MAX) {
            return Found::Refused;
        }
    }
}
