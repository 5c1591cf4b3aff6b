//! Compiles the `.proto` file with protox, so that no `protoc` need be installed.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    // Asked for when it runs: a script that was built elsewhere would compile the file of that place.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?).join("proto");
    println!("cargo::rerun-if-changed=proto");
    let set = protox::compile([root.join("log.proto")], [root])?;
    tonic_prost_build::configure().build_transport(false).bytes(".").compile_fds(set)?;
    Ok(())
}
