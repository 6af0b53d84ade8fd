//! Generates the gRPC services of etcd's packages; their messages are
//! `skiff_store`'s. Also keeps the descriptors for the reflection service.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = PathBuf::from("../store/proto");
    let descriptors = protox::compile([include.join("etcd/api/etcdserverpb/rpc.proto")], [&include])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".etcdserverpb", "::skiff_store::pb::etcdserverpb")
        .extern_path(".mvccpb", "::skiff_store::pb::mvccpb")
        .extern_path(".authpb", "::skiff_store::pb::authpb")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=../store/proto");
    Ok(())
}
