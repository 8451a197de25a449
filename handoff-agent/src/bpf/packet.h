/* SPDX-License-Identifier: GPL-2.0 */
/* Reading a handoff message: nothing in it is believed before its tag was verified, no length ever. */
#ifndef BATON_PACKET_H
#define BATON_PACKET_H

#include "maps.h"
#include "siphash.h"

/* What stands behind the Ethernet header of a packet with a plain IPv4 header. */
struct outer {
	struct ipv4 ip;
	struct udp udp;
};

#define TUNNEL_BYTES (sizeof(struct outer) + sizeof(struct handoff_header))
#define OUTER_AT ETH_HEADER_BYTES
#define HEADER_AT (OUTER_AT + sizeof(struct outer))
#define INNER_AT (HEADER_AT + sizeof(struct handoff_header))

/* A handoff message as it stands in the packet, and what follows from it. */
struct message {
	struct outer outer;
	__u32 interface; /* where answers leave */
	struct handoff_header header;
	struct ipv4 ip;
	struct tcp tcp;
	struct flow_key flow;
	struct tag_key *key;
	struct settings *settings;
	__u64 now_us; /* CLOCK_MONOTONIC */
	__u64 generation;
	bool self_test;
	bool clock_known;
};

_Static_assert(__builtin_offsetof(struct message, tcp) ==
		       __builtin_offsetof(struct message, header) + sizeof(struct handoff_header) + sizeof(struct ipv4),
	       "header, IPv4 and TCP are loaded at once");

static __always_inline __u32 tcp_state(struct bpf_sock *sock)
{
	return sock ? sock->state : BPF_TCP_CLOSE;
}

/* Says whether the socket is of one connection, and past the kernel's own handshake. */
static __always_inline bool is_connection(__u32 state)
{
	return state != BPF_TCP_CLOSE && state != BPF_TCP_LISTEN && state != BPF_TCP_NEW_SYN_RECV;
}

static __always_inline struct bpf_sock *lookup(struct __sk_buff *skb, const struct flow_key *flow)
{
	struct bpf_sock_tuple tuple = {};

	tuple.ipv4.saddr = flow->client[3];
	tuple.ipv4.daddr = flow->vip[3];
	tuple.ipv4.sport = flow->client_port;
	tuple.ipv4.dport = flow->vip_port;
	return bpf_skc_lookup_tcp(skb, &tuple, sizeof(tuple.ipv4), BPF_F_CURRENT_NETNS, 0);
}

static __always_inline void flow_of(struct flow_key *flow, const struct ipv4 *ip, __be16 source, __be16 destination)
{
	map_address(flow->client, ip->source);
	map_address(flow->vip, ip->destination);
	flow->client_port = source;
	flow->vip_port = destination;
	flow->zero = 0;
}

/* Checks what the header says of itself. Returns the counter of the first fault, or -1. */
static __always_inline int header_fault(const struct handoff_header *h)
{
	__u16 flags = bpf_ntohs(h->flags);

	if (h->magic != bpf_htonl(HANDOFF_MAGIC))
		return COUNT_bad_magic;
	if (h->version != HANDOFF_VERSION)
		return COUNT_bad_version;
	if (!h->type || h->type > TYPE_LAST)
		return COUNT_unknown_type;
	if (h->type != TYPE_HANDOFF && h->type != TYPE_FORWARD)
		return COUNT_unsupported_type;
	if (flags & ~FLAGS_KNOWN)
		return COUNT_bad_options;
	if (flags & FLAG_WSCALE ? (h->wscale >> 4) > WSCALE_MAX || (h->wscale & 15) > WSCALE_MAX : h->wscale != 0)
		return COUNT_bad_options;
	if (h->reserved)
		return COUNT_bad_reserved;
	return -1;
}

/* Checks the client's packet against the tunnel around it. Returns the counter of the first fault, or -1. */
static __always_inline int inner_fault(const struct message *m)
{
	__u32 length = bpf_ntohs(m->ip.total_length);

	if (m->ip.version_length >> 4 != 4)
		return COUNT_inner_not_ipv4;
	if ((m->ip.version_length & 15) != sizeof(struct ipv4) / 4)
		return COUNT_inner_options;
	if (m->ip.protocol != PROTOCOL_TCP)
		return COUNT_inner_not_tcp;
	if (m->ip.fragment & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return COUNT_inner_fragment;
	if (length < sizeof(struct ipv4) + sizeof(struct tcp) ||
	    length + TUNNEL_BYTES != bpf_ntohs(m->outer.ip.total_length))
		return COUNT_inner_length;
	if (m->tcp.flags & TCP_SYN)
		return COUNT_inner_syn;
	return -1;
}

/*
 * Loads and verifies the message behind m->outer, whose settings, self_test and interface are set. Returns the counter
 * of the first fault, or -1: then the header was written, lately, by a holder of the key, for this connection.
 */
static __noinline int message_fault(struct __sk_buff *skb, struct message *m)
{
	__u32 ip_bytes = bpf_ntohs(m->outer.ip.total_length), entry;
	__s64 age;
	int fault;

	if (ip_bytes > skb->len - OUTER_AT || bpf_ntohs(m->outer.udp.length) + sizeof(struct ipv4) != ip_bytes)
		return COUNT_outer_length;
	if (ip_bytes < TUNNEL_BYTES + sizeof(struct ipv4) + sizeof(struct tcp) ||
	    bpf_skb_load_bytes(skb, HEADER_AT, &m->header,
			       sizeof(m->header) + sizeof(struct ipv4) + sizeof(struct tcp)))
		return COUNT_truncated;
	fault = header_fault(&m->header);
	if (fault >= 0)
		return fault;
	fault = inner_fault(m);
	if (fault >= 0)
		return fault;
	flow_of(&m->flow, &m->ip, m->tcp.source, m->tcp.destination);
	if (!is_vip(m->flow.vip, m->flow.vip_port))
		return COUNT_not_a_vip;
	entry = m->self_test ? KEY_SELF_TEST : m->header.key_id;
	m->key = bpf_map_lookup_elem(&keys, &entry);
	if (!m->key || !m->key->valid)
		return COUNT_unknown_key;
	if (m->header.tag != tag_of(&m->header, &m->flow, m->key))
		return COUNT_bad_tag;
	m->now_us = monotonic_us();
	m->generation = bpf_be64_to_cpu(m->header.generation);
	m->clock_known = m->self_test || m->settings->flags & SETTING_CLOCK_KNOWN;
	if (!m->clock_known)
		return m->header.type == TYPE_HANDOFF ? -1 : COUNT_clock_unknown;
	age = m->now_us - bpf_be64_to_cpu(m->header.issued);
	if (!m->self_test)
		age += m->settings->clock_offset_us;
	if (age > FRESHNESS_PAST_US)
		return COUNT_stale;
	if (age < -FRESHNESS_FUTURE_US)
		return COUNT_future;
	return -1;
}

#endif
