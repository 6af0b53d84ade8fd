//! What the certificates on disk are for.

use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};
use skiff_token::CaBundle;

use super::JoinOptions;
use crate::files::{self, Readers};

/// The file, below the join's folder. It is written when everything else is.
pub(super) const FILE: &str = "joined.json";
const MAX_BYTES: u64 = 64 << 10;

/// What the certificates on disk are for. With another name, other addresses or another
/// cluster they are asked for anew.
#[derive(Serialize, Deserialize, PartialEq, Eq, Debug)]
pub(super) struct Joined {
    node: String,
    addresses: Vec<String>,
    authorities: String,
}

impl Joined {
    pub(super) fn new(options: &JoinOptions, bundle: &CaBundle) -> Self {
        Joined {
            node: options.node.name.clone(),
            addresses: options.node.addresses.iter().map(ToString::to_string).collect(),
            authorities: bundle.hash().to_string(),
        }
    }

    /// True if the last run's were for the same.
    pub(super) fn was_before(&self, dir: &Path) -> io::Result<bool> {
        let Some(bytes) = files::read(&dir.join(FILE), MAX_BYTES)? else { return Ok(false) };
        // One that cannot be read is as none.
        Ok(serde_json::from_slice::<Joined>(&bytes).is_ok_and(|before| before == *self))
    }

    pub(super) fn keep(&self, dir: &Path) -> io::Result<()> {
        files::write(&dir.join(FILE), &serde_json::to_vec_pretty(self)?, Readers::All)
    }
}
