/* SPDX-License-Identifier: GPL-2.0 */
/* SipHash-2-4 (Aumasson and Bernstein, 2012) over a header's first 48 bytes and a canonical 4-tuple of 40. */
#ifndef BATON_SIPHASH_H
#define BATON_SIPHASH_H

#include "intf.h"

#if __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "SipHash reads little-endian words; add the swaps before building for a big-endian host"
#endif

struct sip_state {
	__u64 v0, v1, v2, v3;
};

static __always_inline __u64 rotate_left(__u64 word, int bits)
{
	return word << bits | word >> (64 - bits);
}

static __always_inline void sip_round(struct sip_state *s)
{
	s->v0 += s->v1;
	s->v1 = rotate_left(s->v1, 13) ^ s->v0;
	s->v0 = rotate_left(s->v0, 32);
	s->v2 += s->v3;
	s->v3 = rotate_left(s->v3, 16) ^ s->v2;
	s->v0 += s->v3;
	s->v3 = rotate_left(s->v3, 21) ^ s->v0;
	s->v2 += s->v1;
	s->v1 = rotate_left(s->v1, 17) ^ s->v2;
	s->v2 = rotate_left(s->v2, 32);
}

static __always_inline void sip_word(struct sip_state *s, __u64 word)
{
	s->v3 ^= word;
	sip_round(s);
	sip_round(s);
	s->v0 ^= word;
}

#define TAGGED_WORDS 6
#define TUPLE_WORDS 5
#define SIP_BYTES (8ULL * (TAGGED_WORDS + TUPLE_WORDS))

/* Returns the tag as it stands on the wire. */
static __noinline __be64 tag_of(const struct handoff_header *header, const struct flow_key *flow,
				const struct tag_key *key)
{
	const __u64 *words = (const __u64 *)header;
	struct sip_state s = {
		.v0 = key->k0 ^ 0x736f6d6570736575ULL,
		.v1 = key->k1 ^ 0x646f72616e646f6dULL,
		.v2 = key->k0 ^ 0x6c7967656e657261ULL,
		.v3 = key->k1 ^ 0x7465646279746573ULL,
	};
	int i;

	for (i = 0; i < TAGGED_WORDS; i++)
		sip_word(&s, words[i]);
	words = (const __u64 *)flow;
	for (i = 0; i < TUPLE_WORDS; i++)
		sip_word(&s, words[i]);
	sip_word(&s, SIP_BYTES << 56);
	s.v2 ^= 0xff;
	for (i = 0; i < 4; i++)
		sip_round(&s);
	return bpf_cpu_to_be64(s.v0 ^ s.v1 ^ s.v2 ^ s.v3);
}

#endif
