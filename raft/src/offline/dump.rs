use skiff_store::error::Result;

use crate::codec;
use crate::pb::skiff::raft::v1::{DumpedEntry, dumped_entry};
use crate::types::{Entry, Payload};

/// An entry in the form in which the log is written out for other tools.
///
/// # Errors
/// [`skiff_store::Error::Corruption`] where its commands do not decode.
pub fn dumped(entry: &Entry) -> Result<DumpedEntry> {
    let payload = match &entry.payload {
        Payload::Blank => None,
        Payload::Normal(proposal) => Some(dumped_entry::Payload::Commands(proposal.commands()?.clone())),
        Payload::Membership(membership) => {
            Some(dumped_entry::Payload::Membership(codec::encode_membership(membership)))
        }
    };
    Ok(DumpedEntry { at: Some(codec::encode_log_id(&entry.log_id)), payload })
}
