//! Where a setting's text comes from, and the collection of everything that is wrong with it.
//!
//! Precedence: flag, then environment (`HAULD_SECTION_NAME`), then the file, then the name the
//! setting had in the field before us, then the default. Errors are collected, so that one run
//! reports them all.

mod secret;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use secrecy::SecretString;
use toml::Value;
use url::Url;

use super::values::Values;
pub use secret::read_secret_file;

/// One thing that is wrong with the configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConfigError {
    /// The setting, `section.name`.
    pub name: String,
    /// Its value as given; never a secret.
    pub value: Option<String>,
    /// What is wrong with it.
    pub reason: String,
    /// Where the value came from: a flag, a variable or the file.
    pub origin: String,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.name)?;
        if let Some(value) = &self.value {
            write!(f, " = {value}")?;
        }
        write!(f, " ({}): {}", self.origin, self.reason)
    }
}

/// What the README's configuration table says about one setting.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingDoc {
    /// `section.name`.
    pub name: String,
    /// The default as text; empty when there is none.
    pub default: String,
    /// One sentence.
    pub help: String,
    /// The name it had in the field before us, if any.
    pub fallback: Option<&'static str>,
    /// Whether a reload applies it; otherwise it takes a restart.
    pub reloadable: bool,
}

/// Reads settings one by one, remembering errors and which names are known.
pub struct Source {
    flags: BTreeMap<String, String>,
    environment: BTreeMap<String, String>,
    file: toml::Table,
    file_name: String,
    /// Everything found wrong so far.
    pub errors: Vec<ConfigError>,
    /// Every setting read so far, in order.
    pub docs: Vec<SettingDoc>,
    /// What they say.
    pub values: Values,
    /// Whether a reload applies the setting that is read next.
    next_is_reloadable: bool,
}

/// A value as it was found, before it is read as a type.
struct Found {
    value: Value,
    origin: String,
}

impl Source {
    /// `flags` maps `section.name` to text; `environment` is the process environment.
    pub fn new(
        flags: BTreeMap<String, String>,
        environment: BTreeMap<String, String>,
        file: toml::Table,
        file_name: String,
    ) -> Self {
        Source {
            flags,
            environment,
            file,
            file_name,
            errors: Vec::new(),
            docs: Vec::new(),
            values: Values::default(),
            next_is_reloadable: false,
        }
    }

    /// Says that a reload applies the setting that is read next.
    pub fn reloadable(&mut self) -> &mut Source {
        self.next_is_reloadable = true;
        self
    }

    /// Records an error that no single read can see (two settings that contradict each other), unless
    /// something else is wrong with the setting already.
    pub fn error(&mut self, name: &str, reason: impl Into<String>) {
        if self.errors.iter().any(|error| error.name == name) {
            return;
        }
        self.errors.push(ConfigError {
            name: name.into(),
            value: None,
            reason: reason.into(),
            origin: "configuration".into(),
        });
    }

    fn document(&mut self, name: &str, default: impl fmt::Display, help: &str, fallback: Option<&'static str>) {
        let reloadable = std::mem::take(&mut self.next_is_reloadable);
        let (name, default, help) = (name.to_owned(), default.to_string(), help.to_owned());
        self.values.begin(&name, reloadable);
        self.docs.push(SettingDoc { name, default, help, fallback, reloadable });
    }

    /// Whether a flag, the environment or the file says something about the setting.
    pub fn is_given(&self, name: &str) -> bool {
        self.find(name, None).is_some()
    }

    fn find(&self, name: &str, fallback: Option<&str>) -> Option<Found> {
        if let Some(text) = self.flags.get(name) {
            return Some(Found { value: Value::String(text.clone()), origin: "flag".into() });
        }
        let variable = environment_name(name);
        if let Some(text) = self.environment.get(&variable) {
            return Some(Found { value: Value::String(text.clone()), origin: variable });
        }
        let (section, key) = name.split_once('.').unwrap_or(("", name));
        if let Some(value) = self.file.get(section).and_then(Value::as_table).and_then(|table| table.get(key)) {
            return Some(Found { value: value.clone(), origin: self.file_name.clone() });
        }
        let fallback = fallback?;
        let text = self.environment.get(fallback).filter(|text| !text.is_empty())?;
        Some(Found { value: Value::String(text.clone()), origin: fallback.into() })
    }

    fn read<T>(
        &mut self,
        name: &str,
        fallback: Option<&'static str>,
        parse: impl FnOnce(&Value) -> Result<T, String>,
    ) -> Option<T> {
        let found = self.find(name, fallback)?;
        match parse(&found.value) {
            Ok(value) => Some(value),
            Err(reason) => {
                let value = Some(shown_value(&found.value));
                self.errors.push(ConfigError { name: name.into(), value, reason, origin: found.origin });
                None
            }
        }
    }

