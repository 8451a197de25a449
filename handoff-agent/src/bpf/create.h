/* SPDX-License-Identifier: GPL-2.0 */
/* What a message may come to beside an answer: delivery, a new socket, the end of a stale one. */
#ifndef BATON_CREATE_H
#define BATON_CREATE_H

#include "answer.h"

/* How often a stale socket may be reset for one handoff. */
#define HEALS_MAX 3
/* How often packets that overtook their handoff in one receive batch may be queued again, and for how long. */
#define REQUEUES_MAX 64
#define REQUEUE_US 5000

/* Takes the tunnel off and gives the packet to the stack. */
static __always_inline int deliver(struct __sk_buff *skb, enum counter which)
{
	if (bpf_skb_adjust_room(skb, -(__s32)TUNNEL_BYTES, BPF_ADJ_ROOM_MAC, 0))
		return drop(COUNT_internal);
	count(which);
	return VERDICT_PASS;
}

/*
 * The same with a segment of a client, which counts, and has its server asked something. The record may be another by now
 * than the one decided by.
 */
static __always_inline int deliver_segment(struct __sk_buff *skb, struct message *m, enum counter which)
{
	if (!m->self_test)
		count_in(m->vip, bpf_map_lookup_elem(&records, &m->flow), payload_of(skb, &m->ip, &m->tcp), 1);
	return deliver(skb, which);
}

/* Puts the packet, as it is, behind those that wait in this CPU's backlog. */
static __always_inline int requeue(struct __sk_buff *skb, struct message *m)
{
	struct record *record = bpf_map_lookup_elem(&records, &m->flow);

	if (!record || record->tries >= REQUEUES_MAX || m->now_us - record->changed_us > REQUEUE_US)
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
				  const struct record *record)
{
	struct record assigned = {
		.generation = m->generation,
		.changed_us = m->now_us,
		.state = RECORD_ASSIGNED,
		.flags = m->self_test ? RECORD_SELF_TEST : 0,
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
	if (detail && repeated && !waited)
		return drop(COUNT_overtaken); /* by a copy that may yet become a socket */
	if (detail)
		return refuse(skb, m, detail, !again);
	if (m->self_test)
		return deliver(skb, COUNT_self_test_assigned);
	if (waited)
		count(COUNT_unborn);
	return deliver_segment(skb, m, repeated ? COUNT_assigned_again : COUNT_assigned);
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
static __always_inline int heal(struct __sk_buff *skb, struct message *m, const struct record *record, __u32 rcv_nxt)
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

#endif
