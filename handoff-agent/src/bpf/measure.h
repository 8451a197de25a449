/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What VIPs receive and send, and how fast their servers answer. What is kept of a connection stands in its record, which
 * is looked for anyway: a packet costs one look into an array more, a clock is read only for the client's bytes and for
 * the first of the server that follow them. Processors that meet at one record may count one answer twice, or not.
 */
#ifndef BATON_MEASURE_H
#define BATON_MEASURE_H

#include "packet.h"

/* Whoever takes longer to say something was not answering: a server that pushes, or a client that only keeps it waiting. */
#define ANSWER_MAX_US 30000000ULL

/* Bytes of the packet behind the IPv4 and TCP headers. The kernel merges more than 64 KiB, and says 0 then. */
static __always_inline __u32 payload_of(const struct __sk_buff *skb, const struct ipv4 *ip, const struct tcp *tcp)
{
	__u32 total = ip->total_length ? bpf_ntohs(ip->total_length) : skb->len - ETH_HEADER_BYTES;
	__u32 headers = (ip->version_length & 15) * 4 + (tcp->offset >> 4) * 4;

	return total > headers ? total - headers : 0;
}

/* Packets on the wire: the kernel merges them, and has them cut by the interface. */
static __always_inline __u32 packets_of(const struct __sk_buff *skb)
{
	return skb->gso_segs ? skb->gso_segs : 1;
}

/* `vip` is what vip_at() says. */
static __always_inline struct traffic *traffic_of(__u32 vip)
{
	__u32 entry = vip - 1;

	return bpf_map_lookup_elem(&traffic, &entry);
}

/* Counts a packet of a client, and notes in its record that the server is asked. */
static __always_inline void count_in(__u32 vip, struct record *record, __u32 payload, __u32 packets)
{
	struct traffic *t = traffic_of(vip);

	if (t) {
		t->bytes_in += payload;
		t->packets_in += packets;
	}
	/* The last bytes count: how long a client takes to say what it wants is not the server's doing. */
	if (record && payload)
		record->asked_us = monotonic_us();
}

/* Counts a packet of a server, and how long it took if it begins an answer. */
static __always_inline void count_out(__u32 vip, struct record *record, __u32 payload, __u32 packets)
{
	struct traffic *t = traffic_of(vip);
	__u64 took_us;

	if (!t)
		return;
	t->bytes_out += payload;
	t->packets_out += packets;
	if (!record || !payload || !record->asked_us)
		return;
	took_us = monotonic_us() - record->asked_us;
	record->asked_us = 0;
	if (took_us < ANSWER_MAX_US) {
		t->answers++;
		t->answer_us += took_us;
	}
}

#endif
