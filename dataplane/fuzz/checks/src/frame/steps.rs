//! What the steps of an input do.

use baton_core::{Micros, Snapshot, Verdict};

use super::{Buffers, Scene};
use crate::common::client::{Client, Offer};
use crate::common::packets::{
    ACK, CWR, ECE, FIN, Message, PSH, RST, SYN, TcpFrame, arp, be16, checksum, ethernet, ipv4, read_tcp,
};
use crate::common::world::{
    Answer, BACKEND_MACS, BACKENDS, BROADCAST, GATEWAY, KEY_ID, OTHER_VIP, Outcome, ROUTER_MAC, SECRET,
    SWITCH, SWITCH_MAC, VIP, snapshot,
};
use crate::input::Input;

/// Longest frame given: a little more than fits any MTU used here.
const FRAME_BYTES_MAX: usize = 1600;
/// Longest payload of a client's segment.
const PAYLOAD_BYTES_MAX: usize = 1450;

/// Heads and pieces of them, by number.
const TEXTS: [&str; 14] = [
    "",
    "GET /files/a HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
    "GET /routed/a HTTP/1.1\r\nHost: www.example.org\r\n\r\n",
    "GET /dead/a HTTP/1.1\r\n\r\n",
    "HEAD /nowhere HTTP/1.1\r\n\r\n",
    "GET /files/a HT",
    "TP/1.1\r\nHost: a",
    "\r\n\r\n",
    "POST /files/up HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello",
    "no request at all\r\n\r\n",
    "\r\n",
    "GET /routed/a HTTP/1.1\r\nCookie: a",
    "x",
    "GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
];

impl Scene {
    /// Does what the next bytes say.
    pub(super) fn step(&mut self, input: &mut Input<'_>) {
        match input.byte() % 14 {
            0 => self.syn(input),
            1 => self.whole_request(input),
            2..=4 => self.segment(input),
            5 => self.any_frame(input, false),
            6 => self.any_frame(input, true),
            7 => self.last_frame_changed(input),
            8 => self.wait(input),
            9 => self.answer(input),
            10 => self.other_backends(input),
            11 => self.icmp_error(input),
            12 => self.arp(input),
            _ => self.other_buffers(input),
        }
    }

    fn syn(&mut self, input: &mut Input<'_>) {
        let at = self.who(input);
        let bits = input.byte();
        let bit = |position: u8| bits >> position & 1 == 1;
        let offer = Offer {
            mss: (!bit(0)).then(|| if bit(5) { 0 } else { 1460 }),
            wscale: (!bit(1)).then(|| if bit(6) { 255 } else { 9 }),
            sack: !bit(2),
            timestamps: !bit(3),
            ecn: bit(4),
        };
        let client = &mut self.players[at].client;
        client.offer = offer;
        let mut syn = client.syn();
        if bit(7) {
            let count = usize::from(input.byte()) % 41;
            syn.options = input.bytes(count).to_vec();
        }
        self.give(syn.frame());
    }

    /// The usual beginning: handshake and request.
    fn whole_request(&mut self, input: &mut Input<'_>) {
        let at = self.who(input);
        let payload = text(input);
        let client = &mut self.players[at].client;
        client.isn = client.isn.wrapping_add(100_000);
        self.players[at].sent = 0;
        let syn = self.players[at].client.syn().frame();
        self.give(syn);
        let (player, sent) = (&mut self.players[at], u32::try_from(payload.len()).expect("short"));
        player.sent = sent;
        let request = player.client.data(0, &payload);
        self.give(request);
    }

    fn segment(&mut self, input: &mut Input<'_>) {
        let at = self.who(input);
        let flags = match input.byte() {
            0 => PSH | ACK,
            1 => FIN | ACK,
            2 => RST,
            3 => RST | ACK,
            4 => ACK | ECE | CWR,
            5 => SYN | ACK,
            other => other,
        };
        let back = i32::from(input.number().cast_signed());
        let acked = i32::from(input.byte().cast_signed());
        let later = u32::from(input.byte());
        let payload = text(input);
        let player = &mut self.players[at];
        player.client.clock = player.client.clock.wrapping_add(later);
        player.client.read = player.client.read.wrapping_add_signed(acked);
        let place = player.sent.wrapping_add_signed(back);
        let segment = player.client.segment(place, flags, &payload);
        if back == 0 {
            player.sent = player.sent.wrapping_add(u32::try_from(payload.len()).expect("short"));
        }
        self.give(segment.frame());
    }

