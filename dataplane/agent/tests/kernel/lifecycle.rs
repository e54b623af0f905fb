//! Start, adopt, stop: what is there in between and afterwards.

use super::configs::{ANYWHERE, Config, POD_A, tcp};
use super::lab::{Lab, root, sh, surface};
use super::structure::everything;
use callgate_proto::model::Action;

#[test]
fn a_stop_leaves_everything_as_it_was() {
    if !root() {
        return;
    }
    let lab = Lab::new();
    let before = surface();
    let mut kernel = lab.start();
    kernel.apply(&everything(), &["192.0.2.1".parse().unwrap()]).unwrap();
    assert_ne!(surface(), before);
    kernel.stop().unwrap();
    assert_eq!(surface(), before);
}
