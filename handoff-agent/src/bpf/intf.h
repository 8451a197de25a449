/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the BPF programs share with user space and with the wire. The Rust side is src/bpf/abi.rs for the maps and
 * handoff_proto::header for the wire; tests/abi.rs compares both with the types compiled here.
 */
#ifndef BATON_INTF_H
#define BATON_INTF_H

#include <linux/types.h>

#include "counters.h"

#define HANDOFF_PORT 7171
#define HANDOFF_MAGIC 0x42544f4e /* "BTON" */
#define HANDOFF_VERSION 1
#define FRESHNESS_PAST_US 2000000LL
#define FRESHNESS_FUTURE_US 1000000LL
#define WSCALE_MAX 14

/* handoff_proto::MessageType */
enum message_type {
	TYPE_HANDOFF = 1,
	TYPE_FORWARD = 2,
	TYPE_GONE = 6,
	TYPE_REFUSED = 7,
	TYPE_WHO_HAS = 8,
	TYPE_MINE = 9,
	TYPE_ICMP = 10,
	TYPE_LAST = 10,
};

enum header_flag {
	FLAG_WSCALE = 1 << 0,
	FLAG_SACK = 1 << 1,
	FLAG_TIMESTAMPS = 1 << 2,
	FLAG_ECN = 1 << 3,
	FLAGS_KNOWN = FLAG_WSCALE | FLAG_SACK | FLAG_TIMESTAMPS | FLAG_ECN,
};

/* handoff_proto::header::LCORE_ANY: whichever lcore has the flow. */
#define LCORE_ANY 255

/* handoff_proto::header::Detail; of MINE, the detail is an enum tcp_state of the kernel's */
enum detail {
	DETAIL_NONE = 0,
	DETAIL_NO_LISTENER = 1,
	DETAIL_QUEUE_FULL = 2,
	DETAIL_NOT_READY = 3,
	DETAIL_KERNEL_REFUSED = 4,
	DETAIL_RECORDS_FULL = 5,
	DETAIL_OCCUPIED = 6,
	DETAIL_OLD_GENERATION = 7,
	DETAIL_NO_SOCKET = 8,
};

/* The handoff header on the wire, network byte order: handoff_proto::header. */
struct handoff_header {
	__be32 magic;
	__u8 version;
	__u8 type;
	__be16 flags;
	__u8 wscale; /* send << 4 | receive */
	__u8 key_id;
	__be16 mss;
	__be32 base_seq;
	__be32 base_ack;
	__be32 tsval;
	__be32 tsecr;
	__be16 detail;
	__u8 lcore;
	__u8 reserved;
	__be64 generation;
	__be64 issued;
	__be64 tag;
};

/* A 4-tuple in the canonical form of handoff_proto::FourTuple::to_bytes: also what the tag covers. */
struct flow_key {
	__be32 client[4];
	__be32 vip[4];
	__be16 client_port;
	__be16 vip_port;
	__u32 zero;
} __attribute__((aligned(8)));

/*
 * Key of the `vips` map; the value is one more than the VIP's place in `traffic`. With port 0 it stands for the address at
 * any port, and the value says nothing.
 */
struct vip_key {
	__be32 address[4];
	__be16 port;
	__u16 zero;
};

#define VIPS_MAX 64 /* handoff_proto::control */

/* Key of the `keys` map is the key id; one more entry holds the key of the self-test. */
#define KEY_SELF_TEST 256
#define KEYS_ENTRIES 257

struct tag_key {
	__u64 k0; /* the 16 bytes of the key, little-endian */
	__u64 k1;
	__u32 valid;
	__u32 zero;
};

enum setting_flag {
	SETTING_CLOCK_KNOWN = 1 << 0,
	SETTING_READY = 1 << 1,
	SETTING_SWITCH_KNOWN = 1 << 2,
	SETTING_SELF_TEST = 1 << 3,
};

