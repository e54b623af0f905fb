/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* A PPTP packet, the table of live calls, and what becomes of a packet of one: what the programs of callgate.bpf.c share. */

struct ethernet {
	u16 to[3], from[3];
	u16 protocol;
};

struct ipv4 {
	u8 version_length, tos;
	u16 total_length, id, fragment;
	u8 ttl, protocol;
	u16 checksum;
	u32 source, destination;
};

/* Enhanced GRE (RFC 2637 4.1) with the one number that is there at least. */
struct gre {
	u16 flags, protocol, payload_length, call_id;
	u32 number;
};

#define HEADERS (sizeof(struct ethernet) + sizeof(struct ipv4) + sizeof(struct gre))
_Static_assert(HEADERS == 46, "Ethernet, IPv4 without options, GRE with one number");

#define PROTOCOL_GRE 47
#define WITHOUT_OPTIONS 0x45
#define MORE_FRAGMENTS NET16(0x2000)
#define FRAGMENT_OFFSET NET16(0x1fff)
#define GRE_KEY NET16(0x2000)
#define GRE_SEQUENCE NET16(0x1000)
#define GRE_ACKNOWLEDGEMENT NET16(0x0080)
#define GRE_VERSION NET16(0x0007)
#define GRE_VERSION_1 NET16(0x0001)
/* Checksum, routing and strict source route: never in version 1, and the header would have another shape. */
#define GRE_FORBIDDEN NET16(0xc800)
#define GRE_PPP NET16(0x880b)

/* ---- what the agent knows too: dataplane/agent/src/fast/layout.rs, LAYOUT there goes up with every change here ---- */

/* One direction of a call, in one cache line. Addresses and Call IDs as on the wire. */
struct path {
	/* Written by the agent. A packet as it comes in: */
	u32 source, destination;
	u16 call_id;
	u16 kind;          /* FREE, UP or DOWN */
	/* What becomes of it: */
	u32 from_link;     /* the link it comes in by; by others it is left to the ALG */
	u32 to_link;       /* the link it goes out by */
	u32 address;       /* its source (UP) or destination (DOWN) on the other side */
	u32 next_hop;      /* whose MAC address it goes to */
	u16 id_beyond;     /* its Call ID on the other side */
	u16 mtu;           /* largest IPv4 packet on the way out */
	/* Counted here. */
	u64 packets;       /* passed on */
	u64 bytes;         /* of them, IPv4 headers included */
	u32 last_seen;     /* CLOCK_MONOTONIC_COARSE, 2^20 ns; passed on or left to the ALG; 0: never */
	u32 last_payload;  /* the same, of packets with user data */
	u32 next_sequence; /* comes next if nothing is lost; means nothing before there was user data */
	u32 lost;          /* by gaps in the sequence numbers */
};
_Static_assert(sizeof(struct path) == 64, "layout.rs");
_Static_assert(__builtin_offsetof(struct path, kind) == 10, "layout.rs");
_Static_assert(__builtin_offsetof(struct path, address) == 20, "layout.rs");
_Static_assert(__builtin_offsetof(struct path, id_beyond) == 28, "layout.rs");
_Static_assert(__builtin_offsetof(struct path, packets) == 32, "layout.rs");
_Static_assert(__builtin_offsetof(struct path, last_seen) == 48, "layout.rs");
_Static_assert(__builtin_offsetof(struct path, lost) == 60, "layout.rs");

enum kind { FREE, UP, DOWN };

#define SLOTS 8

/* An element of the map. */
struct bucket {
	struct path slots[SLOTS];
};

/* How the table is read: set by the agent before it loads the program. In the first slot of the first bucket, which is never taken,
 * it finds them again. */
SEC(".rodata") const volatile u64 SEED = 0;
SEC(".rodata") const volatile u32 MASK = 0; /* buckets less one */

/* The unit of times. */
#define STAMP(ns) ((u32)((ns) >> 20))

/* Why a PPTP packet was left to the ALG: index of `left`. */
enum left {
	LEFT_UNKNOWN,   /* no such call in the map */
	LEFT_LINK,      /* not by the link that call's packets come in by */
	LEFT_OPTIONS,   /* IPv4 options, of any GRE: its header is not looked for */
	LEFT_FRAGMENT,  /* a fragment; a later one of any GRE: it has no header */
	LEFT_TTL,       /* may not travel on */
	LEFT_MALFORMED, /* lengths do not fit each other */
	LEFT_TOO_BIG,   /* for the way out, or merged by an offload */
	LEFT_REASONS,
};
_Static_assert(LEFT_REASONS == 7, "layout.rs");

/* ---- end of it ---- */

/* The agent sets the number of entries, a power of two, and writes into its memory (slots.rs). */
SEC("maps") struct map paths = {BPF_MAP_TYPE_ARRAY, sizeof(u32), sizeof(struct bucket), 1, BPF_F_MMAPABLE};

/* Sequence gaps larger than this are a peer that started anew, not packets that got lost: as in the ALG. */
#define LARGEST_GAP 4096

#define inline inline __attribute__((always_inline))

/* The compiler knows nothing of this value any more: it keeps it as it is, and works nothing out beforehand. */
#define OPAQUE(value) asm volatile("" : "+r"(value))
/* Read once more, and not kept. */
#define AGAIN(field) (*(const volatile __typeof__(field) *)&(field))

