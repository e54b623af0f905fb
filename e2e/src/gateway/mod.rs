//! What stands between clients and servers: Callgate, or one of the NATs it is compared with.

pub mod baseline;
pub mod callgate;
