//! Request heads, framing and chunks against h11, an implementation of HTTP/1.1 by others (`vectors/h11/README.md`).
//!
//! Where the two differ, it is in [`STRICTER`] or [`LAXER`], with the reason.

use std::collections::HashSet;

use baton_core::http::{Body, Fed, Fields, Framing, Head, Parsed, Unclear, parse};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "note")]
    _note: String,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    kind: String,
    /// A character is a byte.
    stream: String,
    requests: Vec<Request>,
    then: String,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Request {
    head: usize,
    method: String,
    host: Option<String>,
    path: String,
    /// `none`, `chunked`, or a length, as written.
    framing: String,
    /// Where its body ends, if it does.
    end: Option<usize>,
}

/// Why a stream is read no further.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Stop {
    Malformed,
    TooManyFields,
    Unclear(Unclear),
}

/// Streams of which h11 reads more than we do: our reason, the kinds of streams, and why that is right.
const STRICTER: &[(Stop, &[&str], &str)] = &[
    (
        Stop::Malformed,
        &["control character in a value", "DEL in a value", "one byte changed"],
        "h11 lets control characters pass; RFC 9110, section 5.5, calls them invalid and servers differ",
    ),
    (
        Stop::Malformed,
        &["host with a user", "host with a path", "host list"],
        "h11 does not look into Host; RFC 9112, section 3.2, wants 400 for an invalid one",
    ),
    (
        Stop::Malformed,
        &["blank in front of a name"],
        "h11 unfolds lines; RFC 9112, section 5.2, wants a server to reject or unfold them, and not all do either",
    ),
    (
        Stop::Malformed,
        &["HTTP/1.2", "HTTP/2.0", "relative target", "other scheme"],
        "h11 leaves version and form of the target to its user; nothing of this can be dispatched",
    ),
    (
        Stop::Unclear(Unclear::LineEnd),
        &[
            "LF alone ends lines",
            "LF alone ends a line",
            "LF alone hides a length",
            "LF alone ends the trailers",
            "LF alone for the empty line",
            "CR within an extension",
            "one byte changed",
        ],
        "RFC 9112, section 2.2, lets a recipient take LF alone for CR LF; not all do, so the end is in doubt",
    ),
    (
        Stop::Unclear(Unclear::Lengths),
        &["two lengths, alike", "a list of lengths, alike"],
        "RFC 9110, section 8.6, lets a recipient reject them or take one; nginx rejects",
    ),
    (
        Stop::Unclear(Unclear::LengthAndCoding),
        &["length and chunked"],
        "RFC 9112, section 6.1: ought to be handled as an error",
    ),
    (
        Stop::Unclear(Unclear::CodingBeforeHttp11),
        &["chunked in 1.0"],
        "RFC 9112, section 6.1: must be treated as if the framing is faulty",
    ),
    (
        Stop::Unclear(Unclear::TooLong),
        &[
            "a length of 2^63",
            "a length of 2^64 + 5",
            "a size of 2^63",
            "a size of 2^64 + 5",
            "a size of 17 digits",
        ],
        "Python counts without bound; servers count in 63 bits, at best",
    ),
    (
        Stop::Unclear(Unclear::Tunnel),
        &["connect", "upgrade"],
        "h11 waits for its own side's answer, which the switch does not see",
    ),
    (
        Stop::Unclear(Unclear::ChunkSize),
        &["a blank behind a size"],
        "h11 is lenient with blanks behind a size; RFC 9112, section 7.1, has none there",
    ),
    (
        Stop::Unclear(Unclear::Extension),
        &["NUL in an extension", "long extensions"],
        "h11 takes anything but LF for an extension, and bounds all of an event instead",
    ),
    (
        Stop::Unclear(Unclear::Trailer),
        &["a folded trailer", "a control character in a trailer", "many trailers", "one byte changed"],
        "h11 unfolds lines, lets control characters pass, and bounds all of an event instead",
    ),
];

/// Streams of which we read more than h11 does: what its error begins with, and why that is right.
const LAXER: &[(&str, &str)] = &[
    (
        "error: Missing mandatory Host",
        "the switch dispatches it, by rules without host; the server answers 400",
    ),
    ("error: illegal chunk header: bytearray(b'5 ;a", "RFC 9112, section 7.1.1: such blanks must be removed"),
    ("error: no request line received", "RFC 9112, section 2.2: an empty line in front should be ignored"),
    (
        "error: illegal request line: bytearray(b'POST /\\xc3",
        "servers take UTF-8 in a target, and paths compare as bytes",
    ),
];

/// A reader of a client's stream in pieces: what it has found so far.
#[derive(Default)]
struct Reader {
    requests: Vec<Request>,
    stop: Option<Stop>,
    /// Bytes of a head that is not whole yet.
    held: Vec<u8>,
    body: Option<Body>,
    at: usize,
}

impl Reader {
    fn feed(&mut self, mut bytes: &[u8]) {
        while self.stop.is_none() && !bytes.is_empty() {
            let result = match self.body {
                Some(_) => self.feed_body(bytes),
                None => self.feed_head(bytes),
            };
            match result {
                Ok(count) => bytes = &bytes[count..],
                Err(stop) => self.stop = Some(stop),
            }
        }
    }

