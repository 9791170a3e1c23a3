//! A file of variables, as systemd reads `EnvironmentFile=`: so that a command typed by an operator
//! sees what the unit sees.

/// The variables of a file: `NAME=value` a line, the value in single or double quotes or in none. `#` and
/// `;` begin a comment; a backslash takes the next character as it is, and the end of a line with it.
/// Lines without `=` are passed over (systemd.exec(5)).
pub fn parse(text: &str) -> Vec<(String, String)> {
    let mut variables = Vec::new();
    let mut rest = text.trim_start_matches('\u{feff}');
    while let Some(start) = rest.find(|c: char| !c.is_whitespace()) {
        rest = &rest[start..];
        let line_end = rest.find('\n').unwrap_or(rest.len());
        match rest[..line_end].split_once('=') {
            Some((name, _)) if !rest.starts_with(['#', ';']) => {
                let (value, read) = value(&rest[name.len() + 1..]);
                variables.push((name.trim_end().to_owned(), value));
                rest = &rest[name.len() + 1 + read..];
            }
            _ => rest = &rest[line_end..],
        }
    }
    variables
}

/// A value, and how many bytes it takes up to the end of its line.
fn value(text: &str) -> (String, usize) {
    let mut value = String::new();
    // Spaces at the end count only where they are quoted.
    let mut kept = 0;
    let mut quote = None;
    let mut characters = text.char_indices().skip_while(|(_, c)| matches!(c, ' ' | '\t'));
    while let Some((at, character)) = characters.next() {
        match (quote, character) {
            (None, '\n') => {
                value.truncate(kept);
                return (value, at);
            }
            (None, '\'' | '"') => quote = Some(character),
            (Some(open), _) if character == open => {
                quote = None;
                kept = value.len();
            }
            (None | Some('"'), '\\') => {
                match characters.next() {
                    Some((_, '\n')) | None => {}
                    Some((_, escaped)) => {
                        // Within double quotes only these are special, as in a shell.
                        if quote.is_some() && !matches!(escaped, '"' | '\\' | '`' | '$') {
                            value.push('\\');
                        }
                        value.push(escaped);
                    }
                }
                kept = value.len();
            }
            _ => {
                value.push(character);
                if quote.is_some() || !character.is_whitespace() {
                    kept = value.len();
                }
            }
        }
    }
    value.truncate(kept);
    (value, text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_systemd_reads() {
        let text = "\u{feff}# the old worker\n; too\nREDIS_HOST=10.0.0.7\nREDIS_PASSWORD='p@ss #1'  \n\nno assignment\n\
            DB_PASSWORD=\"a\\\"b\\\\c\\d$\" \r\nAPI_SECRET_KEY = plain text # kept \nEMPTY=\nLONG=one\\\n  two\nLAST=\\'x y";
        let expected = [
            ("REDIS_HOST", "10.0.0.7"),
            ("REDIS_PASSWORD", "p@ss #1"),
            ("DB_PASSWORD", "a\"b\\c\\d$"),
            ("API_SECRET_KEY", "plain text # kept"),
            ("EMPTY", ""),
            ("LONG", "one  two"),
            ("LAST", "'x y"),
        ];
        let expected: Vec<_> = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        assert_eq!(parse(text), expected);
    }
}
