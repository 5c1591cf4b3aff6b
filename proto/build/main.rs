//! Compiles the `.proto` files with protox, so that no `protoc` need be installed, and generates
//! from the same descriptors what prost does not: the JSON mapping and the tables of required fields.

mod from_wire;
mod json;
mod schema;
mod shapes;

use std::path::{Path, PathBuf};

use prost::Message;

/// Fields whose messages lie in boxes, as `Message.field` or `Message.oneof.field`: those that are large and seldom
/// there. Every message that moves would carry their room along, and half a dozen moves are on each one's way.
const BOXED: &[&str] = &[
    "mezzo.v1.Resource.disk",
    "mezzo.v1.Offer.Operation.launch_group",
    "mezzo.v1.Offer.Operation.grow_volume",
    "mezzo.v1.Offer.Operation.shrink_volume",
    "mezzo.v1.Offer.Operation.create_disk",
    "mezzo.v1.Offer.Operation.destroy_disk",
    "mezzo.v1.scheduler.Call.subscribe",
    "mezzo.v1.scheduler.Call.update_framework",
    "mezzo.v1.scheduler.Event.subscribed",
    "mezzo.v1.scheduler.ConnectResponse.message.event",
    "mezzo.internal.v1.AgentToMaster.message.register",
    "mezzo.internal.v1.AgentToMaster.message.status_update",
    "mezzo.internal.v1.AgentToMaster.message.operation_update",
    "mezzo.internal.v1.MasterToAgent.message.run_task",
    "mezzo.internal.v1.MasterToAgent.message.run_task_group",
    "mezzo.internal.v1.MasterToAgent.message.apply_operation",
    "mezzo.internal.v1.MasterToAgent.message.update_framework",
];

fn main() -> anyhow::Result<()> {
    // Asked for when it runs: a script that was built elsewhere would compile the files of that place.
    let root = PathBuf::from(std::env::var("CARGO_MANIFEST_DIR")?);
    let root = root.as_path();
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    println!("cargo::rerun-if-changed=mezzo");
    println!("cargo::rerun-if-changed=build");
    let mut files = Vec::new();
    collect(&root.join("mezzo"), &mut files)?;
    files.sort();
    let mut set = protox::compile(&files, [root])?;

    let schema = schema::Schema::new(&set, BOXED);
    std::fs::write(out.join("json.rs"), json::generate(&schema))?;
    std::fs::write(out.join("shapes.rs"), shapes::generate(&schema))?;

    std::fs::write(out.join("from_wire.rs"), from_wire::generate(&schema, &set))?;

    let config = BOXED
        .iter()
        .fold(tonic_prost_build::configure(), |config, field| config.boxed(format!(".{field}")));
    config
        .codec_path("crate::grpc::CheckedCodec")
        .build_transport(false)
        .bytes(".")
        // Ordered maps make equal messages equal bytes.
        .btree_map(".")
        .client_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .server_mod_attribute(".", "#[cfg(feature = \"grpc\")]")
        .compile_fds(set.clone())?;

    // Comments and positions are of no use to a client of the reflection service.
    for file in &mut set.file {
        file.source_code_info = None;
    }
    std::fs::write(out.join("descriptors.bin"), set.encode_to_vec())?;
    Ok(())
}

fn collect(dir: &Path, files: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, files)?;
        } else if path.extension().is_some_and(|e| e == "proto") {
            files.push(path);
        }
    }
    Ok(())
}
