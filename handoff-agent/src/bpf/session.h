/* SPDX-License-Identifier: GPL-2.0 */
/*
 * TLS sessions a client can come back to by their id: those a ServerHello up to TLS 1.2 names (RFC 5246, sections 6.2.1
 * and 7.4.1.3) at the very beginning of what the server says. The id is the server's own, of a session it has begun to
 * keep; or the client's, repeated because the server resumes what it stands for: a session it keeps, or a ticket beside
 * which the client sent an id it made up (RFC 5077, section 3.4). Only the ClientHello would tell these apart, which is
 * gone by then, and whoever has the id is well sent to this server in each case. Clients that make up another id each time
 * never come back by it.
 *
 * TLS 1.3 repeats what the client made up, whether anything is resumed or not (RFC 8446, section 4.1.3), and a server that
 * gives a ticket with a new session names none (RFC 5077, section 3.4).
 *
 * Not read: a ServerHello that goes on in another TLS record or another segment, or has more than TLS_EXTENSIONS_MAX
 * extensions. Nothing of it is believed to be longer than the packet.
 */
#ifndef BATON_SESSION_H
#define BATON_SESSION_H

#include "measure.h"

enum tls {
	TLS_HANDSHAKE = 22,
	TLS_SERVER_HELLO = 2,
	TLS_MAJOR = 3,
	TLS_MINOR_FIRST = 1, /* TLS 1.0 */
	TLS_MINOR_LAST = 3, /* TLS 1.2, and what calls itself so */
	TLS_SUPPORTED_VERSIONS = 43,
};

#define TLS_RECORD_HEADER_BYTES 5
#define TLS_MESSAGE_HEADER_BYTES 4
/* What else of a ServerHello has a fixed length: version, random, length of the id, cipher suite, compression method. */
#define TLS_HELLO_FIXED_BYTES (2 + 32 + 1 + 2 + 1)
#define TLS_EXTENSIONS_MAX 32

struct tls_hello {
	__u8 record_type;
	__u8 record_version[2];
	__u8 record_length[2];
	__u8 type;
	__u8 length[3];
	__u8 version[2];
	__u8 random[32];
	__u8 id_length;
};

_Static_assert(sizeof(struct tls_hello) == 44, "a ServerHello up to its session id");

struct tls_extension {
	__be16 type;
	__be16 length;
};

/* Where a walk over extensions is. */
struct tls_walk {
	struct __sk_buff *skb;
	__u32 at;
	__u32 end;
	bool is_1_3;
};

/* Passes over one extension; says whether to stop. */
static long pass_extension(__u64 turn, void *context)
{
	struct tls_walk *walk = context;
	struct tls_extension extension;

	(void)turn;
	if (walk->at >= walk->end || bpf_skb_load_bytes(walk->skb, walk->at, &extension, sizeof(extension)))
		return 1;
	walk->is_1_3 |= extension.type == bpf_htons(TLS_SUPPORTED_VERSIONS);
	walk->at += sizeof(extension) + bpf_ntohs(extension.length);
	return walk->is_1_3;
}

/*
 * Says whether the extensions from `at` to `end` can be read, and whether they make the ServerHello one of TLS 1.3.
 * Returns the counter that says why there is nothing to learn, or -1.
 */
static __noinline int extensions_fault(struct __sk_buff *skb, __u32 at, __u32 end)
{
	struct tls_walk walk = { .skb = skb, .at = at + 2, .end = end };
	__be16 length;

	if (at == end)
		return -1; /* none at all (RFC 5246, section 7.4.1.3) */
	if (bpf_skb_load_bytes(skb, at, &length, sizeof(length)) || at + 2 + bpf_ntohs(length) != end)
		return COUNT_sessions_unread;
	bpf_loop(TLS_EXTENSIONS_MAX, pass_extension, &walk, 0);
	if (walk.is_1_3)
		return COUNT_sessions_unnamed;
	return walk.at == end ? -1 : COUNT_sessions_unread;
}

static __noinline bool fill_session(struct __sk_buff *skb, const struct flow_key *flow, struct session *session,
				    __u32 at, __u32 length)
{
	__builtin_memset(session, 0, sizeof(*session));
	__builtin_memcpy(session->vip.address, flow->vip, sizeof(session->vip.address));
	session->vip.port = flow->vip_port;
	session->length = length;
	return length >= 1 && length <= SESSION_ID_BYTES_MAX &&
	       !bpf_skb_load_bytes(skb, at, session->id, length);
}

/* Gives a session to the agent. */
static __always_inline void tell_session(struct __sk_buff *skb, const struct flow_key *flow, __u32 at, __u32 length)
{
	struct session *session = bpf_ringbuf_reserve(&sessions, sizeof(*session), 0);

	if (!session) {
		count(COUNT_sessions_lost);
		return;
	}
	if (!fill_session(skb, flow, session, at, length)) {
		bpf_ringbuf_discard(session, 0);
		count(COUNT_sessions_unread);
		return;
	}
	bpf_ringbuf_submit(session, 0);
	count(COUNT_sessions_named);
}

/* Looks for a ServerHello in the first bytes a server says, `payload` of them at `at`. */
static __noinline void learn_session(struct __sk_buff *skb, const struct flow_key *flow, __u32 at, __u32 payload)
{
	struct tls_hello hello;
	__u32 record, message, id_at = at + sizeof(hello);
	int fault;

	if (bpf_skb_load_bytes(skb, at, &hello, TLS_RECORD_HEADER_BYTES + 1) || hello.record_type != TLS_HANDSHAKE ||
	    hello.record_version[0] != TLS_MAJOR || hello.type != TLS_SERVER_HELLO)
		return;
	if (payload < sizeof(hello) || bpf_skb_load_bytes(skb, at, &hello, sizeof(hello))) {
		count(COUNT_sessions_unread);
		return;
	}
	if (!hello.id_length) {
		count(COUNT_sessions_unnamed);
		return;
	}
	record = hello.record_length[0] << 8 | hello.record_length[1];
	message = hello.length[0] << 16 | hello.length[1] << 8 | hello.length[2];
	/* What follows it in the same record may be longer than the segment. */
	if (hello.version[0] != TLS_MAJOR || hello.version[1] < TLS_MINOR_FIRST || hello.version[1] > TLS_MINOR_LAST ||
	    hello.id_length > SESSION_ID_BYTES_MAX || message < TLS_HELLO_FIXED_BYTES + hello.id_length ||
	    record < TLS_MESSAGE_HEADER_BYTES + message ||
	    payload < TLS_RECORD_HEADER_BYTES + TLS_MESSAGE_HEADER_BYTES + message) {
		count(COUNT_sessions_unread);
		return;
	}
	fault = extensions_fault(skb, id_at + hello.id_length + 3,
				 at + TLS_RECORD_HEADER_BYTES + TLS_MESSAGE_HEADER_BYTES + message);
	if (fault >= 0)
		count(fault);
	else
		tell_session(skb, flow, id_at, hello.id_length);
}

#endif
