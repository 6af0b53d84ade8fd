//! Values as Go's flag package reads them.

use std::time::Duration;

use super::flag::Kind;

/// Checks that a text is a value of a kind.
pub(crate) fn check(kind: Kind, text: &str) -> Result<(), String> {
    match kind {
        Kind::Text | Kind::List | Kind::Strings => Ok(()),
        Kind::Bool => bool(text).map(drop),
        Kind::Int => int(text).map(drop),
        Kind::Duration => duration(text).map(drop),
        Kind::Choice(words) if words.contains(&text) => Ok(()),
        Kind::Choice(words) => Err(format!("not one of {}", quoted(words))),
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().filter(|w| !w.is_empty()).map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ")
}

/// Reads a boolean.
pub(crate) fn bool(text: &str) -> Result<bool, String> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Ok(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Ok(false),
        _ => Err("not a boolean (true or false)".to_owned()),
    }
}

/// Reads a whole number: decimal, or hexadecimal after `0x`, `_` between digits.
pub(crate) fn int(text: &str) -> Result<i64, String> {
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let plain = digits.replace('_', "");
    let parsed = match plain.strip_prefix("0x").or_else(|| plain.strip_prefix("0X")) {
        Some(hex) => i128::from_str_radix(hex, 16),
        None => plain.parse::<u64>().map(i128::from),
    };
    parsed
        .ok()
        .map(|n| if negative { -n } else { n })
        .and_then(|n| i64::try_from(n).ok())
        .ok_or_else(|| "not a whole number".to_owned())
}

/// Reads a Go duration, such as `1h30m`, `1.5s`, `100ms` or `0`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let wrong = || "not a duration (such as \"300ms\", \"10s\" or \"1h30m\")".to_owned();
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.starts_with('-') {
        return Err("a duration below zero makes no sense here".to_owned());
    }
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(wrong)?;
        let number: f64 = rest[..digits].parse().map_err(|_| wrong())?;
        rest = &rest[digits..];
        let letters = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
        let unit_seconds = match &rest[..letters] {
            "ns" => 1e-9,
            "us" | "µs" | "μs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return Err(wrong()),
        };
        let part = Duration::try_from_secs_f64(number * unit_seconds).map_err(|_| wrong())?;
        total = total.checked_add(part).ok_or_else(wrong)?;
        rest = &rest[letters..];
    }
    Ok(total)
}

/// Splits a list at its commas; an empty text is an empty list.
pub(crate) fn list(text: &str) -> Vec<String> {
    text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::to_owned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_as_go_reads_them() {
        let cases: [(&str, Option<f64>); 13] = [
            ("0", Some(0.0)),
            ("10s", Some(10.0)),
            ("1m30s", Some(90.0)),
            ("1.5h", Some(5400.0)),
            ("100ms", Some(0.1)),
            ("10m0s", Some(600.0)),
            ("5us", Some(5e-6)),
            ("10", None),
            ("", None),
            ("s", None),
            ("1.2.3s", None),
            ("10 s", None),
            ("99999999999999999999999h", None),
        ];
        for (text, want) in cases {
            let got = duration(text).ok().map(|d| d.as_secs_f64());
            match (got, want) {
                (Some(g), Some(w)) => assert!((g - w).abs() < 1e-9, "{text}: {g}"),
                (None, None) => {}
                other => panic!("{text}: {other:?}"),
            }
        }
    }

    #[test]
    fn numbers_and_booleans() {
        assert_eq!(int("1572864"), Ok(1_572_864));
        assert_eq!(int("-1"), Ok(-1));
        assert_eq!(int("0x10"), Ok(16));
        assert!(int("1e3").is_err() && int("").is_err() && int("--1").is_err());
        assert_eq!(bool("T"), Ok(true));
        assert!(bool("yes").is_err());
        assert_eq!(list(" a,b,,c "), ["a", "b", "c"]);
    }
}
