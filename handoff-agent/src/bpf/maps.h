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
	__uint(max_entries, 4 * VIPS_MAX); /* two for each VIP, and room to exchange them */
	__type(key, struct vip_key);
	__type(value, __u32);
} vips SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__uint(max_entries, 1); /* stands for agent.records: what loads the programs sets it first */
	__type(key, struct flow_key);
	__type(value, struct record);
} records SEC(".maps");

/*
 * Who stores a generation or notes a birth first takes the lock its 4-tuple falls on: generation, time, state and detail of a
 * record change under it alone. What is counted and measured beside them (tries, RECORD_SPOKEN, asked_us) is written
 * without it; what gets lost of that decides nothing. The kernel has no locks inside the values of an LRU map, and under its
 * own locks no map may be asked; so these are plain words, taken by compare-and-swap.
 */
#define RECORD_LOCKS 1024 /* a power of two */
/* How often a lock is tried for: some 20 us, many times what its holder needs. Then the packet is dropped. */
#define LOCK_TRIES_MAX 2048

struct record_lock {
	__u32 held;
	__u32 zero[15]; /* no two in one cache line */
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, RECORD_LOCKS);
	__type(key, __u32);
	__type(value, struct record_lock);
} record_locks SEC(".maps");

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

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__uint(max_entries, VIPS_MAX);
	__type(key, __u32);
	__type(value, struct traffic);
} traffic SEC(".maps");

/* A thousand sessions: an agent that is there fetches them as they come. */
struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, 65536);
} sessions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct sockets);
} sockets SEC(".maps");

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

/* Returns one more than the place of a VIP in `traffic`; 0 if it is not served here. */
static __always_inline __u32 vip_at(const __be32 *address, __be16 port)
{
	struct vip_key key = { .address = { address[0], address[1], address[2], address[3] }, .port = port };
	__u32 *place = bpf_map_lookup_elem(&vips, &key);

	return place ? *place : 0;
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
	/* Forward only: another processor may have read its clock a little earlier, on the other side of the boundary. */
	if ((__s64)(epoch - seen) > 0 && __sync_val_compare_and_swap(&w->epoch, seen, epoch) == seen) {
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

struct lock_attempt {
	struct record_lock *lock;
	__u32 taken;
};

/* One try for a lock; says whether to stop trying. */
static long try_lock(__u64 turn, void *context)
{
	struct lock_attempt *attempt = context;

	(void)turn;
	attempt->taken = __sync_val_compare_and_swap(&attempt->lock->held, 0, 1) == 0;
	return attempt->taken;
}

/* Takes the lock of a 4-tuple; NULL if others hold it too long. */
static __noinline struct record_lock *lock_record(const struct flow_key *flow)
{
	/* Knuth's multiplicative hash: the upper bits are the mixed ones. */
	__u32 hash = (flow->client[3] ^ ((__u32)flow->client_port << 16 | flow->vip_port)) * 2654435761U;
	__u32 entry = hash >> 16 & (RECORD_LOCKS - 1);
	struct lock_attempt attempt = { .lock = bpf_map_lookup_elem(&record_locks, &entry) };

	if (!attempt.lock)
		return NULL;
	bpf_loop(LOCK_TRIES_MAX, try_lock, &attempt, 0);
	return attempt.taken ? attempt.lock : NULL;
}

static __always_inline void unlock_record(struct record_lock *lock)
{
	__sync_val_compare_and_swap(&lock->held, 1, 0); /* an exchange that is a full barrier, too */
}

/* A handoff repeated sooner may have overtaken its own socket; later, the socket never came. */
#define BIRTH_US 100000LL

/*
 * Says whether a record may take the place of the known one. The highest generation stays. Within one generation, what
 * came of the handoff stays; and if the writer saw nothing of it before, another processor is at it. A refusal would
 * have the switch offer the request to another backend, so it must not overtake a copy that is becoming a socket: only
 * what assigned it, by the time in the record, knows that it does not.
 */
static __always_inline bool may_replace(const struct record *known, const struct record *record, bool new_generation)
{
	__s64 newer = (__s64)(record->generation - known->generation);
	__s64 age = (__s64)(record->changed_us - known->changed_us);

	if (newer != 0)
		return newer > 0;
	if (new_generation)
		return false;
	if (known->state == RECORD_ASSIGNED)
		return record->state != RECORD_REFUSED || age == 0 || age > BIRTH_US;
	return known->state == RECORD_HEALING;
}

#define STORED (-1)

/*
 * Stores a generation of a 4-tuple, unless that of a newer one is there: compared and exchanged under the lock, for
 * another processor may have a handoff of the same 4-tuple in hand. Returns STORED, or the counter that says why not;
 * then nothing may come of the handoff.
 */
static __noinline int remember(const struct flow_key *flow, const struct record *record, bool new_generation)
{
	struct record_lock *lock = lock_record(flow);
	__u32 entry = 0;
	struct record *known;
	struct window *w;
	int result;

	if (!lock)
		return COUNT_overtaken;
	w = bpf_map_lookup_elem(&window, &entry);
	known = bpf_map_lookup_elem(&records, flow);
	if (known && !may_replace(known, record, new_generation))
		result = COUNT_overtaken;
	else if (!w || bpf_map_update_elem(&records, flow, record, BPF_ANY))
		result = COUNT_records_full;
	else
		result = STORED;
	unlock_record(lock);
	if (result == STORED && w && new_generation)
		__sync_fetch_and_add(&w->total, 1);
	return result;
}

/*
 * Notes that the socket of an assigned handoff was seen, once. `record` was found without the lock, and may be out of
 * date; if the lock is not to be had, the next segment is noted.
 */
static __noinline void note_birth(const struct flow_key *flow, const struct record *record)
{
	__u64 generation = record->generation;
	struct record_lock *lock;
	struct record *known;
	bool born, self_test;

	if (record->state != RECORD_ASSIGNED)
		return;
	lock = lock_record(flow);
	if (!lock)
		return;
	known = bpf_map_lookup_elem(&records, flow);
	born = known && known->generation == generation &&
	       __sync_val_compare_and_swap(&known->state, RECORD_ASSIGNED, RECORD_BORN) == RECORD_ASSIGNED;
	self_test = known && known->flags & RECORD_SELF_TEST;
	unlock_record(lock);
	if (born)
		count(self_test ? COUNT_self_test_born : COUNT_born);
}

#endif