    fn any_frame(&mut self, input: &mut Input<'_>, mended: bool) {
        let count = usize::from(input.number()) % FRAME_BYTES_MAX;
        let mut frame = input.bytes(count).to_vec();
        if mended && frame.len() >= 14 {
            frame[..6].copy_from_slice(&SWITCH_MAC);
            mend(&mut frame, 3);
        }
        self.give(frame);
    }

    fn last_frame_changed(&mut self, input: &mut Input<'_>) {
        let (at, value, care) = (usize::from(input.number()), input.byte(), input.byte());
        let mut frame = self.last.clone();
        if frame.is_empty() {
            return;
        }
        let at = at % frame.len();
        if care & 4 == 0 {
            frame[at] ^= value;
        } else {
            frame.truncate(at);
        }
        mend(&mut frame, care & 3);
        self.give(frame);
    }

    fn wait(&mut self, input: &mut Input<'_>) {
        let (unit, count) = (input.byte(), u64::from(input.byte()));
        let (span, turns) = match unit % 4 {
            0 => (Micros(10 * count), 1),
            1 => (Micros::from_millis(10 * count), 8),
            2 => (Micros::from_secs(count % 32), 16),
            _ => (Micros::from_secs(10 * count), 32),
        };
        self.pass(span, Micros((span.0 / turns).max(1)));
    }

    /// A backend says something of a message it got, or of the last frame.
    fn answer(&mut self, input: &mut Input<'_>) {
        let (which, kind, detail) = (input.byte(), input.byte(), input.byte());
        let deltas = [input.number(), input.number()].map(|delta| i32::from(delta.cast_signed()));
        let (generation, lcore, care) = (input.byte(), input.byte(), input.byte());
        let message = match self.messages.len() {
            0 => None,
            count => self.messages.get(usize::from(which) % count).filter(|_| which < 0x80),
        };
        let mut answer = match message {
            Some(message) => Answer::of(message, kind % 12),
            None => match self.report(kind % 12) {
                Some(report) => report,
                None => return,
            },
        };
        let inner = answer.inner.clone();
        for (place, (at, delta)) in [(12, (24, deltas[0])), (16, (28, deltas[1]))] {
            let number = u32::from_be_bytes(inner[at..at + 4].try_into().expect("four bytes"));
            answer.covered[place..place + 4]
                .copy_from_slice(&number.wrapping_add_signed(delta).to_be_bytes());
        }
        answer.covered[28..30].copy_from_slice(&[0, detail % 13]);
        let older = u64::from_be_bytes(answer.covered[32..40].try_into().expect("eight bytes"));
        let newer = older.wrapping_add_signed(i64::from(generation.cast_signed()));
        answer.covered[32..40].copy_from_slice(&newer.to_be_bytes());
        if care & 1 == 1 {
            answer.covered[30] = lcore;
        }
        if care & 2 == 2 {
            answer.inner.truncate(40);
        }
        if care & 4 == 4 {
            answer.flip = 1;
        }
        if care & 8 == 8 {
            answer.outer_source = BACKENDS[usize::from(care >> 4) % BACKENDS.len()];
        }
        self.give(answer.frame());
    }

    /// What a backend makes of the last frame if that came without a header.
    fn report(&self, kind: u8) -> Option<Answer> {
        let inner = self.last.get(14..54)?.to_vec();
        let mut covered = [0; 48];
        covered[..6].copy_from_slice(&[b'B', b'T', b'O', b'N', 1, kind]);
        covered[9] = KEY_ID;
        covered[30] = 255;
        covered[32..40].copy_from_slice(&self.world.now.0.to_be_bytes());
        covered[40..48].copy_from_slice(&self.world.now.0.to_be_bytes());
        Some(Answer {
            covered,
            outer_source: BACKENDS[0],
            source_port: 33_333,
            inner,
            secret: SECRET,
            flip: 0,
        })
    }

    fn other_backends(&mut self, input: &mut Input<'_>) {
        let usable = input.byte();
        let mut next: Snapshot = snapshot();
        for (at, backend) in next.backends.iter_mut().enumerate() {
            backend.usable = usable >> at & 1 == 1;
        }
        self.world.apply(next);
    }

