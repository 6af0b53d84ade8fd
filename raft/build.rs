//! Compiles the message definitions in `proto/`, without needing protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = PathBuf::from("proto");
    let store = PathBuf::from("../store/proto");
    let files = [own.join("skiff/raft/v1/log.proto"), own.join("skiff/raft/v1/node.proto")];
    let descriptors = protox::compile(files, [own, store])?;
    prost_build::Config::new()
        .bytes(["."])
        .extern_path(".etcdserverpb", "::skiff_store::pb::etcdserverpb")
        .extern_path(".mvccpb", "::skiff_store::pb::mvccpb")
        .extern_path(".authpb", "::skiff_store::pb::authpb")
        .extern_path(".skiff.v1", "::skiff_store::pb::skiff::v1")
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../store/proto");
    Ok(())
}
