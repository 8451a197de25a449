//! Spells of trouble that come and go: each is told when it begins and when it is over, however often it flickers meanwhile.

use handoff_proto::Micros;

/// For how long there must be no trouble until a spell of it is over. So of one thing two events are told within that time at
/// most.
pub(super) const CALM: Micros = Micros::from_secs(5);

/// What is to be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    /// A spell begins.
    Begins,
    /// It is over; it began then.
    Ends {
        /// When it began.
        since: Micros,
    },
}

/// A spell that goes on.
#[derive(Clone, Copy, Debug)]
struct Spell {
    since: Micros,
    /// When there was trouble last.
    last: Micros,
}

/// Which things of a list have a spell of trouble, by their places.
#[derive(Debug, Default)]
pub(super) struct Spells {
    spells: Vec<Option<Spell>>,
}

impl Spells {
    /// Takes in whether a thing has trouble now; `None` forgets its spell without a word, where something else tells of it.
    pub(super) fn look(&mut self, place: usize, is_troubled: Option<bool>, now: Micros) -> Option<Turn> {
        if self.spells.len() <= place {
            self.spells.resize(place + 1, None);
        }
        let spell = self.spells.get_mut(place)?;
        match (is_troubled, *spell) {
            (None, _) => *spell = None,
            (Some(true), None) => {
                *spell = Some(Spell { since: now, last: now });
                return Some(Turn::Begins);
            }
            (Some(true), Some(known)) => *spell = Some(Spell { last: now, ..known }),
            (Some(false), Some(known)) if now.since(known.last) >= CALM => {
                *spell = None;
                return Some(Turn::Ends { since: known.since });
            }
            (Some(false), _) => {}
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOON: Micros = Micros::from_secs(43_200);

    fn at(ms: u64) -> Micros {
        NOON.plus(Micros::from_millis(ms))
    }

    #[test]
    fn a_spell_is_told_once_however_it_flickers_and_is_over_after_calm() {
        let mut spells = Spells::default();
        assert_eq!(spells.look(3, Some(false), at(0)), None);
        assert_eq!(spells.look(3, Some(true), at(100)), Some(Turn::Begins));
        for turn in 2..40 {
            assert_eq!(spells.look(3, Some(turn % 2 == 0), at(100 * turn)), None, "{turn}");
        }
        assert_eq!(spells.look(3, Some(false), at(8_799)), None, "the last trouble was at 3,800 ms");
        assert_eq!(spells.look(3, Some(false), at(8_800)), Some(Turn::Ends { since: at(100) }));
        assert_eq!(spells.look(3, Some(false), at(20_000)), None);
        assert_eq!(spells.look(3, Some(true), at(20_100)), Some(Turn::Begins), "a new one");
    }

    #[test]
    fn each_thing_has_its_own_and_what_is_gone_is_forgotten() {
        let mut spells = Spells::default();
        assert_eq!(spells.look(1, Some(true), at(0)), Some(Turn::Begins));
        assert_eq!(spells.look(0, Some(true), at(0)), Some(Turn::Begins));
        assert_eq!(spells.look(1, None, at(100)), None);
        assert_eq!(spells.look(1, Some(false), at(9_000)), None, "its spell was forgotten");
        assert_eq!(spells.look(0, Some(false), at(9_000)), Some(Turn::Ends { since: at(0) }));
    }
}
