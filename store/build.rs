//! Compiles the message definitions in `proto/`, without needing protoc.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = PathBuf::from("proto");
    let files = [
        include.join("etcd/api/mvccpb/kv.proto"),
        include.join("etcd/api/authpb/auth.proto"),
        include.join("etcd/api/etcdserverpb/rpc.proto"),
        include.join("etcd/api/v3lockpb/lock.proto"),
        include.join("etcd/api/v3electionpb/election.proto"),
        include.join("skiff/v1/command.proto"),
    ];
    let descriptors = protox::compile(files, [include])?;
    prost_build::Config::new().bytes(["."]).include_file("pb.rs").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
