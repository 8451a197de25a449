//! What came of mending the host, told when it begins, when it changes and when it ends: the host is looked at every two
//! seconds, and what lasts would be told as often.

use crate::host::Mend;

/// One attempt to mend.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// What was done.
    pub mend: Mend,
    /// What was found before.
    pub what: String,
    /// Why it failed, if it did.
    pub failure: Option<String>,
}

/// What there is to tell of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// It was mended.
    Mended(String),
    /// It was mended the last time, too: somebody undoes it.
    MendedAgain(String),
    /// It was mended again and again, and now there is nothing to mend.
    StaysMended(String),
    /// It cannot be mended.
    Failed {
        /// What was found.
        what: String,
        /// Why.
        why: String,
    },
    /// It could not be mended, and now there is nothing to mend.
    Gone(String),
}

impl News {
    /// Writes a line to the log.
    pub fn log(&self) {
        match self {
            Self::Mended(what) => tracing::info!(what, "mended"),
            Self::MendedAgain(what) => {
                tracing::warn!(what, "mended again: something undoes it; mending goes on, silently");
            }
            Self::StaysMended(what) => tracing::info!(what, "stays mended now"),
            Self::Failed { what, why } => tracing::error!(what, error = why, "cannot be mended"),
            Self::Gone(what) => tracing::info!(what, "needs no mending any more"),
        }
    }
}

/// Knows what was told.
#[derive(Debug, Default)]
pub struct Mending {
    known: Vec<Known>,
}

#[derive(Debug)]
struct Known {
    last: Attempt,
    /// Attempts in a row that went well.
    mended: u32,
}

impl Mending {
    /// Takes all attempts of one look at the host; returns what there is to tell.
    pub fn note(&mut self, attempts: Vec<Attempt>) -> Vec<News> {
        let mut before = std::mem::take(&mut self.known);
        let mut news = Vec::new();
        for attempt in attempts {
            let known = before.iter().position(|known| known.last.mend == attempt.mend);
            let known = known.map(|position| before.swap_remove(position));
            let mended = match &attempt.failure {
                Some(_) => 0,
                None => known.as_ref().map_or(0, |known| known.mended).saturating_add(1),
            };
            let what = attempt.what.clone();
            match &attempt.failure {
                Some(_) if known.as_ref().is_some_and(|known| known.last == attempt) => {}
                Some(why) => news.push(News::Failed { what, why: why.clone() }),
                None if mended == 1 => news.push(News::Mended(what)),
                None if mended == 2 => news.push(News::MendedAgain(what)),
                None => {}
            }
            self.known.push(Known { last: attempt, mended });
        }
        news.extend(before.into_iter().filter_map(|known| match known.mended {
            0 => Some(News::Gone(known.last.what)),
            1 => None, // mended, and that was all
            _ => Some(News::StaysMended(known.last.what)),
        }));
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn attempt(value: i64, failure: Option<&str>) -> Attempt {
        Attempt {
            mend: Mend::Sysctl { name: "net/ipv4/tcp_ecn".into(), value: 2 },
            what: format!("net/ipv4/tcp_ecn is {value}"),
            failure: failure.map(str::to_owned),
        }
    }

    fn failed(why: &str) -> News {
        News::Failed { what: "net/ipv4/tcp_ecn is 0".into(), why: why.into() }
    }

    #[test]
    fn what_is_mended_once_is_told_once() {
        let mut mending = Mending::default();
        let what = "net/ipv4/tcp_ecn is 0".to_owned();
        assert_eq!(mending.note(vec![attempt(0, None)]), [News::Mended(what.clone())]);
        for _ in 0..3 {
            assert_eq!(mending.note(vec![]), []);
        }
        assert_eq!(mending.note(vec![attempt(0, None)]), [News::Mended(what)], "another time, later");
    }

    #[test]
    fn what_somebody_undoes_is_told_at_both_ends() {
        let mut mending = Mending::default();
        let what = "net/ipv4/tcp_ecn is 0".to_owned();
        assert_eq!(mending.note(vec![attempt(0, None)]), [News::Mended(what.clone())]);
        assert_eq!(mending.note(vec![attempt(0, None)]), [News::MendedAgain(what.clone())]);
        for _ in 0..100 {
            assert_eq!(mending.note(vec![attempt(0, None)]), []);
        }
        assert_eq!(mending.note(vec![]), [News::StaysMended(what)]);
        assert_eq!(mending.note(vec![]), []);
    }

    #[test]
    fn what_cannot_be_mended_is_told_when_it_begins_changes_and_ends() {
        let mut mending = Mending::default();
        assert_eq!(mending.note(vec![attempt(0, Some("read-only"))]), [failed("read-only")]);
        assert_eq!(mending.note(vec![attempt(0, Some("read-only"))]), []);
        assert_eq!(mending.note(vec![attempt(0, Some("not permitted"))]), [failed("not permitted")]);
        assert_eq!(mending.note(vec![attempt(0, Some("not permitted"))]), []);
        assert_eq!(mending.note(vec![]), [News::Gone("net/ipv4/tcp_ecn is 0".into())]);
        assert_eq!(mending.note(vec![attempt(0, Some("read-only"))]), [failed("read-only")]);
        let mended = News::Mended("net/ipv4/tcp_ecn is 0".into());
        assert_eq!(mending.note(vec![attempt(0, None)]), [mended], "in the end it went well");
    }

    #[test]
    fn attempts_do_not_hide_each_other() {
        let mut mending = Mending::default();
        let other = Attempt { mend: Mend::Notrack, what: "a rule".into(), failure: Some("no nft".into()) };
        assert_eq!(mending.note(vec![attempt(0, None), other.clone()]).len(), 2);
        assert_eq!(mending.note(vec![other.clone()]), []);
        assert_eq!(mending.note(vec![other, attempt(0, None)]).len(), 1);
        assert_eq!(mending.note(vec![attempt(0, None)]).len(), 2, "gone, and mended again");
    }
}
