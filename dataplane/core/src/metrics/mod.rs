//! Counters: one block per lcore, written by that lcore alone, read by control at any time.
//!
//! Every event and every reason for a drop has a name and a description; there are no labels that a client could
//! choose.

use core::sync::atomic::{AtomicU64, Ordering};

use crate::ids::{BackendIndex, ClassIndex};
use crate::policy::CLASSES_MAX;

/// How many places for backends there may be: also those that are configured no more keep theirs. What is beyond has no counter.
pub const BACKENDS_MAX: usize = 8192;

/// Makes an enum of counters whose variants carry their exported names and descriptions.
macro_rules! counters {
    ($(#[$meta:meta])* $kind:ident { $($variant:ident $name:literal $description:literal,)+ }) => {
        $(#[$meta])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum $kind { $(#[doc = $description] $variant,)+ }

        impl $kind {
            /// All of them, in the order of their definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Returns the exported name.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $name,)+ }
            }

            /// Returns one sentence on what is counted.
            pub const fn description(self) -> &'static str {
                match self { $(Self::$variant => $description,)+ }
            }
        }
    };
}

counters! {
    /// Things that happened and are no drop.
    Event {
        RxFrames "rx_frames" "Frames given to the switch core.",
        RxBytes "rx_bytes" "Bytes of the frames given to the switch core.",
        ArpRequestsAnswered "arp_requests_answered" "ARP requests for a VIP or the switch's own address that were answered.",
        ArpRequestsSent "arp_requests_sent" "ARP requests sent to resolve or refresh a next hop.",
        ArpAnnouncements "arp_announcements" "Gratuitous ARP announcements sent for VIPs and the switch's own address, at start and against strangers that claim one.",
        ArpLearned "arp_learned" "Next hops whose hardware address was learned or changed.",
        PingsAnswered "pings_answered" "ICMP echo requests answered.",
        SynAcks "syn_acks" "SYNs answered with a cookie; nothing was stored.",
        IdleFinsAnswered "idle_fins_answered" "FINs of clients that never sent a request, answered from the cookie.",
        IdleProbesAnswered "idle_probes_answered" "Keepalive probes of clients that never sent a request, answered from the cookie.",
        IdleAcks "idle_acks" "Bare ACKs at the end of a handshake: nothing to do.",
        HeadsHeld "heads_held" "Segments kept until the rest of their request head arrives.",
        HeadAcks "head_acks" "Acknowledgments of unfinished request heads.",
        HeadRepeats "head_repeats" "Segments of an unfinished request head with nothing new in them; they are acknowledged.",
        HeldRepeated "held_repeated" "Segments of whole heads sent to the backend again because it may lack them.",
        HoldsEvicted "holds_evicted" "Unfinished heads and error pages given up early because every place was taken; their clients are reset.",
        HeadsLost "heads_lost" "Request heads the switch had acknowledged and no backend ever confirmed; the client is reset.",
        Handoffs "handoffs" "Connections handed off to a backend for the first time.",
        HandoffsRefused "handoffs_refused" "Packets that backends sent back because they did not take the handoff.",
        HandoffsRetried "handoffs_retried" "Connections handed to another backend because the first refused.",
        HandoffPackets "handoff_packets" "Packets sent in the tunnel before their flow was confirmed.",
        Confirmed "flows_confirmed" "Flows whose client acknowledged bytes of the backend.",
        ForwardedDirect "forwarded_direct" "Packets of confirmed flows sent on by rewriting hardware addresses.",
        ForwardedTunnel "forwarded_tunnel" "Packets of confirmed flows sent in the tunnel to backends behind a router.",
        StaleReports "stale_reports" "Choices of policies that wanted reports of agents and had no fresh ones; the lcore's own counts decided.",
        BoundByHash "bound_by_hash" "Choices by stickiness: the backend to which the client's address or the cookie's value belongs.",
        BoundByRoute "bound_by_route" "Choices by stickiness: the backend the cookie names.",
        SessionsFound "sessions_found" "TLS connections that resume a session, sent to the backend that made it.",
        SessionsUnknown "sessions_unknown" "TLS connections in sticky pools whose session no agent has learned (TLS 1.3, tickets, old ones, none); their client's address decides.",
        SessionsLearned "sessions_learned" "TLS sessions whose backend an agent has reported.",
        AnsweredByRule "answered_by_rule" "Requests that rules answered themselves: redirects and fixed responses.",
        Alerts "tls_alerts" "TLS clients that could not be served and got an alert.",
        FlowsReplaced "flows_replaced" "Flows replaced because their client opened a new connection with the same 4-tuple.",
        FlowsExpired "flows_expired" "Flows removed because their timer ran out.",
        FlowsEvicted "flows_evicted" "Flows given up early to make room in a full table: those that no backend has or that are looked for, then closing and idle ones.",
        Errors400 "errors_400" "Requests answered with 400: malformed, cut off, or told in two versions.",
        Errors408 "errors_408" "Requests answered with 408: the head was never finished.",
        Errors431 "errors_431" "Requests answered with 431: the head is too large.",
        Errors503 "errors_503" "Requests answered with 503: no rule, no usable backend, or none that takes the connection.",
        PageSegments "page_segments" "Segments of error pages.",
        PagesRepeated "page_segments_repeated" "Segments of error pages sent again.",
        InputDiscarded "input_discarded" "Segments of clients that got an error page, acknowledged and thrown away.",
        OwnersSought "owners_sought" "Connections whose backend is looked for, since the switch does not know them or has just started.",
        QuestionsSent "questions_sent" "Questions to backends whether they have a connection (WHO-HAS).",
        FlowsAdopted "flows_adopted" "Connections whose backend was found.",
        FlowsUnowned "flows_unowned" "Connections that no backend had and whose clients went on; they are reset.",
        FlowsGone "flows_gone" "Flows whose backend no longer had a socket for a packet that needed one; their clients are reset.",
        IcmpErrorsForwarded "icmp_errors_forwarded" "ICMP errors sent on to the backend whose packet they quote.",
        ResetsSent "resets_sent" "Connections the switch ended with a RST.",
        FinUnbelieved "fins_unbelieved" "FINs and RSTs whose sequence number does not fit, so that the flow is kept as it was.",
        Steered "steered" "Answers of backends and ICMP errors given to the lcore whose flow they speak of, or to the next that may have it.",
        TransmitFailed "transmit_failed" "Frames the core wanted to send beside the one it was given, but had no buffer for.",
    }
}