    /// As [`Source::integer`], as a `usize`: it has 64 bits where this runs.
    pub fn count(&mut self, name: &str, default: usize, range: std::ops::RangeInclusive<u64>, help: &str) -> usize {
        self.integer(name, default as u64, range, help) as usize
    }

    /// Bytes of memory for a child.
    pub fn memory(&mut self, name: &str, help: &str) -> u64 {
        self.integer(name, crate::child::MAX_MEMORY, (256 << 20)..=(1 << 50), help)
    }

    /// A whole number within `range`.
    pub fn integer(&mut self, name: &str, default: u64, range: std::ops::RangeInclusive<u64>, help: &str) -> u64 {
        self.integer_or(name, None, default, range, help)
    }

    /// As [`Source::integer`], with the name that the setting had before us.
    pub fn integer_or(
        &mut self,
        name: &str,
        fallback: Option<&'static str>,
        default: u64,
        range: std::ops::RangeInclusive<u64>,
        help: &str,
    ) -> u64 {
        self.document(name, default, help, fallback);
        let number = self.read(name, fallback, |value| {
            let number = match value {
                Value::Integer(number) => u64::try_from(*number).ok(),
                Value::String(text) => text.trim().parse().ok(),
                _ => None,
            };
            let number = number.ok_or("is not a whole number")?;
            if !range.contains(&number) {
                return Err(format!("is not within {} to {}", range.start(), range.end()));
            }
            Ok(number)
        });
        let number = number.unwrap_or(default);
        self.values.set(number);
        number
    }

    /// `true` or `false`.
    pub fn boolean(&mut self, name: &str, default: bool, help: &str) -> bool {
        self.document(name, default, help, None);
        let read = self.read(name, None, |value| match value {
            Value::Boolean(flag) => Ok(*flag),
            Value::String(text) if text == "true" => Ok(true),
            Value::String(text) if text == "false" => Ok(false),
            _ => Err("is not true or false".into()),
        });
        let flag = read.unwrap_or(default);
        self.values.set(flag);
        flag
    }

    /// A text that is not empty.
    pub fn text(&mut self, name: &str, default: &str, help: &str) -> String {
        self.optional_text(name, None, default, help).unwrap_or_else(|| default.to_owned())
    }

    /// A text that may be missing. `default` is only for the documentation.
    pub fn optional_text(
        &mut self,
        name: &str,
        fallback: Option<&'static str>,
        default: &str,
        help: &str,
    ) -> Option<String> {
        self.document(name, default, help, fallback);
        let text = self.read(name, fallback, |value| match value {
            Value::String(text) if !text.trim().is_empty() => Ok(text.clone()),
            Value::String(_) => Err("is empty".into()),
            Value::Integer(number) => Ok(number.to_string()),
            _ => Err("is not a text".into()),
        });
        self.values.set_text(text.as_deref().unwrap_or(default));
        text
    }

    /// One of a few words.
    pub fn choice<T: Copy>(&mut self, name: &str, default: &str, choices: &[(&str, T)], help: &str) -> T {
        let words: Vec<&str> = choices.iter().map(|(word, _)| *word).collect();
        self.document(name, default, help, None);
        let read = self.read(name, None, |value| {
            let text = value.as_str().unwrap_or_default();
            let hit = choices.iter().find(|(word, _)| *word == text);
            hit.copied().ok_or_else(|| format!("is none of {}", words.join(", ")))
        });
        let default = choices.iter().find(|(word, _)| *word == default).unwrap_or(&choices[0]);
        let (word, choice) = read.unwrap_or(*default);
        self.values.set(word);
        choice
    }

    /// A path.
    pub fn path(&mut self, name: &str, default: &str, help: &str) -> PathBuf {
        PathBuf::from(self.text(name, default, help))
    }

    /// A path that may be missing.
    pub fn optional_path(&mut self, name: &str, help: &str) -> Option<PathBuf> {
        self.optional_text(name, None, "", help).map(PathBuf::from)
    }

    /// An http or https URL that may be missing.
    pub fn optional_url(&mut self, name: &str, fallback: Option<&'static str>, help: &str) -> Option<Url> {
        self.document(name, "", help, fallback);
        let url = self.read(name, fallback, |value| {
            let text = value.as_str().ok_or("is not a text")?;
            crate::http::parse_url(text).map_err(|failure| failure.message)
        });
        self.values.set_text(url.as_ref().map(Url::as_str).unwrap_or_default());
        url
    }

