//! The configuration as a user meets it: file, environment, flags, and everything wrong at once.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::process::Command;

use crate::run::{Ended, SECRET, Workspace, run};
use crate::support::publish::publish_master;
use crate::support::{Origin, Publish, hauld, media};

/// `hauld check` with this file.
fn check(space: &Workspace, configuration: &str) -> Command {
    let file = space.write("hauld.toml", configuration);
    let mut command = hauld();
    command.arg("check").arg("--config").arg(file);
    command
}

/// Exit 78 with a heading and one line for each of `says`, in any order; no secret.
#[track_caller]
fn refused(ended: &Ended, says: &[&[&str]]) {
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert_eq!(ended.stdout, "", "nothing was looked at");
    let lines: Vec<&str> = ended.stderr.lines().collect();
    assert_eq!(lines[0], "hauld: the configuration cannot be used:");
    assert_eq!(lines.len() - 1, says.len(), "{}", ended.stderr);
    for parts in says {
        let found = lines.iter().any(|line| line.starts_with("  ") && parts.iter().all(|part| line.contains(part)));
        assert!(found, "no line with {parts:?} in\n{}", ended.stderr);
    }
    assert!(!ended.stderr.contains(SECRET), "{}", ended.stderr);
}

#[test]
fn everything_that_is_wrong_is_said_in_one_run() {
    let space = Workspace::new();
    let text = "
        shiny = true
        [hls]
        quality = \"high\"
        concurency = 4
        [report]
        secret = \"SECRET\"
        api_base_url = \"http://user:SECRET@backend.example/\"
        [remux]
        container = \"avi\"
        [queue]
        lease_seconds = 10
        sweep_seconds = 9
        [nonsense]
        key = 1
    ";
    let mut command = check(&space, text);
    command.env("HAULD_WORKER_JOBS", "0").env("HAULD_WORKR_JOBS", "3");
    command.args(["--set", "http.idle_timeout_seconds=soon", "--set", "hls.nonsense=1"]);
    let file = space.path("hauld.toml");
    let file = file.to_str().unwrap();
    refused(
        &run(&mut command),
        &[
            &["shiny", file, "is not a setting"],
            &["hls.quality", "\"high\"", file, "is not a whole number"],
            &["hls.concurency", "did you mean hls.concurrency?"],
            &["report.secret ", "report.secret_file"],
            &["report.api_base_url", file, "credentials"],
            &["remux.container", "\"avi\"", "auto, mp4, ts"],
            &["queue.sweep_seconds", "half of queue.lease_seconds"],
            &["nonsense.key", "is not a setting"],
            &["worker.jobs", "HAULD_WORKER_JOBS", "1 to 256"],
            &["HAULD_WORKR_JOBS", "is not a setting"],
            &["http.idle_timeout_seconds", "\"soon\"", "flag"],
            &["hls.nonsense", "flag", "is not a setting"],
        ],
    );
}

#[test]
fn files_that_are_no_configuration() {
    let space = Workspace::new();
    // What stands on the line that cannot be read may be a password.
    let ended = run(&mut check(&space, "[redis]\nurl = \"redis://:SECRET@h\n"));
    refused(&ended, &[&["configuration file", "hauld.toml", "not TOML", "line 2"]]);
    let missing = space.path("missing.toml");
    let ended = run(hauld().arg("check").arg("--config").arg(&missing));
    refused(&ended, &[&["configuration file", missing.to_str().unwrap(), "cannot be read"]]);
    let ended = run(hauld().arg("check").env("HAULD_CONFIG", &missing));
    refused(&ended, &[&["configuration file", missing.to_str().unwrap(), "cannot be read"]]);
}

#[test]
fn secrets_come_from_files_that_only_their_owner_reads() {
    let space = Workspace::new();
    let file = space.write("secret", "SECRET\n");
    let text = format!("[report]\napi_base_url = \"http://127.0.0.1:9/\"\nsecret_file = \"{}\"\n", file.display());
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    refused(&run(&mut check(&space, &text)), &[&["report.secret_file", "chmod 600"]]);
    std::fs::write(&file, "").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    refused(&run(&mut check(&space, &text)), &[&["report.secret_file", "is empty"]]);
    std::fs::remove_file(&file).unwrap();
    refused(&run(&mut check(&space, &text)), &[&["report.secret_file", "cannot be read"]]);

    for name in ["report.secret", "hook.token", "resolver.catalog_token", "enrollment.token"] {
        let ended = run(hauld().args(["check", "--set", &format!("{name}=SECRET")]));
        ended.refused_usage(name, "put it into a file");
        assert!(!ended.stderr.contains(SECRET), "{ended:?}");
    }
    run(hauld().args(["check", "--set", "nonsense"])).refused_usage("no value", "SECTION.NAME=VALUE");
}

#[test]
fn flags_go_before_the_environment_and_that_before_the_file() {
    let origin = Origin::start();
    let space = Workspace::new();
    let ladder = media::ladder();
    let master = publish_master(&origin, "/m", &ladder, Publish::of);
    let file = space.write("hauld.toml", "[hls]\nquality = 360\n");
    let fetch = |output: &str, environment: Option<&str>, flags: &[&str]| {
        let mut command = space.fetch(&master.url, output, flags);
        command.arg("--config").arg(&file).envs(environment.map(|quality| ("HAULD_HLS_QUALITY", quality)));
        run(&mut command).succeeded(output);
        let bytes = space.read(output);
        master.variants.iter().position(|variant| variant.truth == bytes).expect("one of the variants")
    };
    assert_eq!(fetch("file.ts", None, &[]), 0);
    assert_eq!(fetch("environment.ts", Some("720"), &[]), 1);
    assert_eq!(fetch("set.ts", Some("720"), &["--set", "hls.quality=1080"]), 2);
    assert_eq!(fetch("flag.ts", Some("360"), &["--set", "hls.quality=720", "--quality", "1080"]), 2);
}

#[test]
fn an_environment_that_is_not_utf_8_is_no_panic() {
    let space = Workspace::new();
    let list = space.write("list.m3u8", "#EXTM3U\n#EXTINF:4,\n0.ts\n#EXT-X-ENDLIST\n");
    let odd = OsStr::from_bytes(b"\xff\xfe");
    run(hauld().arg("inspect").arg(&list).env("LS_COLORS", odd).env(odd, "1")).succeeded("somebody else's variable");
    let ended = run(hauld().arg("inspect").arg(&list).env("HAULD_STAGING_DIRECTORY", odd));
    refused(&ended, &[&["HAULD_STAGING_DIRECTORY", "UTF-8"]]);
}
