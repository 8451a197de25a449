//! HTTP/1.1 spoken by hand (RFC 9112), so that what the switch sends is seen as it is.

use std::io::{BufRead, BufReader, Read, Write};
use std::os::unix::net::UnixStream;

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    /// Behind a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        find(&self.headers, name)
    }

    pub(crate) fn trailer(&self, name: &str) -> Option<&str> {
        find(&self.trailers, name)
    }
}

fn find<'a>(fields: &'a [(String, String)], name: &str) -> Option<&'a str> {
    fields.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
}

/// Sends a request; a body is announced only if there is one.
pub(crate) fn send(stream: &mut UnixStream, method: &str, path: &str, body: &str) {
    let length = if body.is_empty() { String::new() } else { format!("content-length: {}\r\n", body.len()) };
    let text = format!("{method} {path} HTTP/1.1\r\nhost: baton\r\nte: trailers\r\n{length}\r\n{body}");
    stream.write_all(text.as_bytes()).expect("control reads");
}

/// Sends a request and reads the answer; the connection may be used again.
pub(crate) fn exchange(stream: &mut UnixStream, method: &str, path: &str, body: &str) -> Answer {
    send(stream, method, path, body);
    receive(stream)
}

/// Reads one answer. Nothing may follow it.
pub(crate) fn receive(stream: &mut UnixStream) -> Answer {
    let mut reader = BufReader::new(stream);
    let (status, headers) = head(&mut reader);
    let mut answer = Answer { status, headers, body: Vec::new(), trailers: Vec::new() };
    match answer.header("content-length").map(str::to_owned) {
        Some(length) => {
            answer.body = vec![0; length.parse().expect("a length")];
            reader.read_exact(&mut answer.body).expect("a body");
        }
        None => {
            while let Some(chunk) = chunk(&mut reader) {
                answer.body.extend(chunk);
            }
            answer.trailers = fields(&mut reader);
        }
    }
    answer
}

/// Reads status and headers.
pub(crate) fn head(reader: &mut impl BufRead) -> (u16, Vec<(String, String)>) {
    let line = line(reader);
    let status = line.split(' ').nth(1).and_then(|status| status.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {line:?}")), fields(reader))
}

/// Reads a chunk of a body; `None` for the last, behind which trailers may be.
pub(crate) fn chunk(reader: &mut impl BufRead) -> Option<Vec<u8>> {
    let size = line(reader);
    let length = usize::from_str_radix(&size, 16).unwrap_or_else(|_| panic!("no chunk: {size:?}"));
    if length == 0 {
        return None;
    }
    let mut chunk = vec![0; length];
    reader.read_exact(&mut chunk).expect("a chunk");
    assert_eq!(line(reader), "");
    Some(chunk)
}

fn fields(reader: &mut impl BufRead) -> Vec<(String, String)> {
    let field = || {
        let line = line(reader);
        line.split_once(": ").map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned()))
    };
    std::iter::from_fn(field).collect()
}

fn line(reader: &mut impl BufRead) -> String {
    let mut line = String::new();
    reader.read_line(&mut line).expect("a line");
    assert!(line.ends_with("\r\n"), "cut: {line:?}");
    line.trim_end().to_owned()
}
