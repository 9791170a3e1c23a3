//! What `hauld fetch` says: one path, or one JSON object per line, whoever listens.

use std::io::{BufRead, BufReader};
use std::process::Stdio;

use serde_json::{Value, json};

use crate::run::{Ended, SECRET, Workspace, run};
use crate::support::{Fault, Origin, Publish, media, wait};

pub fn events(ended: &Ended) -> Vec<Value> {
    let event = |line: &str| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line:?}"));
    ended.stdout.lines().map(event).collect()
}

#[tokio::test]
async fn json_events_end_with_done_and_do_not_repeat_themselves() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(8, 50_000)).encrypted().at(&origin, "/x");
    let hold = origin.hold(&published.segment_paths[5]);
    let url = format!("{}?token=SECRET", published.url);
    let command = crate::run::start(&mut space.fetch(&url, "out.ts", &["--json"]));
    hold.wait_for(1).await;
    // Several times the pause between two looks: there is nothing new to tell.
    tokio::time::sleep(std::time::Duration::from_millis(900)).await;
    hold.release();
    let ended = command.end();
    ended.succeeded("json");
    let events = events(&ended);
    let (done, progress) = events.split_last().unwrap();
    let total: usize = published.wire_segments.iter().map(bytes::Bytes::len).sum();
    let path = space.path("out.ts").display().to_string();
    let expected = json!({"event": "done", "url": format!("{}?…", published.url), "path": path, "bytes_downloaded": total,
            "subtitles": [], "skipped_subtitles": [], "remarks": []});
    assert_eq!(*done, expected);
    assert!(!progress.is_empty() && progress.len() <= 4, "{events:?}");
    for pair in progress.windows(2) {
        assert_ne!(pair[0], pair[1], "an event that says nothing new");
        assert!(pair[0]["bytes_downloaded"].as_u64() <= pair[1]["bytes_downloaded"].as_u64(), "{events:?}");
    }
    for event in progress {
        assert_eq!(event["event"], "progress", "{event}");
        assert!(event["percent"].as_f64().is_none_or(|percent| (0.0..=100.0).contains(&percent)), "{event}");
    }
    assert_eq!(progress.last().unwrap()["current_file"], path);
}

#[test]
fn json_events_end_with_failed_and_its_kind() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(8, 5000)).encrypted().signed("sig=SECRET").at(&origin, "/x");
    origin.fault(&published.segment_paths[2], Fault::Status(403));
    let url = format!("{}?token=SECRET", published.url);
    let ended = run(&mut space.fetch(&url, "out.ts", &["--json"]));
    assert_eq!(ended.status.code(), Some(77), "{ended:?}");
    let error: Value = serde_json::from_str(&ended.stderr).unwrap();
    let last = events(&ended).pop().unwrap();
    assert_eq!(last["event"], "failed");
    assert_eq!(last["kind"], "link_expired");
    assert_eq!(last["url"], format!("{}?…", published.url));
    assert_eq!(error["error"]["message"], last["message"]);
    assert!(!ended.stdout.contains(SECRET) && !ended.stderr.contains(SECRET), "{ended:?}");
}

#[test]
fn a_finished_file_is_done_at_once() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(3, 5000)).at(&origin, "/x");
    run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded("first");
    let ended = run(&mut space.fetch(&published.url, "out.ts", &["--json"]));
    ended.succeeded("second");
    assert_eq!(events(&ended).pop().unwrap()["event"], "done");
}

/// Starts it, reads one line of it, and closes the pipe.
#[tokio::test]
async fn a_reader_that_leaves_does_not_end_the_download() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(8, 50_000)).at(&origin, "/x");
    let hold = origin.hold(&published.segment_paths[5]);
    let mut command = space.fetch(&published.url, "out.ts", &["--json"]);
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    assert!(line.contains("progress"), "{line}");
    hold.wait_for(1).await;
    hold.release();
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
    assert!(space.read("out.ts") == published.truth);
}

#[test]
fn closed_pipes_are_no_panic() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(3, 5000)).at(&origin, "/x");
    let missing = origin.url("/missing.m3u8");
    let output = space.path("out.ts");
    let inspected = space.write("list.m3u8", &published.playlist);
    let cases: [(&[&str], i32); 5] = [
        (&["fetch", &missing, "-o", output.to_str().unwrap()], 66),
        (&["fetch", &published.url, "-o", output.to_str().unwrap()], 0),
        (&["inspect", inspected.to_str().unwrap()], 0),
        (&["inspect", &missing], 66),
        (&["check", "--set", "hls.quality=high"], 78),
    ];
    for (arguments, code) in cases {
        let mut child =
            crate::support::hauld().args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        drop((child.stdout.take(), child.stderr.take()));
        let status =
            wait::until_blocking("it has ended", std::time::Duration::from_secs(30), || child.try_wait().unwrap());
        assert_eq!(status.code(), Some(code), "{arguments:?}");
    }
    assert!(space.read("out.ts") == published.truth);
}
