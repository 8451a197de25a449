//! A stranger who makes up segments of other people's connections. What he sends comes from outside, by the router.

use handoff_proto::{Micros, Seq};
use smoltcp::wire::{TcpControl, TcpRepr, TcpTimestampRepr};

use super::{Appointment, START, World};
use crate::addresses::{self, mac};
use crate::backend::socket::number;
use crate::link::End;
use crate::packet;

/// When he begins, and when he has had enough.
const ACTIVE: (Micros, Micros) = (Micros::from_secs(2), Micros::from_secs(16));

impl World {
    pub(super) fn plan_forgeries(&mut self) {
        for _ in 0..self.plan.forgeries {
            let at = START.plus(self.chances.span(ACTIVE.0, ACTIVE.1));
            self.make(at, Appointment::SomebodyForges);
        }
    }

    /// Sends a segment in the name of a client, with numbers that are nobody's.
    pub(super) fn forge(&mut self) {
        self.count("segments_forged");
        let script = &self.plan.conversations[self.chances.position(self.plan.conversations.len())];
        let (client, port) = (addresses::client(script.host), script.port);
        let control = self.chances.pick(&[
            TcpControl::None,
            TcpControl::Psh,
            TcpControl::Fin,
            TcpControl::Rst,
            TcpControl::Syn,
        ]);
        let payload: &[u8] = match control {
            TcpControl::Psh => b"GET /files/0/0?bytes=1 HTTP/1.1\r\nHost: www.example\r\n\r\n",
            TcpControl::None if self.chances.percent(50) => b"G",
            _ => b"",
        };
        let is_syn = control == TcpControl::Syn;
        let stamps = TcpTimestampRepr { tsval: self.chances.word(), tsecr: self.chances.word() };
        let segment = TcpRepr {
            src_port: port,
            dst_port: addresses::VIP.1,
            control,
            seq_number: number(Seq(self.chances.word())),
            ack_number: (!is_syn && !self.chances.percent(10)).then(|| number(Seq(self.chances.word()))),
            window_len: 1_000,
            window_scale: is_syn.then_some(7),
            max_seg_size: is_syn.then_some(1_460),
            sack_permitted: is_syn,
            sack_ranges: [None; 3],
            timestamp: self.chances.percent(50).then_some(stamps),
            payload,
        };
        let packet = packet::tcp(&segment, client, addresses::VIP.0);
        self.send(End::RouterToFabric, packet::ethernet(mac::ROUTER, mac::SWITCH, &packet));
    }
}
