/* SPDX-License-Identifier: GPL-2.0 */
/* Reading a handoff message: nothing in it is believed before its tag was verified, no length ever. */
#ifndef BATON_PACKET_H
#define BATON_PACKET_H

#include "maps.h"
#include "siphash.h"

/* Says whether there is nothing between an IPv4 header and what it carries. */
static __always_inline bool is_plain_ip(const struct ipv4 *ip)
{
	return (ip->version_length & 15) == sizeof(*ip) / 4;
}

/* What stands behind the Ethernet header of a packet with a plain IPv4 header. */
struct outer {
	struct ipv4 ip;
	struct udp udp;
};

#define TUNNEL_BYTES (sizeof(struct outer) + sizeof(struct handoff_header))
#define OUTER_AT ETH_HEADER_BYTES
#define HEADER_AT (OUTER_AT + sizeof(struct outer))
#define INNER_AT (HEADER_AT + sizeof(struct handoff_header))
/* A client's packet without options and data: the least there is of one, and all there is of a question. */
#define QUOTE_BYTES (sizeof(struct ipv4) + sizeof(struct tcp))

/* A handoff message as it stands in the packet, and what follows from it. */
struct message {
	struct outer outer;
	__u32 interface; /* where answers leave */
	struct handoff_header header;
	struct ipv4 ip;
	struct tcp tcp; /* of an ICMP message, the beginning of the error */
	struct flow_key flow;
	struct settings *settings;
	__u64 now_us; /* CLOCK_MONOTONIC */
	__u64 generation;
	__u8 vip; /* see vip_at(): at most VIPS_MAX */
	bool self_test;
	bool clock_known;
};

_Static_assert(__builtin_offsetof(struct message, tcp) ==
		       __builtin_offsetof(struct message, header) + sizeof(struct handoff_header) + sizeof(struct ipv4),
	       "header, IPv4 and TCP are loaded at once");

/* What a lookup met. */
struct met {
	__u32 state; /* the kernel's; CLOSE if there is no socket */
	__u32 told; /* likewise, but FIN_WAIT2 where the kernel keeps that as a kind of TIME_WAIT */
	__u32 rcv_nxt; /* of a connection */
	__u32 snd_nxt;
};

/* Says whether the socket is of one connection, and past the kernel's own handshake. */
static __always_inline bool is_connection(__u32 state)
{
	return state != BPF_TCP_CLOSE && state != BPF_TCP_LISTEN && state != BPF_TCP_NEW_SYN_RECV;
}

