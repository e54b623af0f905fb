//! nftables: a typed ruleset, the difference between two, and one netlink batch for it.
