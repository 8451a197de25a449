// SPDX-License-Identifier: GPL-2.0
/*
 * Baton on a backend: turns handoffs into sockets of the server that listens at the VIP, and gives the packets that
 * follow to those sockets. Every packet comes out delivered, answered to the switch, or dropped, and counted by why.
 */
#include <linux/bpf.h>
#include <stdbool.h>

#include <bpf/bpf_core_read.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

#include "kernel.h"
#include "asked.h"
#include "session.h"

/* Serial order of two generations: negative if the message's is older than the record's. */
static __always_inline __s64 order(const struct message *m, const struct record *record)
{
	return (__s64)(m->generation - record->generation);
}

/*
 * A socket that nothing proves to be older than the handoff keeps its 4-tuple: it may be any connection of this host's.
 * What remembers the refusal also remembers that.
 */
static __always_inline int occupied(struct __sk_buff *skb, struct message *m)
{
	return refuse(skb, m, DETAIL_OCCUPIED, true);
}

/* A packet is never farther from what its receiver has than the largest window (RFC 7323, section 2.3). */
#define WINDOW_MAX (1U << 30)

/*
 * Says whether a socket the records do not have is that of the handoff itself: made by programs that were there before,
 * when the records were others. Refused, the request would be run by another backend as well; delivered in error, the
 * packet is one that TCP does not take, or takes for old. So it is enough that the handoff may be older than the
 * records, and that its numbers fit. Nothing is recorded: without a record nothing is ever reset.
 */
static __always_inline bool is_own(const struct message *m, const struct met *met)
{
	__s64 decided_us = m->generation - m->settings->clock_offset_us - m->settings->records_since_us;
	__u32 behind = met->rcv_nxt - bpf_ntohl(m->tcp.seq);
	__u32 sent = met->snd_nxt - bpf_ntohl(m->tcp.ack);
	bool base = m->tcp.seq == m->header.base_seq;

	/* Programs that were exchanged go on for a moment; and while the clock is not known, any may be older. */
	if (m->clock_known && decided_us > FRESHNESS_FUTURE_US)
		return false;
	/* A socket has what it was made of; what follows may be ahead of it. */
	return sent <= WINDOW_MAX && (behind <= WINDOW_MAX || (!base && -behind <= WINDOW_MAX));
}

/* A client packet of an unconfirmed flow meets a live socket. `record` is a copy of what was found of it. */
static __always_inline int handoff_to_live(struct __sk_buff *skb, struct message *m, const struct record *record,
					   const struct met *met)
{
	bool base = m->tcp.seq == m->header.base_seq;
	__s64 newer;

	if (!record)
		return is_own(m, met) ? deliver_segment(skb, m, COUNT_delivered_unrecorded) : occupied(skb, m);
	newer = order(m, record);
	if (newer < 0)
		return gone(skb, m, DETAIL_OLD_GENERATION, record->generation);
	if (newer == 0 && record->state == RECORD_REFUSED) {
		count(COUNT_refused_again);
		return answer(skb, m, TYPE_REFUSED, record->detail);
	}
	if (newer == 0 && record->state != RECORD_HEALING)
		return deliver_segment(skb, m, COUNT_delivered);
	if (record->state == RECORD_REFUSED && record->detail == DETAIL_OCCUPIED)
		return occupied(skb, m);
	if (!base || !may_create(m))
		return drop(COUNT_not_base);
	return heal(skb, m, record, met->rcv_nxt);
}

/* A client packet of an unconfirmed flow meets a socket in TIME_WAIT. */
static __always_inline int handoff_to_time_wait(struct __sk_buff *skb, struct message *m, const struct record *record,
						const struct met *met)
{
	bool base = m->tcp.seq == m->header.base_seq;
	__s64 newer = record ? order(m, record) : 1;

	if (newer == 0 && record->state == RECORD_REFUSED) {
		count(COUNT_refused_again);
		return answer(skb, m, TYPE_REFUSED, record->detail);
	}
	if (!record && is_own(m, met))
		return deliver_segment(skb, m, COUNT_delivered_unrecorded);
	if (newer > 0 || (newer == 0 && record->state == RECORD_HEALING)) {
		if (base && may_create(m))
			return heal(skb, m, record, met->rcv_nxt);
		if (record)
			return drop(COUNT_not_base);
	}
	return deliver_segment(skb, m, COUNT_delivered_time_wait);
}

