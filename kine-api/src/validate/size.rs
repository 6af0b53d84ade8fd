//! The size of a request as it would stand in etcd's log.

use prost::Message;
use skiff_store::ApiError;

/// Bytes etcd wraps around a request in its log: a header with a ten-byte
/// request id (two bytes of tag, one of length, eleven of header), and the tag
/// of the request; its length comes on top.
const ENVELOPE_BYTES: usize = 15;

/// Checks that a request fits in the log.
pub(crate) fn proposal(request: &impl Message, max_bytes: usize) -> Result<(), ApiError> {
    let bytes = request.encoded_len();
    let total = bytes + ENVELOPE_BYTES + prost::length_delimiter_len(bytes);
    if total > max_bytes { Err(ApiError::RequestTooLarge) } else { Ok(()) }
}
