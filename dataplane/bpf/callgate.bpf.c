// SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only
/*
 * GRE of live PPTP calls, at tc ingress: checked, one look-up, rewritten, straight out by the other link; and the same at XDP, before it,
 * where its owner wants that and both links can.
 *
 *   pod or server ─► link ─┬─► callgate_xdp ─┬─► bpf_redirect_map ─► the other link              a live call's, where both links can
 *                          │                 └─► XDP_PASS, untouched ─┐
 *                          └──────────────────────────────────────────┴─► callgate_gre ─┬─► bpf_redirect_neigh ─► the other link
 *                                                                                       └─► TC_ACT_UNSPEC, untouched ─► the ALG
 *
 * They decide nothing: whatever is not plain GRE of a call in the map is left to the ALG, which is complete without them.
 * callgate_gre needs no helper newer than Linux 5.11; CAP_BPF and CAP_NET_ADMIN, not CAP_PERFMON.
 */

#include "kernel.h"
#include "path.h"

/* A key of `uplinks`. */
struct uplink {
	u32 server; /* as on the wire */
	u32 link;
};
_Static_assert(sizeof(struct uplink) <= sizeof(struct next_hop), "it is looked for from there");

/* A server and a link that leads to it beside its calls' own: agent/src/fast/uplinks.rs. It has no name: each run fills its own. */
SEC("maps") struct map uplinks = {BPF_MAP_TYPE_HASH, sizeof(struct uplink), sizeof(u32), 1 << 14, BPF_F_NO_PREALLOC};
/* Where the way out is handed to the kernel, and what is looked for in `uplinks`. */
SEC("maps") struct map hop = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct next_hop), 1, 0};
SEC("maps") struct map left = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(u64), LEFT_REASONS, 0};

SEC("license") const char licence[] = "Dual MIT/GPL";

/*
 * Whether a server's answers may come by this link too; writes to *key. What is looked for lies in a map and not on the stack, which
 * the kernel takes since Linux 4.18.
 */
static inline int leads_to(u32 *key, struct path *path, struct __sk_buff *skb)
{
	*key = 0;

	struct uplink *uplink = map_lookup_elem(&hop, key);

	if (!uplink)
		return 0; /* never: element 0 is there */
	uplink->server = path->source;
	uplink->link = AGAIN(skb->ifindex);
	return map_lookup_elem(&uplinks, uplink) != 0;
}

