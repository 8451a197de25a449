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
#include "answer.h"

/* How often a stale socket may be reset for one handoff. */
#define HEALS_MAX 3
/* How often packets that overtook their handoff in one receive batch may be queued again, and for how long. */
#define REQUEUES_MAX 64
#define REQUEUE_US 5000
/* A handoff repeated sooner may have overtaken its own socket; later, the socket never came. */
#define BIRTH_US 100000

/* Takes the tunnel off and gives the packet to the stack. */
static __always_inline int deliver(struct __sk_buff *skb, enum counter which)
{
	if (bpf_skb_adjust_room(skb, -(__s32)TUNNEL_BYTES, BPF_ADJ_ROOM_MAC, 0))
		return drop(COUNT_internal);
	count(which);
	return VERDICT_PASS;
}

/* Puts the packet, as it is, behind those that wait in this CPU's backlog. */
static __always_inline int requeue(struct __sk_buff *skb, struct message *m, struct record *record)
{
	if (record->tries >= REQUEUES_MAX || m->now_us - record->changed_us > REQUEUE_US)
		return drop(COUNT_not_base);
	record->tries++; /* without the lock: what two processors lose of it, REQUEUE_US still bounds */
	count(COUNT_requeued);
	return bpf_redirect(skb->ifindex, BPF_F_INGRESS);
}

/* Says why this backend takes no new connection at all, or DETAIL_NONE. */
static __always_inline enum detail closed(const struct message *m)
{
	const struct settings *s = m->settings;
	__s64 since_start;

	if (m->self_test)
		return DETAIL_NONE;
	if (!m->clock_known || !(s->flags & SETTING_READY))
		return DETAIL_NOT_READY;
	/* What was issued before the records began may have been used before: by a program that was detached since. */
	since_start = bpf_be64_to_cpu(m->header.issued) - s->clock_offset_us - s->records_since_us;
	if (since_start <= FRESHNESS_FUTURE_US)
		return DETAIL_NOT_READY;
	return DETAIL_NONE;
}

static __always_inline void attributes(struct bpf_tcp_req_attrs *a, const struct handoff_header *h)
{
	__u16 flags = bpf_ntohs(h->flags);

	a->rcv_tsval = bpf_ntohl(h->tsval);
	a->rcv_tsecr = bpf_ntohl(h->tsecr);
	a->mss = bpf_ntohs(h->mss);
	a->rcv_wscale = h->wscale & 15;
	a->snd_wscale = h->wscale >> 4;
	a->ecn_ok = !!(flags & FLAG_ECN);
	a->wscale_ok = !!(flags & FLAG_WSCALE);
	a->sack_ok = !!(flags & FLAG_SACK);
	a->tstamp_ok = !!(flags & FLAG_TIMESTAMPS);
}

static __always_inline bool may_create(const struct message *m)
{
	return (m->tcp.flags & (TCP_ACK | TCP_RST)) == TCP_ACK && m->tcp.ack == m->header.base_ack;
}

/*
 * Makes a socket of the base segment. `sock` is the listener or NULL, and is released here; `record` is that of the
 * same generation, if there is one. The record is written before the kernel is asked, so that no copy asks again.
 */
static __always_inline int create(struct __sk_buff *skb, struct message *m, struct bpf_sock *sock,
				  struct record *record)
{
	struct record assigned = {
		.generation = m->generation,
		.changed_us = m->now_us,
		.state = RECORD_ASSIGNED,
		.self_test = m->self_test,
	};
	struct bpf_tcp_req_attrs attrs = {};
	bool again = record != NULL;
	bool repeated = record && record->state == RECORD_ASSIGNED;
	bool waited = repeated && m->now_us - record->changed_us > BIRTH_US;
	struct tcp_sock *listener;
	__u32 detail = closed(m);
	int stored;