/* A client packet of an unconfirmed flow meets no socket; `sock` is the listener or NULL, and is released here. */
static __always_inline int handoff_to_nobody(struct __sk_buff *skb, struct message *m, struct bpf_sock *sock,
					     const struct record *record)
{
	bool base = m->tcp.seq == m->header.base_seq;
	__s64 newer = record ? order(m, record) : 1;

	if (base && may_create(m) &&
	    (newer > 0 || (newer == 0 && (record->state == RECORD_ASSIGNED || record->state == RECORD_HEALING))))
		return create(skb, m, sock, newer == 0 ? record : NULL);
	if (sock)
		bpf_sk_release(sock);
	if (newer > 0 || !record)
		return drop(base ? COUNT_not_creating : COUNT_not_base);
	if (newer < 0)
		return gone(skb, m, DETAIL_OLD_GENERATION, record->generation);
	switch (record->state) {
	case RECORD_REFUSED:
		count(COUNT_refused_again);
		return answer(skb, m, TYPE_REFUSED, record->detail);
	case RECORD_ASSIGNED:
	case RECORD_HEALING:
		return base ? drop(COUNT_not_creating) : requeue(skb, m);
	default:
		return gone(skb, m, DETAIL_NO_SOCKET, record->generation);
	}
}

/* What a verified message about a connection comes to. */
static __noinline int decide(struct __sk_buff *skb, struct message *m)
{
	/* As it was before the socket was looked for: of a socket that comes in between it must not say that it is gone. */
	struct record *found = bpf_map_lookup_elem(&records, &m->flow);
	struct record known = {};
	const struct record *record = found ? &known : NULL;
	bool handoff = m->header.type == TYPE_HANDOFF;
	struct bpf_sock *sock;
	struct met met;

	if (found)
		known = *found;
	sock = lookup(skb, &m->flow);
	look_at(sock, &met);
	/* Its answers may leave by another interface, unseen by baton_egress. */
	if (record && order(m, record) == 0 && is_connection(met.state))
		note_birth(&m->flow, record);
	if (handoff && (met.state == BPF_TCP_CLOSE || met.state == BPF_TCP_LISTEN))
		return handoff_to_nobody(skb, m, sock, record);
	if (sock)
		bpf_sk_release(sock);
	if (m->header.type == TYPE_WHO_HAS)
		return asked(skb, m, record, &met);
	switch (met.state) {
	case BPF_TCP_CLOSE:
	case BPF_TCP_LISTEN:
		return gone(skb, m, DETAIL_NO_SOCKET, record ? record->generation : m->generation);
	case BPF_TCP_NEW_SYN_RECV: /* a handshake of the kernel's own, over some other interface */
		if (handoff)
			return record && order(m, record) <= 0 ? handoff_to_live(skb, m, record, &met)
							       : occupied(skb, m);
		return gone(skb, m, DETAIL_NO_SOCKET, record ? record->generation : m->generation);
	case BPF_TCP_TIME_WAIT:
		return handoff ? handoff_to_time_wait(skb, m, record, &met)
			       : deliver_segment(skb, m, COUNT_delivered_time_wait);
	default:
		return handoff ? handoff_to_live(skb, m, record, &met)
			       : deliver_segment(skb, m, COUNT_delivered);
	}
}

