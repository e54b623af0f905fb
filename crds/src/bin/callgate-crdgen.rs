//! tmp
fn main() {
    for k in callgate_crds::Kind::ALL {
        println!("---\n{}", serde_saphyr::to_string(&k.definition()).unwrap());
    }
}
