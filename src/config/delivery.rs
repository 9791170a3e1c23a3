//! The settings of where finished courses go.

use std::collections::BTreeMap;

use secrecy::SecretString;

use super::source::Source;
use super::{DeliveryKind, DeliverySettings, RcloneSettings, seconds};

/// What rclone sees of the environment: its own variables, and those that its remotes log in with.
const PASSED_ON: [&str; 3] = ["RCLONE_", "AWS_", "AZURE_"];
/// The same, by their whole names.
const PASSED_ON_EACH: [&str; 11] = [
    "GOOGLE_APPLICATION_CREDENTIALS",
    "XDG_CONFIG_HOME",
    "XDG_CACHE_HOME",
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "HTTP_PROXY",
    "HTTPS_PROXY",
    "NO_PROXY",
    "http_proxy",
    "https_proxy",
    "no_proxy",
];
/// Not passed on: how rclone logs is decided by us, and with a certificate bundle the S3 remotes of
/// rclone 1.60 do not start.
const KEPT_BACK: [&str; 9] = [
    "RCLONE_LOG_",
    "RCLONE_QUIET",
    "RCLONE_VERBOSE",
    "RCLONE_PROGRESS",
    "RCLONE_STATS",
    "RCLONE_USE_JSON_LOG",
    "RCLONE_SYSLOG",
    "RCLONE_INTERACTIVE",
    "AWS_CA_BUNDLE",
];

/// The part of an environment that rclone gets.
pub(super) fn rclone_environment(environment: &BTreeMap<String, String>) -> Vec<(String, SecretString)> {
    let passed_on = environment.iter().filter(|(name, _)| is_passed_on(name));
    passed_on.map(|(name, value)| (name.clone(), SecretString::from(value.as_str()))).collect()
}

fn is_passed_on(name: &str) -> bool {
    let begins = |with: &&str| name.starts_with(with);
    let is_of_remotes = PASSED_ON.iter().any(begins) && !KEPT_BACK.iter().any(begins);
    is_of_remotes || PASSED_ON_EACH.contains(&name)
}

pub(super) fn read(s: &mut Source, rclone_environment: Vec<(String, SecretString)>) -> DeliverySettings {
    let kinds = [("auto", None), ("folder", Some(DeliveryKind::Folder)), ("rclone", Some(DeliveryKind::Rclone))];
    let kind = s.choice(
        "delivery.kind",
        "auto",
        &kinds,
        "Where finished courses go: folder (a directory), rclone (a remote of rclone), auto (rclone when its remote is set, else folder).",
    );
    let remote = s.optional_text(
        "delivery.rclone_remote",
        None,
        "",
        "Where finished course folders go by the kind rclone: remote:path.",
    );
    let by_remote = if remote.is_some() { DeliveryKind::Rclone } else { DeliveryKind::Folder };
    DeliverySettings {
        kind: kind.unwrap_or(by_remote),
        directory: s.path(
            "delivery.directory",
            "/var/lib/hauld/courses",
            "Where finished course folders are moved by the kind folder.",
        ),
        rclone: RcloneSettings {
            remote: remote.unwrap_or_default(),
            config: s.optional_path(
                "delivery.rclone_config",
                "rclone's configuration file; where rclone looks for it by itself if not set.",
            ),
            program: s.path("delivery.rclone_program", "rclone", "The rclone program."),
            stall: seconds(s.integer(
                "delivery.rclone_stall_seconds",
                300,
                1..=86_400,
                "Standstill of an upload after which rclone has failed.",
            )),
            max_memory_bytes: s.memory("delivery.rclone_max_memory_bytes", "Memory that rclone gets."),
            environment: rclone_environment,
        },
    }
}

impl DeliverySettings {
    pub(super) fn cross_check(&self, source: &mut Source) {
        let remote = &self.rclone.remote;
        if self.kind == DeliveryKind::Rclone && remote.is_empty() {
            source.error("delivery.rclone_remote", "is needed when delivery.kind is rclone");
        } else if !remote.is_empty() && !names_a_remote(remote) {
            source.error(
                "delivery.rclone_remote",
                "is not remote:path with a remote of rclone's configuration (options and secrets belong there)",
            );
        }
    }
}

/// Whether what stands before the colon can only be the name of a configured remote: no option, no
/// path of this host, and no remote that is described on the command line, where a secret in it
/// would be seen by everybody.
fn names_a_remote(text: &str) -> bool {
    let Some((name, path)) = text.split_once(':') else { return false };
    let fits = |character: char| character.is_alphanumeric() || "_.+@ -".contains(character);
    let is_name = name.chars().all(fits) && !name.is_empty() && !name.starts_with(['-', ' ']) && !name.ends_with(' ');
    is_name && !path.chars().any(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::{is_passed_on, names_a_remote};

    #[test]
    fn rclone_sees_its_own_variables_and_no_secret_of_ours() {
        for name in [
            "RCLONE_TRANSFERS",
            "RCLONE_CONFIG_GDRIVE_TYPE",
            "HTTPS_PROXY",
            "AWS_SECRET_ACCESS_KEY",
            "AZURE_CLIENT_ID",
            "GOOGLE_APPLICATION_CREDENTIALS",
        ] {
            assert!(is_passed_on(name), "{name}");
        }
        for name in [
            "API_SECRET_KEY",
            "HAULD_REDIS_URL",
            "DB_PASSWORD",
            "RCLONE_LOG_FILE",
            "RCLONE_STATS_ONE_LINE",
            "AWS_CA_BUNDLE",
        ] {
            assert!(!is_passed_on(name), "{name}");
        }
    }

    #[test]
    fn a_remote_is_a_name_and_a_path() {
        for good in ["gdrive:Courses", "gdrive:", "my drive:a/b c", "s3.eu:bucket/-x", "été:x"] {
            assert!(names_a_remote(good), "{good}");
        }
        let bad = ["", "gdrive", "/srv/courses", "./a:b", ":s3,env_auth:x", "s3,secret_access_key=x:b", "-v:x", "a:\n"];
        for bad in bad {
            assert!(!names_a_remote(bad), "{bad:?}");
        }
    }
}