	if (!detail && !again && recent_records(m->now_us) >= room_for_connections(m->settings))
		detail = DETAIL_RECORDS_FULL;
	listener = sock ? bpf_skc_to_tcp_sock(sock) : NULL;
	if (!detail && !listener)
		detail = DETAIL_NO_LISTENER;
	else if (!detail && ((struct sock *)listener)->sk_ack_backlog > ((struct sock *)listener)->sk_max_ack_backlog)
		detail = DETAIL_QUEUE_FULL;
	if (!detail) {
		stored = remember(&m->flow, &assigned, !again);
		if (stored != STORED) {
			if (sock)
				bpf_sk_release(sock);
			return drop(stored);
		}
		again = true;
		attributes(&attrs, &m->header);
		if (!listener || bpf_sk_assign_tcp_reqsk(skb, (struct sock *)listener, &attrs, sizeof(attrs)))
			detail = DETAIL_KERNEL_REFUSED;
	}
	if (sock)
		bpf_sk_release(sock);
	if (detail)
		return refuse(skb, m, detail, !again);
	if (m->self_test)
		return deliver(skb, COUNT_self_test_assigned);
	if (waited)
		count(COUNT_unborn);
	return deliver(skb, repeated ? COUNT_assigned_again : COUNT_assigned);
}

/* Makes the packet, taken out of the tunnel, a RST that fits the old socket exactly: it ends without a word. */
static __noinline int become_reset(struct __sk_buff *skb, const struct flow_key *flow, __u32 seq)
{
	struct {
		struct ipv4 ip;
		struct tcp tcp;
	} p = {
		.ip = {
			.version_length = 0x45,
			.total_length = bpf_htons(QUOTE_BYTES),
			.fragment = bpf_htons(FRAGMENT_DONT),
			.ttl = TTL,
			.protocol = PROTOCOL_TCP,
			.source = flow->client[3],
			.destination = flow->vip[3],
		},
		.tcp = {
			.source = flow->client_port,
			.destination = flow->vip_port,
			.seq = bpf_htonl(seq),
			.offset = sizeof(struct tcp) / 4 << 4,
			.flags = TCP_RST,
		},
	};
	struct {
		__be32 source, destination;
		__u8 zero, protocol;
		__be16 length;
	} pseudo = { flow->client[3], flow->vip[3], 0, PROTOCOL_TCP, bpf_htons(sizeof(struct tcp)) };
	__s64 sum;

	p.ip.checksum = fold_checksum(bpf_csum_diff(NULL, 0, (__be32 *)&p.ip, sizeof(p.ip), 0));
	sum = bpf_csum_diff(NULL, 0, (__be32 *)&pseudo, sizeof(pseudo), 0);
	p.tcp.checksum = fold_checksum(bpf_csum_diff(NULL, 0, (__be32 *)&p.tcp, sizeof(p.tcp), sum));
	if (bpf_skb_adjust_room(skb, -(__s32)TUNNEL_BYTES, BPF_ADJ_ROOM_MAC, 0) ||
	    bpf_skb_change_tail(skb, OUTER_AT + sizeof(p), 0) ||
	    bpf_skb_store_bytes(skb, OUTER_AT, &p, sizeof(p), BPF_F_RECOMPUTE_CSUM))
		return drop(COUNT_internal);
	count(COUNT_healed);
	return VERDICT_PASS;
}

/*
 * A handoff meets the socket of an older connection. The original goes to the end of this CPU's queue, the packet at
 * hand becomes the RST that clears its way.
 */
static __always_inline int heal(struct __sk_buff *skb, struct message *m, struct record *record, __u32 rcv_nxt)
{
	bool again = record && record->generation == m->generation;
	struct record healing = {
		.generation = m->generation,
		.changed_us = m->now_us,
		.state = RECORD_HEALING,
		.tries = again ? record->tries + 1 : 1,
	};
	__u32 detail = closed(m);
	int stored;

	if (!detail && !again && recent_records(m->now_us) >= room_for_connections(m->settings))
		detail = DETAIL_RECORDS_FULL;
	if (!detail && healing.tries > HEALS_MAX)
		detail = DETAIL_OCCUPIED;
	if (detail)
		return refuse(skb, m, detail, !again);
	stored = remember(&m->flow, &healing, !again);
	if (stored != STORED)
		return drop(stored);
	if (bpf_clone_redirect(skb, skb->ifindex, BPF_F_INGRESS))
		return drop(COUNT_heal_failed);
	return become_reset(skb, &m->flow, rcv_nxt);
}

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

