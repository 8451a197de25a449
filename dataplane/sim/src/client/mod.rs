//! A client's connection: smoltcp's TCP, and a script that it follows.

pub mod script;

use core::net::Ipv4Addr;

use handoff_proto::Micros;
use smoltcp::socket::tcp;

use crate::client::script::{Conversation, Ending};
use crate::stack::{Stack, StackSettings, read_all};

/// Bytes of a client's send buffer.
const SEND_BYTES: usize = 64 * 1024;

/// How a connection ended, as its client saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// Every request was answered whole, or as much of it was read as the script says.
    Complete,
    /// The switch, or anybody, answered with this status instead of 200.
    Refused(u16),
    /// Somebody reset it.
    Reset,
    /// It was closed before all was answered.
    CutShort,
    /// The client gave up waiting.
    TimedOut,
}

/// A connection and how far it has come.
pub struct Client {
    /// What it is to do.
    pub script: Conversation,
    stack: Stack,
    /// All bytes given to the socket.
    pub written: Vec<u8>,
    /// All bytes read.
    pub read: Vec<u8>,
    /// When its handshake was over.
    pub connected: Option<Micros>,
    /// When its first byte of a request was written.
    pub first_written: Option<Micros>,
    /// How it ended.
    pub outcome: Option<Outcome>,
    /// When that was.
    pub ended: Option<Micros>,
    /// What is still to be written of the present request, and from when on.
    unwritten: Vec<u8>,
    write_due: Option<Micros>,
    /// The present request.
    at: usize,
    /// Where in `read` its answer begins.
    answer_begin: usize,
    has_closed: bool,
    next: Option<Micros>,
}

impl Client {
    /// Opens the connection; its SYN leaves with the first [`Client::poll`].
    #[must_use]
    pub fn open(
        script: Conversation,
        address: Ipv4Addr,
        vip: (Ipv4Addr, u16),
        mtu_bytes: usize,
        seed: u64,
        now: Micros,
    ) -> Self {
        let settings = StackSettings {
            address,
            mtu_bytes,
            receive_bytes: script.receive_bytes,
            send_bytes: SEND_BYTES,
            timestamps: script.timestamps,
            patience: script.patience,
            seed,
        };
        let mut stack = Stack::new(&settings, now);
        stack.connect(vip, script.port);
        Self {
            stack,
            written: Vec::new(),
            read: Vec::new(),
            connected: None,
            first_written: None,
            outcome: None,
            ended: None,
            unwritten: Vec::new(),
            write_due: None,
            at: 0,
            answer_begin: 0,
            has_closed: false,
            next: Some(now),
            script,
        }
    }

    /// Takes an IP packet.
    pub fn take(&mut self, packet: Vec<u8>) {
        self.stack.take(packet);
        self.next = Some(Micros(0));
    }

    /// When it wants to be polled.
    #[must_use]
    pub fn next_poll(&self) -> Option<Micros> {
        self.next
    }

    /// The state of its socket.
    #[must_use]
    pub fn state(&self) -> tcp::State {
        self.stack.state()
    }

    /// Follows the script as far as it goes now; returns the packets to send.
    pub fn poll(&mut self, now: Micros) -> Vec<Vec<u8>> {
        let mut packets = self.stack.poll(now);
        if self.outcome.is_none() {
            self.follow(now);
            packets.extend(self.stack.poll(now));
        }
        let deadline = self.script.start.plus(self.script.patience);
        let waits = self.outcome.is_none().then_some(deadline);
        let writes = if self.outcome.is_none() { self.write_due.filter(|due| *due > now) } else { None };
        self.next = self.stack.next_poll().into_iter().chain(waits).chain(writes).min();
        packets
    }

    fn follow(&mut self, now: Micros) {
        read_all(self.stack.socket(), &mut self.read);
        let state = self.stack.state();
        if self.connected.is_none() {
            match state {
                tcp::State::Established | tcp::State::CloseWait => {
                    self.connected = Some(now);
                    self.begin(self.script.pause, now);
                }
                tcp::State::Closed => self.end(self.ending_without_answer(now), now),
                _ => {}
            }
        }
        if self.connected.is_some() && self.outcome.is_none() {
            self.write(now);
            self.judge(now);
        }
        if self.outcome.is_none() && now >= self.script.start.plus(self.script.patience) {
            self.stack.socket().abort();
            self.end(Outcome::TimedOut, now);
        }
    }

