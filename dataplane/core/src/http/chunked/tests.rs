use proptest::prelude::*;

use super::*;

/// Everything a body may have: sizes in both cases and with leading zeros, extensions with and without value, blanks in
/// front of them, CR LF in the data, trailers.
const RICH: &[u8] = b"5\r\nhello\r\n00B;name\r\n\r\n0\r\n\r\nabc\n\r\na \t;n=v;q=\"\\\"x\"\r\n0123456789\r\n\
                      000;last\r\nVia: x\r\nEmpty:\r\nX-Sum:\t a b \x80\r\n\r\n";

/// Feeds pieces and returns how many bytes belong to the message, or why that is unclear.
fn feed<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Result<Option<usize>, Unclear> {
    let (mut body, mut before) = (Chunked::new(), 0);
    for piece in pieces {
        match body.feed(piece)? {
            Fed::More => before += piece.len(),
            Fed::Ended(count) => return Ok(Some(before + count)),
        }
    }
    Ok(None)
}

#[test]
fn a_body_ends_at_its_end_however_it_is_cut() {
    let stream = [RICH, b"GET / HTTP/1.1\r\n"].concat();
    for first in 0..=stream.len() {
        for second in first..=stream.len() {
            let pieces = [&stream[..first], &stream[first..second], &stream[second..]];
            assert_eq!(feed(pieces), Ok(Some(RICH.len())), "cut at {first} and {second}");
        }
    }
    assert_eq!(feed(stream.chunks(1)), Ok(Some(RICH.len())));
}

#[test]
fn without_its_last_byte_a_body_goes_on() {
    for cut in 0..RICH.len() {
        assert_eq!(feed([&RICH[..cut]]), Ok(None), "cut at {cut}");
    }
}

#[test]
fn an_ended_body_takes_nothing_and_a_lost_one_stays_lost() {
    let mut body = Chunked::new();
    assert_eq!(body.feed(b"0\r\n\r\n"), Ok(Fed::Ended(5)));
    assert_eq!(body.feed(b"5\r\n"), Ok(Fed::Ended(0)));
    let mut body = Chunked::new();
    assert_eq!(body.feed(b"5\r\nhellO!"), Err(Unclear::ChunkEnd));
    assert_eq!(body.feed(b"\r\n0\r\n\r\n"), Err(Unclear::ChunkEnd));
    assert_eq!(body.feed(b""), Err(Unclear::ChunkEnd));
}

#[test]
fn what_others_may_read_otherwise_is_unclear() {
    for (bytes, why) in [
        (&b"\r\n"[..], Unclear::ChunkSize),
        (b"\n", Unclear::ChunkSize),
        (b" 5\r\n", Unclear::ChunkSize),
        (b"+5\r\n", Unclear::ChunkSize),
        (b"-1\r\n", Unclear::ChunkSize),
        (b"0x5\r\n", Unclear::ChunkSize),
        (b"5_0\r\n", Unclear::ChunkSize),
        (b"5,5\r\n", Unclear::ChunkSize),
        (b";name\r\n", Unclear::ChunkSize),
        (b"g\r\n", Unclear::ChunkSize),
        (b"\xb5\r\n", Unclear::ChunkSize),
        (b"5 \r\n", Unclear::ChunkSize),
        (b"5 5\r\n", Unclear::ChunkSize),
        (b"5\0\r\n", Unclear::ChunkSize),
        (b"8000000000000000\r\n", Unclear::TooLong),
        (b"ffffffffffffffff\r\n", Unclear::TooLong),
        (b"10000000000000005\r\n", Unclear::TooLong),
        (b"00000000000000005\r\n", Unclear::TooLong),
        (b"5\n", Unclear::LineEnd),
        (b"5 \n", Unclear::LineEnd),
        (b"5\r5", Unclear::LineEnd),
        (b"5\r\r\n", Unclear::LineEnd),
        (b"5;name\nhello\r\n", Unclear::LineEnd),
        (b"5;name\rhello", Unclear::LineEnd),
        (b"5;na\0me\r\n", Unclear::Extension),
        (b"5;na\x7fme\r\n", Unclear::Extension),
        (b"5;na\x0bme\r\n", Unclear::Extension),
        (b"5\r\nhello\n", Unclear::LineEnd),
        (b"5\r\nhello0\r\n", Unclear::ChunkEnd),
        (b"5\r\nhello\r0", Unclear::ChunkEnd),
        (b"5\r\nhello!\r\n", Unclear::ChunkEnd),
        (b"5\r\nhell\r\n0\r\n", Unclear::LineEnd),
        (b"5\r\nhel\r\n0\r\n", Unclear::ChunkEnd),
        (b"0\r\n\n", Unclear::LineEnd),
        (b"0\r\n\r\r", Unclear::LineEnd),
        (b"0\r\n\rG", Unclear::LineEnd),
        (b"0\r\nA: b\n", Unclear::LineEnd),
        (b"0\r\nA: b\rC", Unclear::LineEnd),
        (b"0\r\nA\n", Unclear::LineEnd),
        (b"0\r\nA\r\n", Unclear::Trailer),
        (b"0\r\nA : b\r\n", Unclear::Trailer),
        (b"0\r\n: b\r\n", Unclear::Trailer),
        (b"0\r\n folded\r\n", Unclear::Trailer),
        (b"0\r\nA: b\r\n\tfolded\r\n", Unclear::Trailer),
        (b"0\r\nA: \0\r\n", Unclear::Trailer),
        (b"0\r\nGET / HTTP/1.1\r\n", Unclear::Trailer),
    ] {
        let text = String::from_utf8_lossy(bytes);
        assert_eq!(feed([bytes]), Err(why), "{text:?}");
        assert_eq!(feed(bytes.chunks(1)), Err(why), "{text:?} by single bytes");
    }
}

