//! The web server of a backend: reads requests off a socket, answers them, and keeps an account of both.
//!
//! A request's target says what is wanted: `/CLASS/CONNECTION/NUMBER?bytes=B&think=T&close=1`, so that clients and servers
//! need not agree on anything beforehand, and whatever arrives can be traced to who sent it.

use std::collections::VecDeque;

use handoff_proto::Micros;
use smoltcp::socket::tcp;

use crate::body::pattern;
use crate::stack::read_all;

/// How much of a request head is read before its end must have come.
const HEAD_BYTES_MAX: usize = 64 * 1024;

/// A request that was read whole and acted upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ran {
    /// Which connection of the world it came from, as its target says.
    pub connection: u64,
    /// Which request of that connection, counted from 0.
    pub number: u64,
}

/// What is to be written once it is time.
#[derive(Clone, Debug)]
struct Answer {
    due: Micros,
    bytes: Vec<u8>,
    closes: bool,
}

/// One connection, from the server's side.
#[derive(Debug, Default)]
pub struct Server {
    /// All bytes read.
    pub read: Vec<u8>,
    /// All bytes given to the socket.
    pub written: Vec<u8>,
    /// The requests that ran.
    pub ran: Vec<Ran>,
    /// Where in `read` the next request begins.
    next_request: usize,
    answers: VecDeque<Answer>,
    /// Bytes of the first answer that the socket has taken.
    taken: usize,
    is_closed: bool,
}

impl Server {
    /// Reads what has come, runs whole requests, writes what is due. Returns when it wants to be called again though nothing
    /// comes.
    pub fn work(&mut self, socket: &mut tcp::Socket<'_>, now: Micros) -> Option<Micros> {
        read_all(socket, &mut self.read);
        while let Some(request) = self.next_whole_request() {
            self.run(&request, now);
        }
        let next = self.write(socket, now);
        // The client has said all it will say: answers still go out, then the connection ends.
        let is_over = !socket.may_recv() && self.answers.is_empty() && socket.state() != tcp::State::Listen;
        if is_over && !self.is_closed && socket.may_send() {
            self.is_closed = true;
            socket.close();
        }
        next
    }

    fn write(&mut self, socket: &mut tcp::Socket<'_>, now: Micros) -> Option<Micros> {
        while let Some(answer) = self.answers.front() {
            if answer.due > now {
                return Some(answer.due);
            }
            let rest = answer.bytes.get(self.taken..).unwrap_or_default();
            if !rest.is_empty() {
                let sent = socket.send_slice(rest).unwrap_or(0);
                self.written.extend_from_slice(&rest[..sent]);
                self.taken += sent;
                if sent < rest.len() {
                    return None;
                }
            }
            let closes = answer.closes;
            self.answers.pop_front();
            self.taken = 0;
            if closes {
                self.answers.clear();
                self.is_closed = true;
                socket.close();
            }
        }
        None
    }

    fn next_whole_request(&mut self) -> Option<Request> {
        if self.is_closed {
            return None;
        }
        let unread = self.read.get(self.next_request..)?;
        let head_bytes = unread.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
        if head_bytes > HEAD_BYTES_MAX {
            return None;
        }
        let request = Request::read(&unread[..head_bytes])?;
        if unread.len() < head_bytes + request.body_bytes {
            return None;
        }
        self.next_request += head_bytes + request.body_bytes;
        Some(request)
    }

    fn run(&mut self, request: &Request, now: Micros) {
        self.ran.push(request.who);
        let connection = if request.closes { "close" } else { "keep-alive" };
        let head = format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: {connection}\r\nX-Ran: {}/{}\r\n\r\n",
            request.answer_bytes, request.who.connection, request.who.number,
        );
        let mut bytes = head.into_bytes();
        bytes.extend(pattern(request.who.connection, request.who.number, request.answer_bytes));
        let earliest = self.answers.back().map_or(now, |answer| answer.due.max(now));
        self.answers.push_back(Answer { due: earliest.plus(request.think), bytes, closes: request.closes });
    }
}

/// A request head, as far as this server cares.
#[derive(Clone, Copy, Debug)]
struct Request {
    who: Ran,
    body_bytes: usize,
    answer_bytes: usize,
    think: Micros,
    closes: bool,
}

impl Request {
    /// `None` if this is nothing a client of the world has sent: the oracle will see that it was never answered.
    fn read(head: &[u8]) -> Option<Self> {
        let head = core::str::from_utf8(head).ok()?;
        let target = head.split(' ').nth(1)?;
        let (path, query) = target.split_once('?')?;
        let mut parts = path.rsplit('/');
        let number = parts.next()?.parse().ok()?;
        let connection = parts.next()?.parse().ok()?;
        let wanted = |name: &str| {
            query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('=')?.parse::<u64>().ok())
        };
        let length =
            head.lines().find_map(|line| line.strip_prefix("Content-Length: ")?.parse::<usize>().ok());
        Some(Self {
            who: Ran { connection, number },
            body_bytes: length.unwrap_or(0),
            answer_bytes: usize::try_from(wanted("bytes")?).ok()?,
            think: Micros(wanted("think").unwrap_or(0)),
            closes: wanted("close") == Some(1),
        })
    }
}
