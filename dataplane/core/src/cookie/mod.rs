//! SYN cookies that keep every option: the handshake without state.
//!
//! The switch's initial sequence number is a 24-bit keyed MAC followed by 8 bits of options; with timestamps, the TSval of
//! the SYN-ACK carries 32 more bits of the MAC and the client's echo of it is checked. The MAC is SipHash-2-4 over the
//! 4-tuple, the client's ISN, the option bits and the window shift the switch announced.
//!
//! Keys change every [`EPOCH`]; a cookie is honoured in its own epoch and the next, so for 128 to 256 seconds. The announced
//! window shift belongs to the epoch: a new setting counts from the next epoch on, and both sides of a handshake agree.
//! Switches that share the key file validate each other's cookies.
//!
//! Bernstein, "SYN cookies" (1996); RFC 4987, section 3.6; RFC 7323 for what is kept.

mod options;

use core::hash::Hasher;

use handoff_proto::tcp::WindowScale;
use handoff_proto::{FourTuple, KeyRing, Micros, Negotiated, Seq};
use siphasher::sip::SipHasher24;

pub use options::{MSS_STEPS, Offer};

use options::{OptionBits, WSCALE_NONE};

/// How long one set of keys issues cookies.
pub const EPOCH: Micros = Micros::from_secs(128);

const MAC_BITS: u32 = 24;

/// What the SYN-ACK carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie {
    /// The switch's initial sequence number.
    pub isn: Seq,
    /// TSval, to be sent if timestamps are used.
    pub tsval: u32,
    /// Window shift to announce, if the client offered window scaling.
    pub window_scale: Option<u8>,
}

/// What the client's acknowledgment brings back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Echo {
    /// The client's initial sequence number.
    pub client_isn: Seq,
    /// The acknowledgment number less one.
    pub isn: Seq,
    /// TSecr, if the segment has timestamps.
    pub tsecr: Option<u32>,
}

/// Issues and checks cookies. [`CookieJar::turn`] must be called as time goes by.
#[derive(Debug)]
pub struct CookieJar {
    masters: Vec<[u8; 16]>,
    window_scale: u8,
    current: Epoch,
    previous: Epoch,
}

/// The keys of one epoch, one per key of the ring, the issuing one first.
#[derive(Debug)]
struct Epoch {
    number: u64,
    keys: Vec<[u8; 16]>,
    window_scale: u8,
}

impl Epoch {
    fn new(number: u64, masters: &[[u8; 16]], window_scale: u8) -> Self {
        let keys = masters.iter().map(|master| epoch_key(master, number)).collect();
        Self { number, keys, window_scale }
    }
}

impl CookieJar {
    /// Starts with the keys of a ring and the window shift to announce (0 to 14).
    pub fn new(ring: &KeyRing, window_scale: u8, now: Micros) -> Self {
        let masters: Vec<_> = ring.iter().map(handoff_proto::keys::Key::cookie_key).collect();
        let number = epoch_at(now);
        let current = Epoch::new(number, &masters, window_scale);
        let previous = Epoch::new(number.wrapping_sub(1), &masters, window_scale);
        Self { masters, window_scale, current, previous }
    }

    /// Takes a new ring of keys at once; cookies under keys that are still in the ring stay good.
    pub fn set_keys(&mut self, ring: &KeyRing) {
        self.masters = ring.iter().map(handoff_proto::keys::Key::cookie_key).collect();
        for epoch in [&mut self.current, &mut self.previous] {
            *epoch = Epoch::new(epoch.number, &self.masters, epoch.window_scale);
        }
    }

    /// Announces another window shift, from the next epoch on.
    pub const fn set_window_scale(&mut self, window_scale: u8) {
        self.window_scale = window_scale;
    }

