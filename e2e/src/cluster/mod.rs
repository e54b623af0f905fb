//! A real Kubernetes cluster on one machine, without containers around it: every part is an ordinary process.
//!
//! ```text
//!      cp: etcd, API server, controller manager, scheduler, DNS          n1, n2: containerd, kubelet, kube-proxy
//!             │ 192.0.2.2                                                     │ 192.0.2.11, .12   pods 10.244.1.0/24, .2.0/24
//!             └──────────────────────── lan0 (a bridge) ──────────────────────┘
//!                                inet: a router, 192.0.2.1
//!             knows no way to pod addresses, counts and drops what comes with one
//!                                       srv0 ── s1: 203.0.113.11, real pptpd
//! ```
//! Each name is a namespace of its own (`lab::node`). `up` builds it, `Cluster` holds it: when that is dropped, all is removed.

pub mod addresses;
pub mod callgate;
mod certificates;
pub mod cni;
mod containerd;
mod control_plane;
mod dns;
mod etcd;
pub mod hand;
pub mod image;
pub mod inside;
mod kube_proxy;
mod kubeconfig;
pub mod kubectl;
mod kubelet;
pub mod machine;
pub mod next_version;
pub mod outages;
pub mod outside;
mod pods;
pub mod proxy;
pub mod scale;
pub mod sight;
pub mod till;
pub mod tools;
pub mod traces;
pub mod up;
mod wiring;

pub use up::{Cluster, Plan};
