//! Ended in the middle and started again: only what is missing is asked for, and the file is exact.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use rustix::process::Signal;

use crate::run::{Running, Workspace, run, start};
use crate::support::media::{self, hashes, hashes_of};
use crate::support::{Origin, Publish, Published, wait};

/// Requests at once.
const CONCURRENCY: usize = 4;
/// The segment at which the download is frozen.
const FROZEN: usize = 15;
const SEGMENTS: usize = 30;
const LIMIT: Duration = Duration::from_secs(20);

fn publish(origin: &Origin) -> Published {
    Publish::of(&media::synthetic(SEGMENTS, 200_000)).encrypted().signed("sig=1").at(origin, "/x")
}

/// The download, frozen: everything before the frozen segment is written, everything that may be
/// fetched ahead of it has come.
struct Frozen {
    command: Running,
    hold: crate::support::origin::Hold,
}

async fn freeze(space: &Workspace, origin: &Origin, published: &Published, after: Option<usize>) -> Frozen {
    let path = &published.segment_paths[FROZEN];
    let hold = match after {
        None => origin.hold(path),
        Some(bytes) => origin.hold_body(path, bytes),
    };
    let command = start(&mut space.fetch(&published.url, "out.ts", &["--concurrency", "4"]));
    hold.wait_for(1).await;
    let last = &published.segment_paths[FROZEN + 2 * CONCURRENCY - 1];
    origin.wait_for_request(last, 1).await;
    wait::until("only the frozen request is left", LIMIT, || (origin.in_flight() == 1).then_some(())).await;
    Frozen { command, hold }
}

/// Which segments the origin was asked for, in the order of the playlist.
fn asked(origin: &Origin, published: &Published) -> Vec<usize> {
    let counts = origin.counts();
    (0..SEGMENTS).filter(|index| counts.contains_key(&published.segment_paths[*index])).collect()
}

#[tokio::test]
async fn line_39_killed_in_the_middle_it_asks_again_only_for_what_was_in_flight() {
    for after in [None, Some(100_000)] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = publish(&origin);
        let frozen = freeze(&space, &origin, &published, after).await;
        let before = asked(&origin, &published);
        frozen.command.kill9();
        frozen.hold.release();
        space.has_only_partial_files("killed");
        origin.wait_until_idle().await;
        origin.forget_requests();

        run(&mut space.fetch(&published.url, "out.ts", &[])).made("resumed", &space.path("out.ts"));
        assert!(space.read("out.ts") == published.truth);
        assert_eq!(space.files(), ["out.ts"]);
        let after_it = asked(&origin, &published);
        assert_eq!(after_it, (FROZEN..SEGMENTS).collect::<Vec<_>>(), "everything before was written");
        let again = after_it.iter().filter(|index| before.contains(index)).count();
        assert!(again <= 2 * CONCURRENCY, "{again} segments were asked for twice");

        origin.forget_requests();
        let third = run(&mut space.fetch(&published.url, "out.ts", &[]));
        assert!(third.status.success() && third.stderr.contains("already there"), "{third:?}");
        assert_eq!(third.stdout, format!("{}\n", space.path("out.ts").display()));
        assert!(origin.requests().is_empty(), "a finished file asks for nothing: {:?}", origin.counts());
        assert!(space.read("out.ts") == published.truth);
    }
}

#[tokio::test]
async fn signatures_that_change_do_not_matter_and_other_segments_do() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = publish(&origin);
    for (name, start_over) in [("another signature", false), ("another playlist", true)] {
        let frozen = freeze(&space, &origin, &published, None).await;
        frozen.command.kill9();
        frozen.hold.release();
        origin.wait_until_idle().await;
        origin.forget_requests();
        let shape = Publish::of(&media::synthetic(SEGMENTS, 200_000)).encrypted().signed("sig=2");
        // With another first sequence number every segment is another one.
        let shape = if start_over { shape.media_sequence(100) } else { shape };
        let changed = shape.at(&origin, "/x");
        run(&mut space.fetch(&changed.url, "out.ts", &[])).succeeded(name);
        assert!(space.read("out.ts") == changed.truth, "{name}");
        assert_eq!(asked(&origin, &changed).len(), if start_over { SEGMENTS } else { SEGMENTS - FROZEN }, "{name}");
        std::fs::remove_file(space.path("out.ts")).unwrap();
        origin.forget_requests();
        publish(&origin);
    }
}

