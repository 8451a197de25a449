/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What goes back to the switch. REFUSED is the very message that came, with type, detail and tag changed: the client's
 * bytes return whole. MINE is the question with the socket's numbers. GONE carries the first 40 bytes of the client's
 * packet, its IPv4 and TCP headers without options; the lengths inside them stay as they were.
 */
#ifndef BATON_ANSWER_H
#define BATON_ANSWER_H

#include "measure.h"

#define TTL 64
/* By how much reports on plain packets are dated back: the switch takes nothing from its future. */
#define CLOCK_ERROR_US 10000
/* How many reports on plain packets may leave in a second: they answer what anybody may send. */
#define REPORTS_PER_SECOND 1000

static __always_inline __u16 fold_checksum(__u32 sum)
{
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (__u16)~sum;
}

static __always_inline bool swap_macs(struct __sk_buff *skb)
{
	__u8 from[12], to[12];

	if (bpf_skb_load_bytes(skb, 0, from, sizeof(from)))
		return false;
	__builtin_memcpy(to, from + 6, 6);
	__builtin_memcpy(to + 6, from, 6);
	return !bpf_skb_store_bytes(skb, 0, to, sizeof(to), 0);
}

/* Writes the outer headers of an answer whose client bytes are in place. */
static __always_inline bool write_outer(struct __sk_buff *skb, __be32 source, __be32 destination, __be16 source_port,
					__be16 id, __u32 total_length)
{
	struct outer o = {
		.ip = {
			.version_length = 0x45,
			.total_length = bpf_htons(total_length),
			.id = id,
			.fragment = bpf_htons(FRAGMENT_DONT),
			.ttl = TTL,
			.protocol = PROTOCOL_UDP,
			.source = source,
			.destination = destination,
		},
		.udp = {
			.source = source_port,
			.destination = bpf_htons(HANDOFF_PORT),
			.length = bpf_htons(total_length - sizeof(struct ipv4)),
		},
	};

	o.ip.checksum = fold_checksum(bpf_csum_diff(NULL, 0, (__be32 *)&o.ip, sizeof(o.ip), 0));
	return !bpf_skb_store_bytes(skb, OUTER_AT, &o, sizeof(o), 0);
}

/* Tags and writes the header of an answer; the header is consumed. */
static __always_inline bool write_header(struct __sk_buff *skb, struct handoff_header *h, const struct flow_key *flow,
					 const struct tag_key *key)
{
	h->tag = tag_of(h, flow, key);
	return !bpf_skb_store_bytes(skb, HEADER_AT, h, sizeof(*h), 0);
}

/* Sends the message back with another type; both UDP ports stay as they came. The message's header is consumed. */
static __noinline int answer(struct __sk_buff *skb, struct message *m, __u32 type, __u32 detail)
{
	__u32 length = bpf_ntohs(m->outer.ip.total_length);
	struct tag_key *key;

	if (type == TYPE_GONE) {
		length = TUNNEL_BYTES + QUOTE_BYTES;
		if (bpf_skb_change_tail(skb, OUTER_AT + length, 0))
			return drop(COUNT_internal);
	}
	m->header.type = type;
	m->header.detail = bpf_htons(detail);
	if (!swap_macs(skb) ||
	    !write_outer(skb, m->outer.ip.destination, m->outer.ip.source, m->outer.udp.source, m->outer.ip.id, length))
		return drop(COUNT_internal);
	key = key_of(m);
	if (!key || !write_header(skb, &m->header, &m->flow, key))
		return drop(COUNT_internal);
	return bpf_redirect(m->interface, 0);
}

/* Tells the switch that the connection is not here; `generation` is the highest one known. */
static __always_inline int gone(struct __sk_buff *skb, struct message *m, enum detail detail, __u64 generation)
{
	count(detail == DETAIL_OLD_GENERATION ? COUNT_gone_old_generation : COUNT_gone_no_socket);
	m->header.generation = bpf_cpu_to_be64(generation);
	return answer(skb, m, TYPE_GONE, detail);
}

