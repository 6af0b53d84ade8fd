//! What makes servers a cluster.
//!
//! * [`layout`]: where a server's files are.
//! * [`pki`]: authorities and the certificates by them.
//! * [`records`]: what servers keep in the datastore beside Kubernetes' objects.
//! * [`token`]: the secrets that servers and nodes join with.
//! * [`bootstrap`]: the authorities' keys, sealed in the datastore with the token.
//! * [`supervisor`]: what others ask of a server over HTTPS.
//! * [`join`]: how a server becomes part of a running cluster; learners.
//!
//! Errors for the user are sentences: what is wrong, and what to do.
//!
//! Not here: flags, ports and processes (the binary), and yet the API server.

pub mod bootstrap;
pub mod files;
pub mod join;
pub mod layout;
pub mod pki;
pub mod records;
pub mod supervisor;
pub mod token;