    /// A socket address (`127.0.0.1:8080`) that may be missing; the word `off` is "missing".
    pub fn optional_address(&mut self, name: &str, default: &str, help: &str) -> Option<std::net::SocketAddr> {
        self.document(name, default, help, None);
        let parse = |text: &str| match text {
            "" | "off" => Ok(None::<std::net::SocketAddr>),
            text => text.parse().map(Some).map_err(|_| "is not an address with a port, nor off".to_owned()),
        };
        let read = self.read(name, None, |value| parse(value.as_str().ok_or("is not a text")?));
        let address = read.unwrap_or_else(|| parse(default).unwrap_or(None));
        self.values.set(address.map_or("off".to_owned(), |address| address.to_string()));
        address
    }

    /// A list of texts: an array in the file; in a variable, words separated by blanks.
    pub fn list(&mut self, name: &str, help: &str) -> Vec<String> {
        self.document(name, "", help, None);
        let list: Option<Vec<String>> = self.read(name, None, |value| match value {
            Value::String(text) => Ok(text.split_whitespace().map(str::to_owned).collect()),
            Value::Array(items) => items
                .iter()
                .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| "holds something that is not a text".into()))
                .collect(),
            _ => Err("is not a list of texts".into()),
        });
        let list = list.unwrap_or_default();
        self.values.set(list.join(" "));
        list
    }

    /// A program with its arguments, which may hold a secret: only the program is ever shown.
    pub fn command(&mut self, name: &str, help: &str) -> Vec<String> {
        let command = self.list(name, help);
        self.values.set(command.first().map_or("", String::as_str));
        self.values.hide(Some(&SecretString::from(command.join(" "))));
        command
    }

    /// Every key of the file and every `HAULD_` variable that no read asked for becomes an error.
    pub fn refuse_unknown(&mut self) {
        let known: Vec<String> = self.docs.iter().map(|doc| doc.name.clone()).collect();
        for (section, value) in &self.file {
            let names: Vec<String> = match value {
                Value::Table(table) => table.keys().map(|key| format!("{section}.{key}")).collect(),
                _ => vec![section.clone()],
            };
            for name in names.into_iter().filter(|name| !known.contains(name)) {
                let reason = not_a_setting(&name, &known);
                let origin = self.file_name.clone();
                self.errors.push(ConfigError { name, value: None, reason, origin });
            }
        }
        for name in self.flags.keys().filter(|name| !known.contains(name)) {
            let reason = not_a_setting(name, &known);
            self.errors.push(ConfigError { name: name.clone(), value: None, reason, origin: "flag".into() });
        }
        let mut variables: Vec<String> = known.iter().map(|name| environment_name(name)).collect();
        variables.extend(known.iter().filter_map(|name| name.strip_suffix("_file")).map(environment_name));
        variables.push("HAULD_CONFIG".into());
        for variable in self.environment.keys().filter(|name| name.starts_with("HAULD_")) {
            if !variables.contains(variable) {
                let reason = "is not a setting".into();
                self.errors.push(ConfigError {
                    name: variable.clone(),
                    value: None,
                    reason,
                    origin: "environment".into(),
                });
            }
        }
    }
}

/// A value as it may be shown: of a URL neither credentials nor query.
fn shown_value(value: &Value) -> String {
    shown_url(value.as_str().unwrap_or_default()).unwrap_or_else(|| value.to_string())
}

/// A URL without credentials and query; `None` when it is none.
pub(super) fn shown_url(text: &str) -> Option<String> {
    let (scheme, _) = text.split_once("://")?;
    Some(Url::parse(text).map_or_else(|_| format!("{scheme}://…"), |url| crate::http::shown(&url)))
}

fn not_a_setting(name: &str, known: &[String]) -> String {
    let file = format!("{name}_file");
    if known.contains(&file) {
        return format!("is not a setting: a secret stands in a file of its own, which {file} names");
    }
    match closest(name, known) {
        Some(near) => format!("is not a setting; did you mean {near}?"),
        None => "is not a setting".into(),
    }
}

/// `section.name` as the variable `HAULD_SECTION_NAME`.
pub fn environment_name(name: &str) -> String {
    format!("HAULD_{}", name.replace('.', "_").to_uppercase())
}

/// The known name that differs least, if it is near enough to be a slip of the pen.
fn closest<'a>(name: &str, known: &'a [String]) -> Option<&'a String> {
    let nearest = known.iter().min_by_key(|candidate| distance(name, candidate))?;
    (distance(name, nearest) <= 3).then_some(nearest)
}

/// Levenshtein distance; names are short.
fn distance(a: &str, b: &str) -> usize {
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, left) in a.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, right) in b.bytes().enumerate() {
            let substitute = diagonal + usize::from(left != right);
            diagonal = row[j + 1];
            row[j + 1] = substitute.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[b.len()]
}
