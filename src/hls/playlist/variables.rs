//! EXT-X-DEFINE and `{$name}` (rfc8216bis §4.3 and §4.4.2.3).

use std::borrow::Cow;
use std::collections::BTreeMap;

use percent_encoding::percent_decode;
use url::Url;

use super::attributes::Attributes;

/// Where values come from and what has been defined so far.
pub(super) struct Variables<'a> {
    defined: BTreeMap<Box<str>, Box<str>>,
    imported: &'a [(Box<str>, Box<str>)],
}

impl<'a> Variables<'a> {
    pub(super) fn new(imported: &'a [(Box<str>, Box<str>)]) -> Self {
        Variables { defined: BTreeMap::new(), imported }
    }

    /// Reads one EXT-X-DEFINE. `base` is the playlist's own URL, for QUERYPARAM. The value may use
    /// what is defined already. Returns the length of the value in bytes.
    ///
    /// # Errors
    /// The reason: by the specification such a playlist must not be played.
    pub(super) fn define(&mut self, list: &[u8], base: &Url, limit: usize) -> Result<usize, String> {
        let (mut name, mut value, mut import, mut query) = (None, None, None, None);
        for attribute in Attributes::new(list) {
            let attribute = attribute?;
            let text = || std::str::from_utf8(attribute.value).map_err(|_| "an attribute that is not UTF-8".to_owned());
            match attribute.name {
                b"NAME" => name = Some(text()?),
                b"VALUE" => value = Some(text()?),
                b"IMPORT" => import = Some(text()?),
                b"QUERYPARAM" => query = Some(text()?),
                _ => {}
            }
        }
        let (name, value) = match (name, value, import, query) {
            (Some(name), Some(value), None, None) => (name, self.substitute(value, limit)?.into_owned()),
            (Some(_), None, None, None) => return Err("NAME without VALUE".to_owned()),
            (None, _, Some(name), None) => {
                let found = self.imported.iter().find(|(known, _)| **known == *name);
                let (_, value) = found
                    .ok_or_else(|| format!("the multivariant playlist does not define {} to import", shown(name)))?;
                (name, value.to_string())
            }
            (None, _, None, Some(name)) => (name, query_parameter(base, name)?),
            _ => return Err("not exactly one of NAME, IMPORT and QUERYPARAM".to_owned()),
        };
        if name_length(name.as_bytes()) != name.len() || name.is_empty() {
            return Err(format!("{} is no name of a variable", shown(name)));
        }
        let bytes = value.len();
        if self.defined.insert(name.into(), value.into()).is_some() {
            return Err(format!("{} is defined twice", shown(name)));
        }
        Ok(bytes)
    }

    /// Replaces every `{$name}`, once: what a value holds is not looked at again. The result is
    /// borrowed when there is nothing to replace.
    ///
    /// # Errors
    /// The reason: a name that is not defined, or a result longer than `limit` bytes.
    pub(super) fn substitute<'t>(&self, text: &'t str, limit: usize) -> Result<Cow<'t, str>, String> {
        let mut result = String::new();
        let mut rest = text;
        let mut copied = text;
        while let Some(start) = rest.find("{$") {
            let name = &rest[start + 2..];
            let name = &name[..name_length(name.as_bytes())];
            let end = start + 2 + name.len();
            if name.is_empty() || !rest[end..].starts_with('}') {
                rest = &rest[start + 2..];
                continue;
            }
            let value = self.defined.get(name).ok_or_else(|| format!("{} is not defined", shown(name)))?;
            // `rest` is always a tail of `copied`: between them lies text that holds no reference.
            result.push_str(&copied[..copied.len() - rest.len() + start]);
            result.push_str(value);
            if result.len() > limit {
                return Err(format!("longer than {limit} bytes once its variables are put in"));
            }
            rest = &rest[end + 1..];
            copied = rest;
        }
        if copied.len() == text.len() {
            return Ok(Cow::Borrowed(text));
        }
        result.push_str(copied);
        Ok(Cow::Owned(result))
    }

    /// How many are defined.
    pub(super) fn len(&self) -> usize {
        self.defined.len()
    }

    /// What was defined, by name.
    pub(super) fn into_defined(self) -> Vec<(Box<str>, Box<str>)> {
        self.defined.into_iter().collect()
    }
}

/// How many bytes from the start can be a name: `[A-Za-z0-9_-]`.
fn name_length(text: &[u8]) -> usize {
    let is_name = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    text.iter().position(|byte| !is_name(byte)).unwrap_or(text.len())
}

