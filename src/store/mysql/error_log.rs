//! An error report as the column `error_log` takes it.

use std::fmt::Write;

use serde_json::Value;

/// Put where a message was cut.
const CUT: &str = "...";

/// The report with at most `limit` characters, all of them ASCII, so that it fits into a column of any
/// character set. Of one that is too long the message is cut, so that it stays JSON.
pub(super) fn fit(report: &str, limit: usize) -> String {
    let whole = ascii(report);
    if whole.len() <= limit {
        return whole;
    }
    let Ok(Value::Object(mut fields)) = serde_json::from_str(report) else { return cut(&whole, limit) };
    let message = fields.get("message").and_then(Value::as_str).unwrap_or_default().to_owned();
    fields.insert("message".into(), CUT.into());
    let rest = ascii(&Value::Object(fields.clone()).to_string());
    let Some(room) = limit.checked_sub(rest.len()) else {
        // The kind is what matters most.
        return cut(fields.get("kind").and_then(Value::as_str).unwrap_or_default(), limit);
    };
    let mut used = 0;
    let fits = |c: &char| {
        // Without its quotation marks.
        used += ascii(&Value::from(c.to_string()).to_string()).len() - 2;
        used <= room
    };
    let message: String = message.chars().take_while(fits).collect();
    fields.insert("message".into(), (message + CUT).into());
    ascii(&Value::Object(fields).to_string())
}

/// JSON with everything that is not ASCII escaped.
fn ascii(json: &str) -> String {
    let mut escaped = String::with_capacity(json.len());
    let mut units = [0; 2];
    for c in json.chars() {
        if c.is_ascii() {
            escaped.push(c);
            continue;
        }
        for unit in c.encode_utf16(&mut units) {
            let _ = write!(escaped, "\\u{unit:04x}");
        }
    }
    escaped
}

/// The first `limit` characters of an ASCII text.
fn cut(text: &str, limit: usize) -> String {
    text.chars().take(limit).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_fits_is_the_same_json_in_ascii() {
        let report = r#"{"kind":"not_found","message":"Лекция \"3\" 🎬"}"#;
        let fitted = fit(report, 65_535);
        assert!(fitted.is_ascii(), "{fitted}");
        assert_eq!(serde_json::from_str::<Value>(&fitted).unwrap(), serde_json::from_str::<Value>(report).unwrap());
    }

    #[test]
    fn a_long_report_stays_json_and_fills_what_there_is() {
        for (text, limit) in [("x", 65_535), ("🎬", 65_535), ("\n\"", 1000), ("é", 120)] {
            let report = serde_json::json!({"kind": "not_found", "message": text.repeat(70_000), "attempts": 3});
            let fitted = fit(&report.to_string(), limit);
            assert!((limit - 12..=limit).contains(&fitted.len()), "{text:?}: {}", fitted.len());
            let read: Value = serde_json::from_str(&fitted).unwrap();
            assert_eq!((&read["kind"], &read["attempts"]), (&"not_found".into(), &3.into()));
            assert!(read["message"].as_str().unwrap().ends_with(CUT));
        }
    }

    #[test]
    fn a_column_that_holds_no_report_gets_the_kind() {
        let report = serde_json::json!({"kind": "enrollment_timeout", "message": "m"}).to_string();
        assert_eq!(fit(&report, 30), "enrollment_timeout");
        assert_eq!(fit(&report, 5), "enrol");
        assert_eq!(fit("plain text", 5), "plain");
    }
}
