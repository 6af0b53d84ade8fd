//! Turns messages and statuses into JSON, as etcd's gateway writes them: names
//! as in the .proto file, 64-bit numbers as strings, defaults left out.

use bytes::Bytes;
use prost_reflect::{DynamicMessage, MessageDescriptor, SerializeOptions};
use serde_json::{Serializer, Value};
use tonic::Status;

const OPTIONS: SerializeOptions = SerializeOptions::new()
    .use_proto_field_name(true)
    .skip_default_fields(true)
    .stringify_64_bit_integers(true);

/// The JSON of a message.
///
/// # Errors
/// The bytes are not such a message.
pub(super) fn message(descriptor: &MessageDescriptor, bytes: Bytes) -> Result<Vec<u8>, Status> {
    let mut json = Vec::with_capacity(bytes.len().saturating_add(64));
    let name = descriptor.full_name().to_owned();
    DynamicMessage::decode(descriptor.clone(), bytes)
        .map_err(|error| error.to_string())
        .and_then(|message| {
            let mut serializer = Serializer::new(&mut json);
            message.serialize_with_options(&mut serializer, &OPTIONS).map_err(|error| error.to_string())
        })
        .map_err(|error| Status::internal(format!("cannot write {name} as JSON: {error}")))?;
    Ok(json)
}

/// The JSON of an error.
pub(super) fn status(status: &Status) -> Vec<u8> {
    let mut object = serde_json::Map::new();
    object.insert("code".to_owned(), Value::from(status.code() as i32));
    if !status.message().is_empty() {
        object.insert("message".to_owned(), Value::from(status.message()));
    }
    Value::Object(object).to_string().into_bytes()
}

/// A line of a stream.
pub(super) fn line(name: &str, json: &[u8]) -> Bytes {
    [b"{\"", name.as_bytes(), b"\":", json, b"}\n"].concat().into()
}