static __always_inline void look_at(struct bpf_sock *sock, struct met *met)
{
	struct tcp_timewait_sock *waiting;
	struct tcp_sock *live;

	met->state = sock ? sock->state : BPF_TCP_CLOSE;
	met->told = met->state;
	met->rcv_nxt = 0;
	met->snd_nxt = 0;
	if (!sock || !is_connection(met->state))
		return;
	if (met->state == BPF_TCP_TIME_WAIT) {
		waiting = bpf_skc_to_tcp_timewait_sock(sock);
		if (waiting) {
			met->told = waiting->tw_sk.tw_substate;
			met->rcv_nxt = waiting->tw_sk.__tw_common.skc_tw_rcv_nxt;
			met->snd_nxt = waiting->tw_sk.__tw_common.skc_tw_snd_nxt;
		}
		return;
	}
	live = bpf_skc_to_tcp_sock(sock);
	if (live) {
		met->rcv_nxt = live->rcv_nxt;
		met->snd_nxt = live->snd_nxt;
	}
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

/* The key a message is tagged with, and its answer; looked for twice, since there is little room on the stack. */
static __always_inline struct tag_key *key_of(const struct message *m)
{
	__u32 entry = m->self_test ? KEY_SELF_TEST : m->header.key_id;

	return bpf_map_lookup_elem(&keys, &entry);
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
	if (h->type != TYPE_HANDOFF && h->type != TYPE_FORWARD && h->type != TYPE_WHO_HAS && h->type != TYPE_ICMP)
		return COUNT_unsupported_type;
	if (flags & ~FLAGS_KNOWN)
		return COUNT_bad_options;
	if (flags & FLAG_WSCALE ? (h->wscale >> 4) > WSCALE_MAX || (h->wscale & 15) > WSCALE_MAX : h->wscale != 0)
		return COUNT_bad_options;
	if (h->reserved)
		return COUNT_bad_reserved;
	return -1;
}

/*
 * Checks the client's packet against the tunnel around it, and takes the 4-tuple from it. A question is as long as the
 * headers, for the answer is. Returns the counter of the first fault, or -1.
 */
static __always_inline int inner_fault(struct message *m)
{
	__u32 length = bpf_ntohs(m->ip.total_length);

	if (m->ip.protocol != PROTOCOL_TCP)
		return COUNT_inner_not_tcp;
	if (m->ip.fragment & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return COUNT_inner_fragment;
	if (length < QUOTE_BYTES || length + TUNNEL_BYTES != bpf_ntohs(m->outer.ip.total_length) ||
	    (m->header.type == TYPE_WHO_HAS && length != QUOTE_BYTES))
		return COUNT_inner_length;
	if (m->tcp.flags & TCP_SYN)
		return COUNT_inner_syn;
	flow_of(&m->flow, &m->ip, m->tcp.source, m->tcp.destination);
	return -1;
}

/* An ICMP error behind its IPv4 header, up to the end of what RFC 792 has it quote at least. */
struct icmp_error {
	struct icmp icmp;
	struct ipv4 quoted;
	__be16 source;
	__be16 destination;
	__be32 seq;
};

/*
 * Checks an ICMP error against the tunnel around it, and takes the 4-tuple from the packet it quotes, which went from
 * the VIP to the client. Its checksum is the stack's business. Returns the counter of the first fault, or -1.
 */
static __noinline int icmp_fault(struct __sk_buff *skb, struct message *m)
{
	__u32 length = bpf_ntohs(m->ip.total_length);
	struct icmp_error error;

	if (m->ip.protocol != PROTOCOL_ICMP)
		return COUNT_icmp_not_error;
	if (m->ip.fragment & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return COUNT_inner_fragment;
	if (length < sizeof(struct ipv4) + sizeof(error) ||
	    length + TUNNEL_BYTES != bpf_ntohs(m->outer.ip.total_length) ||
	    bpf_skb_load_bytes(skb, INNER_AT + sizeof(struct ipv4), &error, sizeof(error)))
		return COUNT_icmp_length;
	if (error.icmp.type != ICMP_UNREACHABLE && error.icmp.type != ICMP_TIME_EXCEEDED &&
	    error.icmp.type != ICMP_PARAMETER_PROBLEM)
		return COUNT_icmp_not_error;
	if (error.quoted.version_length != 0x45 || error.quoted.protocol != PROTOCOL_TCP ||
	    error.quoted.fragment & bpf_htons(FRAGMENT_OFFSET) || error.quoted.source != m->ip.destination)
		return COUNT_icmp_quote;
	map_address(m->flow.client, error.quoted.destination);
	map_address(m->flow.vip, error.quoted.source);
	m->flow.client_port = error.destination;
	m->flow.vip_port = error.source;
	m->flow.zero = 0;
	return -1;
}

/*
 * Loads and verifies the message behind m->outer, whose settings, self_test and interface are set. Returns the counter
 * of the first fault, or -1: then the header was written, lately, by a holder of the key, for this connection.
 */
static __noinline int message_fault(struct __sk_buff *skb, struct message *m)
{
	__u32 ip_bytes = bpf_ntohs(m->outer.ip.total_length);
	struct tag_key *key;
	__s64 age;
	int fault;

	if (ip_bytes > skb->len - OUTER_AT || bpf_ntohs(m->outer.udp.length) + sizeof(struct ipv4) != ip_bytes)
		return COUNT_outer_length;
	if (ip_bytes < TUNNEL_BYTES + QUOTE_BYTES ||
	    bpf_skb_load_bytes(skb, HEADER_AT, &m->header, sizeof(m->header) + QUOTE_BYTES))
		return COUNT_truncated;
	fault = header_fault(&m->header);
	if (fault >= 0)
		return fault;
	if (m->ip.version_length >> 4 != 4)
		return COUNT_inner_not_ipv4;
	if ((m->ip.version_length & 15) != sizeof(struct ipv4) / 4)
		return COUNT_inner_options;
	fault = m->header.type == TYPE_ICMP ? icmp_fault(skb, m) : inner_fault(m);
	if (fault >= 0)
		return fault;
	m->vip = vip_at(m->flow.vip, m->flow.vip_port);
	if (!m->vip)
		return COUNT_not_a_vip;
	key = key_of(m);
	if (!key || !key->valid)
		return COUNT_unknown_key;
	if (m->header.tag != tag_of(&m->header, &m->flow, key))
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
