//! A lab: namespaces, links, processes, captures; everything in it goes when it is dropped, also after a panic.
//!
//! ```text
//!  topology::Lab ── node::Node (net, mount, UTS namespace; mounts) ── process::Process
//!        │               └── capture::Capture ── packet::Packet ── control::calls
//!        └── names: /run/netns/cg-PID-N-NODE, /tmp/cg-PID-N, cgroups: swept when PID is gone, and on SIGTERM
//! ```

pub mod capture;
pub mod cgroups;
pub mod control;
pub mod kernel;
pub mod mounts;
pub mod names;
pub mod node;
pub mod packet;
pub mod packet_socket;
pub mod ping;
pub mod ping_gaps;
pub mod process;
pub mod root;
pub mod signals;
pub mod syslog;
pub mod topology;
