/* SPDX-License-Identifier: GPL-2.0 */
/* The maps, and the two operations on them that everything uses: counting and remembering. */
#ifndef BATON_MAPS_H
#define BATON_MAPS_H

#include "intf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct settings);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, KEYS_ENTRIES);
	__type(key, __u32);
	__type(value, struct tag_key);
} keys SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(max_entries, 256); /* two for each of at most 64 VIPs, and room to exchange them */
	__type(key, struct vip_key);
	__type(value, __u32);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 262144); /* the agent sets it from its configuration before loading */
	__type(key, struct flow_key);
	__type(value, struct record);
} records SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct window);
} window SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct counters);
} counters SEC(".maps");

static __always_inline void count(enum counter which)
{
	__u32 entry = 0;
	struct counters *all = bpf_map_lookup_elem(&counters, &entry);

	if (all && which < COUNTERS_LENGTH)
		all->values[which]++;
}

static __always_inline int drop(enum counter why)
{
	count(why);
	return VERDICT_DROP;
}

static __always_inline struct settings *current_settings(void)
{
	__u32 entry = 0;

	return bpf_map_lookup_elem(&settings, &entry);
}

static __always_inline bool is_vip(const __be32 *address, __be16 port)
{
	struct vip_key key = { .address = { address[0], address[1], address[2], address[3] }, .port = port };

	return bpf_map_lookup_elem(&vips, &key) != NULL;
}

/* IPv4 addresses stand as IPv4-mapped IPv6 ones. */
static __always_inline void map_address(__be32 *mapped, __be32 address)
{
	mapped[0] = 0;
	mapped[1] = 0;
	mapped[2] = bpf_htonl(0xffff);
	mapped[3] = address;
}

static __always_inline __u64 monotonic_us(void)
{
	return bpf_ktime_get_ns() / 1000;
}

/* Says how many records were made in this window and the one before: no fewer than still matter. */
static __always_inline __u64 recent_records(__u64 now_us)
{
	__u32 entry = 0;
	__u64 epoch = now_us / WINDOW_US, seen;
	struct window *w = bpf_map_lookup_elem(&window, &entry);

	if (!w)
		return ~0ULL;
	seen = w->epoch;
	if (seen != epoch && __sync_val_compare_and_swap(&w->epoch, seen, epoch) == seen) {
		w->start_before = seen + 1 == epoch ? w->start : w->total;
		w->start = w->total;
	}
	return w->total - w->start_before;
}

/* How full the window may be, in records, for what is to be remembered. */
static __always_inline __u64 room_for_connections(const struct settings *s)
{
	return s->records_capacity / 2;
}

static __always_inline __u64 room_for_refusals(const struct settings *s)
{
	return s->records_capacity / 4 * 3;
}

/* Stores the highest generation of a 4-tuple. Says whether it is stored: if not, nothing may come of the handoff. */
static __noinline bool remember(const struct flow_key *flow, const struct record *record, bool new_generation)
{
	__u32 entry = 0;
	struct window *w = bpf_map_lookup_elem(&window, &entry);

	if (!w || bpf_map_update_elem(&records, flow, record, BPF_ANY))
		return false;
	if (new_generation)
		__sync_fetch_and_add(&w->total, 1);
	return true;
}

/* Notes that the socket of an assigned handoff was seen, once. */
static __always_inline void note_birth(struct record *record)
{
	if (record->state == RECORD_ASSIGNED &&
	    __sync_val_compare_and_swap(&record->state, RECORD_ASSIGNED, RECORD_BORN) == RECORD_ASSIGNED)
		count(record->self_test ? COUNT_self_test_born : COUNT_born);
}

#endif
