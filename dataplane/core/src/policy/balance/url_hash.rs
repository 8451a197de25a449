//! URL hash: each of 256 buckets of URLs has its member (Apostolopoulos et al., "Design, Implementation and Performance of a
//! Content-Based Switch", 2000). The buckets are shared out by weight; those of a member that cannot be chosen go to that of
//! the next bucket, which is another for each.
//!
//! Needs to know nothing but the URL. Costs one look into the table and one more per bucket passed over.

use super::least::first_usable;
use super::table::Table;
use super::{Ask, Choice, Policy, Reason, URL_BUCKETS, View};
use crate::policy::Member;

/// Chooses by bucket.
#[derive(Clone, Debug)]
pub(super) struct UrlHash {
    buckets: Table,
}

impl UrlHash {
    pub(super) fn new(members: &[Member]) -> Self {
        Self { buckets: Table::new(members, URL_BUCKETS) }
    }
}

impl Policy for UrlHash {
    fn choose(&self, ask: &Ask<'_>, view: &View<'_>) -> Option<Choice> {
        let mut buckets = self.buckets.walk(ask.key).enumerate();
        if let Some((passed_over, member)) = buckets.find(|(_, member)| view.is_usable(*member)) {
            let reason = if passed_over == 0 { Reason::HashOwner } else { Reason::HashOwnerUnusable };
            return Some(Choice { member, reason });
        }
        // A member that has no bucket: of more than there are buckets.
        let member = first_usable(view, ask.key)?;
        Some(Choice { member, reason: Reason::HashOwnerUnusable })
    }

    fn commit(&mut self, _: &Ask<'_>, _: &Choice, _: &View<'_>) {}
}
