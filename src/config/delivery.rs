//! The settings of where finished courses go.

use super::source::Source;
use super::{DeliveryKind, DeliverySettings, RcloneSettings, seconds};

pub(super) fn read(s: &mut Source) -> DeliverySettings {
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
    use super::names_a_remote;

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
