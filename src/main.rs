//! The `skiff` binary.

mod cli;

fn main() {}
