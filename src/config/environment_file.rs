//! A file of variables, as systemd reads `EnvironmentFile=`: so that a command typed by an operator
//! sees what the unit sees.

/// Where the reader is, in systemd's own words (`src/basic/env-file.c`).
#[derive(Clone, Copy)]
enum State {
    PreKey,
    Key,
    Comment,
    CommentEscape,
    /// Before a value, and after a quoted part of one.
    PreValue,
    Value,
    ValueEscape,
    SingleQuote,
    DoubleQuote,
    DoubleQuoteEscape,
}

/// The variables of a file: `NAME=value` a line. A line that begins with `#` or `;` is a comment, one without
/// `=` is passed over. A quote counts at the beginning of a value only; a backslash takes the next
/// character as it is, and the end of a line with it (systemd.exec(5)).
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let (mut key, mut value) = (String::new(), String::new());
    // Spaces at the end of a value count only where they are quoted.
    let mut kept = 0;
    let mut state = State::PreKey;
    for character in text.trim_start_matches('\u{feff}').chars().chain(['\n']) {
        let is_end = matches!(character, '\n' | '\r');
        state = match (state, character) {
            (State::PreKey, '#' | ';') => State::Comment,
            (State::PreKey, _) if character.is_whitespace() => State::PreKey,
            (State::PreKey, _) => {
                key = character.to_string();
                State::Key
            }
            (State::Key | State::Comment, _) if is_end => State::PreKey,
            (State::Key, '=') => {
                value.clear();
                kept = 0;
                State::PreValue
            }
            (State::Key, _) => {
                key.push(character);
                State::Key
            }
            (State::Comment, '\\') => State::CommentEscape,
            (State::Comment | State::CommentEscape, _) => State::Comment,
            (State::PreValue | State::Value, _) if is_end => {
                value.truncate(kept);
                variables.push((key.trim_end().to_owned(), value.clone()));
                State::PreKey
            }
            (State::PreValue | State::Value, '\\') => State::ValueEscape,
            (State::PreValue, '\'') => State::SingleQuote,
            (State::PreValue, '"') => State::DoubleQuote,
            (State::PreValue, _) if character.is_whitespace() => State::PreValue,
            (State::PreValue | State::Value, _) => {
                value.push(character);
                if !character.is_whitespace() {
                    kept = value.len();
                }
                State::Value
            }
            (State::ValueEscape, _) => {
                if !is_end {
                    value.push(character);
                    kept = value.len();
                }
                State::Value
            }
            (State::SingleQuote, '\'') | (State::DoubleQuote, '"') => State::PreValue,
            (State::DoubleQuote, '\\') => State::DoubleQuoteEscape,
            (State::SingleQuote | State::DoubleQuote, _) => {
                value.push(character);
                kept = value.len();
                state
            }
            (State::DoubleQuoteEscape, _) => {
                match character {
                    '"' | '\\' | '`' | '$' => value.push(character),
                    '\n' => {}
                    _ => value.extend(['\\', character]),
                }
                kept = value.len();
                State::DoubleQuote
            }
        };
    }
    variables
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_systemd_reads() {
        let text = "\u{feff}# the old worker\n; too\nREDIS_HOST=10.0.0.7\nREDIS_PASSWORD='p@ss #1'  \n\nno assignment\n\
            DB_PASSWORD=\"a\\\"b\\\\c\\d$\" \r\nAPI_SECRET_KEY = plain text # kept \nEMPTY=\nLONG=one\\\n  two\n\
            # a comment \\\n goes on\nIN_IT=it's\nAFTER=x\"y\" 'z\nTOGETHER=\"a\" b\nLAST=\\'x y";
        let expected = [
            ("REDIS_HOST", "10.0.0.7"),
            ("REDIS_PASSWORD", "p@ss #1"),
            ("DB_PASSWORD", "a\"b\\c\\d$"),
            ("API_SECRET_KEY", "plain text # kept"),
            ("EMPTY", ""),
            ("LONG", "one  two"),
            ("IN_IT", "it's"),
            ("AFTER", "x\"y\" 'z"),
            ("TOGETHER", "ab"),
            ("LAST", "'x y"),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(parse(text), expected);
    }
}
