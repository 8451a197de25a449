//! The protocol of one control connection, sans I/O.

use std::collections::VecDeque;
use std::net::IpAddr;

use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::control::{CONTROL_VERSION, FromAgent, FromSwitch, Report, Sessions};
use handoff_proto::keys::Key;
use thiserror::Error;

use super::ClockEstimate;

/// How many reports may be unanswered; older ones are no longer waited for.
const UNANSWERED_MAX: usize = 32;

/// Why a session ends.
#[derive(Debug, Error)]
pub enum SessionError {
    /// The channel fails: a wrong key, damaged bytes, no message of ours.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The switch speaks another version of the protocol.
    #[error(
        "the switch speaks version {0} of the control protocol, this agent {CONTROL_VERSION}; update the older one"
    )]
    Version(u16),
    /// The switch wants nothing to do with this agent.
    #[error("the switch turned this agent away: {0}")]
    Turned(String),
    /// A message that has no place where it came.
    #[error("the switch sent `{0}` out of turn")]
    OutOfTurn(&'static str),
}

/// What a session learned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// The switch takes reports from now on; this is its address on the data network.
    Welcome {
        /// The switch's address.
        address: IpAddr,
    },
    /// The switch's clock less our monotonic one.
    Clock {
        /// Microseconds.
        offset_us: i64,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Opening,
    Greeted { at_us: u64 },
    Welcome,
}

/// One connection to the switch.
pub struct Session {
    channel: Channel,
    phase: Phase,
    hello: FromAgent,
    unanswered: VecDeque<(u64, u64)>,
    reports: u64,
    clock: ClockEstimate,
}

impl Session {
    /// Begins; returns the bytes to send first.
    ///
    /// # Errors
    /// There is no randomness.
    pub fn begin(key: &Key, hello: FromAgent) -> Result<(Self, Vec<u8>), SessionError> {
        let (channel, bytes) = Channel::initiate(key)?;
        let session = Self {
            channel,
            phase: Phase::Opening,
            hello,
            unanswered: VecDeque::new(),
            reports: 0,
            clock: ClockEstimate::default(),
        };
        Ok((session, bytes))
    }

    /// Says whether the switch takes reports.
    pub fn is_welcome(&self) -> bool {
        self.phase == Phase::Welcome
    }

    /// Says whether the switch has proved that it has our key.
    pub fn is_open(&self) -> bool {
        self.phase != Phase::Opening
    }

    /// Takes bytes from the stream at `now_us` by our monotonic clock; returns bytes to send and what was learned.
    ///
    /// # Errors
    /// The session has ended.
    pub fn receive(&mut self, bytes: &[u8], now_us: u64) -> Result<(Vec<u8>, Vec<Event>), SessionError> {
        let (mut out, mut events) = (Vec::new(), Vec::new());
        self.channel.feed(bytes);
        if let Some(answer) = self.channel.advance()? {
            out.extend(answer);
        }
        if self.phase == Phase::Opening && self.channel.is_open() {
            out.extend(self.channel.seal(&self.hello)?);
            self.phase = Phase::Greeted { at_us: now_us };
        }
        while let Some(message) = self.channel.take::<FromSwitch>()? {
            self.take(message, now_us, &mut events)?;
        }
        Ok((out, events))
    }

    fn take(
        &mut self,
        message: FromSwitch,
        now_us: u64,
        events: &mut Vec<Event>,
    ) -> Result<(), SessionError> {
        match (message, self.phase) {
            (FromSwitch::Welcome { version, address, time }, Phase::Greeted { at_us }) => {
                if version != CONTROL_VERSION {
                    return Err(SessionError::Version(version));
                }
                self.phase = Phase::Welcome;
                events.push(Event::Welcome { address });
                events.push(Event::Clock { offset_us: self.clock.add(at_us, now_us, time) });
            }
            (FromSwitch::Turned { why }, Phase::Greeted { .. }) => return Err(SessionError::Turned(why)),
            (FromSwitch::Time { number, time }, Phase::Welcome) => {
                while let Some((oldest, asked_us)) = self.unanswered.front().copied() {
                    if oldest > number {
                        break;
                    }
                    self.unanswered.pop_front();
                    if oldest == number {
                        events.push(Event::Clock { offset_us: self.clock.add(asked_us, now_us, time) });
                    }
                }
            }
            (FromSwitch::Welcome { .. }, _) => return Err(SessionError::OutOfTurn("welcome")),
            (FromSwitch::Turned { .. }, _) => return Err(SessionError::OutOfTurn("turned")),
            (FromSwitch::Time { .. }, _) => return Err(SessionError::OutOfTurn("time")),
        }
        Ok(())
    }

