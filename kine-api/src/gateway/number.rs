//! Whole numbers as JSON writes them: `15`, `1.5e1` and `150e-1` are the same.

/// Most digits of a 64-bit number.
const MAX_DIGITS: usize = 20;

/// Length of the number a text begins with: 0 when it begins with none, or
/// when the number is glued to something else.
pub(super) fn length(text: &[u8]) -> usize {
    let digits = |from: usize| text.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    match text.get(at) {
        Some(b'0') => at += 1,
        Some(b'1'..=b'9') => at += digits(at),
        _ => return 0,
    }
    if text.get(at) == Some(&b'.') && digits(at + 1) > 0 {
        at += 1 + digits(at + 1);
    }
    if matches!(text.get(at), Some(b'e' | b'E')) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        match digits(at) {
            0 => return 0,
            count => at += count,
        }
    }
    if text.get(at).is_some_and(|b| b.is_ascii_alphanumeric() || b"-+._".contains(b)) { 0 } else { at }
}

/// The plain digits of a number that is whole; `None` for a fraction, and for
/// what is too large for any field.
pub(super) fn whole(number: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(number).ok()?;
    let (negative, text) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent),
        None => (text, "0"),
    };
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let whole = whole.strip_prefix('0').unwrap_or(whole);
    let fraction = fraction.trim_end_matches('0');
    if whole.is_empty() && fraction.is_empty() {
        return Some("0".to_owned());
    }
    let exponent: i32 = exponent.parse().ok()?;
    let digits = match usize::try_from(exponent) {
        Ok(shift) => shifted_left(whole, fraction, shift)?,
        Err(_) => shifted_right(whole, fraction, exponent.unsigned_abs() as usize)?,
    };
    Some(if negative { format!("-{digits}") } else { digits })
}

fn shifted_left(whole: &str, fraction: &str, shift: usize) -> Option<String> {
    let zeros = shift.checked_sub(fraction.len())?;
    if whole.len().saturating_add(shift) > MAX_DIGITS {
        return None;
    }
    Some(format!("{whole}{fraction}{}", "0".repeat(zeros)))
}

fn shifted_right(whole: &str, fraction: &str, shift: usize) -> Option<String> {
    let (kept, dropped) = whole.split_at_checked(whole.len().checked_sub(shift)?)?;
    (fraction.is_empty() && dropped.bytes().all(|b| b == b'0')).then(|| kept.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_end_where_they_end() {
        for (text, want) in [
            ("15", 2),
            ("-0", 2),
            ("0.5e+10,", 7),
            ("1 2", 1),
            ("1,2", 1),
            ("", 0),
            ("-", 0),
            ("01", 0),
            ("1x", 0),
            ("1.", 0),
            (".5", 0),
            ("1e", 0),
            ("1e+", 0),
            ("+1", 0),
            ("1_", 0),
        ] {
            assert_eq!(length(text.as_bytes()), want, "{text}");
        }
    }

    #[test]
    fn whole_numbers_in_every_spelling() {
        for (text, want) in [
            ("15", Some("15")),
            ("1.5e1", Some("15")),
            ("150e-1", Some("15")),
            ("15.000", Some("15")),
            ("-15", Some("-15")),
            ("-0", Some("0")),
            ("0.0e99999999999", Some("0")),
            ("1.5", None),
            ("15e-1", None),
            ("1e21", None),
            ("9e18", Some("9000000000000000000")),
            ("1e99999999999", None),
            ("1e-5", None),
        ] {
            assert_eq!(whole(text.as_bytes()).as_deref(), want, "{text}");
        }
    }
}
