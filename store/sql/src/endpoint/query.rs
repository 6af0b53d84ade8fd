//! The `?name=value&...` tail of an endpoint, and values in it.

use std::time::Duration;

use percent_encoding::percent_decode_str;

use super::EndpointError;

/// The names and values of a query, decoded, in their order.
pub(super) fn pairs(query: &str) -> Result<Vec<(String, String)>, EndpointError> {
    query
        .split('&')
        .filter(|pair| !pair.is_empty())
        .map(|pair| {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = value.replace('+', " ");
            Ok((decode(name, "a parameter's name")?, decode(&value, name)?))
        })
        .collect()
}

/// Undoes percent encoding in `text`, the part of the endpoint called `what`.
pub(super) fn decode(text: &str, what: &str) -> Result<String, EndpointError> {
    let bytes = text.as_bytes();
    for (at, _) in text.match_indices('%') {
        let hex = bytes.get(at + 1..at + 3);
        if !hex.is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit)) {
            return Err(EndpointError::new(format!(
                "the datastore endpoint has a % without two hexadecimal digits in {what}; write %25 for a %"
            )));
        }
    }
    percent_decode_str(text)
        .decode_utf8()
        .map(|text| text.into_owned())
        .map_err(|_| EndpointError::new(format!("{what} in the datastore endpoint is not UTF-8")))
}

/// A yes or a no, in the words that Go's drivers take.
pub(super) fn boolean(name: &str, value: &str) -> Result<bool, EndpointError> {
    match value.to_ascii_lowercase().as_str() {
        "1" | "t" | "true" | "yes" | "on" => Ok(true),
        "0" | "f" | "false" | "no" | "off" => Ok(false),
        _ => Err(EndpointError::new(format!("the datastore's parameter {name} must be true or false"))),
    }
}

/// A time such as `30s`, `1m30s` or `500ms`.
pub(super) fn duration(name: &str, value: &str) -> Result<Duration, EndpointError> {
    let wrong = || {
        EndpointError::new(format!("the datastore's parameter {name} must be a time such as 30s or 500ms"))
    };
    let mut rest = value;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(wrong)?;
        let (number, tail) = rest.split_at(digits);
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let number: u32 = number.parse().map_err(|_| wrong())?;
        let one = match unit {
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_secs(60),
            "h" => Duration::from_secs(3600),
            _ => return Err(wrong()),
        };
        let part = one.checked_mul(number).ok_or_else(wrong)?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = tail;
    }
    Ok(total)
}

/// A port number.
pub(super) fn port(text: &str) -> Result<u16, EndpointError> {
    match text.parse() {
        Ok(port) if port > 0 => Ok(port),
        _ => Err(EndpointError::new("the datastore endpoint's port is not a number from 1 to 65535")),
    }
}

/// Splits `host:port`, with an IPv6 address in brackets.
pub(super) fn host_and_port(text: &str, default_port: u16) -> Result<(String, u16), EndpointError> {
    let (host, tail) = match text.strip_prefix('[') {
        Some(rest) => rest.split_once(']').ok_or_else(|| {
            EndpointError::new("the datastore endpoint has an IPv6 address without its closing bracket")
        })?,
        None => match text.split_once(':') {
            Some((_, tail)) if tail.contains(':') => {
                return Err(EndpointError::new(
                    "the datastore endpoint has several colons in its host; \
                     write an IPv6 address in brackets, as in [::1]:5432",
                ));
            }
            Some((host, _)) => text.split_at(host.len()),
            None => (text, ""),
        },
    };
    let port_number = match tail.strip_prefix(':') {
        Some("") => default_port,
        Some(text) => port(text)?,
        None if tail.is_empty() => default_port,
        None => {
            return Err(EndpointError::new("the datastore endpoint has text between its host and its port"));
        }
    };
    Ok((host.to_owned(), port_number))
}
