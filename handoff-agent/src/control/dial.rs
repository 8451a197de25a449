//! Keeping a control connection: dial, talk, and dial again.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::os::fd::AsFd as _;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use handoff_proto::control::{
    CONTROL_VERSION, FromAgent, REPORT_INTERVAL, Report, SESSIONS_MAX, SILENCE_MAX, Sessions,
};
use handoff_proto::keys::Key;
use handoff_proto::{Micros, Vip};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use thiserror::Error;

use super::{Event, Session, SessionError};
use crate::bpf::{BpfError, NamedSession, SessionRing, Steering};
use crate::load::LoadMeter;
use crate::status::Status;
use crate::sys::clock;

/// How long after a lost connection, or a failed attempt, the next one is made.
const REDIAL: Duration = Duration::from_millis(100);
/// The same when the switch does not want us or the key is wrong: an operator has to act first.
const REDIAL_UNWANTED: Duration = Duration::from_secs(2);
/// How long an attempt may take.
const CONNECT_TIMEOUT: Duration = Duration::from_millis(500);
/// A connection that lasted as long is worth a line when it is lost, even if the reason is the same as last time.
const STABLE: Duration = Duration::from_secs(1);
/// How soon a change of readiness or health is noticed and told; what comes from the switch or the programs is noticed at once.
const TICK: Duration = Duration::from_millis(20);

/// Who this backend is.
#[derive(Clone, Debug)]
pub struct Identity {
    /// Its name, as in the switch's configuration.
    pub name: String,
    /// Its address on the data network.
    pub address: Ipv4Addr,
    /// The VIPs it serves.
    pub vips: Vec<Vip>,
}

/// Why a connection ended.
#[derive(Debug, Error)]
enum Lost {
    #[error("cannot reach it: {0}")]
    Unreachable(io::Error),
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Session(#[from] SessionError),
    #[error("it closed the connection")]
    Closed,
    #[error(
        "it closed the connection without a word: most likely its key file is another one than this agent's; the switch's \
         log says why"
    )]
    Unanswered,
    #[error("silent for {} ms", SILENCE_MAX.0 / 1_000)]
    Silent,
    #[error(transparent)]
    Bpf(#[from] BpfError),
    #[error("its data address {0} is not IPv4")]
    Address(IpAddr),
}

/// Keeps the switch informed.
pub struct Dialer<'a> {
    /// Where the switch waits.
    pub switch: SocketAddr,
    /// The key to prove.
    pub key: Key,
    /// Who we are.
    pub identity: Identity,
    /// What to report.
    pub status: &'a Status,
    /// What to tell the BPF programs.
    pub steering: &'a Steering<'a>,
}

