//! Sequence numbers against integers that do not wrap (RFC 9293, section 3.4).

use handoff_proto::Seq;
use proptest::prelude::*;

const CIRCLE: i64 = 1 << 32;
const HALF: i64 = 1 << 31;

/// Numbers from everywhere, most of them around the places where arithmetic of 32 bits turns over.
fn number() -> impl Strategy<Value = u32> {
    let corner = prop::sample::select(vec![0, 1_u32 << 31]);
    prop_oneof![
        1 => any::<u32>(),
        4 => (corner, 0..8_u32).prop_map(|(corner, off)| corner.wrapping_add(off).wrapping_sub(4)),
    ]
}

/// How far from one number to the other, the shorter way; backwards if both ways are equally long.
fn shorter_way(from: u32, to: u32) -> i64 {
    let forwards = (i64::from(to) - i64::from(from)).rem_euclid(CIRCLE);
    if forwards >= HALF { forwards - CIRCLE } else { forwards }
}

fn on_circle(number: i64) -> Seq {
    Seq(u32::try_from(number.rem_euclid(CIRCLE)).expect("less than 2^32"))
}

proptest! {
    #[test]
    fn arithmetic_is_that_of_integers_on_a_circle(from in number(), to in number()) {
        prop_assert_eq!(Seq(from).add(to), on_circle(i64::from(from) + i64::from(to)));
        prop_assert_eq!(Seq(from).sub(to), on_circle(i64::from(from) - i64::from(to)));
        let way = shorter_way(from, to);
        prop_assert_eq!(i64::from(Seq(to).distance_from(Seq(from))), way);
        prop_assert_eq!(Seq(to).before(Seq(from)), way < 0);
        prop_assert_eq!(Seq(to).after(Seq(from)), way > 0);
    }

    /// Wherever the circle's end lies among them, numbers less than 2^31 apart are ordered as their distances from the
    /// first are.
    #[test]
    fn within_half_the_circle_order_is_total(start in number(), offsets in prop::array::uniform3(0..=i32::MAX)) {
        let seqs = offsets.map(|offset| Seq(start).add(offset.cast_unsigned()));
        for (one, &off_one) in seqs.iter().zip(&offsets) {
            for (other, &off_other) in seqs.iter().zip(&offsets) {
                prop_assert_eq!(one.before(*other), off_one < off_other);
                prop_assert_eq!(other.after(*one), off_one < off_other, "what is before has the other after it");
                prop_assert_eq!(other.distance_from(*one), off_other - off_one);
            }
        }
    }

    /// A window takes the numbers from its start up to its end, its end not among them, and no others of the whole circle.
    #[test]
    fn a_window_holds_as_many_numbers_as_it_is_long(start in number(), bytes in number(), offset in number()) {
        // TCP's windows are shorter still: at most 2^30 bytes (RFC 7323, section 2.3).
        let bytes = bytes & 0x7fff_ffff;
        let (first, seq) = (Seq(start), Seq(start).add(offset));
        let is_inside = !seq.before(first) && seq.before(first.add(bytes));
        prop_assert_eq!(is_inside, offset < bytes);
    }
}
