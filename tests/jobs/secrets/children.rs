//! What children see: their arguments, their environment, what they may leave behind.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::canaries::*;
use crate::support::daemon::{HOOK_TOKEN, SECRET};
use crate::support::{Lecture, Manifest, Publish, Remotes, mariadb, media};
use crate::world::{World, folder};

const TASK: u64 = 3101;

/// A program that writes down what it sees, then becomes this one.
fn spying(directory: &Path, program: &str) -> PathBuf {
    let spy = directory.join(program);
    let script = format!(
        "#!/bin/sh\n{{ echo \"$0\" \"$@\"; tr '\\0' '\\n' </proc/self/environ; cat /proc/self/limits; }} \
         >'{}'.seen.$$\nexec {program} \"$@\"\n",
        spy.display()
    );
    std::fs::write(&spy, script).unwrap();
    std::fs::set_permissions(&spy, std::fs::Permissions::from_mode(0o755)).unwrap();
    spy
}

/// What the runs of a spy have seen.
fn seen(directory: &Path, program: &str) -> Vec<String> {
    let name = format!("{program}.seen.");
    let entries = std::fs::read_dir(directory).unwrap().flatten();
    let of_spy = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(&name));
    of_spy.map(|entry| std::fs::read_to_string(entry.path()).unwrap()).collect()
}

#[tokio::test]
async fn children_are_told_none_but_their_own() {
    let (world, remotes, directory) = (World::new(), Remotes::new(), tempfile::tempdir().unwrap());
    let published = Publish::of(&media::ts().first(3)).encrypted().signed(&format!("Signature={SIGNATURE}"));
    let published = published.at(&world.origin, "/x");
    let url = format!("{}?Signature={SIGNATURE}", published.url);
    let lecture = Lecture::new("Only").stream_with_headers(&url, &[("Referer", HEADER)]);
    let manifest = directory.path().join("manifest.json");
    std::fs::write(&manifest, Manifest::new(&folder(TASK)).section("Start", [lecture]).json().to_string()).unwrap();
    let spy = |program: &str| spying(directory.path(), program).display().to_string();
    let settings = world.daemon().hook().set("remux.container", "mp4");
    let settings = settings
        .set("resolver.kind", "command")
        .set("resolver.command", vec![spy("sh"), "-c".into(), "cat \"$0\"".into(), manifest.display().to_string()])
        .set("remux.ffmpeg", spy("ffmpeg"))
        .set("remux.ffprobe", spy("ffprobe"))
        .set("delivery.rclone_program", spy("rclone"));
    let _daemon = remotes
        .deliver_to("directory:", settings)
        .env("HAULD_REPORT_SECRET", SECRET)
        .env("HAULD_HOOK_TOKEN", HOOK_TOKEN)
        .env("HAULD_ADMIN_TOKEN", ADMIN_TOKEN)
        .env("HAULD_ENROLLMENT_TOKEN", ENROLLMENT_TOKEN)
        .env("HAULD_RESOLVER_CATALOG_TOKEN", CATALOG_TOKEN)
        .env("HAULD_NETWORK_PROXY_CREDENTIALS", PROXY)
        .env("DB_PASSWORD", mariadb::PASSWORD)
        .env("RCLONE_CONFIG_ELSEWHERE_PASS", RCLONE_PASSWORD)
        .start()
        .await;
    world.redis.set_task(TASK, "enrolled");
    world.redis.push_job(TASK, "https://learn.example.com/course/3101/");
    world.redis.wait_for_task(TASK, "completed").await;

    for (program, meant, variables) in [
        ("sh", &[][..], &[][..]),
        ("ffmpeg", &[], &[]),
        ("ffprobe", &[], &[]),
        // Its own configuration is in a file.
        ("rclone", &[RCLONE_PASSWORD], &["RCLONE_"]),
    ] {
        let runs = seen(directory.path(), program);
        assert!(!runs.is_empty(), "{program} was not run");
        for run in runs {
            none_in(program, &run, meant);
            for (limit, bytes) in [("Max core file size", "0"), ("Max data size", "4294967296")] {
                let values = run.lines().find_map(|line| line.strip_prefix(limit)).unwrap();
                assert_eq!(
                    values.split_whitespace().take(2).collect::<Vec<_>>(),
                    [bytes, bytes],
                    "{limit} of {program}"
                );
            }
            // The first line is the command, the shell's own variables are not in what it was started with.
            let names = run
                .lines()
                .skip(1)
                .take_while(|line| !line.starts_with("Limit"))
                .map(|line| line.split('=').next().unwrap());
            for name in names {
                let is_known = ["PATH", "HOME", "LANG", "TMPDIR", "PWD"].contains(&name)
                    || variables.iter().any(|begins| name.starts_with(begins));
                assert!(is_known, "{program} sees {name}");
            }
        }
    }
}
