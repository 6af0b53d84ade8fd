//! Compiles the message definitions in `proto/`, without needing protoc.

use std::path::PathBuf;

/// Messages that hold a password, its hash, or a token: they are printed
/// without it, by `src/secretive.rs`.
const SECRETIVE: [&str; 9] = [
    ".authpb.User",
    ".etcdserverpb.AuthenticateRequest",
    ".etcdserverpb.AuthenticateResponse",
    ".etcdserverpb.AuthUserAddRequest",
    ".etcdserverpb.AuthUserChangePasswordRequest",
    ".skiff.v1.Authenticate",
    ".skiff.v1.StoredUser",
    ".skiff.v1.UserAdd",
    ".skiff.v1.UserPassword",
];

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
    prost_build::Config::new()
        .bytes(["."])
        .skip_debug(SECRETIVE)
        .include_file("pb.rs")
        .compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=proto");
    Ok(())
}
