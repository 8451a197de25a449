//! Texts that share their beginnings, kept once: radix trees.
//!
//! A walk along a text meets every kept text it begins with, in one pass over its bytes. It takes a step per byte and one
//! more per fork, never more of either than the longest kept text has bytes: how many texts there are shows in the number of
//! forks alone, which grows with its logarithm. There is no hash, so no text a client could choose is worse than another.

use std::collections::VecDeque;

/// A kept text: its bytes, and whether it is to be met by texts that are the same, or by all that begin so.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Text {
    pub(super) bytes: Vec<u8>,
    pub(super) is_whole: bool,
}

/// A tree among others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Root(u32);

/// Any number of trees, in one place.
#[derive(Debug, Default)]
pub(super) struct Trie {
    nodes: Vec<Node>,
    forks: Vec<Fork>,
    /// The labels, one behind the other.
    bytes: Vec<u8>,
}

/// A point in a tree. Positions are 32 bits long: rules have at most 65,535 texts of a few KB, and what lies beyond could not
/// be kept anyway.
#[derive(Debug, Default)]
struct Node {
    /// The bytes between the fork before it and this point, without the one that the fork looks at: from, to.
    label: (u32, u32),
    /// The value of the text that ends here, for texts that end here, too.
    whole: Option<u32>,
    /// The value of the text that ends here, for texts that go on or not.
    open: Option<u32>,
    /// Where the texts part that go on.
    fork: Option<u32>,
}

/// Where texts part, by their next byte.
#[derive(Debug, Default)]
struct Fork {
    /// Which bytes there are.
    bits: [u64; 4],
    /// How many there are in the words before each.
    before: [u8; 4],
    /// The point behind the least of them; the others follow in order.
    first: u32,
}

impl Fork {
    /// Returns the point behind a byte, in the same number of steps for each.
    fn next(&self, byte: u8) -> Option<u32> {
        let word = usize::from(byte >> 6);
        let (bits, bit) = (*self.bits.get(word)?, 1_u64 << (byte & 63));
        if bits & bit == 0 {
            return None;
        }
        Some(self.first + u32::from(*self.before.get(word)?) + (bits & (bit - 1)).count_ones())
    }

    /// Adds a byte; the greatest comes last.
    fn add(&mut self, byte: u8) {
        let word = usize::from(byte >> 6);
        if let Some(bits) = self.bits.get_mut(word) {
            *bits |= 1 << (byte & 63);
        }
        self.before.iter_mut().skip(word + 1).for_each(|before| *before += 1);
    }
}

impl Trie {
    /// Makes a tree of texts and their values, sorted and each of them different; `None` of none.
    pub(super) fn plant(&mut self, texts: &[(Text, u32)]) -> Option<Root> {
        debug_assert!(texts.is_sorted_by(|(one, _), (next, _)| one < next), "sorted, and none twice");
        let root = position(self.nodes.len());
        self.nodes.push(Node::default());
        // Points whose texts, having `depth` bytes in common, are not looked at yet: what they have in common besides becomes
        // the label.
        let mut open = VecDeque::from([(root, texts, 0)]);
        while let Some((at, texts, depth)) = open.pop_front() {
            let ((first, _), (last, _)) = (texts.first()?, texts.last()?);
            let shared = first.bytes.iter().zip(&last.bytes).take_while(|(one, other)| one == other).count();
            let from = position(self.bytes.len());
            self.bytes.extend(first.bytes.get(depth..shared)?);
            let mut node = Node { label: (from, position(self.bytes.len())), ..Node::default() };
            let ending = texts.iter().take_while(|(text, _)| text.bytes.len() == shared).count();
            let (ending, going_on) = texts.split_at_checked(ending)?;
            for (text, value) in ending {
                *(if text.is_whole { &mut node.whole } else { &mut node.open }) = Some(*value);
            }
            if !going_on.is_empty() {
                let mut fork = Fork { first: position(self.nodes.len()), ..Fork::default() };
                let next = |(text, _): &(Text, u32)| text.bytes.get(shared).copied();
                for branch in going_on.chunk_by(|one, other| next(one) == next(other)) {
                    fork.add(branch.first().and_then(next)?);
                    open.push_back((position(self.nodes.len()), branch, shared + 1));
                    self.nodes.push(Node::default());
                }
                node.fork = Some(position(self.forks.len()));
                self.forks.push(fork);
            }
            *self.nodes.get_mut(usize::try_from(at).ok()?)? = node;
        }
        Some(Root(root))
    }