static inline u64 fold(u64 hash)
{
	return hash ^ hash >> 32;
}

/*
 * Without CAP_PERFMON the kernel puts a barrier behind what is first written to a place of the stack, and nothing read after it
 * begins before what was read before it is there (kernel/bpf/verifier.c, check_stack_write_fixed_off). So nothing is kept there:
 * one key serves all look-ups, and what a helper would make us save is read from the packet again.
 */

/* As in slots.rs. */
static inline u64 hash(struct ipv4 *ip, u16 call_id)
{
	u64 hash = ((u64)ip->source << 32 | ip->destination) ^ SEED;

	hash = fold(hash * 0x9e3779b97f4a7c15ull);
	hash += call_id;
	hash = fold(hash * 0xd6e8feb86659fd93ull);
	return fold(hash * 0xd6e8feb86659fd93ull);
}

/* The slot of a packet's addresses and Call ID in bucket *index; the search begins at slot `start`. */
static inline struct path *in_bucket(u32 *index, u32 start, struct ipv4 *ip, struct gre *gre)
{
	struct bucket *bucket = map_lookup_elem(&paths, index);

	if (!bucket)
		return 0;

	/* One in four is in the second slot: its cache line comes together with the first one's, and not after it. */
	u32 early = bucket->slots[(start ^ 1) & (SLOTS - 1)].source;

	OPAQUE(early);
#pragma unroll
	for (u32 at = 0; at < SLOTS; at++) {
		struct path *path = &bucket->slots[(start ^ at) & (SLOTS - 1)];

		OPAQUE(path);
		if (path->source == AGAIN(ip->source) && path->destination == AGAIN(ip->destination) &&
		    path->call_id == AGAIN(gre->call_id) && path->kind != FREE)
			return path;
		OPAQUE(start);
	}
	return 0;
}

/* The slot of a packet; writes to *key. */
static inline struct path *find(u32 *key, struct ipv4 *ip, struct gre *gre)
{
	u64 place = hash(ip, gre->call_id);

	OPAQUE(place);
	*key = (u32)place & MASK;

	struct path *path = in_bucket(key, place >> 24, ip, gre);

	if (path)
		return path;
	*key = (u32)(place >> 32) & MASK;
	return in_bucket(key, place >> 24, ip, gre);
}

static inline void meter(struct path *path, u32 sequence)
{
	u32 ahead = sequence - path->next_sequence;

	if (path->last_payload == 0) {
		path->next_sequence = sequence + 1;
	} else if (ahead <= LARGEST_GAP) {
		if (unlikely(ahead))
			path->lost += ahead;
		path->next_sequence = sequence + 1;
	} else if (-ahead <= LARGEST_GAP) {
		/* Late, so it was counted as lost too early. */
		if (path->lost)
			path->lost -= 1;
	} else {
		path->next_sequence = sequence + 1;
	}
}

/* RFC 1624: one's complement sums do not mind the byte order, nor how many words are taken at once. */
static inline u16 checksum(struct ipv4 *ip, u32 before, u32 after)
{
	u64 sum = (u16)~ip->checksum;

	sum += (u64)(u32)~before + after;
	/* Time to live is the first octet of its word. */
	u16 ttl = AGAIN(ip->ttl);

	sum += (u16)~ttl + (u16)(ttl - 1);
	sum = (sum & 0xffffffff) + (sum >> 32);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return (u16)~sum;
}

/* Whether lengths fit each other, in a frame of so many octets. */
static inline int fits(struct ipv4 *ip, struct gre *gre, u32 frame)
{
	u32 length = NET16(ip->total_length);
	u32 header = 8 + (gre->flags & GRE_SEQUENCE ? 4 : 0) + (gre->flags & GRE_ACKNOWLEDGEMENT ? 4 : 0);

	return length + sizeof(struct ethernet) <= frame &&
	       sizeof(struct ipv4) + header + NET16(gre->payload_length) <= length;
}

/* The addresses of the other side, and one hop less to live. */
static inline void readdress(struct ipv4 *ip, struct path *path, u16 kind)
{
	/* By value: without CAP_PERFMON a pointer into the packet may not be chosen. */
	u32 source = ip->source, destination = ip->destination;
	u32 before = kind == UP ? source : destination, after = path->address;

	ip->checksum = checksum(ip, before, after);
	ip->source = kind == UP ? after : source;
	ip->destination = kind == UP ? destination : after;
	ip->ttl = AGAIN(ip->ttl) - 1;
}

/*
 * One more that is passed on. Not atomic: one direction of a call is one flow, which stays on one CPU, and a locked addition lets
 * nothing that follows begin before the cache line is there. A packet that two CPUs count at the same moment may count once.
 */
static inline void count(struct path *path, struct ipv4 *ip)
{
	path->packets += 1;
	path->bytes += NET16(AGAIN(ip->total_length));
}

/* One more that has come, whether it is passed on or not. */
static inline void seen(struct path *path, struct gre *gre)
{
	u32 now = STAMP(ktime_get_coarse_ns()) ?: 1;

	if (gre->flags & GRE_SEQUENCE) {
		meter(path, __builtin_bswap32(gre->number));
		path->last_payload = now;
	}
	path->last_seen = now;
}