static __always_inline enum counter refusal_counter(__u32 detail)
{
	switch (detail) {
	case DETAIL_NO_LISTENER:
		return COUNT_refused_no_listener;
	case DETAIL_QUEUE_FULL:
		return COUNT_refused_queue_full;
	case DETAIL_NOT_READY:
		return COUNT_refused_not_ready;
	case DETAIL_KERNEL_REFUSED:
		return COUNT_refused_kernel;
	case DETAIL_RECORDS_FULL:
		return COUNT_refused_records_full;
	default:
		return COUNT_refused_occupied;
	}
}

/*
 * Bounces the message, and remembers that: a copy of it that arrives later must not create what the switch has by then
 * created elsewhere. Without room to remember, the message is dropped and the client's retransmission decides.
 */
static __noinline int refuse(struct __sk_buff *skb, struct message *m, __u32 detail, bool new_generation)
{
	struct record record = {
		.generation = m->generation,
		.changed_us = m->now_us,
		.state = RECORD_REFUSED,
		.detail = detail,
	};
	int stored;

	if (new_generation && recent_records(m->now_us) >= room_for_refusals(m->settings))
		return drop(COUNT_records_full);
	stored = remember(&m->flow, &record, new_generation);
	if (stored != STORED)
		return drop(stored);
	count(refusal_counter(detail));
	return answer(skb, m, TYPE_REFUSED, detail);
}

static __always_inline bool may_report(__u64 now_us)
{
	__u32 entry = 0;
	__u64 second = now_us / 1000000;
	struct window *w = bpf_map_lookup_elem(&window, &entry);

	if (!w)
		return false;
	if (w->report_second != second) {
		w->report_second = second;
		w->reports = 0;
	}
	return __sync_fetch_and_add(&w->reports, 1) < REPORTS_PER_SECOND;
}

/* Turns a plain TCP packet for a VIP, of which `ip` and `tcp` were loaded, into a GONE for the switch. */
static __noinline int report_plain(struct __sk_buff *skb, const struct ipv4 *ip, const struct tcp *tcp,
				   const struct flow_key *flow)
{
	struct settings *s = current_settings();
	struct record *record = bpf_map_lookup_elem(&records, flow);
	__u64 now_us = monotonic_us();
	struct handoff_header h = {
		.magic = bpf_htonl(HANDOFF_MAGIC),
		.version = HANDOFF_VERSION,
		.type = TYPE_GONE,
		.detail = bpf_htons(DETAIL_NO_SOCKET),
		.base_seq = tcp->seq,
		.base_ack = tcp->ack,
		.lcore = LCORE_ANY, /* the packet does not say which one sent it on */
	};
	const __u32 needed = SETTING_SWITCH_KNOWN | SETTING_CLOCK_KNOWN;
	struct tag_key *key;
	__u32 entry;

	if (!s || (s->flags & needed) != needed || ip->version_length != 0x45 || !may_report(now_us))
		return drop(COUNT_plain_unreported);
	entry = s->key_id;
	key = bpf_map_lookup_elem(&keys, &entry);
	if (!key || !key->valid)
		return drop(COUNT_plain_unreported);
	h.key_id = s->key_id;
	h.generation = record ? bpf_cpu_to_be64(record->generation) : 0;
	h.issued = bpf_cpu_to_be64(now_us + s->clock_offset_us - CLOCK_ERROR_US);
	if (bpf_skb_change_tail(skb, OUTER_AT + QUOTE_BYTES, 0) ||
	    bpf_skb_adjust_room(skb, TUNNEL_BYTES, BPF_ADJ_ROOM_MAC, 0) || !swap_macs(skb) ||
	    !write_outer(skb, s->address, s->switch_address, flow->client_port, 0, TUNNEL_BYTES + QUOTE_BYTES) ||
	    !write_header(skb, &h, flow, key))
		return drop(COUNT_internal);
	count(COUNT_plain_reported);
	return bpf_redirect(skb->ifindex, 0);
}

#endif
