//! Generates the gRPC services of etcd's packages; their messages are
//! `skiff_store`'s. Also keeps the descriptors for the reflection service.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = PathBuf::from("../store/proto");
    let files = ["etcdserverpb/rpc.proto", "v3lockpb/lock.proto", "v3electionpb/election.proto"];
    let files = files.map(|file| include.join("etcd/api").join(file));
    let descriptors = protox::compile(files, [&include])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::configure()
        .extern_path(".etcdserverpb", "::skiff_store::pb::etcdserverpb")
        .extern_path(".mvccpb", "::skiff_store::pb::mvccpb")
        .extern_path(".authpb", "::skiff_store::pb::authpb")
        .extern_path(".v3lockpb", "::skiff_store::pb::v3lockpb")
        .extern_path(".v3electionpb", "::skiff_store::pb::v3electionpb")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=../store/proto");
    Ok(())
}