SEC("classifier") int callgate_gre(struct __sk_buff *skb)
{
	/* Of maps: a bucket, at last the reason why a packet is left to the ALG. */
	u32 key;

	/* A packet for another machine is a bridge's; with a tag it is a VLAN's, whose own link it will come to. */
	if (skb->protocol != NET16(ETH_P_IP) || skb->pkt_type != PACKET_HOST || skb->vlan_present)
		return TC_ACT_UNSPEC;

	void *data = (void *)(unsigned long)skb->data;
	void *end = (void *)(unsigned long)skb->data_end;

	if (unlikely(data + HEADERS > end)) {
		/* Too short, or not all of it lies in one piece. */
		if (skb->len < HEADERS || skb_pull_data(skb, HEADERS))
			return TC_ACT_UNSPEC;
		data = (void *)(unsigned long)skb->data;
		end = (void *)(unsigned long)skb->data_end;
		if (data + HEADERS > end)
			return TC_ACT_UNSPEC;
	}

	struct ipv4 *ip = data + sizeof(struct ethernet);
	struct gre *gre = (void *)(ip + 1);

	if (ip->protocol != PROTOCOL_GRE)
		return TC_ACT_UNSPEC;
	if (unlikely(ip->version_length != WITHOUT_OPTIONS)) {
		key = LEFT_OPTIONS;
		goto leave;
	}
	if (unlikely(ip->fragment & FRAGMENT_OFFSET)) {
		key = LEFT_FRAGMENT;
		goto leave;
	}
	if ((gre->flags & (GRE_FORBIDDEN | GRE_KEY | GRE_VERSION)) != (GRE_KEY | GRE_VERSION_1) ||
	    gre->protocol != GRE_PPP)
		return TC_ACT_UNSPEC;

	struct path *path = find(&key, ip, gre);

	if (!path) {
		key = LEFT_UNKNOWN;
		goto leave;
	}
	/* A server's packet may come by any link that leads to it, a client's only by its own. By others anybody may have sent it. */
	if (unlikely(skb->ifindex != path->from_link) && (path->kind != DOWN || !leads_to(&key, path, skb))) {
		key = LEFT_LINK;
		goto leave;
	}

	/* Here for every packet of the call, also for those the ALG will carry: a gap is a gap on the way to us. */
	seen(path, gre);

	if (unlikely(skb->ifindex != AGAIN(path->from_link))) {
		key = LEFT_LINK;
		goto leave;
	}

	if (unlikely(ip->fragment & MORE_FRAGMENTS)) {
		key = LEFT_FRAGMENT;
		goto leave;
	}
	if (unlikely(ip->ttl <= 1)) {
		key = LEFT_TTL;
		goto leave;
	}
	if (unlikely(!fits(ip, gre, skb->len))) {
		key = LEFT_MALFORMED;
		goto leave;
	}
	/* What is behind the packet goes out too: a short frame's padding is below every MTU. */
	if (unlikely(skb->len - sizeof(struct ethernet) > path->mtu || skb->gso_size)) {
		key = LEFT_TOO_BIG;
		goto leave;
	}

	u16 kind = path->kind;

	if (unlikely(kind == FREE)) {
		/* It has ended just now. */
		key = LEFT_UNKNOWN;
		goto leave;
	}

	readdress(ip, path, kind);
	if (gre->call_id != path->id_beyond) {
		/* The IPv4 header's sum stays what it was; this part's does not, where a card has summed up the packet. */
		csum_update(skb, (u32)(u16)~gre->call_id + path->id_beyond);
		gre->call_id = path->id_beyond;
	}

	count(path, ip);
	key = 0;

	struct next_hop *to = map_lookup_elem(&hop, &key);

	if (!to)
		return TC_ACT_SHOT; /* never: element 0 is there */
	to->family = AF_INET;
	to->address[0] = path->next_hop;
	return redirect_neigh(path->to_link, to, sizeof(*to), 0);

leave:;
	u64 *count = map_lookup_elem(&left, &key);

	if (count)
		*count += 1;
	return TC_ACT_UNSPEC;
}

/* ---- of callgate_xdp alone: agent/src/fast/xdp.rs ---- */

/* A link the program is on, and by which frames may leave: keys and values are its number. */
SEC("maps") struct map cards_out = {BPF_MAP_TYPE_DEVMAP_HASH, sizeof(u32), sizeof(u32), 1, 0};
/* Its own MAC address. */
SEC("maps") struct map cards = {BPF_MAP_TYPE_HASH, sizeof(u32), 8, 1, BPF_F_NO_PREALLOC};

/* The MAC addresses of a frame by this link to this neighbour, remembered by each CPU for about a second. */
struct neighbour {
	u32 address, to_link; /* as in struct path */
	u32 from_link;
	u32 since;            /* when the kernel was asked; a STAMP */
	u16 own[3];           /* of from_link: only what is addressed to it is ours */
	u16 from[3], to[3];
	u16 unused;
};

#define NEIGHBOURS 1024
/* STAMPs. */
#define REMEMBERED 1000
SEC("maps") struct map neighbours = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct neighbour), 1, 0};
SEC("maps") struct map question = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(struct fib_lookup), 1, 0};
/* Packets passed on. */
SEC("maps") struct map by_xdp = {BPF_MAP_TYPE_PERCPU_ARRAY, sizeof(u32), sizeof(u64), 1, 0};

/* ---- end of it ---- */

static inline int same_mac(const u16 *one, const u16 *other)
{
	return one[0] == other[0] && one[1] == other[1] && one[2] == other[2];
}

static inline void copy_mac(u16 *to, const u16 *from)
{
	to[0] = from[0];
	to[1] = from[1];
	to[2] = from[2];
}

/*
 * Asks the kernel for a neighbour's MAC address; 0 where it does not know it now. Neither this nor what is sent by it makes the kernel
 * ask the neighbour: the control connections do that. Of its own, so that what it keeps does not cost each packet.
 */