#[tokio::test]
async fn interrupted_it_says_so_and_goes_on_later() {
    for signal in [Signal::INT, Signal::TERM] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = publish(&origin);
        let frozen = freeze(&space, &origin, &published, Some(100_000)).await;
        frozen.command.signal(signal);
        frozen.command.end().failed("interrupted", "interrupted", &["run it again"]);
        frozen.hold.release();
        space.has_only_partial_files("interrupted");
        origin.wait_until_idle().await;
        origin.forget_requests();
        run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded("resumed");
        assert!(space.read("out.ts") == published.truth);
        assert_eq!(asked(&origin, &published).len(), SEGMENTS - FROZEN);
    }
}

#[tokio::test]
async fn two_at_once_do_not_write_into_one_file() {
    for container in ["ts", "mp4"] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = Publish::of(media::ts()).encrypted().at(&origin, "/x");
        let hold = origin.hold(&published.segment_paths[3]);
        let output = format!("out.{container}");
        let first = start(&mut space.fetch(&published.url, &output, &[]));
        hold.wait_for(1).await;
        let second = start(&mut space.fetch(&published.url, &output, &[]));
        // It waits for the lock on the part, which by the end of the first is the finished file.
        let part = space.path(&format!("{output}.part"));
        wait::until("the second has the part open", LIMIT, || second.has_open(&part).then_some(())).await;
        hold.release();
        first.end().made("first", &space.path(&output));
        let second = second.end();
        if !second.status.success() {
            second.failed("second", "disk_failed", &["another download", &output]);
        }
        assert_eq!(hashes(space.path(&output)), hashes_of(&published.truth), "{container}: {second:?}");
        assert_eq!(space.files(), [output.as_str()], "{container}: {second:?}");
        assert_eq!(origin.count("/x/seg0000.ts"), 1, "the second fetched nothing: {second:?}");
    }
}

#[tokio::test]
async fn while_another_writes_it_fails_clearly() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = publish(&origin);
    let frozen = freeze(&space, &origin, &published, None).await;
    let second = run(&mut space.fetch(&published.url, "out.ts", &[]));
    second.failed("second", "disk_failed", &["another download is writing to it", "out.ts"]);
    frozen.hold.release();
    frozen.command.end().made("first", &space.path("out.ts"));
    assert!(space.read("out.ts") == published.truth);
}

#[tokio::test]
async fn killed_between_download_and_remux_it_fetches_no_segment_again() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(media::ts()).encrypted().at(&origin, "/x");
    let begun = space.path("begun");
    let script = format!(
        "#!/bin/sh\n[ \"$1\" = -version ] && exec ffmpeg -version\ntouch {}\nexec sleep 600\n",
        begun.display()
    );
    let program = space.write("slow-ffmpeg", script);
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let slow = format!("remux.ffmpeg={}", program.display());
    let command = start(&mut space.fetch(&published.url, "out.mp4", &["--set", &slow]));
    wait::until("the remux has begun", LIMIT, || begun.exists().then_some(())).await;
    command.kill9();
    origin.forget_requests();
    run(&mut space.fetch(&published.url, "out.mp4", &[])).made("resumed", &space.path("out.mp4"));
    assert_eq!(origin.count("/x/seg*"), 0, "{:?}", origin.counts());
    assert_eq!(hashes(space.path("out.mp4")), hashes_of(&published.truth));
    assert_eq!(space.files(), ["begun", "out.mp4", "slow-ffmpeg"]);
}