    /// Gives the value of every text in the tree that `bytes` are, or begin with.
    pub(super) fn walk(&self, root: Root, bytes: impl IntoIterator<Item = u8>, each: impl FnMut(u32)) {
        // Without a next step there is nothing more to find.
        let _: Option<()> = self.steps(root, bytes.into_iter(), each);
    }

    fn steps(
        &self,
        Root(mut at): Root,
        mut bytes: impl Iterator<Item = u8>,
        mut each: impl FnMut(u32),
    ) -> Option<()> {
        loop {
            let node = self.nodes.get(usize::try_from(at).ok()?)?;
            let (from, to) = (usize::try_from(node.label.0).ok()?, usize::try_from(node.label.1).ok()?);
            for expected in self.bytes.get(from..to)? {
                if bytes.next()? != *expected {
                    return None;
                }
            }
            if let Some(value) = node.open {
                each(value);
            }
            let Some(byte) = bytes.next() else {
                if let Some(value) = node.whole {
                    each(value);
                }
                return None;
            };
            at = self.forks.get(usize::try_from(node.fork?).ok()?)?.next(byte)?;
        }
    }
}

/// Narrows a position; one beyond what is kept is found nowhere.
fn position(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    fn met(trie: &Trie, root: Option<Root>, bytes: &[u8]) -> BTreeSet<u32> {
        let mut found = BTreeSet::new();
        if let Some(root) = root {
            trie.walk(root, bytes.iter().copied(), |value| assert!(found.insert(value), "once each"));
        }
        found
    }

    fn sorted(texts: &[(&[u8], bool)]) -> Vec<(Text, u32)> {
        let texts = texts.iter().map(|(bytes, is_whole)| Text { bytes: bytes.to_vec(), is_whole: *is_whole });
        texts.collect::<BTreeSet<Text>>().into_iter().zip(0..).collect()
    }

    #[test]
    fn texts_that_begin_each_other_are_all_met_on_the_way() {
        let texts: [(&[u8], bool); 7] = [
            (b"", false),
            (b"/", false),
            (b"/a", false),
            (b"/a", true),
            (b"/ab", true),
            (b"/abc", false),
            (b"/b", true),
        ];
        let mut trie = Trie::default();
        let other = trie.plant(&sorted(&[(b"/a", true)]));
        let root = trie.plant(&sorted(&texts));
        for (asked, expected) in [
            (&b""[..], &[0][..]),
            (b"/", &[0, 1]),
            (b"/a", &[0, 1, 2, 3]),
            (b"/ab", &[0, 1, 2, 4]),
            (b"/abc", &[0, 1, 2, 5]),
            (b"/abcd", &[0, 1, 2, 5]),
            (b"/b", &[0, 1, 6]),
            (b"/bc", &[0, 1]),
            (b"b", &[0]),
        ] {
            assert_eq!(met(&trie, root, asked), expected.iter().copied().collect(), "{asked:?}");
        }
        assert_eq!(met(&trie, other, b"/a").len() + met(&trie, other, b"/ab").len(), 1, "its own texts only");
        assert_eq!(trie.plant(&[]), None);
    }

    #[test]
    fn every_byte_has_its_own_branch() {
        let texts: Vec<[u8; 1]> = (0..=255).map(|byte| [byte]).collect();
        let texts: Vec<(&[u8], bool)> = texts.iter().map(|text| (&text[..], true)).collect();
        let mut trie = Trie::default();
        let root = trie.plant(&sorted(&texts));
        for byte in 0..=255 {
            assert_eq!(met(&trie, root, &[byte]), BTreeSet::from([u32::from(byte)]));
        }
    }

    proptest! {
        #[test]
        fn a_walk_meets_what_comparing_each_text_finds(
            texts in prop::collection::btree_set(
                (prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', 63, 64, 255]), 0..6), any::<bool>()),
                0..40,
            ),
            asked in prop::collection::vec(
                prop::collection::vec(prop::sample::select(vec![0_u8, b'a', b'b', 63, 64, 255]), 0..7), 1..20,
            ),
        ) {
            let texts: Vec<(Text, u32)> =
                texts.into_iter().map(|(bytes, is_whole)| Text { bytes, is_whole }).zip(0..).collect();
            let mut trie = Trie::default();
            let root = trie.plant(&texts);
            for asked in asked {
                let expected: BTreeSet<u32> = texts
                    .iter()
                    .filter(|(text, _)| {
                        if text.is_whole { asked == text.bytes } else { asked.starts_with(&text.bytes) }
                    })
                    .map(|(_, value)| *value)
                    .collect();
                prop_assert_eq!(met(&trie, root, &asked), expected);
            }
        }
    }
}
