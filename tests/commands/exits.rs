//! How commands end: the exit status, and what is said to people and to programs.

use std::process::Stdio;

use rustix::process::Signal;
use serde_json::Value;

use crate::run::{Ended, Workspace, run, start};
use crate::support::{Fault, Origin, hauld, port, wait};

const NO_REDIS: &str = "redis://user:SECRET@127.0.0.1:1/0";

/// The one line of standard error, as JSON.
fn error_of(ended: &Ended) -> Value {
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    let error: Value = serde_json::from_str(&ended.stderr).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(error["error"]["exit_status"], ended.status.code().unwrap(), "{ended:?}");
    error["error"].clone()
}

#[test]
fn what_went_wrong_is_seen_by_the_exit_status() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let url = |path: &str, status: u16| {
        origin.fault(path, Fault::Status(status));
        origin.url(path)
    };
    let [refused, busy, broken] = [("/403.m3u8", 403), ("/429.m3u8", 429), ("/500.m3u8", 500)].map(|(p, s)| url(p, s));
    let gone = origin.url("/404.m3u8");
    let rubbish = space.write("rubbish.m3u8", "rubbish");
    let (rubbish, directory) = (rubbish.to_str().unwrap(), space.path("."));
    let (directory, missing) = (directory.to_str().unwrap(), space.path("missing.m3u8"));
    let once = "hls.segment_attempts=1";
    let cases: [(i32, &str, &[&str]); 10] = [
        (2, "usage", &["inspekt"]),
        (65, "playlist_invalid", &["inspect", rubbish]),
        (66, "not_found", &["inspect", &gone]),
        (66, "disk_failed", &["inspect", missing.to_str().unwrap()]),
        (69, "server_error", &["inspect", &broken, "--set", once]),
        (69, "queue_unavailable", &["pause"]),
        (73, "disk_failed", &["fetch", &gone, "-o", directory]),
        (75, "rate_limited", &["inspect", &busy, "--set", once]),
        (77, "link_expired", &["inspect", &refused]),
        (78, "configuration", &["check", "--set", "hls.quality=high"]),
    ];
    for (status, kind, arguments) in cases {
        let mut command = hauld();
        let ended = run(command.args(arguments).env("HAULD_REDIS_URL", NO_REDIS));
        assert_eq!(ended.status.code(), Some(status), "{arguments:?}: {ended:?}");
        assert!(ended.stdout.is_empty() && !ended.stderr.contains("SECRET"), "{ended:?}");
        let ended = run(command.arg("--json"));
        assert_eq!(error_of(&ended)["kind"], kind, "{ended:?}");
        assert!(!ended.stderr.contains("SECRET"), "{ended:?}");
    }
    assert_eq!(run(hauld().args(["inspect", directory])).status.code(), Some(74), "it cannot be read");
}

#[test]
fn a_stop_is_told_from_a_failure() {
    let (origin, space) = (Origin::start(), Workspace::new());
    for (signal, status) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        origin.forget_requests();
        let held = origin.hold("/list.m3u8");
        let command = start(&mut space.fetch(&origin.url("/list.m3u8"), "a.ts", &[]));
        wait::until_blocking("it asks", std::time::Duration::from_secs(20), || {
            (!origin.requests().is_empty()).then_some(())
        });
        command.signal(signal);
        assert_eq!(command.end().status.code(), Some(status));
        drop(held);
    }
}

#[test]
fn an_error_says_what_to_do() {
    let ended = run(hauld().arg("pause").env("HAULD_REDIS_URL", port::closed_url().replace("http", "redis")));
    let hint = ended.stderr.lines().nth(1).unwrap_or_default();
    assert!(hint.contains("redis://127.0.0.1:") && hint.contains("setting redis.url"), "{ended:?}");
    let ended = run(hauld().args(["--json", "pause"]).env("HAULD_REDIS_URL", NO_REDIS));
    assert!(error_of(&ended)["hint"].as_str().unwrap().contains("hauld check"), "{ended:?}");
    run(hauld().arg("inspekt")).refused_usage("a slip", "a similar subcommand exists: 'inspect'");
    run(hauld().args(["fetch", "--qualty"])).refused_usage("a slip", "'--quality'");
    let ended = run(hauld().args(["check", "--json", "--set", "hls.qualty=1", "--set", "worker.jobs=0"]));
    let settings = error_of(&ended)["settings"].clone();
    assert_eq!(settings.as_array().map(Vec::len), Some(2), "{ended:?}");
    assert!(settings[1]["reason"].as_str().unwrap().contains("did you mean hls.quality?"), "{settings}");
}

#[test]
fn the_help_is_short_or_long_and_coloured_when_wanted() {
    let help = |arguments: &[&str], variables: &[(&str, &str)]| {
        let ended = run(hauld().args(arguments).envs(variables.iter().copied()));
        ended.succeeded("help");
        ended.stdout
    };
    assert!(!help(&["-h"], &[]).contains("Exit status"));
    let long = help(&["--help"], &[]);
    assert!(long.contains("Examples:") && long.contains("\n   78  The configuration cannot be used"), "{long}");
    for command in ["run", "fetch", "inspect", "enqueue", "requeue", "cancel", "dead", "queue", "pause", "check"] {
        let (short, long) = (help(&[command, "-h"], &[]), help(&[command, "--help"], &[]));
        assert!(!short.contains("Example") && long.contains("Example"), "{command}: {short}\n{long}");
    }
    assert!(help(&["--help"], &[("CLICOLOR_FORCE", "1")]).contains('\x1b'));
    assert!(!help(&["--help"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]).contains('\x1b'));
    assert_eq!(help(&["-V"], &[]), concat!("hauld ", env!("CARGO_PKG_VERSION"), "\n"));
    assert!(help(&["--version"], &[]).contains("commit: "));
}

#[test]
fn a_reader_that_goes_away_is_no_panic() {
    for arguments in [&["--help"][..], &["help", "dead"], &["check", "--json"], &["dead", "list"]] {
        let (read, write) = std::io::pipe().unwrap();
        let mut command = hauld();
        command.args(arguments).env("HAULD_REDIS_URL", NO_REDIS);
        command.stdout(Stdio::from(write.try_clone().unwrap())).stderr(Stdio::from(write));
        drop(read);
        let status = command.status().unwrap();
        assert!(status.code().is_some_and(|code| code != 101), "{arguments:?}: {status:?}");
    }
}