counters! {
    /// Why a frame went no further.
    DropReason {
        Malformed "drop_malformed" "Frames whose lengths or headers contradict each other.",
        NotForUs "drop_not_ours" "Frames for another hardware address or of a protocol the switch does not speak.",
        ArpOther "drop_arp_other" "ARP packets that neither ask for one of our addresses nor come from a next hop.",
        AddressConflict "drop_address_conflict" "ARP packets in which another host claims a VIP or the switch's address.",
        IpChecksum "drop_ip_checksum" "IPv4 packets with a wrong header checksum.",
        IpOptions "drop_ip_options" "IPv4 packets with options.",
        IpFragment "drop_ip_fragment" "IPv4 fragments: neither TCP clients nor the tunnel make any.",
        NotVip "drop_not_vip" "IPv4 packets to an address or port that is neither a VIP nor the switch.",
        IcmpOther "drop_icmp_other" "ICMP messages that are neither echo requests nor errors about packets of a VIP.",
        IcmpUnowned "drop_icmp_unowned" "ICMP errors about packets of a VIP that belong to no flow of a backend.",
        SourceInvalid "drop_source_invalid" "Packets whose source address cannot be a client's: multicast, broadcast, unspecified or the destination itself.",
        TcpChecksum "drop_tcp_checksum" "TCP segments with a wrong checksum, where the switch has to believe them.",
        TcpFlags "drop_tcp_flags" "TCP segments with flags that contradict each other, or urgent data.",
        TcpOptions "drop_tcp_options" "SYNs whose options cannot be read.",
        UnknownFlow "drop_unknown_flow" "Segments that belong to no known flow and acknowledge no cookie of ours, or an expired one: their backend is looked for.",
        RequestMalformed "drop_request_malformed" "First bytes that are no HTTP/1 request, or end before it is whole; answered with 400.",
        RequestDisputed "drop_request_disputed" "Request heads told in two versions; answered with 400.",
        RequestUnfinished "drop_request_unfinished" "Request heads not finished in time; answered with 408.",
        HeadTooLarge "drop_head_too_large" "Request heads with too many bytes, fields or segments; answered with 431.",
        HeadAck "drop_head_ack" "Segments of an unfinished request head that acknowledge what nobody sent.",
        HeadChanged "drop_head_changed" "Segments of unconfirmed flows that would change the request head that was parsed.",
        HoldsFull "drop_holds_full" "Segments of unfinished request heads while every hold slot is taken, which the client repeats; error pages for want of one, whose client is reset.",
        HoldGap "drop_hold_gap" "Segments of an unfinished request head too far ahead to be kept; the client retransmits.",
        NoRule "drop_no_rule" "Requests that no rule matches; answered with 503.",
        NoBackend "drop_no_backend" "Requests for a pool without a usable backend; answered with 503.",
        TableFull "drop_table_full" "Requests while the flow table is full; the client is reset.",
        AskLimit "drop_ask_limit" "Questions for the backend of a connection beyond so many a second.",
        NoNextHop "drop_no_next_hop" "Packets to a backend whose hardware address is not known at the moment.",
        TooLong "drop_too_long" "Packets that exceed the MTU, or would in the tunnel.",
        NoHeadroom "drop_no_headroom" "Packets whose buffer has no room for the tunnel header or for the answer.",
        AnswerMalformed "drop_answer_malformed" "Handoff messages to the switch that cannot be read.",
        AnswerKey "drop_answer_key" "Handoff messages to the switch under a key it does not have.",
        AnswerForged "drop_answer_forged" "Handoff messages to the switch with a wrong tag.",
        AnswerStale "drop_answer_stale" "Handoff messages to the switch that answer something asked too long ago.",
        AnswerUnexpected "drop_answer_unexpected" "Handoff messages to the switch that answer nothing it asked.",
        AnswerGone "drop_answer_gone" "Backends' notices that a packet belongs to no socket there, which changed nothing.",
        RequestNotTls "drop_request_not_tls" "First bytes that are no TLS where a VIP speaks nothing else; answered with 400.",
        Overload "drop_overload" "Requests refused because their pool is full and others matter more, or everything is; answered with 503.",
        RefusedByAll "drop_refused_by_all" "Handoffs refused by as many backends as may be tried; answered with 503.",
        SteerFailed "drop_steer_failed" "Answers and ICMP errors for another lcore whose inbox was full.",
    }
}