/* UDP that may be a handoff message. */
static __noinline int tunnelled(struct __sk_buff *skb)
{
	struct message message = {}, *m = &message;
	__u32 ip_header;
	__u16 fragment;
	int fault;

	if (bpf_skb_load_bytes(skb, OUTER_AT, &m->outer, sizeof(m->outer)))
		return VERDICT_NEXT;
	ip_header = (m->outer.ip.version_length & 15) * 4;
	fragment = bpf_ntohs(m->outer.ip.fragment);
	m->settings = current_settings();
	if (!m->settings || m->outer.ip.destination != m->settings->address || fragment & FRAGMENT_OFFSET)
		return VERDICT_NEXT;
	if (ip_header != sizeof(struct ipv4) &&
	    bpf_skb_load_bytes(skb, OUTER_AT + ip_header, &m->outer.udp, sizeof(m->outer.udp)))
		return VERDICT_NEXT;
	if (m->outer.udp.destination != bpf_htons(HANDOFF_PORT))
		return VERDICT_NEXT;
	count(COUNT_received);
	if (ip_header != sizeof(struct ipv4))
		return drop(COUNT_outer_options);
	if (fragment & FRAGMENT_MORE)
		return drop(COUNT_outer_fragment);
	m->self_test = m->settings->flags & SETTING_SELF_TEST && m->outer.ip.source == m->settings->self_test_client;
	/* Read of its own, not as one of two: of these a compiler may make one load, which the verifier does not take. */
	m->interface = skb->ifindex;
	if (m->self_test) {
		m->interface = m->settings->self_test_interface;
		count(COUNT_self_test);
	}
	fault = message_fault(skb, m);
	if (fault >= 0)
		return drop(fault);
	return m->header.type == TYPE_ICMP ? deliver(skb, COUNT_icmp_delivered) : decide(skb, m);
}

/*
 * TCP that came without a tunnel. For a VIP it must meet a socket: the listener would answer what it does not know
 * with a RST, and the client lives elsewhere.
 */
static __noinline int plain(struct __sk_buff *skb)
{
	struct {
		struct ipv4 ip;
		struct tcp tcp;
	} start;
	struct record *record;
	struct flow_key flow;
	struct bpf_sock *sock;
	__u32 state, vip;
	bool is_short = bpf_skb_load_bytes(skb, OUTER_AT, &start, sizeof(start));

	if (is_short && bpf_skb_load_bytes(skb, OUTER_AT, &start.ip, sizeof(start.ip)))
		return VERDICT_NEXT;
	map_address(flow.vip, start.ip.destination);
	if (start.ip.fragment & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return vip_at(flow.vip, 0) ? drop(COUNT_plain_fragment) : VERDICT_NEXT;
	if (is_short)
		return VERDICT_NEXT; /* no TCP header: the stack drops it */
	if (!is_plain_ip(&start.ip) &&
	    bpf_skb_load_bytes(skb, OUTER_AT + (start.ip.version_length & 15) * 4, &start.tcp, sizeof(start.tcp)))
		return VERDICT_NEXT;
	flow_of(&flow, &start.ip, start.tcp.source, start.tcp.destination);
	vip = vip_at(flow.vip, flow.vip_port);
	if (!vip)
		return VERDICT_NEXT;
	sock = lookup(skb, &flow);
	state = sock ? sock->state : BPF_TCP_CLOSE;
	if (sock)
		bpf_sk_release(sock);
	if (is_connection(state) && !(state == BPF_TCP_TIME_WAIT && start.tcp.flags & TCP_SYN)) {
		record = bpf_map_lookup_elem(&records, &flow);
		if (record)
			note_birth(&flow, record); /* as in decide() */
		count_in(vip, record, payload_of(skb, &start.ip, &start.tcp), packets_of(skb));
		return VERDICT_NEXT;
	}
	count(COUNT_plain_no_socket);
	if (start.tcp.flags & (TCP_SYN | TCP_RST))
		return VERDICT_DROP;
	return report_plain(skb, &start.ip, &start.tcp, &flow);
}

SEC("tcx/ingress")
int baton_ingress(struct __sk_buff *skb)
{
	__u8 protocol;

	/* No more is read here than decides: what calls others has little room on the stack. */
	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    bpf_skb_load_bytes(skb, OUTER_AT + __builtin_offsetof(struct ipv4, protocol), &protocol, sizeof(protocol)))
		return VERDICT_NEXT;
	switch (protocol) {
	case PROTOCOL_UDP:
		return tunnelled(skb);
	case PROTOCOL_TCP:
		return plain(skb);
	default:
		return VERDICT_NEXT;
	}
}