    /// A router's error about a packet of the VIP to a client.
    fn icmp_error(&mut self, input: &mut Input<'_>) {
        let at = self.who(input);
        let (kind, code, count) = (input.byte() % 16, input.byte() % 16, usize::from(input.byte()) % 60);
        let client = &self.players[at].client;
        let quoted = TcpFrame {
            source: client.vip,
            destination: client.address,
            source_port: client.vip_port,
            destination_port: client.port,
            ..client.segment(0, ACK, b"data")
        };
        let quoted = quoted.packet();
        let mut message = vec![kind, code, 0, 0, 0, 0, 5, 0];
        message.extend(&quoted[..count.min(quoted.len())]);
        let sum = checksum(&message);
        message[2..4].copy_from_slice(&sum.to_be_bytes());
        let packet = ipv4([10, 50, 0, 1], client.vip, 1, &message);
        self.give(ethernet(SWITCH_MAC, ROUTER_MAC, 0x0800, &packet));
    }

    fn arp(&mut self, input: &mut Input<'_>) {
        let addresses = [BACKENDS[0], BACKENDS[1], GATEWAY, VIP, OTHER_VIP, SWITCH, [10, 60, 0, 77], [0; 4]];
        let macs = [BACKEND_MACS[0], BACKEND_MACS[1], ROUTER_MAC, SWITCH_MAC, [2, 0, 0, 9, 9, 9], BROADCAST];
        let operation = u16::from(input.byte() % 4);
        let sender = (input.choice(&addresses), input.choice(&macs));
        let target = (input.choice(&addresses), input.choice(&macs));
        let to = if input.flag() { BROADCAST } else { SWITCH_MAC };
        self.give(arp(operation, sender, target, to));
    }

    fn other_buffers(&mut self, input: &mut Input<'_>) {
        let (headroom, tailroom) = (usize::from(input.byte()), usize::from(input.byte()));
        self.buffers = Buffers { headroom, tailroom, blocked: input.flag() };
    }

    fn who(&self, input: &mut Input<'_>) -> usize {
        usize::from(input.byte()) % self.players.len()
    }

    /// Clients take in what the switch says to a SYN; backends, what they are sent.
    pub(super) fn take_in(&mut self, outcome: &Outcome) {
        if outcome.verdict == Verdict::Reply && outcome.frame[12..14] == [8, 0] && outcome.frame[23] == 6 {
            let answer = read_tcp(&outcome.frame);
            let Self { players, .. } = self;
            let is_for = |client: &Client| {
                answer.destination_port == client.port && answer.ack == client.isn.wrapping_add(1)
            };
            if answer.flags & (SYN | ACK) == SYN | ACK
                && let Some(player) = players.iter_mut().find(|player| is_for(&player.client))
            {
                player.client.take_syn_ack(&answer);
            }
        }
        let forwarded = (outcome.verdict == Verdict::Forward).then_some(&outcome.frame);
        let messages: Vec<Message> = forwarded
            .into_iter()
            .chain(&outcome.sent.frames)
            .filter_map(|frame| super::judge::message(frame))
            .collect();
        messages.into_iter().for_each(|message| self.remember(message));
    }
}

/// Reads a payload: a text by number, or bytes, perhaps many times over.
fn text(input: &mut Input<'_>) -> Vec<u8> {
    let first = usize::from(input.byte());
    match first.checked_sub(0x40) {
        None => TEXTS[first % TEXTS.len()].as_bytes().to_vec(),
        Some(count) => {
            let (piece, times) = (input.bytes(count).to_vec(), usize::from(input.byte()) + 1);
            let mut payload = piece.repeat(times);
            payload.truncate(PAYLOAD_BYTES_MAX);
            payload
        }
    }
}

/// Makes checksums right again, so that a change gets past the first guards: of IPv4 with bit 0, of what it carries with bit 1.
fn mend(frame: &mut [u8], care: u8) {
    if frame.len() < 34 || be16(frame, 12) != 0x0800 {
        return;
    }
    if care & 1 == 1 {
        frame[24..26].copy_from_slice(&[0, 0]);
        let sum = checksum(&frame[14..34]);
        frame[24..26].copy_from_slice(&sum.to_be_bytes());
    }
    // Padding behind the packet is not summed.
    let end = frame.len().min(14 + usize::from(be16(frame, 16)));
    if care & 2 == 2 && frame[23] == 6 && end >= 54 {
        frame[50..52].copy_from_slice(&[0, 0]);
        let length = u16::try_from(end - 34).expect("short").to_be_bytes();
        let sum = checksum(&[&frame[26..34], &[0, 6], &length, &frame[34..end]].concat());
        frame[50..52].copy_from_slice(&sum.to_be_bytes());
    }
    if care & 2 == 2 && frame[23] == 1 && end >= 42 {
        frame[36..38].copy_from_slice(&[0, 0]);
        let sum = checksum(&frame[34..end]);
        frame[36..38].copy_from_slice(&sum.to_be_bytes());
    }
}
