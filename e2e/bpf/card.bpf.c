// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * The benchmark's far ends, as network cards would be: frames that never were an skb, and frames that never become one.
 *
 *   card_sends  ─► frames in turn, by XDP_REDIRECT ─► the link (BPF_PROG_TEST_RUN with live frames, Linux 5.18)
 *   the link ─┬─► card_counts, at XDP: counted and dropped before there is an skb
 *             └─► stack_counts, at tc ingress: counted and dropped once there is one       all else: to the stack
 */

#include "../../dataplane/bpf/kernel.h"

#define XDP_DROP 1

HELPER(long, redirect, 23, u32 ifindex, u64 flags); /* 4.4 */

/* Ethernet, IPv4, GRE with one number: what differs between frames. */
#define HEAD 46

struct head {
	u16 words[HEAD / 2];
	u16 unused;
};
_Static_assert(sizeof(struct head) == 48, "card.rs");

/* Which of the heads comes next, and how many there are. */
struct turn {
	u32 next, count;
};

/* What is counted: where it is from and to, the Call IDs, and whether it goes on to the stack. Addresses as on the wire. */
struct wanted {
	u32 source, source_mask, destination, destination_mask;
	u16 first, last; /* as numbers */
	u16 to[3];       /* MAC address */
	u16 pass;
};
_Static_assert(sizeof(struct wanted) == 28, "card.rs");

SEC("maps") struct map heads = {BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct head), 1, 0};
SEC("maps") struct map turns = {BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct turn), 1, 0};
SEC("maps") struct map wanteds = {BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct wanted), 1, 0};
SEC("maps") struct map counted = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(u64), 1, 0};

/* The link, in both roles: set before it is loaded. */
SEC(".rodata") const volatile u32 LINK = 0;

SEC("license") const char licence[] = "Dual MIT/GPL";

SEC("xdp") int card_sends(struct xdp_md *ctx)
{
	u32 key = 0;
	struct turn *turn = map_lookup_elem(&turns, &key);
	u16 *data = (void *)(unsigned long)ctx->data;

	if (!turn || (void *)data + HEAD > (void *)(unsigned long)ctx->data_end)
		return XDP_DROP;
	key = turn->next;
	turn->next = key + 1 < turn->count ? key + 1 : 0;

	/* Every time: a frame comes again as it was sent before. */
	struct head *head = map_lookup_elem(&heads, &key);

	if (!head)
		return XDP_DROP;
#pragma unroll
	for (int at = 0; at < HEAD / 2; at++)
		data[at] = head->words[at];
	return redirect(LINK, 0);
}

/* Whether a frame is GRE, and to be taken; if so, it is counted where it is as it should be. */
static inline __attribute__((always_inline)) int taken(u16 *data, void *end)
{
	u32 key = 0;
	struct wanted *wanted = map_lookup_elem(&wanteds, &key);
	u64 *count = map_lookup_elem(&counted, &key);

	if (!wanted || !count || wanted->pass || (void *)data + HEAD > end)
		return 0;

	/* Of Ethernet: to, type; of IPv4: protocol, source, destination; of GRE: Call ID. */
	u32 source = data[13] | (u32)data[14] << 16, destination = data[15] | (u32)data[16] << 16;
	u16 call_id = NET16(data[20]);

	if (data[6] != NET16(ETH_P_IP) || data[11] >> 8 != 47)
		return 0;
	if (data[0] == wanted->to[0] && data[1] == wanted->to[1] && data[2] == wanted->to[2] &&
	    (source & wanted->source_mask) == wanted->source &&
	    (destination & wanted->destination_mask) == wanted->destination &&
	    call_id >= wanted->first && call_id <= wanted->last)
		*count += 1;
	return 1;
}

SEC("xdp") int card_counts(struct xdp_md *ctx)
{
	return taken((void *)(unsigned long)ctx->data, (void *)(unsigned long)ctx->data_end) ? XDP_DROP : XDP_PASS;
}

SEC("classifier") int stack_counts(struct __sk_buff *skb)
{
	return taken((void *)(unsigned long)skb->data, (void *)(unsigned long)skb->data_end) ? TC_ACT_SHOT :
											       TC_ACT_UNSPEC;
}