    /// Makes the present request ready to be written after a pause.
    fn begin(&mut self, pause: Micros, now: Micros) {
        self.answer_begin = self.read.len();
        self.write_due = Some(now.plus(pause));
        let is_last = self.at + 1 == self.script.requests.len();
        let closes = is_last && self.script.ending == Ending::ServerCloses;
        if let Some(request) = self.script.requests.get(self.at) {
            let number = u64::try_from(self.at).unwrap_or(u64::MAX);
            self.unwritten = request.bytes(self.script.number, number, closes);
        }
    }

    fn write(&mut self, now: Micros) {
        if self.write_due.is_none_or(|due| due > now) {
            return;
        }
        let Some(request) = self.script.requests.get(self.at) else {
            self.write_due = None;
            if self.script.ending == Ending::Nothing {
                self.close();
                self.end(Outcome::Complete, now);
            }
            return;
        };
        let (piece, gap) = (request.piece_bytes.min(self.unwritten.len()), request.piece_gap);
        let socket = self.stack.socket();
        let sent =
            if socket.can_send() { socket.send_slice(&self.unwritten[..piece]).unwrap_or(0) } else { 0 };
        self.written.extend(self.unwritten.drain(..sent));
        if sent > 0 {
            self.first_written.get_or_insert(now);
        }
        let is_last = self.at + 1 == self.script.requests.len();
        if self.unwritten.is_empty() {
            self.write_due = None;
            if is_last && self.script.ending == Ending::HalfClose {
                self.close();
            }
        } else {
            // A full send buffer is looked at again a little later.
            self.write_due = Some(now.plus(gap.max(Micros::from_millis(1))));
        }
    }

    fn close(&mut self) {
        if !self.has_closed {
            self.has_closed = true;
            self.stack.socket().close();
        }
    }

    /// Looks at what was read: is the present answer whole, or something else?
    fn judge(&mut self, now: Micros) {
        let is_last = self.at + 1 >= self.script.requests.len();
        let answer = Answer::read(&self.read[self.answer_begin..]);
        if let (Ending::Abort(after), true) = (self.script.ending, is_last)
            && matches!(answer, Answer::Partial | Answer::Whole(200, _))
            && self.read.len() - self.answer_begin >= after.max(1)
        {
            self.stack.socket().abort();
            self.end(Outcome::Complete, now);
            return;
        }
        match answer {
            Answer::Whole(200, bytes) if self.unwritten.is_empty() => {
                self.answer_begin += bytes;
                self.at += 1;
                if is_last {
                    self.close();
                    self.end(Outcome::Complete, now);
                } else {
                    let pause = self.script.requests[self.at].pause;
                    self.begin(pause, now);
                    self.write(now);
                }
            }
            Answer::Whole(200, _) => {}
            Answer::Whole(status, _) => {
                self.close();
                self.end(Outcome::Refused(status), now);
            }
            Answer::Partial if self.is_over() => {
                let outcome = self.ending_without_answer(now);
                self.close();
                self.end(outcome, now);
            }
            Answer::Partial => {}
        }
    }

    /// Says whether nothing more can come.
    fn is_over(&mut self) -> bool {
        let has_script_to_go = self.at < self.script.requests.len();
        let socket = self.stack.socket();
        has_script_to_go && !socket.may_recv() && !socket.can_recv()
    }

    fn ending_without_answer(&self, now: Micros) -> Outcome {
        let has_waited = now >= self.script.start.plus(self.script.patience);
        match self.stack.state() {
            // smoltcp closes for a RST, and when it gave up repeating itself.
            tcp::State::Closed if has_waited => Outcome::TimedOut,
            tcp::State::Closed => Outcome::Reset,
            _ => Outcome::CutShort,
        }
    }

    fn end(&mut self, outcome: Outcome, now: Micros) {
        self.outcome = Some(outcome);
        self.ended = Some(now);
    }
}

/// What the bytes of an answer are so far.
enum Answer {
    /// Not all of it.
    Partial,
    /// Its status and length, head included.
    Whole(u16, usize),
}

impl Answer {
    fn read(bytes: &[u8]) -> Self {
        let Some(end) = bytes.windows(4).position(|end| end == b"\r\n\r\n") else { return Self::Partial };
        let Ok(head) = core::str::from_utf8(&bytes[..end]) else { return Self::Partial };
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        let (Some(status), Some(length)) = (status, length) else { return Self::Partial };
        let whole = end + 4 + length;
        if bytes.len() >= whole { Self::Whole(status, whole) } else { Self::Partial }
    }
}