/* A client packet of an unconfirmed flow meets a live socket. */
static __always_inline int handoff_to_live(struct __sk_buff *skb, struct message *m, struct record *record,
					   __u32 rcv_nxt)
{
	bool base = m->tcp.seq == m->header.base_seq;
	__s64 newer;

	if (!record)
		return occupied(skb, m);
	newer = order(m, record);
	if (newer < 0)
		return gone(skb, m, DETAIL_OLD_GENERATION, record->generation);
	if (newer == 0 && record->state == RECORD_REFUSED) {
		count(COUNT_refused_again);
		return answer(skb, m, TYPE_REFUSED, record->detail);
	}
	if (newer == 0 && record->state != RECORD_HEALING)
		return deliver(skb, COUNT_delivered);
	if (record->state == RECORD_REFUSED && record->detail == DETAIL_OCCUPIED)
		return occupied(skb, m);
	if (!base || !may_create(m))
		return drop(COUNT_not_base);
	return heal(skb, m, record, rcv_nxt);
}

/* A client packet of an unconfirmed flow meets a socket in TIME_WAIT. */
static __always_inline int handoff_to_time_wait(struct __sk_buff *skb, struct message *m, struct record *record,
						__u32 rcv_nxt)
{
	bool base = m->tcp.seq == m->header.base_seq;
	__s64 newer = record ? order(m, record) : 1;

	if (newer == 0 && record->state == RECORD_REFUSED) {
		count(COUNT_refused_again);
		return answer(skb, m, TYPE_REFUSED, record->detail);
	}
	if (newer > 0 || (newer == 0 && record->state == RECORD_HEALING)) {
		if (base && may_create(m))
			return heal(skb, m, record, rcv_nxt);
		if (record)
			return drop(COUNT_not_base);
	}
	return deliver(skb, COUNT_delivered_time_wait);
}

/* A client packet of an unconfirmed flow meets no socket; `sock` is the listener or NULL, and is released here. */
static __always_inline int handoff_to_nobody(struct __sk_buff *skb, struct message *m, struct bpf_sock *sock,
					     struct record *record)
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
		return base ? drop(COUNT_not_creating) : requeue(skb, m, record);
	default:
		return gone(skb, m, DETAIL_NO_SOCKET, record->generation);
	}
}

/* What a verified message comes to. */
static __noinline int decide(struct __sk_buff *skb, struct message *m)
{
	struct record *record = bpf_map_lookup_elem(&records, &m->flow);
	struct bpf_sock *sock = lookup(skb, &m->flow);
	bool handoff = m->header.type == TYPE_HANDOFF;
	__u32 state = tcp_state(sock);
	struct tcp_timewait_sock *waiting;
	struct tcp_sock *live;
	__u32 rcv_nxt = 0;

	/* Its answers may leave by another interface, unseen by baton_egress. */
	if (record && order(m, record) == 0 && is_connection(state))
		note_birth(&m->flow, record);
	switch (state) {
	case BPF_TCP_CLOSE:
	case BPF_TCP_LISTEN:
		if (handoff)
			return handoff_to_nobody(skb, m, sock, record);
		break;
	case BPF_TCP_NEW_SYN_RECV: /* a handshake of the kernel's own, over some other interface */
		bpf_sk_release(sock);
		if (handoff)
			return record && order(m, record) <= 0 ? handoff_to_live(skb, m, record, 0) : occupied(skb, m);
		return gone(skb, m, DETAIL_NO_SOCKET, record ? record->generation : m->generation);
	case BPF_TCP_TIME_WAIT:
		waiting = bpf_skc_to_tcp_timewait_sock(sock);
		if (waiting)
			rcv_nxt = waiting->tw_sk.__tw_common.skc_tw_rcv_nxt;
		bpf_sk_release(sock);
		return handoff ? handoff_to_time_wait(skb, m, record, rcv_nxt) :
				 deliver(skb, COUNT_delivered_time_wait);
	default:
		live = bpf_skc_to_tcp_sock(sock);
		if (live)
			rcv_nxt = live->rcv_nxt;
		bpf_sk_release(sock);
		return handoff ? handoff_to_live(skb, m, record, rcv_nxt) : deliver(skb, COUNT_delivered);
	}
	if (sock)
		bpf_sk_release(sock);
	return gone(skb, m, DETAIL_NO_SOCKET, record ? record->generation : m->generation);
}

