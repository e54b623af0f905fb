//! Compiles the .proto files without a protoc binary.

use std::error::Error;

const FILES: [&str; 3] = ["callgate/v1/config.proto", "callgate/v1/api.proto", "callgate/v1/control.proto"];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=build.rs");
    let set = protox::compile(FILES, ["proto"])?;
    // Messages are always there; the services only where somebody asks for tonic.
    tonic_prost_build::configure()
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(set)?;
    Ok(())
}
