//! Secrets that stand where an operator drops them: a file `hook.token` in the directory `credentials`
//! beside the configuration file is what `hook.token_file` would name. The unit has systemd hand the
//! same files over, so that they may belong to root alone.

use std::path::{Path, PathBuf};

use secrecy::ExposeSecret;
use toml::{Table, Value};

use super::source::{ConfigError, environment_name, read_secret_file};

/// What may be dropped there. A file of another name is nobody's business.
const NAMES: [&str; 12] = [
    "redis.url",
    "store.mysql_password",
    "store.http_token",
    "enrollment.token",
    "enrollment.cookies",
    "resolver.catalog_token",
    "resolver.cookies",
    "report.secret",
    "report.webhook_secret",
    "hook.token",
    "admin.token",
    "network.proxy_credentials",
];

/// Names the files that are there in the settings of the configuration file which do not name one,
/// unless `is_given` says that the variable of this name is set.
pub(super) fn name_in(
    table: &mut Table,
    beside: Option<&Path>,
    handed_over: Option<&Path>,
    is_given: impl Fn(&str) -> bool,
) -> Vec<ConfigError> {
    let mut errors = Vec::new();
    for name in NAMES {
        let Some(path) = find(name, beside, handed_over) else { continue };
        // The URL is a setting itself: it may hold a password.
        let is_value = name == "redis.url";
        let setting = if is_value { name.to_owned() } else { format!("{name}_file") };
        let (section, key) = setting.split_once('.').unwrap_or(("", &setting));
        let section = table.entry(section).or_insert_with(|| Value::Table(Table::new()));
        let Some(section) = section.as_table_mut() else { continue };
        if section.contains_key(key) || is_given(&environment_name(name)) {
            continue;
        }
        let value = match is_value {
            true => read_secret_file(&path).map(|secret| secret.expose_secret().to_owned()),
            false => Ok(path.display().to_string()),
        };
        match value {
            Ok(value) => drop(section.insert(key.to_owned(), Value::String(value))),
            Err(reason) => {
                errors.push(ConfigError { name: name.into(), value: None, reason, origin: path.display().to_string() })
            }
        }
    }
    errors
}

/// The file itself where it can be read, since it may be replaced while the daemon runs; what systemd
/// has handed over, a copy from the start, otherwise.
fn find(name: &str, beside: Option<&Path>, handed_over: Option<&Path>) -> Option<PathBuf> {
    let beside = beside.map(|directory| directory.join(name)).filter(|path| path.exists());
    if let Some(path) = beside.clone().filter(|path| std::fs::File::open(path).is_ok()) {
        return Some(path);
    }
    // LoadCredential= of a directory puts its own name in front of the names of the files.
    let handed_over = [format!("hauld_{name}"), name.to_owned()].into_iter().filter_map(|file| {
        let path = handed_over?.join(file);
        path.exists().then_some(path)
    });
    // A file that cannot be read is an error that names it.
    handed_over.chain(beside).next()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::config::Config;

    fn put(directory: &Path, name: &str, text: &str) -> PathBuf {
        let path = directory.join(name);
        std::fs::write(&path, text).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path
    }

    #[test]
    fn every_name_leads_to_a_setting() {
        let settings: Vec<String> = Config::settings().into_iter().map(|setting| setting.name).collect();
        for name in NAMES {
            assert!(settings.contains(&name.to_owned()) || settings.contains(&format!("{name}_file")), "{name}");
        }
    }

    #[test]
    fn a_file_beside_the_configuration_goes_before_what_systemd_hands_over() {
        let (beside, handed_over) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let mut table: Table = "[report]\nsecret_file = \"/mine\"".parse().unwrap();
        put(beside.path(), "hook.token", "a");
        put(handed_over.path(), "hauld_hook.token", "b");
        let token = put(handed_over.path(), "hauld_enrollment.token", "c");
        let cookies = put(handed_over.path(), "resolver.cookies", "d");
        put(beside.path(), "report.secret", "e");
        put(beside.path(), "redis.url", "redis://:p@h/0\n");
        put(beside.path(), "shop", "f");
        let given = |name: &str| name == "HAULD_STORE_HTTP_TOKEN";
        put(beside.path(), "store.http_token", "g");
        let errors = name_in(&mut table, Some(beside.path()), Some(handed_over.path()), given);
        assert!(errors.is_empty(), "{errors:?}");
        let text = |section: &str, key: &str| table[section].get(key).and_then(Value::as_str).map(PathBuf::from);
        assert_eq!(text("hook", "token_file"), Some(beside.path().join("hook.token")));
        assert_eq!(text("enrollment", "token_file"), Some(token));
        assert_eq!(text("resolver", "cookies_file"), Some(cookies));
        assert_eq!(text("report", "secret_file"), Some("/mine".into()), "what the file says goes first");
        assert_eq!(text("redis", "url"), Some("redis://:p@h/0".into()));
        assert_eq!(text("store", "http_token_file"), None, "the variable goes first");
    }

    #[test]
    fn nothing_there_is_nothing_wrong_and_an_open_file_is() {
        let beside = tempfile::tempdir().unwrap();
        let mut table = Table::new();
        assert!(name_in(&mut table, Some(&beside.path().join("none")), None, |_| false).is_empty());
        assert!(table.is_empty(), "{table:?}");
        let path = put(beside.path(), "redis.url", "redis://h/0");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
        let errors = name_in(&mut table, Some(beside.path()), None, |_| false);
        assert!(errors.len() == 1 && errors[0].reason.contains("chmod 600"), "{errors:?}");
    }
}
