//! Compiles etcd's messages for the tests' own client, which links nothing of the product.

use std::path::PathBuf;

use prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let include = PathBuf::from("../../store/proto");
    let files = ["etcdserverpb/rpc.proto", "v3lockpb/lock.proto", "v3electionpb/election.proto"];
    let files = files.map(|file| include.join("etcd/api").join(file));
    let descriptors = protox::compile(files, [include])?;
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new().bytes(["."]).include_file("pb.rs").compile_fds(descriptors)?;
    println!("cargo:rerun-if-changed=../../store/proto");
    Ok(())
}