    /// Seals a report, numbering it; `None` before the switch takes any.
    ///
    /// # Errors
    /// The report is too long.
    pub fn report(&mut self, mut report: Report, now_us: u64) -> Result<Option<Vec<u8>>, SessionError> {
        if !self.is_welcome() {
            return Ok(None);
        }
        self.reports += 1;
        report.number = self.reports;
        if self.unanswered.len() == UNANSWERED_MAX {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((self.reports, now_us));
        Ok(Some(self.channel.seal(&FromAgent::Report(report))?))
    }

    /// Seals what servers named; `None` before the switch takes it.
    ///
    /// # Errors
    /// There are too many in it.
    pub fn sessions(&mut self, sessions: Sessions) -> Result<Option<Vec<u8>>, SessionError> {
        if !self.is_welcome() {
            return Ok(None);
        }
        Ok(Some(self.channel.seal(&FromAgent::Sessions(sessions))?))
    }

    /// Seals the last message; `None` if the switch does not know us yet.
    ///
    /// # Errors
    /// The channel failed before.
    pub fn goodbye(&mut self) -> Result<Option<Vec<u8>>, SessionError> {
        if !self.is_welcome() {
            return Ok(None);
        }
        Ok(Some(self.channel.seal(&FromAgent::Goodbye)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use handoff_proto::control::Load;
    use handoff_proto::{KeyId, KeyRing, Micros, TlsSessionId, Vip};

    fn hello() -> FromAgent {
        FromAgent::Hello {
            version: CONTROL_VERSION,
            name: "backend1".into(),
            address: [10, 60, 0, 11].into(),
            vips: vec![],
            release: "0".into(),
            time: Micros(0),
        }
    }

    fn report() -> Report {
        Report { number: 0, ready: true, reasons: vec![], health: vec![], load: Load::default() }
    }

    /// A session whose hello the switch has read at 1,000 us.
    fn greeted() -> (Session, Channel) {
        let key = Key::new(KeyId(1), [7; 32]);
        let (mut session, first) = Session::begin(&key, hello()).expect("randomness");
        let mut switch = Channel::accept(KeyRing::new(vec![key]).expect("one key"));
        switch.feed(&first);
        let answer = switch.advance().expect("a shared key").expect("an answer");
        let (out, events) = session.receive(&answer, 1_000).expect("a shared key");
        assert_eq!(events, []);
        switch.feed(&out);
        assert_eq!(switch.take::<FromAgent>().expect("authentic"), Some(hello()));
        (session, switch)
    }

    fn welcome() -> FromSwitch {
        FromSwitch::Welcome { version: CONTROL_VERSION, address: [10, 60, 0, 1].into(), time: Micros(51_050) }
    }

    fn welcomed() -> (Session, Channel) {
        let (mut session, mut switch) = greeted();
        assert_eq!(session.report(report(), 1_000).expect("nothing to do"), None, "not before the welcome");
        let (out, events) = session.receive(&switch.seal(&welcome()).expect("open"), 1_100).expect("in turn");
        assert!(out.is_empty());
        let address = [10, 60, 0, 1].into();
        assert_eq!(events, [Event::Welcome { address }, Event::Clock { offset_us: 50_000 }]);
        (session, switch)
    }

    #[test]
    fn reports_are_numbered_and_their_answers_tell_the_time() {
        let (mut session, mut switch) = welcomed();
        for (number, now) in [(1, 2_000), (2, 3_000), (3, 4_000)] {
            let bytes = session.report(report(), now).expect("short").expect("welcome");
            switch.feed(&bytes);
            let got = switch.take::<FromAgent>().expect("authentic");
            assert_eq!(got, Some(FromAgent::Report(Report { number, ..report() })));
        }
        // The answer to 1 got lost; that to 2 came back in 20 us, between them 3,010 by our clock.
        let time = FromSwitch::Time { number: 2, time: Micros(53_017) };
        let (_, events) = session.receive(&switch.seal(&time).expect("open"), 3_020).expect("in turn");
        assert_eq!(events, [Event::Clock { offset_us: 50_007 }]);
        // Answers to what was never asked, or answered before, tell nothing.
        for number in [1, 2, 77] {
            let time = FromSwitch::Time { number, time: Micros(0) };
            let (_, events) = session.receive(&switch.seal(&time).expect("open"), 5_000).expect("in turn");
            assert_eq!(events, []);
        }
        switch.feed(&session.goodbye().expect("open").expect("welcome"));
        assert_eq!(switch.take::<FromAgent>().expect("authentic"), Some(FromAgent::Goodbye));
    }

    #[test]
    fn a_switch_that_goes_out_of_turn_ends_the_session() {
        let time = FromSwitch::Time { number: 1, time: Micros(0) };
        let (mut session, mut switch) = greeted();
        let result = session.receive(&switch.seal(&time).expect("open"), 0);
        assert!(matches!(result, Err(SessionError::OutOfTurn("time"))));
        let (mut session, mut switch) = welcomed();
        let result = session.receive(&switch.seal(&welcome()).expect("open"), 0);
        assert!(matches!(result, Err(SessionError::OutOfTurn("welcome"))));
        let (mut session, mut switch) = greeted();
        let turned = FromSwitch::Turned { why: "no backend of that name".into() };
        let result = session.receive(&switch.seal(&turned).expect("open"), 0);
        assert!(matches!(result, Err(SessionError::Turned(why)) if why == "no backend of that name"));
        let (mut session, mut switch) = greeted();
        let newer = FromSwitch::Welcome { version: 9, address: [10, 60, 0, 1].into(), time: Micros(0) };
        let result = session.receive(&switch.seal(&newer).expect("open"), 0);
        assert!(matches!(result, Err(SessionError::Version(9))));
    }

    #[test]
    fn tls_sessions_are_told_once_the_switch_listens() {
        let vip = Vip { address: [10, 60, 0, 100].into(), port: 443 };
        let sessions = Sessions { vip, ids: vec![TlsSessionId::new(&[1, 2]).expect("two bytes")] };
        let (mut session, _) = greeted();
        assert_eq!(session.sessions(sessions.clone()).expect("nothing to do"), None);
        let (mut session, mut switch) = welcomed();
        switch.feed(&session.sessions(sessions.clone()).expect("short").expect("welcome"));
        assert_eq!(switch.take::<FromAgent>().expect("authentic"), Some(FromAgent::Sessions(sessions)));
        assert!(session.unanswered.is_empty(), "nothing answers it");
    }

    #[test]
    fn unanswered_reports_are_bounded() {
        let (mut session, _switch) = welcomed();
        for now in 0..1_000 {
            session.report(report(), now).expect("short");
        }
        assert_eq!(session.unanswered.len(), UNANSWERED_MAX);
    }
}
