//! What the operator knows of subtrees: costs, and sizes, by which they are shared out before the first request.

use core::cmp::Reverse;

use super::super::KnownSubtree;
use super::super::hash_on::hash;
use super::super::least::Score;
use super::prefixes::prefixes;
use crate::policy::Member;

/// Known subtrees, and those they are part of, sorted by hash.
#[derive(Clone, Debug)]
pub(super) struct Known {
    subtrees: Box<[(u64, Note)]>,
}

/// What is known of a subtree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Note {
    /// What a request costs, if that is known.
    pub(super) cost: Option<u16>,
    /// Whose it is at first, if its size is known.
    pub(super) owner: Option<u16>,
    /// Whether part of it is known by itself, so that it is always taken apart.
    pub(super) has_parts: bool,
}

impl Known {
    /// Shares out what has a size: the largest first, each to the member that then has the least bytes for its weight.
    pub(super) fn new(known: &[KnownSubtree], depth: u8, members: &[Member]) -> Self {
        let mut subtrees = Vec::new();
        let mut by_size: Vec<&KnownSubtree> = known.iter().collect();
        by_size.sort_unstable_by_key(|subtree| (Reverse(subtree.bytes), &subtree.path));
        let mut shares: Vec<(u64, &Member)> = members.iter().map(|member| (0, member)).collect();
        for subtree in by_size {
            let here = hash([subtree.path.as_bytes()]);
            for part_of in prefixes(&subtree.path, depth).filter(|prefix| *prefix != here) {
                subtrees.push((part_of, Note { has_parts: true, ..Note::default() }));
            }
            let with_it =
                |(bytes, member): &(u64, &Member)| Score::of(bytes.saturating_add(subtree.bytes), member);
            let least =
                shares.iter_mut().enumerate().min_by(|(_, one), (_, other)| with_it(one).cmp(with_it(other)));
            let owner = least.filter(|_| subtree.bytes > 0).and_then(|(at, (bytes, _))| {
                *bytes = bytes.saturating_add(subtree.bytes);
                u16::try_from(at).ok()
            });
            subtrees.push((here, Note { cost: Some(subtree.cost), owner, has_parts: false }));
        }
        subtrees.sort_by_key(|(hash, _)| *hash);
        subtrees.dedup_by(|(from, later), (into, note)| {
            let is_same = from == into;
            if is_same {
                note.cost = note.cost.or(later.cost);
                note.owner = note.owner.or(later.owner);
                note.has_parts |= later.has_parts;
            }
            is_same
        });
        Self { subtrees: subtrees.into() }
    }

    /// Returns what is known of a subtree.
    pub(super) fn note(&self, subtree: u64) -> Note {
        let found = self.subtrees.binary_search_by_key(&subtree, |(hash, _)| *hash);
        found.ok().and_then(|at| self.subtrees.get(at)).map_or_else(Note::default, |(_, note)| *note)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ids::BackendIndex;

    #[test]
    fn sizes_are_shared_out_by_weight_and_wider_subtrees_are_taken_apart() {
        let members = [1, 1, 2].map(|weight| Member {
            backend: BackendIndex(weight),
            weight,
            identity: u64::from(weight),
        });
        let known: Vec<KnownSubtree> = (1..=400_u16)
            .map(|number| {
                KnownSubtree::new(&format!("/files/{number}"), u64::from(number) * 1000, number)
                    .expect("a subtree")
            })
            .chain([KnownSubtree::new("/cgi", 0, 7).expect("a subtree")])
            .collect();
        let table = Known::new(&known, 4, &members);
        let mut bytes = [0; 3];
        for subtree in &known[..400] {
            let note = table.note(hash([subtree.path.as_bytes()]));
            assert_eq!((note.cost, note.has_parts), (Some(subtree.cost), false));
            bytes[usize::from(note.owner.expect("a size was known"))] += subtree.bytes;
        }
        // 1,000 times 1 to 400 makes 80.2 MB. Largest first leaves members apart by the smallest of them, at most.
        let apart = |bytes: u64, fair: u64| bytes.abs_diff(fair);
        assert!(apart(bytes[0], 20_050_000) <= 2000 && apart(bytes[1], 20_050_000) <= 2000, "{bytes:?}");
        assert!(apart(bytes[2], 40_100_000) <= 4000, "{bytes:?}");
        assert_eq!(table.note(hash([b"/files".as_slice()])), Note { has_parts: true, ..Note::default() });
        assert_eq!(
            table.note(hash([b"/cgi".as_slice()])),
            Note { cost: Some(7), owner: None, has_parts: false }
        );
        assert_eq!(table.note(hash([b"/".as_slice()])), Note::default());
    }
}
