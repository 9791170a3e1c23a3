//! What the settings say, to be compared with what they said before.

use std::fmt;

use secrecy::{ExposeSecret, SecretString};

use super::source::shown_url;

/// What every setting says.
#[derive(Debug, Clone, Default)]
pub struct Values(Vec<Value>);

#[derive(Debug, Clone)]
struct Value {
    /// `section.name`.
    name: String,
    reloadable: bool,
    /// As it may be shown; empty when nothing is set.
    shown: String,
    /// What of it is not shown.
    hidden: Option<SecretString>,
}

/// A setting that says something else than before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// `section.name`.
    pub name: String,
    /// What it said and what it says, as far as that may be shown; equal when a secret has changed.
    pub from: String,
    pub to: String,
    /// Whether a reload applies it.
    pub reloadable: bool,
}

impl Values {
    /// The setting that is described next.
    pub(super) fn begin(&mut self, name: &str, reloadable: bool) {
        self.0.push(Value { name: name.to_owned(), reloadable, shown: String::new(), hidden: None });
    }

    /// What it says.
    pub(super) fn set(&mut self, value: impl fmt::Display) {
        if let Some(last) = self.0.last_mut() {
            last.shown = value.to_string();
        }
    }

    /// As [`Values::set`], for what may be a URL with credentials.
    pub(super) fn set_text(&mut self, text: &str) {
        match shown_url(text) {
            Some(shown) => {
                self.set(shown);
                self.hide(Some(&SecretString::from(text)));
            }
            None => self.set(text),
        }
    }

    /// What is compared and never shown.
    pub(super) fn hide(&mut self, secret: Option<&SecretString>) {
        if let Some(last) = self.0.last_mut() {
            last.hidden = secret.cloned();
        }
    }

    /// What `new` says differently.
    pub fn changes(&self, new: &Values) -> Vec<Change> {
        let pairs = self.0.iter().zip(&new.0);
        let differing = pairs.filter(|(old, new)| old.shown != new.shown || old.secret() != new.secret());
        let change = |(old, new): (&Value, &Value)| Change {
            name: new.name.clone(),
            from: old.shown.clone(),
            to: new.shown.clone(),
            reloadable: new.reloadable,
        };
        differing.map(change).collect()
    }

    /// These, with what a reload applies taken from `new`.
    pub fn reloaded(&self, new: &Values) -> Values {
        let pairs = self.0.iter().zip(&new.0);
        Values(pairs.map(|(old, new)| if new.reloadable { new } else { old }.clone()).collect())
    }
}

impl Value {
    fn secret(&self) -> Option<&str> {
        self.hidden.as_ref().map(ExposeSecret::expose_secret)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = |text: &str| if text.is_empty() { "(not set)".to_owned() } else { text.to_owned() };
        match self.from == self.to {
            true => write!(f, "{} (what is not shown of it)", self.name),
            false => write!(f, "{} {} -> {}", self.name, shown(&self.from), shown(&self.to)),
        }
    }
}
