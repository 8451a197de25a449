//! ICMP: pings, and errors about packets of the backends.
//!
//! A backend answers its clients under the VIP's address, so routers tell the VIP what became of its packets: above all that one
//! was too large (RFC 1191). Such an error goes to the backend whose packet it quotes. It comes from a router, under another hash
//! than its flow: an lcore that does not have the flow asks the others.

use handoff_proto::{MessageType, Micros};

use crate::frame::Frame;
use crate::metrics::{DropReason, Event};
use crate::switch::Switch;
use crate::tunnel;
use crate::verdict::Verdict;
use crate::wire::{self, Ipv4};

/// ICMP errors without a flow that an lcore passes on to the others in a second: anybody can make them up.
pub(super) const ROUNDS_PER_SECOND: u32 = 1000;

impl Switch {
    /// Decides about an ICMP message.
    pub(super) fn icmp(
        &mut self,
        frame: &mut Frame<'_>,
        ip: &Ipv4,
        now: Micros,
    ) -> Result<Verdict, DropReason> {
        if !self.is_ours(ip.destination) {
            return Err(DropReason::NotVip);
        }
        if wire::answer_echo(frame) {
            self.counters.count(Event::PingsAnswered);
            return Ok(Verdict::Reply);
        }
        let tuple = wire::quoted_by_icmp_error(frame.bytes()).ok_or(DropReason::IcmpOther)?;
        if tuple.vip != ip.destination {
            return Err(DropReason::IcmpOther);
        }
        let Some((flow, state)) = self.flows.find(&tuple).and_then(|id| self.flows.get(id)) else {
            let may_pass = self.icmp_rounds.take(1, now);
            return may_pass.then(|| self.pass_round(frame)).flatten().ok_or(DropReason::IcmpUnowned);
        };
        if !state.has_backend() {
            return Err(DropReason::IcmpUnowned); // no backend has sent anything
        }
        let path = self.paths.get(usize::from(flow.backend.0)).ok_or(DropReason::NoNextHop)?;
        if path.on_link {
            let mac = self.neighbors.mac(path.hop).ok_or(DropReason::NoNextHop)?;
            wire::redirect(frame, self.lcore.mac, mac);
        } else {
            let (outer, header) = self.tunnel_headers(flow, flow.backend, MessageType::Icmp, now)?;
            tunnel::wrap(frame, &outer, &header, self.settings.mtu_bytes)?;
        }
        self.counters.count(Event::IcmpErrorsForwarded);
        Ok(Verdict::Forward)
    }
}
