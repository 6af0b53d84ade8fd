//! Members in one process, with simulated disks and wires.

mod harness;
mod net;

mod conformance;
mod corruption;
mod failover;
mod force;
mod full_disk;
mod leases;
mod members;
mod single;
mod snapshots;
