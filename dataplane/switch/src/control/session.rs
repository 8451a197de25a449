//! One agent's connection, sans I/O: bytes and time in, bytes out.

use core::net::IpAddr;

use baton_core::policy::BackendIndex;
use handoff_proto::channel::{Channel, ChannelError};
use handoff_proto::control::{CONTROL_VERSION, FromAgent, FromSwitch, REPORT_INTERVAL, SILENCE_MAX};
use handoff_proto::{KeyRing, Micros};
use thiserror::Error;

use super::lifecycle::{Happening, SessionId};
use super::roster::{Hello, Refusal, ReportFault, Roster};

/// How long an agent may take to authenticate and to say hello.
pub const OPENING_MAX: Micros = Micros::from_millis(2_000);

/// What may pass between an agent's silence and the last new connection: the timer of the I/O around this (1 ms), the
/// lock, the publication, and a napping lcore's next look (0.1 ms).
const PUBLICATION_MAX: Micros = Micros::from_millis(100);
/// Within this, a silent or unhealthy backend gets no new connection any more.
const PROMISE: Micros = Micros::from_millis(1_000);
// Five reports may be lost or late, and the promise still holds.
const _: () = assert!(5 * REPORT_INTERVAL.0 < SILENCE_MAX.0);
const _: () = assert!(SILENCE_MAX.0 + PUBLICATION_MAX.0 < PROMISE.0);

/// Why a connection is at its end.
#[derive(Debug, Error)]
pub enum End {
    /// The peer does not authenticate or speaks something else.
    #[error(transparent)]
    Channel(#[from] ChannelError),
    /// The agent does not belong here.
    #[error(transparent)]
    Turned(#[from] Refusal),
    /// A newer connection speaks for the backend.
    #[error("a newer connection of the same backend took over")]
    Superseded,
    /// It did not authenticate and say hello in time.
    #[error("it did not authenticate and say hello within {} ms", OPENING_MAX.0 / 1000)]
    Slow,
    /// It said nothing for too long.
    #[error("it said nothing for {} ms", SILENCE_MAX.0 / 1000)]
    Silent,
    /// It said goodbye.
    #[error("it said goodbye")]
    Left,
    /// A message that does not belong there.
    #[error("{0} out of turn")]
    OutOfTurn(&'static str),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Not authenticated, or not greeted yet.
    Opening { until: Micros },
    /// Speaks for a backend.
    Member { backend: BackendIndex, heard: Micros },
    /// Nothing more is taken.
    Ended,
}

/// One agent's connection.
pub struct Session {
    id: SessionId,
    channel: Channel,
    /// The switch's address on the data network.
    address: IpAddr,
    stage: Stage,
}

impl Session {
    /// Starts when a connection was accepted. `address` is the switch's on the data network.
    pub fn accept(id: SessionId, keys: KeyRing, address: IpAddr, now: Micros) -> Self {
        let stage = Stage::Opening { until: now.plus(OPENING_MAX) };
        Self { id, channel: Channel::accept(keys), address, stage }
    }

    /// Returns when [`Session::overdue`] must be called if nothing comes before.
    pub const fn deadline(&self) -> Micros {
        match self.stage {
            Stage::Opening { until } => until,
            Stage::Member { heard, .. } => heard.plus(SILENCE_MAX),
            Stage::Ended => Micros(0),
        }
    }

    /// Says whether the agent has been welcomed.
    pub const fn is_member(&self) -> bool {
        matches!(self.stage, Stage::Member { .. })
    }

    /// Takes bytes from the stream; puts those to send into `out`, also where it returns an error.
    ///
    /// # Errors
    /// The connection is at its end: send what is in `out` and close it. The roster knows already.
    pub fn receive(
        &mut self,
        bytes: &[u8],
        now: Micros,
        roster: &mut Roster,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        let outcome = self.take_in(bytes, now, roster, out);
        if let Err(end) = &outcome {
            let how = if matches!(end, End::Left) { Happening::Goodbye } else { Happening::Closure };
            self.end(how, now, roster);
        }
        outcome
    }

    /// Ends the connection when its deadline has passed; returns why.
    pub fn overdue(&mut self, now: Micros, roster: &mut Roster) -> End {
        let why = if self.is_member() { End::Silent } else { End::Slow };
        self.end(Happening::Silence, now, roster);
        why
    }

    /// Ends the connection when the stream has ended.
    pub fn closed(&mut self, now: Micros, roster: &mut Roster) {
        self.end(Happening::Closure, now, roster);
    }

    fn end(&mut self, how: Happening, now: Micros, roster: &mut Roster) {
        if let Stage::Member { backend, .. } = self.stage {
            roster.part(backend, self.id, how, now);
        }
        self.stage = Stage::Ended;
    }

    fn take_in(
        &mut self,
        bytes: &[u8],
        now: Micros,
        roster: &mut Roster,
        out: &mut Vec<u8>,
    ) -> Result<(), End> {
        self.channel.feed(bytes);
        if let Some(answer) = self.channel.advance()? {
            out.extend_from_slice(&answer);
        }
        while let Some(message) = self.channel.take::<FromAgent>()? {
            let answer = match self.message(message, now, roster) {
                Err(End::Turned(refusal)) => {
                    let turned = FromSwitch::Turned { why: refusal.to_string() };
                    out.extend_from_slice(&self.channel.seal(&turned)?);
                    return Err(refusal.into());
                }
                answer => answer?,
            };
            if let Some(answer) = answer {
                out.extend_from_slice(&self.channel.seal(&answer)?);
            }
        }
        Ok(())
    }

    /// Takes one message; returns the answer, if there is one to it.
    fn message(
        &mut self,
        message: FromAgent,
        now: Micros,
        roster: &mut Roster,
    ) -> Result<Option<FromSwitch>, End> {
        match (self.stage, message) {
            (Stage::Opening { .. }, FromAgent::Hello { version, name, address, vips, release, time }) => {
                let hello = Hello { version, name, address, vips, release, time };
                let backend = roster.greet(self.id, hello, now)?;
                self.stage = Stage::Member { backend, heard: now };
                Ok(Some(FromSwitch::Welcome { version: CONTROL_VERSION, address: self.address, time: now }))
            }
            (Stage::Member { backend, .. }, FromAgent::Report(report)) => {
                roster.report(backend, self.id, &report, now)?;
                self.stage = Stage::Member { backend, heard: now };
                Ok(Some(FromSwitch::Time { number: report.number, time: now }))
            }
            // An agent that tells of sessions and reports nothing is as good as silent.
            (Stage::Member { backend, .. }, FromAgent::Sessions(sessions)) => {
                roster.learn(backend, self.id, &sessions)?;
                Ok(None)
            }
            (Stage::Member { .. }, FromAgent::Goodbye) => Err(End::Left),
            (Stage::Member { .. } | Stage::Ended, FromAgent::Hello { .. }) => Err(End::OutOfTurn("a hello")),
            (_, FromAgent::Report(_)) => Err(End::OutOfTurn("a report")),
            (_, FromAgent::Sessions(_)) => Err(End::OutOfTurn("TLS sessions")),
            (_, FromAgent::Goodbye) => Err(End::OutOfTurn("a goodbye")),
        }
    }
}

impl From<ReportFault> for End {
    fn from(fault: ReportFault) -> Self {
        match fault {
            ReportFault::Superseded => Self::Superseded,
            ReportFault::Turned(refusal) => Self::Turned(refusal),
        }
    }
}
