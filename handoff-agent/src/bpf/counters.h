/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Every counter of the BPF programs: its name and what it says, for C and for Rust (build.rs reads the lines that begin
 * with a tab and "X("). What ends a packet's way says so: its text begins with "dropped" or "bounced".
 */
#ifndef BATON_COUNTERS_H
#define BATON_COUNTERS_H

#define COUNTERS(X) \
	X(received, "messages that arrived at the handoff port, again for each time one was queued again") \
	X(outer_options, "dropped: the outer IPv4 header has options") \
	X(outer_fragment, "dropped: the outer packet is a fragment") \
	X(outer_length, "dropped: outer IP, UDP and frame lengths disagree") \
	X(truncated, "dropped: too short for a header and a TCP/IPv4 packet") \
	X(bad_magic, "dropped: not a handoff header") \
	X(bad_version, "dropped: header version not spoken here") \
	X(unknown_type, "dropped: message type not known") \
	X(unsupported_type, "dropped: message type not for a backend, or not supported by this agent") \
	X(bad_options, "dropped: flags or window scales that cannot be") \
	X(bad_reserved, "dropped: reserved byte of the header is not zero") \
	X(inner_not_ipv4, "dropped: the client's packet is not IPv4") \
	X(inner_options, "dropped: the client's packet has IPv4 options") \
	X(inner_fragment, "dropped: the client's packet is a fragment") \
	X(inner_not_tcp, "dropped: the client's packet is not TCP") \
	X(inner_length, "dropped: the client's packet and the tunnel disagree on its length") \
	X(inner_syn, "dropped: the client's packet carries SYN") \
	X(not_a_vip, "dropped: the client's packet is for no VIP served here") \
	X(unknown_key, "dropped: key id that is not in the key file") \
	X(bad_tag, "dropped: the tag is wrong: forged, damaged, or the key files differ") \
	X(clock_unknown, "dropped: the switch's clock is not known yet, so freshness cannot be judged") \
	X(stale, "dropped: issued too long ago: delayed or replayed") \
	X(future, "dropped: issued in the future: clocks disagree") \
	X(icmp_not_error, "dropped: in an ICMP message, no ICMP error of type 3, 11 or 12") \
	X(icmp_length, "dropped: an ICMP error and the tunnel disagree on its length, or it is too short to quote a flow") \
	X(icmp_quote, "dropped: an ICMP error that quotes no TCP/IPv4 packet of the address it is sent to") \
	X(delivered, "client packets taken out of the tunnel and given to their socket") \
	X(delivered_time_wait, "client packets taken out of the tunnel and given to a socket in TIME_WAIT") \
	X(delivered_unrecorded, "client packets given to a socket that is older than the records, and fits") \
	X(icmp_delivered, "ICMP errors taken out of the tunnel and given to the stack") \
	X(asked, "questions of the switch whether a connection lives here") \
	X(asked_mine, "answered: the connection has a socket here") \
	X(asked_not_here, "answered: the connection has no socket here") \
	X(asked_unborn, "dropped: a question about a connection whose socket is being made; the switch asks again") \
	X(assigned, "handoffs the kernel accepted, once per generation") \
	X(assigned_again, "handoffs the kernel accepted again for a generation that had no socket yet") \
	X(unborn, "handoffs the kernel had accepted, but no socket was there when the client tried again") \
	X(born, "handoffs that became sockets") \
	X(requeued, "client packets queued again behind the handoff they came with") \
	X(not_base, "dropped: no socket, and not the segment that may create one") \
	X(not_creating, "dropped: base segment without ACK, with RST, or with another acknowledgment than the header's") \
	X(refused_no_listener, "bounced: nothing listens at the VIP") \
	X(refused_queue_full, "bounced: the listener's accept queue is full") \
	X(refused_not_ready, "bounced: this backend is not ready") \
	X(refused_kernel, "bounced: the kernel would not take the connection") \
	X(refused_records_full, "bounced: too many recent connections to remember them all") \
	X(refused_occupied, "bounced: a live socket holds the 4-tuple and nothing proves that it is older") \
	X(refused_again, "bounced again: its generation had been refused before") \
	X(records_full, "dropped: no room to remember even a refusal") \
	X(overtaken, "dropped: another copy of the handoff, or a newer one of its connection, was taken at the same moment") \
	X(gone_old_generation, "dropped, the switch told: the generation is older than one already used") \
	X(gone_no_socket, "dropped, the switch told: the connection has no socket here") \
	X(healed, "handoffs that met a stale socket, which was reset to make room") \
	X(heal_failed, "dropped: a handoff that met a stale socket could not be queued again") \
	X(plain_no_socket, "dropped: plain TCP for a VIP without a socket") \
	X(plain_fragment, "dropped: fragment of plain TCP for a VIP") \
	X(plain_reported, "plain TCP without a socket reported to the switch") \
	X(plain_unreported, "plain TCP without a socket not reported: over the rate, or the switch is not known") \
	X(self_test, "messages of the self-test, also counted by what ended them") \
	X(self_test_assigned, "handoffs of the self-test the kernel accepted") \
	X(self_test_born, "handoffs of the self-test that became sockets") \
	X(sessions_named, "TLS sessions servers named in a ServerHello, begun or resumed, given to the agent") \
	X(sessions_lost, "TLS sessions servers named that the agent did not fetch in time") \
	X(sessions_unnamed, "ServerHellos that name no session to come back to: of a new session with a ticket, or of TLS 1.3") \
	X(sessions_unread, "ServerHellos not whole in the server's first segment, or not of a form that can be read") \
	X(internal, "dropped: a BPF helper failed where it should not")

#endif
