//! What a client is going to do: connections and their requests, as data, so that an oracle can compare with what happened.

use core::fmt::Write as _;

use handoff_proto::Micros;

use crate::body::pattern;

/// A connection, from the client's side.
#[derive(Clone, Debug)]
pub struct Conversation {
    /// Its number in the world; requests name it.
    pub number: u64,
    /// Which client host opens it.
    pub host: usize,
    /// From which port.
    pub port: u16,
    /// When.
    pub start: Micros,
    /// How long it thinks between the handshake and its first request.
    pub pause: Micros,
    /// Its requests; each begins when the one before is answered.
    pub requests: Vec<RequestPlan>,
    /// Who ends it.
    pub ending: Ending,
    /// Whether it offers timestamps, and its offset to the clock if so.
    pub timestamps: Option<u32>,
    /// Its receive buffer, which decides about its window scale.
    pub receive_bytes: usize,
    /// When it gives up.
    pub patience: Micros,
}

/// How a connection ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// The client closes when it has its last answer.
    ClientCloses,
    /// The last request asks the server to close.
    ServerCloses,
    /// The client closes its half right behind its last request and reads on.
    HalfClose,
    /// The client resets the connection so many bytes into its last answer.
    Abort(usize),
    /// The client leaves without a request: a browser's spare connection.
    Nothing,
}

/// One request.
#[derive(Clone, Debug)]
pub struct RequestPlan {
    /// First part of its path, which rules look at: `files`, `video`, `routed`.
    pub class: &'static str,
    /// Bytes of a header field that only makes the head longer.
    pub padding_bytes: usize,
    /// Bytes of its body; a POST if not 0.
    pub body_bytes: usize,
    /// Bytes of the answer's body.
    pub answer_bytes: usize,
    /// How long the server thinks.
    pub think: Micros,
    /// The client writes this many bytes at a time...
    pub piece_bytes: usize,
    /// ... and waits this long in between.
    pub piece_gap: Micros,
    /// How long the client waits before it begins.
    pub pause: Micros,
}

impl RequestPlan {
    /// The path rules look at.
    #[must_use]
    pub fn path(&self, connection: u64, number: u64) -> String {
        format!("/{}/{connection}/{number}", self.class)
    }

    /// The request as it is written.
    #[must_use]
    pub fn bytes(&self, connection: u64, number: u64, closes: bool) -> Vec<u8> {
        let method = if self.body_bytes == 0 { "GET" } else { "POST" };
        let (path, close) = (self.path(connection, number), u8::from(closes));
        let mut head = format!(
            "{method} {path}?bytes={}&think={}&close={close} HTTP/1.1\r\nHost: www.example\r\n",
            self.answer_bytes, self.think.0
        );
        if self.padding_bytes > 0 {
            let _ = write!(head, "Cookie: {}\r\n", "c".repeat(self.padding_bytes));
        }
        if self.body_bytes > 0 {
            let _ = write!(head, "Content-Length: {}\r\n", self.body_bytes);
        }
        head.push_str("\r\n");
        let mut bytes = head.into_bytes();
        bytes.extend(pattern(connection, number, self.body_bytes));
        bytes
    }
}
