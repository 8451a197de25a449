//! The eight bits of options in a cookie: MSS step (2), window shift (4), SACK (1), ECN (1), from the top.

use handoff_proto::Negotiated;
use handoff_proto::tcp::WSCALE_MAX;

/// The sizes a client's MSS is rounded down to; smaller ones are taken for the first, the least every host must accept
/// (RFC 9293, section 3.7.1) and the least the kernel's handoff accepts.
pub const MSS_STEPS: [u16; 4] = [536, 1300, 1440, 1460];

/// Stands for a client that offered no window scaling.
pub(super) const WSCALE_NONE: u8 = 15;

/// What a client's SYN offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Offer {
    /// Its MSS; without the option, 536.
    pub mss: Option<u16>,
    /// Its window shift.
    pub window_scale: Option<u8>,
    /// It permits selective acknowledgments.
    pub sack: bool,
    /// It sends timestamps.
    pub timestamps: bool,
    /// It asks for ECN.
    pub ecn: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct OptionBits(pub(super) u8);

impl OptionBits {
    pub(super) fn from_offer(offer: &Offer) -> Self {
        let mss = offer.mss.unwrap_or(MSS_STEPS[0]);
        let step = (0u8..).zip(MSS_STEPS).filter(|(_, size)| *size <= mss).last().map_or(0, |(step, _)| step);
        // RFC 7323, section 2.3: a shift over 14 is logged as an error and 14 is used.
        let wscale = offer.window_scale.map_or(WSCALE_NONE, |shift| shift.min(WSCALE_MAX));
        Self(step << 6 | wscale << 2 | u8::from(offer.sack) << 1 | u8::from(offer.ecn))
    }

    pub(super) const fn wscale(self) -> u8 {
        self.0 >> 2 & 0x0f
    }

    pub(super) fn negotiated(self, timestamps: bool, announced: u8) -> Negotiated {
        let mss = MSS_STEPS.get(usize::from(self.0 >> 6)).copied().unwrap_or(MSS_STEPS[0]);
        Negotiated {
            mss,
            wscale: super::window_scale(self.wscale(), announced),
            sack: self.0 & 2 != 0,
            timestamps,
            ecn: self.0 & 1 != 0,
        }
    }
}
