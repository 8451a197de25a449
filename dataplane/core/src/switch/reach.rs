//! How the switch is reached and reaches others: ARP.

use core::net::{IpAddr, Ipv4Addr};

use handoff_proto::Micros;

use crate::frame::Frame;
use crate::metrics::{DropReason, Event};
use crate::neighbor::{self, ARP_FRAME_BYTES, Arp};
use crate::switch::{Learned, Outbox, Switch};
use crate::verdict::Verdict;

/// How often each address is announced at start, and how far apart (RFC 5227, section 1.1: `ANNOUNCE_NUM` and
/// `ANNOUNCE_INTERVAL` ask for two, two seconds apart; one more covers a loss).
const ANNOUNCE_COUNT: u8 = 3;
const ANNOUNCE_INTERVAL: Micros = Micros::from_secs(1);
/// How often an address is defended (RFC 5227, section 1.1).
const DEFEND_INTERVAL: Micros = Micros::from_secs(10);
/// Questions for next hops that one `poll` may send.
const ASK_COUNT_MAX: usize = 16;

/// Announcements still to be made.
#[derive(Clone, Copy, Debug)]
pub(super) struct Announcements {
    left: u8,
    due: Micros,
}

impl Announcements {
    pub(super) const fn new(now: Micros) -> Self {
        Self { left: ANNOUNCE_COUNT, due: now }
    }
}

impl Switch {
    pub(super) fn arp(
        &mut self,
        frame: &mut Frame<'_>,
        now: Micros,
        out: &mut impl Outbox,
    ) -> Result<Verdict, DropReason> {
        let arp = Arp::parse(frame.bytes()).ok_or(DropReason::Malformed)?;
        if self.is_ours(arp.sender) && arp.sender_mac != self.lcore.mac {
            self.conflict = Some(Learned { address: arp.sender, mac: arp.sender_mac });
            self.defend(arp.sender, now, out);
            return Err(DropReason::AddressConflict);
        }
        let known = self.neighbors.learn(arp.sender, arp.sender_mac, now);
        if known == Some(true) {
            self.counters.count(Event::ArpLearned);
        }
        if known.is_some() {
            out.share(Learned { address: arp.sender, mac: arp.sender_mac });
        }
        if arp.is_request && self.is_ours(arp.target) && arp.sender != arp.target {
            let reply = neighbor::reply(arp.target, self.lcore.mac, &arp);
            frame.resize(ARP_FRAME_BYTES).map_err(|_| DropReason::Malformed)?;
            frame.bytes_mut().copy_from_slice(&reply);
            self.counters.count(Event::ArpRequestsAnswered);
            return Ok(Verdict::Reply);
        }
        if known.is_some() { Ok(Verdict::Absorb) } else { Err(DropReason::ArpOther) }
    }

    /// Tells the network that an address is ours after all, so that a stranger's announcement does not last; seldom enough not to
    /// quarrel with a host that does the same (RFC 5227, section 2.4, case c).
    fn defend(&mut self, address: Ipv4Addr, now: Micros, out: &mut impl Outbox) {
        if self.defended.is_some_and(|last| now.since(last) < DEFEND_INTERVAL) {
            return;
        }
        self.defended = Some(now);
        self.send_aside(&neighbor::announcement(address, self.lcore.mac), Event::ArpAnnouncements, out);
    }

    /// Says whether the switch answers for an address: its own, or a VIP's.
    pub(super) fn is_ours(&self, address: Ipv4Addr) -> bool {
        address == self.settings.network.address
            || self.snapshot.vips.iter().any(|service| service.vip.address == IpAddr::V4(address))
    }

    /// Tells the network where the VIPs and the switch are, a few times after start.
    pub(super) fn announce(&mut self, now: Micros, out: &mut impl Outbox) {
        if self.announcements.left == 0 || now < self.announcements.due {
            return;
        }
        self.announcements =
            Announcements { left: self.announcements.left - 1, due: now.plus(ANNOUNCE_INTERVAL) };
        let own = IpAddr::V4(self.settings.network.address);
        for address in self.snapshot.vips.iter().map(|service| service.vip.address).chain([own]) {
            if let IpAddr::V4(address) = address {
                self.send_aside(
                    &neighbor::announcement(address, self.lcore.mac),
                    Event::ArpAnnouncements,
                    out,
                );
            }
        }
    }

    /// Asks for next hops that are due. Only lcore 0 asks; the others learn from it, and forget who fell silent.
    pub(super) fn ask_for_next_hops(&mut self, now: Micros, out: &mut impl Outbox) {
        for _ in 0..ASK_COUNT_MAX {
            let Some(address) = self.neighbors.due(now) else { return };
            if self.lcore.number != 0 {
                continue;
            }
            let question = neighbor::request(address, self.settings.network.address, self.lcore.mac);
            self.send_aside(&question, Event::ArpRequestsSent, out);
        }
    }

    /// Sends a frame beside the one being decided about, and counts it as `event` if there was a buffer for it.
    fn send_aside(&self, frame: &[u8], event: Event, out: &mut impl Outbox) {
        self.counters.count(if out.transmit(frame) { event } else { Event::TransmitFailed });
    }
}