/* The one entry of the `settings` map, written by the agent only. */
struct settings {
	__s64 clock_offset_us; /* the switch's clock less CLOCK_MONOTONIC */
	__u64 records_since_us; /* CLOCK_MONOTONIC from when on `records` has every handoff; before, in the far future */
	__u32 flags; /* enum setting_flag */
	__u32 records_capacity;
	__be32 address; /* of this host on the data network */
	__be32 switch_address; /* on the data network */
	__be32 self_test_client; /* outer and inner source of the self-test */
	__u32 interface; /* index of the data interface */
	__u32 self_test_interface; /* where answers to the self-test go */
	__u32 key_id; /* tags what no message asked for */
};

enum record_state {
	RECORD_ASSIGNED = 1, /* the kernel accepted the handoff */
	RECORD_BORN = 2, /* its socket was seen */
	RECORD_REFUSED = 3, /* bounced to the switch */
	RECORD_KILLED = 4, /* given up; reserved */
	RECORD_HEALING = 5, /* an older socket was reset to make room */
};

enum record_flag {
	RECORD_SELF_TEST = 1 << 0, /* the self-test's own: it counts as no connection */
	RECORD_SPOKEN = 1 << 1, /* its server has sent its first bytes */
};

/* Value of the `records` map: the highest generation used for a 4-tuple. */
struct record {
	__u64 generation;
	__u64 changed_us; /* CLOCK_MONOTONIC */
	__u32 state; /* enum record_state */
	__u16 detail; /* of a refusal: enum detail */
	__u8 tries; /* heals or repeated queueing so far */
	__u8 flags; /* enum record_flag */
	__u64 asked_us; /* CLOCK_MONOTONIC when the client's last bytes came that no answer followed yet; 0 for none */
};

enum counter {
#define X(name, text) COUNT_##name,
	COUNTERS(X)
#undef X
	COUNTERS_LENGTH,
};

/* The one entry of the `counters` map, per CPU. */
struct counters {
	__u64 values[COUNTERS_LENGTH];
};

/* What VIPs received, sent and answered: an entry of the `traffic` map, per CPU. */
struct traffic {
	__u64 bytes_in; /* TCP payload */
	__u64 packets_in;
	__u64 bytes_out;
	__u64 packets_out;
	__u64 answers; /* first bytes of the server after bytes of the client */
	__u64 answer_us; /* how long these took, summed */
};

#define SESSION_ID_BYTES_MAX 32 /* RFC 5246, section 7.4.1.2 */

/* A TLS session a server named: what the `sessions` ring gives the agent. */
struct session {
	struct vip_key vip;
	__u8 length; /* of the id, 1 to SESSION_ID_BYTES_MAX */
	__u8 zero[3];
	__u8 id[SESSION_ID_BYTES_MAX];
};

/* The one entry of the `sockets` map. */
struct sockets {
	__s64 open; /* established connections at the VIPs, since the agent last began to count */
	__u32 namespace; /* inode number of the network namespace whose sockets count; 0 for none */
	__u32 zero;
};

/*
 * The one entry of the `window` map: how many records were made, so that the LRU map is never asked to forget one
 * whose handoff would still count as fresh.
 */
struct window {
	__u64 epoch; /* CLOCK_MONOTONIC / WINDOW_US */
	__u64 total;
	__u64 start; /* total when the epoch began */
	__u64 start_before; /* total when the epoch before it began */
	__u64 report_second; /* for the rate of reports on plain packets */
	__u64 reports;
};

#define WINDOW_US (FRESHNESS_PAST_US + FRESHNESS_FUTURE_US)

_Static_assert(sizeof(struct handoff_header) == 56, "the header has 56 bytes");
_Static_assert(__builtin_offsetof(struct handoff_header, generation) == 32, "generation at byte 32");
_Static_assert(__builtin_offsetof(struct handoff_header, tag) == 48, "the tag is last");
_Static_assert(sizeof(struct flow_key) == 40, "the canonical 4-tuple has 40 bytes");

#endif
