/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The few kernel types the programs look into. Field offsets come from the running kernel's BTF (CO-RE), so this
 * builds where the build machine has none.
 */
#ifndef BATON_KERNEL_H
#define BATON_KERNEL_H

#include <linux/types.h>

#pragma clang attribute push(__attribute__((preserve_access_index)), apply_to = record)

struct ns_common {
	unsigned int inum;
};

struct net {
	struct ns_common ns;
};

typedef struct {
	struct net *net;
} possible_net_t;

struct sock_common {
	__be32 skc_rcv_saddr;
	possible_net_t skc_net;
	__u32 skc_tw_rcv_nxt;
	__u32 skc_tw_snd_nxt;
};

struct sock {
	struct sock_common __sk_common;
	__u16 sk_protocol;
	__u32 sk_ack_backlog;
	__u32 sk_max_ack_backlog;
};

struct inet_sock {
	__be16 inet_sport;
};

struct tcp_sock {
	__u32 rcv_nxt;
	__u32 snd_nxt;
};

struct inet_timewait_sock {
	struct sock_common __tw_common;
	unsigned char tw_substate; /* TIME_WAIT, or FIN_WAIT2 that outlived its process */
};

struct tcp_timewait_sock {
	struct inet_timewait_sock tw_sk;
};

#pragma clang attribute pop

/* Passed by value and size: must be as the kernel has it. */
struct bpf_tcp_req_attrs {
	__u32 rcv_tsval;
	__u32 rcv_tsecr;
	__u16 mss;
	__u8 rcv_wscale;
	__u8 snd_wscale;
	__u8 ecn_ok;
	__u8 wscale_ok;
	__u8 sack_ok;
	__u8 tstamp_ok;
	__u8 usec_ts_ok;
	__u8 reserved[3];
};

/* Makes the kernel build an ESTABLISHED socket of this listener from the packet. Linux 6.8, tc ingress only. */
extern int bpf_sk_assign_tcp_reqsk(struct __sk_buff *skb, struct sock *listener, struct bpf_tcp_req_attrs *attrs,
				   int attrs__sz) __ksym;

/* What a tcx program returns (linux/bpf.h has it from 6.6 on). */
enum tcx_verdict {
	VERDICT_NEXT = -1, /* not ours: let the next program or the stack decide */
	VERDICT_PASS = 0,
	VERDICT_DROP = 2,
	VERDICT_REDIRECT = 7,
};

#define ETH_P_IP 0x0800
#define ETH_HEADER_BYTES 14
#define PACKET_HOST 0
#define PROTOCOL_ICMP 1
#define PROTOCOL_TCP 6
#define PROTOCOL_UDP 17
#define FRAGMENT_DONT 0x4000
#define FRAGMENT_MORE 0x2000
#define FRAGMENT_OFFSET 0x1fff

struct ipv4 {
	__u8 version_length;
	__u8 tos;
	__be16 total_length;
	__be16 id;
	__be16 fragment;
	__u8 ttl;
	__u8 protocol;
	__u16 checksum;
	__be32 source;
	__be32 destination;
};

struct udp {
	__be16 source;
	__be16 destination;
	__be16 length;
	__u16 checksum;
};

struct tcp {
	__be16 source;
	__be16 destination;
	__be32 seq;
	__be32 ack;
	__u8 offset;
	__u8 flags;
	__be16 window;
	__u16 checksum;
	__be16 urgent;
};

struct icmp {
	__u8 type;
	__u8 code;
	__u16 checksum;
	__be32 rest;
};

/* The ICMP errors that quote the packet they speak of. */
enum icmp_error_type {
	ICMP_UNREACHABLE = 3,
	ICMP_TIME_EXCEEDED = 11,
	ICMP_PARAMETER_PROBLEM = 12,
};

enum tcp_flag {
	TCP_FIN = 0x01,
	TCP_SYN = 0x02,
	TCP_RST = 0x04,
	TCP_ACK = 0x10,
};

#endif