/*
 * Watches what the servers at the VIPs say: the first segment of a socket, since success of the handoff call alone does
 * not mean that one exists; how fast they answer; the TLS sessions they name.
 */
SEC("tcx/egress")
int baton_egress(struct __sk_buff *skb)
{
	struct {
		struct ipv4 ip;
		struct tcp tcp;
	} start;
	__u32 ip_header, payload, vip;
	struct record *record;
	struct flow_key flow;

	if (skb->protocol != bpf_htons(ETH_P_IP) || bpf_skb_load_bytes(skb, OUTER_AT, &start, sizeof(start)) ||
	    start.ip.protocol != PROTOCOL_TCP)
		return VERDICT_NEXT;
	ip_header = (start.ip.version_length & 15) * 4;
	if (!is_plain_ip(&start.ip) &&
	    bpf_skb_load_bytes(skb, OUTER_AT + ip_header, &start.tcp, sizeof(start.tcp)))
		return VERDICT_NEXT;
	map_address(flow.vip, start.ip.source);
	vip = vip_at(flow.vip, start.tcp.source);
	if (!vip || (start.tcp.flags & (TCP_RST | TCP_ACK)) == TCP_RST)
		return VERDICT_NEXT; /* a RST in answer to a packet without a socket; that of a socket has ACK */
	map_address(flow.client, start.ip.destination);
	flow.client_port = start.tcp.destination;
	flow.vip_port = start.tcp.source;
	flow.zero = 0;
	record = bpf_map_lookup_elem(&records, &flow);
	if (record)
		note_birth(&flow, record);
	if (record && record->flags & RECORD_SELF_TEST)
		return VERDICT_NEXT; /* no client's: neither are its packets counted that come in */
	payload = payload_of(skb, &start.ip, &start.tcp);
	count_out(vip, record, payload, packets_of(skb));
	if (record && payload && !(record->flags & RECORD_SPOKEN)) {
		record->flags |= RECORD_SPOKEN;
		learn_session(skb, &flow, OUTER_AT + ip_header + (start.tcp.offset >> 4) * 4, payload);
	}
	return VERDICT_NEXT;
}

/*
 * On the agent's own veth: brings the frames of the self-test to the data interface, as if they had arrived there, so
 * that they meet the filters and settings real handoffs meet. Nothing else passes.
 */
SEC("tcx/ingress")
int baton_self_test(struct __sk_buff *skb)
{
	struct settings *s = current_settings();
	struct outer outer;

	if (!s || !(s->flags & SETTING_SELF_TEST) || skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, OUTER_AT, &outer, sizeof(outer)) || outer.ip.protocol != PROTOCOL_UDP ||
	    outer.ip.source != s->self_test_client)
		return VERDICT_DROP;
	return bpf_redirect(s->interface, BPF_F_INGRESS);
}

/*
 * Counts established connections at the VIPs: a dump of all sockets takes a millisecond for every thousand of them. IPv4
 * clients of an IPv6 listener have IPv6 sockets, and their IPv4 address stands in them all the same.
 */
SEC("tp_btf/inet_sock_set_state")
int baton_sockets(__u64 *arguments)
{
	const struct sock *sock = (const struct sock *)arguments[0];
	bool was_open = arguments[1] == BPF_TCP_ESTABLISHED, is_open = arguments[2] == BPF_TCP_ESTABLISHED;
	struct sockets *all;
	__be32 address[4];
	__u32 entry = 0;
	__be16 port = 0;

	if (was_open == is_open || sock->sk_protocol != PROTOCOL_TCP)
		return 0;
	all = bpf_map_lookup_elem(&sockets, &entry);
	if (!all || sock->__sk_common.skc_net.net->ns.inum != all->namespace)
		return 0;
	map_address(address, sock->__sk_common.skc_rcv_saddr);
	/* The port in sock_common is given back, and 0, when a socket is reset; this one stays. */
	bpf_core_read(&port, sizeof(port), &((const struct inet_sock *)sock)->inet_sport);
	if (port && vip_at(address, port))
		__sync_fetch_and_add(&all->open, is_open ? 1 : -1);
	return 0;
}

char _license[] SEC("license") = "GPL";