const EVENT_COUNT: usize = Event::ALL.len();
const DROP_COUNT: usize = DropReason::ALL.len();

/// The counters of one lcore. Aligned to two cache lines, so that neighbours do not share one.
#[derive(Debug)]
#[repr(align(128))]
pub struct Counters {
    events: [AtomicU64; EVENT_COUNT],
    drops: [AtomicU64; DROP_COUNT],
    flows: AtomicU64,
    /// Handoffs by backend.
    handoffs: Box<[AtomicU64]>,
    /// Requests by class: let in, refused for overload.
    classes: [[AtomicU64; 2]; CLASSES_MAX],
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            events: [const { AtomicU64::new(0) }; EVENT_COUNT],
            drops: [const { AtomicU64::new(0) }; DROP_COUNT],
            flows: AtomicU64::new(0),
            handoffs: core::iter::repeat_with(AtomicU64::default).take(BACKENDS_MAX).collect(),
            classes: [const { [const { AtomicU64::new(0) }; 2] }; CLASSES_MAX],
        }
    }
}

impl Counters {
    /// Counts an event once. Only the owning lcore may call it.
    pub fn count(&self, event: Event) {
        self.add(event, 1);
    }

    /// Counts an event `amount` times. Only the owning lcore may call it.
    pub fn add(&self, event: Event, amount: u64) {
        bump(self.events.get(event as usize), amount);
    }

