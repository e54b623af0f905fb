//! What prost and tonic generate from `proto/callgate/v1`: messages always, client and server with feature `grpc`.
#![allow(missing_docs, unreachable_pub, clippy::all)]

include!(concat!(env!("OUT_DIR"), "/callgate.v1.rs"));