    fn feed_head(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let before = self.held.len();
        self.held.extend(bytes);
        let (head, request) = match parse(&self.held, &mut Fields::default()) {
            Parsed::Partial => return Ok(bytes.len()),
            Parsed::Malformed => return Err(Stop::Malformed),
            Parsed::TooManyFields => return Err(Stop::TooManyFields),
            Parsed::Complete(Head { method, host, path, bytes, .. }) => {
                let (method, host, path) = (method.to_owned(), host.map(str::to_owned), path.to_owned());
                (
                    bytes,
                    Request { head: self.at + bytes, method, host, path, framing: String::new(), end: None },
                )
            }
        };
        let framing = Framing::of(&self.held[..head]).map_err(Stop::Unclear)?;
        self.held.clear();
        self.at += head;
        self.body = Some(Body::new(framing));
        let framing = match framing {
            Framing::Bodiless => "none".into(),
            Framing::Chunked => "chunked".into(),
            Framing::Length(length) => length.to_string(),
        };
        self.requests.push(Request { framing, ..request });
        self.feed_body(&[])?; // which ends a body of no bytes
        Ok(head - before)
    }

    fn feed_body(&mut self, bytes: &[u8]) -> Result<usize, Stop> {
        let body = self.body.as_mut().expect("within a body");
        match body.feed(bytes).map_err(Stop::Unclear)? {
            Fed::More => {
                self.at += bytes.len();
                Ok(bytes.len())
            }
            Fed::Ended(count) => {
                self.at += count;
                self.body = None;
                self.requests.last_mut().expect("a head").end = Some(self.at);
                Ok(count)
            }
        }
    }

    /// How it stands when there is nothing more to come, in the words of the vectors.
    fn then(&self) -> &'static str {
        match self.stop {
            Some(_) => "error",
            None if self.body.is_some() || !self.held.is_empty() => "more",
            None => "end",
        }
    }
}

fn read<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Reader {
    let mut reader = Reader::default();
    pieces.into_iter().for_each(|piece| reader.feed(piece));
    reader
}

fn cases() -> Vec<(Case, Vec<u8>)> {
    let text = include_str!("vectors/h11/requests.json");
    let document: Document = serde_json::from_str(text).expect("the vectors' own form");
    let bytes =
        |text: &str| text.chars().map(|byte| u8::try_from(u32::from(byte)).expect("a byte")).collect();
    document
        .cases
        .into_iter()
        .map(|case| (bytes(&case.stream), case))
        .map(|(bytes, case)| (case, bytes))
        .collect()
}

/// Asserts that both found the same: the value of a length, and host names without regard to case.
fn assert_same(ours: &Request, theirs: &Request, stream: &str) {
    let length =
        |text: &str| text.parse::<u64>().map_or_else(|_| text.to_owned(), |length| length.to_string());
    let form = |request: &Request, framing: String| {
        let host = request.host.as_ref().map(|host| host.to_ascii_lowercase());
        (request.head, request.method.clone(), host, request.path.clone(), framing, request.end)
    };
    assert_eq!(form(ours, ours.framing.clone()), form(theirs, length(&theirs.framing)), "{stream:?}");
}

#[test]
fn requests_are_found_where_h11_finds_them_and_differences_have_reasons() {
    let (mut stricter, mut laxer) = (HashSet::new(), HashSet::new());
    for (case, bytes) in cases() {
        let ours = read([&bytes[..]]);
        // Up to where one of the two reads no further, they agree in every request that is whole.
        let whole =
            |requests: &[Request]| requests.iter().take_while(|request| request.end.is_some()).count();
        let common = whole(&ours.requests).min(whole(&case.requests));
        for (ours, theirs) in ours.requests.iter().zip(&case.requests).take(common) {
            assert_same(ours, theirs, &case.stream);
        }
        let then = case.then.split(':').next().expect("a word");
        match (ours.stop, then) {
            _ if ours.then() == then && whole(&ours.requests) == whole(&case.requests) => {
                if let (Some(ours), Some(theirs), "more") = (ours.requests.last(), case.requests.last(), then)
                {
                    assert_same(ours, theirs, &case.stream);
                }
            }
            (Some(stop), _) => {
                let of = |(reason, kinds, _): &(Stop, &[&str], &str)| {
                    *reason == stop && kinds.contains(&case.kind.as_str())
                };
                let place = STRICTER.iter().position(of);
                let Some(place) = place else {
                    panic!("{}: {stop:?}, but h11 {} in {:?}", case.kind, case.then, case.stream);
                };
                stricter.insert((place, case.kind.clone()));
            }
            (None, "error") => {
                let Some(place) = LAXER.iter().position(|(error, _)| case.then.starts_with(error)) else {
                    panic!("{}: read on, but h11 {} in {:?}", case.kind, case.then, case.stream);
                };
                laxer.insert(place);
            }
            (None, _) => panic!("{}: {}, h11 {} in {:?}", case.kind, ours.then(), case.then, case.stream),
        }
    }
    for (place, (stop, kinds, _)) in STRICTER.iter().enumerate() {
        for kind in *kinds {
            assert!(stricter.contains(&(place, (*kind).to_owned())), "{stop:?} does not occur with {kind}");
        }
    }
    for (place, (error, _)) in LAXER.iter().enumerate() {
        assert!(laxer.contains(&place), "{error:?} does not occur");
    }
}

#[test]
fn how_a_stream_is_cut_changes_nothing() {
    for (case, bytes) in cases() {
        let whole = read([&bytes[..]]);
        let same = |other: &Reader| {
            assert_eq!((other.stop, other.then()), (whole.stop, whole.then()), "{:?}", case.stream);
            assert_eq!(other.requests.len(), whole.requests.len(), "{:?}", case.stream);
            other
                .requests
                .iter()
                .zip(&whole.requests)
                .for_each(|(one, two)| assert_same(one, two, &case.stream));
        };
        for cut in 0..bytes.len() {
            same(&read([&bytes[..cut], &bytes[cut..]]));
        }
        same(&read(bytes.chunks(1)));
    }
}
