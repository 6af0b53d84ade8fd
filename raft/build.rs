//! Compiles the message definitions in `proto/`, without needing protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let own = PathBuf::from("proto");
    let store = PathBuf::from("../store/proto");
    let files = ["log", "node", "dump"].map(|name| own.join(format!("skiff/raft/v1/{name}.proto")));
    let descriptors = protox::compile(files, [own, store])?;
    prost_build::Config::new()
        .bytes(["."])
        .extern_path(".etcdserverpb", "::skiff_store::pb::etcdserverpb")
        .extern_path(".mvccpb", "::skiff_store::pb::mvccpb")
        .extern_path(".authpb", "::skiff_store::pb::authpb")
        .extern_path(".skiff.v1", "::skiff_store::pb::skiff::v1")
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    peer_protocol()?;
    println!("cargo:rerun-if-changed=proto");
    println!("cargo:rerun-if-changed=../store/proto");
    Ok(())
}

/// The services between members; their messages refer to those above.
fn peer_protocol() -> Result<(), Box<dyn std::error::Error>> {
    let includes = [PathBuf::from("proto"), PathBuf::from("../store/proto")];
    let descriptors = protox::compile(["proto/skiff/peer/v1/peer.proto"], includes)?;
    tonic_prost_build::configure()
        .bytes(".")
        .extern_path(".etcdserverpb", "::skiff_store::pb::etcdserverpb")
        .extern_path(".skiff.v1", "::skiff_store::pb::skiff::v1")
        .extern_path(".skiff.raft.v1", "crate::pb::skiff::raft::v1")
        .compile_fds(descriptors)?;
    Ok(())
}