    /// Moves on to the epoch of `now`. Allocates when the epoch changes, so it belongs into `poll`, not on the packet path.
    pub fn turn(&mut self, now: Micros) {
        let number = epoch_at(now);
        if number == self.current.number {
            return;
        }
        let shift_before = if number == self.current.number.wrapping_add(1) {
            self.current.window_scale
        } else {
            self.window_scale
        };
        self.previous = Epoch::new(number.wrapping_sub(1), &self.masters, shift_before);
        self.current = Epoch::new(number, &self.masters, self.window_scale);
    }

    /// Makes the cookie that answers a SYN.
    pub fn issue(&self, tuple: &FourTuple, client_isn: Seq, offer: &Offer) -> Cookie {
        let bits = OptionBits::from_offer(offer);
        let mac = match self.current.keys.first() {
            Some(key) => mac(key, tuple, client_isn, bits, offer.timestamps, self.current.window_scale),
            None => unreachable!("a ring is never empty"),
        };
        Cookie {
            isn: Seq(mac.isn_bits << 8 | u32::from(bits.0)),
            tsval: mac.tsval,
            window_scale: offer.window_scale.map(|_| self.current.window_scale),
        }
    }

    /// Returns what was negotiated if the echo is that of a cookie of ours that has not expired.
    pub fn check(&self, tuple: &FourTuple, echo: &Echo) -> Option<Negotiated> {
        let [bits, ..] = echo.isn.0.to_le_bytes();
        let bits = OptionBits(bits);
        let timestamps = echo.tsecr.is_some();
        for epoch in [&self.current, &self.previous] {
            for key in &epoch.keys {
                let mac = mac(key, tuple, echo.client_isn, bits, timestamps, epoch.window_scale);
                // One comparison of whole words: its time does not depend on where they differ.
                let isn_differs = mac.isn_bits ^ (echo.isn.0 >> (32 - MAC_BITS));
                let tsval_differs = echo.tsecr.map_or(0, |tsecr| tsecr ^ mac.tsval);
                if isn_differs | tsval_differs == 0 {
                    return Some(bits.negotiated(timestamps, epoch.window_scale));
                }
            }
        }
        None
    }
}

struct Mac {
    /// The low [`MAC_BITS`] bits are used.
    isn_bits: u32,
    tsval: u32,
}

fn mac(
    key: &[u8; 16],
    tuple: &FourTuple,
    client_isn: Seq,
    bits: OptionBits,
    timestamps: bool,
    window_scale: u8,
) -> Mac {
    // A client without window scaling is told no shift, so none is bound in.
    let announced = if bits.wscale() == WSCALE_NONE { WSCALE_NONE } else { window_scale };
    let mut hash = SipHasher24::new_with_key(key);
    hash.write(&tuple.to_bytes());
    let [i0, i1, i2, i3] = client_isn.0.to_be_bytes();
    hash.write(&[i0, i1, i2, i3, bits.0, u8::from(timestamps), announced, 0]);
    let [isn_part, tsval_part] = halves(hash.finish());
    Mac { isn_bits: isn_part >> (32 - MAC_BITS), tsval: tsval_part }
}

/// Splits a hash into its high and low 32 bits.
const fn halves(hash: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = hash.to_be_bytes();
    [u32::from_be_bytes([a, b, c, d]), u32::from_be_bytes([e, f, g, h])]
}

const fn epoch_at(now: Micros) -> u64 {
    now.0 / EPOCH.0
}

fn epoch_key(master: &[u8; 16], number: u64) -> [u8; 16] {
    let half = |which: u8| {
        let mut hash = SipHasher24::new_with_key(master);
        hash.write(b"epoch");
        hash.write(&[which]);
        hash.write(&number.to_be_bytes());
        hash.finish().to_be_bytes()
    };
    let (first, second) = (half(0), half(1));
    core::array::from_fn(|at| *first.iter().chain(&second).nth(at).unwrap_or(&0))
}

/// Puts both shifts together if the client offered window scaling.
const fn window_scale(send: u8, receive: u8) -> Option<WindowScale> {
    if send == WSCALE_NONE { None } else { Some(WindowScale { send, receive }) }
}

#[cfg(test)]
mod tests;