#[test]
fn sizes_are_counted_up_to_the_bound() {
    let mut body = Chunked::new();
    assert_eq!(body.feed(b"7fffffffffffffff\r\nabc"), Ok(Fed::More));
    assert_eq!(body.left, LENGTH_BYTES_MAX - 3);
    assert_eq!(feed([&b"0000000000000002\r\nab\r\n0\r\n\r\n"[..]]), Ok(Some(27)));
}

/// Feeds `before`, `count` times `repeated`, and `after`.
fn with(before: &str, repeated: &str, count: usize, after: &str) -> Result<Option<usize>, Unclear> {
    feed([before.as_bytes(), repeated.repeat(count).as_bytes(), after.as_bytes()])
}

#[test]
fn each_bound_holds_to_the_byte() {
    let most = usize::from(EXTENSION_BYTES_MAX);
    for (before, filler, after) in [("0;", "x", ""), ("0 ;", "x", ""), ("0", " ", ";")] {
        let (room, after) = (most + 1 - before.len() - after.len(), format!("{after}\r\n\r\n"));
        assert_eq!(with(before, filler, room, &after), Ok(Some(1 + most + 4)), "{before:?}");
        assert_eq!(with(before, filler, room + 1, &after), Err(Unclear::Extension), "{before:?}");
    }
    // The bound is one chunk's: the next has as much again.
    let two = format!("1;{0}\r\nx\r\n0;{0}\r\n\r\n", "x".repeat(most - 1));
    assert_eq!(feed([two.as_bytes()]), Ok(Some(two.len())));

    let fields = usize::from(TRAILER_COUNT_MAX);
    assert_eq!(with("0\r\n", "A:\r\n", fields, "\r\n"), Ok(Some(5 + 4 * fields)));
    assert_eq!(with("0\r\n", "A:\r\n", fields + 1, "\r\n"), Err(Unclear::Trailer));

    // "A:", the value, CR LF, and the empty line.
    let value = usize::from(TRAILER_BYTES_MAX) - 2 - 2 - 2;
    assert_eq!(with("0\r\nA:", "x", value, "\r\n\r\n"), Ok(Some(3 + usize::from(TRAILER_BYTES_MAX))));
    assert_eq!(with("0\r\nA:", "x", value + 1, "\r\n\r\n"), Err(Unclear::Trailer));
    assert_eq!(with("0\r\n", "x", 100_000, ""), Err(Unclear::Trailer), "a name without end");
}

/// A chunk's data, how many zeros stand in front of its size, whether that is in capitals, its extensions.
type Written = (Vec<u8>, usize, bool, String);

fn written() -> impl Strategy<Value = (Vec<Written>, Vec<(String, String)>)> {
    let extensions = "([ \t]{0,3};[a-z]{1,5}(=[a-z]{1,5}|=\"[ -~&&[^\"]]{0,5}\")?){0,3}";
    let chunk = (proptest::collection::vec(any::<u8>(), 1..40), 0..4usize, any::<bool>(), extensions);
    let trailers = proptest::collection::vec(("[A-Za-z-]{1,10}", "[ -~]{0,10}"), 0..4);
    (proptest::collection::vec(chunk, 0..6), trailers)
}

fn encode((chunks, trailers): &(Vec<Written>, Vec<(String, String)>)) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (data, zeros, capitals, extensions) in chunks {
        let size = if *capitals { format!("{:X}", data.len()) } else { format!("{:x}", data.len()) };
        bytes.extend(format!("{}{size}{extensions}\r\n", "0".repeat(*zeros)).bytes());
        bytes.extend(data);
        bytes.extend(b"\r\n");
    }
    bytes.extend(b"0\r\n");
    trailers.iter().for_each(|(name, value)| bytes.extend(format!("{name}: {value}\r\n").bytes()));
    bytes.extend(b"\r\n");
    bytes
}

/// Cuts `bytes` into pieces of these lengths, again and again.
fn cut<'a>(bytes: &'a [u8], lengths: &[usize]) -> Vec<&'a [u8]> {
    let (mut pieces, mut rest) = (Vec::new(), bytes);
    for length in lengths.iter().cycle() {
        let (piece, behind) = rest.split_at((*length).min(rest.len()));
        pieces.push(piece);
        rest = behind;
        if rest.is_empty() {
            break;
        }
    }
    pieces
}

proptest! {
    #[test]
    fn what_is_encoded_ends_where_it_was_ended(
        message in written(),
        behind: Vec<u8>,
        lengths in proptest::collection::vec(1..50usize, 1..5),
    ) {
        let mut bytes = encode(&message);
        let end = bytes.len();
        bytes.extend(behind);
        prop_assert_eq!(feed(cut(&bytes, &lengths)), Ok(Some(end)));
    }

    /// Pieces do not matter, be the bytes good or not: one byte of a good message is another.
    #[test]
    fn the_answer_does_not_depend_on_the_pieces(
        message in written(),
        place: prop::sample::Index,
        byte: u8,
        lengths in proptest::collection::vec(1..50usize, 1..5),
    ) {
        let mut bytes = encode(&message);
        let place = place.index(bytes.len());
        bytes[place] = byte;
        let whole = feed([&bytes[..]]);
        prop_assert_eq!(feed(bytes.chunks(1)), whole);
        prop_assert_eq!(feed(cut(&bytes, &lengths)), whole);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes: Vec<u8>) {
        let _ = feed([&bytes[..]]);
    }
}