static __attribute__((noinline)) int learn(struct xdp_md *ctx, struct neighbour *to)
{
	u32 zero = 0;
	u16 *own = map_lookup_elem(&cards, &to->from_link);
	struct fib_lookup *fib = map_lookup_elem(&question, &zero);

	if (!own || !fib)
		return 0;
	fib->family = AF_INET;
	fib->l4_protocol = 0;
	fib->tot_len = 0;
	fib->ifindex = to->to_link;
	fib->tos = 0;
	fib->source = 0;
	fib->destination = to->address;
	if (get_fib(ctx, fib, sizeof(*fib), BPF_FIB_LOOKUP_OUTPUT))
		return 0;
	if (fib->ifindex != to->to_link || fib->destination != to->address)
		return 0;
	copy_mac(to->own, own);
	copy_mac(to->from, fib->smac);
	copy_mac(to->to, fib->dmac);
	to->since = STAMP(ktime_get_coarse_ns());
	return 1;
}

/* The neighbour a call's packets go to; 0 where that is not known. Writes to *key. */
static inline struct neighbour *neighbour(u32 *key, struct xdp_md *ctx, struct path *path)
{
	*key = (path->next_hop ^ path->to_link * 0x9e3779b1u ^ path->from_link * 0xc2b2ae3du) * 0x85ebca6bu >> 22;

	struct neighbour *to = map_lookup_elem(&neighbours, key);

	if (!to)
		return 0; /* never: as many elements are there */

	u32 now = STAMP(ktime_get_coarse_ns());

	if (unlikely(to->address != path->next_hop || to->to_link != path->to_link ||
		     to->from_link != path->from_link || now - to->since > REMEMBERED)) {
		to->address = path->next_hop;
		to->to_link = path->to_link;
		to->from_link = path->from_link;
		/* Nobody's until it is known. */
		to->since = now - REMEMBERED - 1;
		if (!learn(ctx, to))
			return 0;
	}
	return to;
}
_Static_assert(NEIGHBOURS == 1 << (32 - 22), "what is left of a word above");

/*
 * The same before there is an skb, for calls whose both links can (native XDP). Whatever it does not pass on is as if it were not there:
 * callgate_gre sees it next, counts it, and says why it is left to the ALG.
 */
SEC("xdp") int callgate_xdp(struct xdp_md *ctx)
{
	u32 key;
	void *data = (void *)(unsigned long)ctx->data;
	void *end = (void *)(unsigned long)ctx->data_end;

	if (data + HEADERS > end)
		goto pass;

	struct ethernet *ethernet = data;
	struct ipv4 *ip = data + sizeof(struct ethernet);
	struct gre *gre = (void *)(ip + 1);

	if (ethernet->protocol != NET16(ETH_P_IP) || ip->protocol != PROTOCOL_GRE || ip->version_length != WITHOUT_OPTIONS ||
	    ip->fragment & (FRAGMENT_OFFSET | MORE_FRAGMENTS) || ip->ttl <= 1 ||
	    (gre->flags & (GRE_FORBIDDEN | GRE_KEY | GRE_VERSION)) != (GRE_KEY | GRE_VERSION_1) || gre->protocol != GRE_PPP)
		goto pass;

	struct path *path = find(&key, ip, gre);

	if (!path || ctx->ingress_ifindex != path->from_link)
		goto pass;

	u32 frame = xdp_get_buff_len(ctx);

	if (!fits(ip, gre, frame) || frame - sizeof(struct ethernet) > path->mtu)
		goto pass;

	struct neighbour *to = neighbour(&key, ctx, path);

	if (!to || !same_mac(ethernet->to, to->own))
		goto pass;

	u16 kind = path->kind;

	/* Before anything is changed: by a link that is not there any more nothing leaves. */
	if (kind == FREE || redirect_map(&cards_out, to->to_link, XDP_PASS) != XDP_REDIRECT)
		goto pass;

	seen(path, gre);
	readdress(ip, path, kind);
	gre->call_id = path->id_beyond;
	copy_mac(ethernet->to, to->to);
	copy_mac(ethernet->from, to->from);
	count(path, ip);
	key = 0;

	u64 *passed = map_lookup_elem(&by_xdp, &key);

	if (passed)
		*passed += 1;
	return XDP_REDIRECT;

pass:;
	/* Not in a register from the beginning: there are four, and the stack has the rest. */
	int verdict = XDP_PASS;

	OPAQUE(verdict);
	return verdict;
}
