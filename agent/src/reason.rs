//! What a server says is wrong.

use serde_json::Value;

/// How much of it is kept.
const MAX_CHARS: usize = 300;

/// The sentence in an answer: the message where it has the shape of Kubernetes' errors, else
/// all of it, in a line.
pub(crate) fn reason(body: &str) -> String {
    let parsed: Option<Value> = serde_json::from_str(body).ok();
    let message = parsed.as_ref().and_then(|value| value.get("message")).and_then(Value::as_str);
    let clean = |c: char| if c.is_control() { ' ' } else { c };
    message.unwrap_or(body).trim().chars().take(MAX_CHARS).map(clean).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_message_is_taken_and_anything_else_as_it_is() {
        assert_eq!(reason(r#"{"kind":"Status","message":"no such node\n"}"#), "no such node");
        assert_eq!(reason("plain\ntext\n"), "plain text");
        assert_eq!(reason(r#"{"message":1}"#), r#"{"message":1}"#);
        assert_eq!(reason(&"ä".repeat(1000)).chars().count(), MAX_CHARS);
    }
}