    /// Counts a drop. Only the owning lcore may call it.
    pub fn count_drop(&self, reason: DropReason) {
        bump(self.drops.get(reason as usize), 1);
    }

    /// Counts a handoff to a backend. Only the owning lcore may call it.
    pub fn count_handoff(&self, backend: BackendIndex) {
        bump(self.handoffs.get(usize::from(backend.0)), 1);
    }

    /// Counts a request of a class, let in or refused for overload. Only the owning lcore may call it.
    pub fn count_class(&self, class: ClassIndex, is_let_in: bool) {
        let both = self.classes.get(usize::from(class.0));
        bump(both.map(|[let_in, refused]| if is_let_in { let_in } else { refused }), 1);
    }

    /// Publishes how many entries the flow table has. Only the owning lcore may call it.
    pub fn set_flows(&self, count: u64) {
        self.flows.store(count, Ordering::Relaxed);
    }

    /// Reads an event's counter.
    pub fn event(&self, event: Event) -> u64 {
        self.events.get(event as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Reads a drop reason's counter.
    pub fn drops(&self, reason: DropReason) -> u64 {
        self.drops.get(reason as usize).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Reads how many handoffs a backend was given.
    pub fn handoffs(&self, backend: BackendIndex) -> u64 {
        self.handoffs.get(usize::from(backend.0)).map_or(0, |cell| cell.load(Ordering::Relaxed))
    }

    /// Reads how many requests of a class were let in, and how many refused for overload.
    pub fn class(&self, class: ClassIndex) -> (u64, u64) {
        self.classes.get(usize::from(class.0)).map_or((0, 0), |[let_in, refused]| {
            (let_in.load(Ordering::Relaxed), refused.load(Ordering::Relaxed))
        })
    }

    /// Reads how many entries the flow table has.
    pub fn flows(&self) -> u64 {
        self.flows.load(Ordering::Relaxed)
    }
}

/// Adds without a locked instruction: there is one writer.
fn bump(cell: Option<&AtomicU64>, amount: u64) {
    if let Some(cell) = cell {
        cell.store(cell.load(Ordering::Relaxed).wrapping_add(amount), Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique_prometheus_names_and_descriptions_are_sentences() {
        let all = Event::ALL
            .iter()
            .map(|event| (event.name(), event.description()))
            .chain(DropReason::ALL.iter().map(|reason| (reason.name(), reason.description())));
        let mut seen = std::collections::BTreeSet::new();
        for (name, description) in all {
            assert!(seen.insert(name), "{name} twice");
            let sound = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
            assert!(
                name.bytes().all(sound) && !name.starts_with(|first: char| first.is_ascii_digit()),
                "{name}"
            );
            assert!(description.ends_with('.'), "{name}: {description}");
        }
    }

    #[test]
    fn handoffs_are_counted_at_every_place() {
        let counters = Counters::default();
        let last = BackendIndex(u16::try_from(BACKENDS_MAX).expect("places have 16 bits") - 1);
        counters.count_handoff(last);
        assert_eq!((counters.handoffs(last), counters.handoffs(BackendIndex(0))), (1, 0));
    }

    #[test]
    fn each_counter_has_a_cell_of_its_own() {
        let counters = Counters::default();
        for (position, event) in (1..).zip(Event::ALL) {
            counters.add(*event, position);
        }
        for (position, reason) in (1..).zip(DropReason::ALL) {
            (0..position).for_each(|_: u64| counters.count_drop(*reason));
        }
        for (position, event) in (1..).zip(Event::ALL) {
            assert_eq!(counters.event(*event), position);
        }
        for (position, reason) in (1..).zip(DropReason::ALL) {
            assert_eq!(counters.drops(*reason), position);
        }
    }
}
