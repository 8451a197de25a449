//! Bytes that tell where they belong: bodies of requests and answers.

/// So many bytes that belong to a request of a connection and to no other.
pub fn pattern(connection: u64, number: u64, count: usize) -> impl Iterator<Item = u8> {
    // A multiplier of Knuth's (MMIX) spreads neighbouring positions over all byte values.
    let start = connection.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ number.wrapping_mul(0xbf58_476d_1ce4_e5b9);
    (0..u64::try_from(count).unwrap_or(u64::MAX)).map(move |position| {
        let mixed = (start ^ position).wrapping_mul(6_364_136_223_846_793_005).wrapping_add(position);
        mixed.to_be_bytes()[1]
    })
}
