/* SPDX-License-Identifier: GPL-2.0 */
/* Answers to WHO-HAS. Nothing here makes, ends or feeds a socket. */
#ifndef BATON_ASKED_H
#define BATON_ASKED_H

#include "create.h"

/* Says whether the handoff of a record is becoming a socket right now, or making room for one. */
static __always_inline bool is_unborn(const struct message *m, const struct record *record)
{
	return (record->state == RECORD_ASSIGNED || record->state == RECORD_HEALING) &&
	       (__s64)(m->now_us - record->changed_us) < BIRTH_US;
}

/* Tells the switch that the connection lives here, and how far it is. */
static __always_inline int mine(struct __sk_buff *skb, struct message *m, const struct record *record,
				const struct met *met)
{
	/* A refused handoff, or one that waits for the end of this very socket, is not the one that made it. */
	bool known = record && (record->state == RECORD_ASSIGNED || record->state == RECORD_BORN);

	count(COUNT_asked_mine);
	m->header.base_seq = bpf_htonl(met->rcv_nxt);
	m->header.base_ack = bpf_htonl(met->snd_nxt);
	m->header.generation = known ? bpf_cpu_to_be64(record->generation) : 0;
	return answer(skb, m, TYPE_MINE, met->told);
}

/*
 * Answers the question whether the connection lives here. Of a handoff of the asked generation or a newer one whose
 * socket is only being made, nothing true can be said: the switch asks again.
 */
static __always_inline int asked(struct __sk_buff *skb, struct message *m, const struct record *record,
				 const struct met *met)
{
	bool meant = record && (!m->generation || (__s64)(record->generation - m->generation) >= 0);

	count(COUNT_asked);
	if (meant && is_unborn(m, record) && (record->state == RECORD_HEALING || !is_connection(met->state)))
		return drop(COUNT_asked_unborn);
	if (is_connection(met->state))
		return mine(skb, m, record, met);
	count(COUNT_asked_not_here);
	m->header.generation = record ? bpf_cpu_to_be64(record->generation) : 0;
	return answer(skb, m, TYPE_GONE, DETAIL_NO_SOCKET);
}

#endif
