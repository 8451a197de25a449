//! Where a backend's agent stands: all transitions in one place, no I/O, time passed in.

use handoff_proto::Micros;

/// One connection of an agent; later connections have larger numbers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SessionId(pub u64);

/// Why no agent speaks for a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Absence {
    /// None has come since the switch started.
    Never,
    /// Its connection was closed.
    Closed,
    /// It said nothing for `SILENCE_MAX`.
    Silent,
    /// It said goodbye.
    Left,
}

/// Where a backend's agent stands. Only [`Standing::Usable`] backends get new connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// No agent speaks for the backend.
    Absent(Absence),
    /// An agent was welcomed and has not reported yet.
    Greeted {
        /// Its connection.
        session: SessionId,
        /// When it was last heard.
        heard: Micros,
    },
    /// The last report is good.
    Usable {
        /// Its connection.
        session: SessionId,
        /// When it was last heard.
        heard: Micros,
    },
    /// The last report is not.
    Unfit {
        /// Its connection.
        session: SessionId,
        /// When it was last heard.
        heard: Micros,
    },
}

/// What happens on an agent's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Happening {
    /// It was welcomed.
    Greeting,
    /// It reports that all is well.
    FitReport,
    /// It reports that something is not.
    UnfitReport,
    /// It says goodbye.
    Goodbye,
    /// The connection ended.
    Closure,
    /// It said nothing for `SILENCE_MAX`.
    Silence,
}

impl Standing {
    /// Returns the standing after something happened on the connection `session`, or `None` if another connection speaks
    /// for the backend: the newest wins, whatever the old one says.
    pub fn after(self, happening: Happening, session: SessionId, now: Micros) -> Option<Self> {
        if happening == Happening::Greeting {
            return Some(Self::Greeted { session, heard: now });
        }
        if self.session() != Some(session) {
            return None;
        }
        Some(match happening {
            Happening::Greeting => Self::Greeted { session, heard: now },
            Happening::FitReport => Self::Usable { session, heard: now },
            Happening::UnfitReport => Self::Unfit { session, heard: now },
            Happening::Goodbye => Self::Absent(Absence::Left),
            Happening::Closure => Self::Absent(Absence::Closed),
            Happening::Silence => Self::Absent(Absence::Silent),
        })
    }

    /// Returns the connection that speaks for the backend.
    pub const fn session(self) -> Option<SessionId> {
        match self {
            Self::Absent(_) => None,
            Self::Greeted { session, .. } | Self::Usable { session, .. } | Self::Unfit { session, .. } => {
                Some(session)
            }
        }
    }

    /// Returns when the agent was last heard, if it is there.
    pub const fn heard(self) -> Option<Micros> {
        match self {
            Self::Absent(_) => None,
            Self::Greeted { heard, .. } | Self::Usable { heard, .. } | Self::Unfit { heard, .. } => {
                Some(heard)
            }
        }
    }

    /// Says whether the backend may get new connections.
    pub const fn is_usable(self) -> bool {
        matches!(self, Self::Usable { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: SessionId = SessionId(1);
    const OTHER: SessionId = SessionId(2);
    const BEFORE: Micros = Micros(1);
    const NOW: Micros = Micros(2);

    fn named(standing: Option<Standing>) -> String {
        match standing {
            None => "-".to_owned(),
            Some(Standing::Absent(absence)) => format!("{absence:?}"),
            Some(Standing::Greeted { session, heard }) => format!("Greeted({},{})", session.0, heard.0),
            Some(Standing::Usable { session, heard }) => format!("Usable({},{})", session.0, heard.0),
            Some(Standing::Unfit { session, heard }) => format!("Unfit({},{})", session.0, heard.0),
        }
    }

    #[test]
    fn every_happening_in_every_standing() {
        use Happening::{Closure, FitReport, Goodbye, Greeting, Silence, UnfitReport};
        let absent = [Absence::Never, Absence::Closed, Absence::Silent, Absence::Left].map(Standing::Absent);
        let present = [
            Standing::Greeted { session: OWN, heard: BEFORE },
            Standing::Usable { session: OWN, heard: BEFORE },
            Standing::Unfit { session: OWN, heard: BEFORE },
        ];
        let mut table = String::new();
        for session in [OWN, OTHER] {
            for standing in absent.into_iter().chain(present) {
                let after = [Greeting, FitReport, UnfitReport, Goodbye, Closure, Silence]
                    .map(|happening| named(standing.after(happening, session, NOW)));
                table += &format!("{} by {}: {}\n", named(Some(standing)), session.0, after.join(" "));
            }
        }
        // Columns: Greeting, FitReport, UnfitReport, Goodbye, Closure, Silence.
        let expected = "\
Never by 1: Greeted(1,2) - - - - -
Closed by 1: Greeted(1,2) - - - - -
Silent by 1: Greeted(1,2) - - - - -
Left by 1: Greeted(1,2) - - - - -
Greeted(1,1) by 1: Greeted(1,2) Usable(1,2) Unfit(1,2) Left Closed Silent
Usable(1,1) by 1: Greeted(1,2) Usable(1,2) Unfit(1,2) Left Closed Silent
Unfit(1,1) by 1: Greeted(1,2) Usable(1,2) Unfit(1,2) Left Closed Silent
Never by 2: Greeted(2,2) - - - - -
Closed by 2: Greeted(2,2) - - - - -
Silent by 2: Greeted(2,2) - - - - -
Left by 2: Greeted(2,2) - - - - -
Greeted(1,1) by 2: Greeted(2,2) - - - - -
Usable(1,1) by 2: Greeted(2,2) - - - - -
Unfit(1,1) by 2: Greeted(2,2) - - - - -
";
        assert_eq!(table, expected);
    }

    #[test]
    fn only_a_good_report_makes_usable() {
        let greeted = Standing::Absent(Absence::Never).after(Happening::Greeting, OWN, NOW).expect("new");
        assert!(!greeted.is_usable());
        assert!(greeted.after(Happening::FitReport, OWN, NOW).expect("own").is_usable());
    }
}
