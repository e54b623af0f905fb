/* SPDX-License-Identifier: Apache-2.0 OR GPL-2.0-only */
/* What the programs of callgate.bpf.c use of the kernel, as in include/uapi/linux/bpf.h, with the version a helper came in. */

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#define SEC(name) __attribute__((section(name), used))
#define unlikely(condition) __builtin_expect(!!(condition), 0)

/* The byte order of the machine is that of the object: bpfel. */
#define NET16(value) ((u16)__builtin_bswap16(value))

/* The form of map definitions that needs no BTF: the object is the same on every machine. */
struct map {
	u32 type, key_size, value_size, entries, flags;
};

/* The part up to gso_size. */
struct __sk_buff {
	u32 len, pkt_type, mark, queue_mapping, protocol, vlan_present, vlan_tci, vlan_proto, priority;
	u32 ingress_ifindex, ifindex, tc_index, cb[5], hash, tc_classid, data, data_end, napi_id;
	u32 family, remote_ip4, local_ip4, remote_ip6[4], local_ip6[4], remote_port, local_port, data_meta;
	u64 flow_keys, tstamp;
	u32 wire_len, gso_segs;
	u64 sk;
	u32 gso_size;
};
_Static_assert(__builtin_offsetof(struct __sk_buff, data) == 76, "as in linux/bpf.h");
_Static_assert(__builtin_offsetof(struct __sk_buff, gso_size) == 176, "as in linux/bpf.h");

struct xdp_md {
	u32 data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex;
};

/* struct bpf_redir_neigh. */
struct next_hop {
	u32 family;
	u32 address[4];
};
_Static_assert(sizeof(struct next_hop) == 20, "as in linux/bpf.h");

/* struct bpf_fib_lookup, for IPv4. */
struct fib_lookup {
	u8 family, l4_protocol;
	u16 sport, dport, tot_len;
	u32 ifindex, tos;
	u32 source, unused_source[3];
	u32 destination, unused_destination[3];
	u16 vlan_proto, vlan_tci;
	u16 smac[3], dmac[3];
};
_Static_assert(sizeof(struct fib_lookup) == 64, "as in linux/bpf.h");
_Static_assert(__builtin_offsetof(struct fib_lookup, destination) == 32, "as in linux/bpf.h");
_Static_assert(__builtin_offsetof(struct fib_lookup, dmac) == 58, "as in linux/bpf.h");

#define HELPER(result, name, number, ...) static result (*const name)(__VA_ARGS__) = (void *)number
HELPER(void *, map_lookup_elem, 1, void *map, const void *key);                                           /* 3.19 */
HELPER(long, skb_pull_data, 39, struct __sk_buff *skb, u32 len);                                          /* 4.9 */
HELPER(long, csum_update, 40, struct __sk_buff *skb, u32 csum);                                           /* 4.9 */
HELPER(long, redirect_map, 51, void *map, u64 key, u64 flags);                                            /* 4.14 */
HELPER(long, get_fib, 69, struct xdp_md *ctx, struct fib_lookup *params, int size, u32 flags);            /* 4.18 */
HELPER(long, redirect_neigh, 152, u32 ifindex, struct next_hop *to, int size, u64 flags);                 /* 5.10 */
HELPER(u64, ktime_get_coarse_ns, 160, void);                                                              /* 5.11 */
HELPER(u64, xdp_get_buff_len, 188, struct xdp_md *ctx);                                                   /* 5.18 */

#define TC_ACT_UNSPEC -1 /* clsact: the next filter, at last the stack; tcx (TCX_NEXT): the next program */
#define TC_ACT_SHOT 2
#define XDP_PASS 2
#define XDP_REDIRECT 4
#define BPF_MAP_TYPE_HASH 1
#define BPF_MAP_TYPE_ARRAY 2
#define BPF_MAP_TYPE_PERCPU_ARRAY 6
#define BPF_MAP_TYPE_DEVMAP_HASH 25
#define BPF_F_NO_PREALLOC (1 << 0)
#define BPF_F_MMAPABLE (1 << 10)
#define BPF_FIB_LOOKUP_OUTPUT (1 << 1)
#define AF_INET 2
#define ETH_P_IP 0x0800
#define PACKET_HOST 0