impl Dialer<'_> {
    /// Dials and reports until `stop` is set, then says goodbye. Losing the switch changes nothing on this host: the
    /// programs go on with what they know.
    pub fn run(&self, load: &mut LoadMeter<'_>, sessions: &SessionRing<'_>, stop: &AtomicBool) {
        let mut told = String::new();
        while !stop.load(Ordering::Relaxed) {
            let begun = Instant::now();
            let Err(lost) = self.connection(load, sessions, stop) else { return };
            if begun.elapsed() > STABLE {
                told.clear();
            }
            let text = lost.to_string();
            if text != told {
                tracing::warn!(switch = %self.switch, why = text, "no connection to the switch; dialling on");
                told = text;
            }
            let unwanted = matches!(&lost, Lost::Session(_) | Lost::Address(_));
            let until = Instant::now() + if unwanted { REDIAL_UNWANTED } else { REDIAL };
            while Instant::now() < until && !stop.load(Ordering::Relaxed) {
                std::thread::sleep(TICK);
            }
        }
    }

    fn hello(&self) -> FromAgent {
        FromAgent::Hello {
            version: CONTROL_VERSION,
            name: self.identity.name.clone(),
            address: self.identity.address.into(),
            vips: self.identity.vips.clone(),
            release: env!("CARGO_PKG_VERSION").to_owned(),
            time: Micros(clock::wall_us()),
        }
    }

    /// One connection; returns when told to stop.
    fn connection(
        &self,
        load: &mut LoadMeter<'_>,
        sessions: &SessionRing<'_>,
        stop: &AtomicBool,
    ) -> Result<(), Lost> {
        let mut stream =
            TcpStream::connect_timeout(&self.switch, CONNECT_TIMEOUT).map_err(Lost::Unreachable)?;
        stream.set_nodelay(true)?;
        stream.set_write_timeout(Some(micros(SILENCE_MAX.0)))?;
        let (mut session, first) = Session::begin(&self.key, self.hello())?;
        stream.write_all(&first)?;
        let mut heard = Instant::now();
        let mut reported: Option<(Instant, u64)> = None;
        let mut buffer = [0; 16 << 10];
        while !stop.load(Ordering::Relaxed) {
            // What servers named waits until somebody takes it.
            let ring = session.is_welcome().then_some(sessions);
            let due =
                reported.map_or(TICK, |(when, _)| micros(REPORT_INTERVAL.0).saturating_sub(when.elapsed()));
            if wait(&stream, ring, due.min(TICK))? {
                match stream.read(&mut buffer) {
                    Ok(0) => return Err(ended(&session, Lost::Closed)),
                    Ok(read) => {
                        heard = Instant::now();
                        let (out, events) = session.receive(&buffer[..read], clock::monotonic_us())?;
                        stream.write_all(&out)?;
                        for event in events {
                            self.obey(event)?;
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::Interrupted => {}
                    Err(error) => return Err(ended(&session, error.into())),
                }
            }
            if let Some(ring) = ring {
                // What was taken when the connection breaks is lost: these clients' next handshakes are full ones.
                for named in self.by_vip(&ring.take(SESSIONS_MAX)?) {
                    if let Some(bytes) = session.sessions(named)? {
                        stream.write_all(&bytes)?;
                    }
                }
            }
            if heard.elapsed() > micros(SILENCE_MAX.0) {
                return Err(Lost::Silent);
            }
            let snapshot = self.status.snapshot();
            let due = reported.is_none_or(|(when, version)| {
                when.elapsed() >= micros(REPORT_INTERVAL.0) || version != snapshot.version
            });
            if due && session.is_welcome() {
                reported = Some((Instant::now(), snapshot.version));
                let report = Report {
                    number: 0,
                    ready: snapshot.readiness.ready(),
                    reasons: snapshot.readiness.told(),
                    health: snapshot.health,
                    load: load.read(),
                };
                if let Some(bytes) = session.report(report, clock::monotonic_us())? {
                    stream.write_all(&bytes)?;
                }
            }
        }
        if let Some(bytes) = session.goodbye()? {
            stream.write_all(&bytes)?;
        }
        Ok(())
    }

    /// Sorts sessions into a message for each VIP; those of VIPs an earlier agent served have none.
    fn by_vip(&self, named: &[NamedSession]) -> Vec<Sessions> {
        let of = |vip: &Vip| {
            let ids = named.iter().filter(|session| session.vip == *vip).map(|session| session.id);
            Sessions { vip: *vip, ids: ids.collect() }
        };
        self.identity.vips.iter().map(of).filter(|sessions| !sessions.ids.is_empty()).collect()
    }

    fn obey(&self, event: Event) -> Result<(), Lost> {
        match event {
            Event::Welcome { address: IpAddr::V4(address) } => {
                tracing::info!(switch = %self.switch, %address, "the switch takes our reports");
                self.steering.set_switch(address)?;
            }
            Event::Welcome { address } => return Err(Lost::Address(address)),
            Event::Clock { offset_us } => self.steering.set_clock(offset_us)?,
        }
        Ok(())
    }
}

/// Waits less than a second for bytes of the switch, or for sessions that servers name; says whether there are bytes, or an end
/// of them.
fn wait(stream: &TcpStream, ring: Option<&SessionRing<'_>>, time: Duration) -> Result<bool, Lost> {
    let mut wanted = vec![PollFd::from_borrowed_fd(stream.as_fd(), PollFlags::IN)];
    wanted.extend(ring.map(|ring| PollFd::from_borrowed_fd(ring.as_fd(), PollFlags::IN)));
    let time = Timespec { tv_sec: 0, tv_nsec: time.subsec_nanos().into() };
    match poll(&mut wanted, Some(&time)) {
        Ok(_) => Ok(wanted.first().is_some_and(|stream| !stream.revents().is_empty())),
        Err(rustix::io::Errno::INTR) => Ok(false),
        Err(error) => Err(Lost::Io(error.into())),
    }
}

/// Why the stream ended: a switch that cannot read the first message of the channel says nothing, and closes.
fn ended(session: &Session, lost: Lost) -> Lost {
    match lost {
        Lost::Closed if !session.is_open() => Lost::Unanswered,
        Lost::Io(error) if !session.is_open() && error.kind() == ErrorKind::ConnectionReset => {
            Lost::Unanswered
        }
        lost => lost,
    }
}

const fn micros(count: u64) -> Duration {
    Duration::from_micros(count)
}

#[cfg(test)]
mod tests {
    use super::*;
    use handoff_proto::channel::Channel;
    use handoff_proto::{KeyId, KeyRing};

    #[test]
    fn a_switch_that_closes_without_a_word_has_another_key() {
        let key = Key::new(KeyId(1), [7; 32]);
        let hello = FromAgent::Goodbye; // any message does
        let (mut session, first) = Session::begin(&key, hello).expect("randomness");
        let reset = || Lost::Io(ErrorKind::ConnectionReset.into());
        assert!(matches!(ended(&session, Lost::Closed), Lost::Unanswered));
        assert!(matches!(ended(&session, reset()), Lost::Unanswered));
        assert!(matches!(ended(&session, Lost::Io(ErrorKind::TimedOut.into())), Lost::Io(_)));
        let said = Lost::Unanswered.to_string();
        assert!(said.contains("key file"), "{said}");

        let mut switch = Channel::accept(KeyRing::new(vec![key]).expect("one key"));
        switch.feed(&first);
        let answer = switch.advance().expect("a shared key").expect("an answer");
        session.receive(&answer, 0).expect("a shared key");
        assert!(matches!(ended(&session, Lost::Closed), Lost::Closed));
        assert!(matches!(ended(&session, reset()), Lost::Io(_)));
    }
}