/// A parameter of the playlist's own URL, percent-decoded. A plus sign stays one: this is a URI, not
/// a form.
fn query_parameter(base: &Url, name: &str) -> Result<String, String> {
    let decode = |text: &'_ str| percent_decode(text.as_bytes()).decode_utf8().ok().map(Cow::into_owned);
    let value = base.query().unwrap_or_default().split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (decode(key).as_deref() == Some(name)).then_some(value)
    });
    match value.map(decode) {
        Some(Some(value)) if !value.is_empty() => Ok(value),
        Some(None) => Err(format!("the value of {} in the playlist's URL is not UTF-8", shown(name))),
        _ => Err(format!("the playlist's URL has no query parameter {} with a value", shown(name))),
    }
}

/// A name as it may stand in a message.
fn shown(name: &str) -> String {
    super::reading::quoted(name.as_bytes())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: usize = 100;

    fn base() -> Url {
        Url::parse("https://h.example/a/b.m3u8?token=a%2Fb+c&empty=&flag&x=1").unwrap()
    }

    fn defined(lists: &[&str]) -> Result<Variables<'static>, String> {
        let mut variables = Variables::new(&[]);
        for list in lists {
            variables.define(list.as_bytes(), &base(), LIMIT)?;
        }
        Ok(variables)
    }

    #[test]
    fn references_are_replaced_once() {
        let variables = defined(&[r#"NAME="a",VALUE="1""#, r#"NAME="b",VALUE="{$a}2""#]).unwrap();
        assert_eq!(variables.substitute("x{$a}y{$b}{$a}z", LIMIT).unwrap(), "x1y121z");
        // The text that comes out looks like a reference and is none.
        let variables = defined(&[r#"NAME="a",VALUE="{""#, r#"NAME="b",VALUE="x""#]).unwrap();
        assert_eq!(variables.substitute("{$a}$b}", LIMIT).unwrap(), "{$b}");
    }

    #[test]
    fn what_is_no_reference_stays() {
        let variables = defined(&[r#"NAME="a",VALUE="1""#]).unwrap();
        for text in ["", "{", "{$", "{$}", "{$a", "{a}", "{$a b}", "$a", "{$ä}"] {
            assert_eq!(variables.substitute(text, LIMIT).unwrap(), text);
        }
        assert_eq!(variables.substitute("{${$a}", LIMIT).unwrap(), "{$1");
    }

    #[test]
    fn an_undefined_name_is_an_error() {
        assert!(defined(&[]).unwrap().substitute("{$a}", LIMIT).unwrap_err().contains("\"a\" is not defined"));
    }

    #[test]
    fn expansion_is_capped() {
        let mut lists = vec![r#"NAME="v0",VALUE="0123456789""#.to_owned()];
        lists.extend((1..50).map(|n| format!(r#"NAME="v{n}",VALUE="{{$v{0}}}{{$v{0}}}""#, n - 1)));
        let lists: Vec<&str> = lists.iter().map(String::as_str).collect();
        assert!(defined(&lists).err().unwrap().contains("longer than 100 bytes"));
    }

    #[test]
    fn query_parameters_are_percent_decoded() {
        let variables = defined(&[r#"QUERYPARAM="token""#]).unwrap();
        assert_eq!(variables.substitute("{$token}", LIMIT).unwrap(), "a/b+c");
        for name in ["missing", "empty", "flag"] {
            assert!(defined(&[&format!("QUERYPARAM=\"{name}\"")]).err().unwrap().contains(name));
        }
    }

    #[test]
    fn imports_come_from_the_multivariant_playlist() {
        let imported = [("a".into(), "1".into())];
        let mut variables = Variables::new(&imported);
        assert!(variables.substitute("{$a}", LIMIT).is_err());
        variables.define(br#"IMPORT="a""#, &base(), LIMIT).unwrap();
        assert_eq!(variables.substitute("{$a}", LIMIT).unwrap(), "1");
        assert!(variables.define(br#"IMPORT="b""#, &base(), LIMIT).is_err());
    }

    #[test]
    fn wrong_definitions_are_errors() {
        let bad =
            [r#"NAME="a""#, r#"VALUE="a""#, r#"NAME="a",VALUE="1",IMPORT="a""#, r#"NAME="a b",VALUE="1""#, "", "x"];
        for list in bad {
            assert!(defined(&[list]).is_err(), "{list}");
        }
        assert!(defined(&[r#"NAME="a",VALUE="1""#, r#"NAME="a",VALUE="1""#]).is_err());
    }
}