/* UDP that may be a handoff message. */
static __noinline int tunnelled(struct __sk_buff *skb, const struct outer *outer)
{
	struct message message = { .outer = *outer }, *m = &message;
	__u32 ip_header = (m->outer.ip.version_length & 15) * 4;
	__u16 fragment = bpf_ntohs(m->outer.ip.fragment);
	int fault;

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
	m->interface = m->self_test ? m->settings->self_test_interface : skb->ifindex;
	if (m->self_test)
		count(COUNT_self_test);
	fault = message_fault(skb, m);
	if (fault >= 0)
		return drop(fault);
	return decide(skb, m);
}

/*
 * TCP that came without a tunnel. For a VIP it must meet a socket: the listener would answer what it does not know
 * with a RST, and the client lives elsewhere.
 */
static __noinline int plain(struct __sk_buff *skb, struct ipv4 *ip)
{
	__u32 ip_header = (ip->version_length & 15) * 4, state;
	struct record *record;
	struct flow_key flow;
	struct bpf_sock *sock;
	struct tcp tcp;

	map_address(flow.vip, ip->destination);
	if (ip->fragment & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return is_vip(flow.vip, 0) ? drop(COUNT_plain_fragment) : VERDICT_NEXT;
	if (bpf_skb_load_bytes(skb, OUTER_AT + ip_header, &tcp, sizeof(tcp)))
		return VERDICT_NEXT; /* no TCP header: the stack drops it */
	flow_of(&flow, ip, tcp.source, tcp.destination);
	if (!is_vip(flow.vip, flow.vip_port))
		return VERDICT_NEXT;
	sock = lookup(skb, &flow);
	state = tcp_state(sock);
	if (sock)
		bpf_sk_release(sock);
	if (is_connection(state) && !(state == BPF_TCP_TIME_WAIT && tcp.flags & TCP_SYN)) {
		record = bpf_map_lookup_elem(&records, &flow);
		if (record)
			note_birth(&flow, record); /* as in decide() */
		return VERDICT_NEXT;
	}
	count(COUNT_plain_no_socket);
	if (tcp.flags & (TCP_SYN | TCP_RST))
		return VERDICT_DROP;
	return report_plain(skb, ip, &tcp, &flow);
}

SEC("tcx/ingress")
int baton_ingress(struct __sk_buff *skb)
{
	struct outer outer;

	if (skb->protocol != bpf_htons(ETH_P_IP) || skb->vlan_present || skb->pkt_type != PACKET_HOST ||
	    bpf_skb_load_bytes(skb, OUTER_AT, &outer, sizeof(outer)))
		return VERDICT_NEXT;
	switch (outer.ip.protocol) {
	case PROTOCOL_UDP:
		return tunnelled(skb, &outer);
	case PROTOCOL_TCP:
		return plain(skb, &outer.ip);
	default:
		return VERDICT_NEXT;
	}
}

/* Watches for the first segment of a socket: success of the handoff call alone does not mean that one exists. */
SEC("tcx/egress")
int baton_egress(struct __sk_buff *skb)
{
	struct flow_key flow;
	struct record *record;
	struct outer start; /* of the TCP header only the ports are read as such */
	struct tcp tcp;
	struct ipv4 *ip = &start.ip;

	if (skb->protocol != bpf_htons(ETH_P_IP) ||
	    bpf_skb_load_bytes(skb, OUTER_AT, &start, sizeof(start)) || ip->protocol != PROTOCOL_TCP)
		return VERDICT_NEXT;
	map_address(flow.vip, ip->source);
	if (!is_vip(flow.vip, 0) ||
	    bpf_skb_load_bytes(skb, OUTER_AT + (ip->version_length & 15) * 4, &tcp, sizeof(tcp)) ||
	    tcp.flags & TCP_RST)
		return VERDICT_NEXT;
	map_address(flow.client, ip->destination);
	flow.client_port = tcp.destination;
	flow.vip_port = tcp.source;
	flow.zero = 0;
	record = bpf_map_lookup_elem(&records, &flow);
	if (record)
		note_birth(&flow, record);
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

char _license[] SEC("license") = "GPL";
