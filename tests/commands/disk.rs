//! Disks that are full, and places that cannot be written to.

use std::path::Path;
use std::process::Command;

use crate::run::{Workspace, run};
use crate::support::media::{self, hashes_of};
use crate::support::namespace::may_mount;
use crate::support::{Origin, Publish};

#[test]
fn where_nothing_can_be_written_it_says_so() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(3, 1000)).at(&origin, "/x");
    space.write("file", "a file");
    std::fs::create_dir(space.path("directory")).unwrap();
    for (output, says) in [
        ("file/out.ts", "/file"),
        ("directory", "/directory"),
        ("/proc/no/such/place.ts", "/proc/no"),
        ("/proc/out.ts", "/proc/out.ts"),
    ] {
        let ended = run(&mut space.fetch(&published.url, output, &[]));
        ended.failed(output, "disk_failed", &[says]);
        assert_eq!(space.files(), ["file"], "{output}");
    }
    assert_eq!(origin.count("/x/seg*"), 0, "nothing is fetched for nowhere");
}

#[test]
fn an_empty_file_is_not_a_finished_one() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(3, 1000)).at(&origin, "/x");
    space.write("out.ts", "");
    run(&mut space.fetch(&published.url, "out.ts", &[])).made("as mktemp leaves it", &space.path("out.ts"));
    assert!(space.read("out.ts") == published.truth);
}

#[test]
fn missing_directories_are_made() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(3, 1000)).at(&origin, "/x");
    run(&mut space.fetch(&published.url, "a/b/out.ts", &[])).succeeded("a/b");
    assert!(space.read("a/b/out.ts") == published.truth);
}

/// Runs a script of the shell in a mount namespace of its own; `None` where this host does not
/// allow that.
fn on_a_small_disk(space: &Workspace, script: &str) -> Option<crate::run::Ended> {
    if !may_mount("a small disk") {
        return None;
    }
    std::fs::create_dir(space.path("disk")).unwrap();
    let mut shell = Command::new("unshare");
    shell.args(["-rm", "sh", "-euc", script, "sh"]).arg(env!("CARGO_BIN_EXE_hauld")).current_dir(space.path(""));
    Some(run(&mut shell))
}

#[test]
fn line_38_a_full_disk_leaves_nothing_finished_and_is_gone_on_with() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(20, 100_000)).encrypted().at(&origin, "/x");
    let url = &published.url;
    let script = format!(
        "mount -t tmpfs -o size=1m none disk
         status=0; \"$1\" fetch {url} -o disk/out.ts 2>first || status=$?
         echo $status; ls -A disk
         mount -o remount,size=8m disk
         \"$1\" fetch {url} -o disk/out.ts --json
         cp disk/out.ts result"
    );
    let Some(ended) = on_a_small_disk(&space, &script) else { return };
    ended.succeeded("the script");
    assert!(ended.stdout.starts_with("74\nout.ts.part\nout.ts.part.journal\n"), "{ended:?}");
    let line = String::from_utf8(space.read("first")).unwrap();
    assert!(line.contains("disk/out.ts.part") && line.ends_with("[disk_full]\n"), "{line}");
    assert_eq!(line.lines().count(), 1, "{line}");
    assert!(space.read("result") == published.truth);
    assert_eq!(origin.count(&published.segment_paths[0]), 1, "what was written is not asked for again");
}

#[test]
fn a_disk_that_is_too_small_for_the_remux() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(media::ts()).at(&origin, "/x");
    let room = published.truth.len() / 1024 + 100;
    let url = &published.url;
    let script = format!(
        "mount -t tmpfs -o size={room}k none disk
         status=0; \"$1\" fetch {url} -o disk/out.mp4 2>first || status=$?
         echo $status; ls -A disk
         mount -o remount,size=80m disk
         \"$1\" fetch {url} -o disk/out.mp4
         cp disk/out.mp4 result.mp4"
    );
    let Some(ended) = on_a_small_disk(&space, &script) else { return };
    ended.succeeded("the script");
    assert!(ended.stdout.starts_with("74\nout.mp4.part\nout.mp4.part.journal\n"), "{ended:?}");
    let line = String::from_utf8(space.read("first")).unwrap();
    assert!(line.ends_with("[disk_full]\n") && line.lines().count() == 1, "{line}");
    assert_eq!(media::hashes(space.path("result.mp4")), hashes_of(&published.truth));
    for path in &published.segment_paths {
        assert_eq!(origin.count(path), 1, "{path}");
    }
}

#[test]
fn line_38_a_limit_on_the_size_of_files_leaves_nothing_finished() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(20, 100_000)).encrypted().at(&origin, "/x");
    // In blocks of 512 bytes. The signal that goes with it is ignored, so that writing fails instead.
    let mut limited = Command::new("sh");
    limited.args(["-c", "trap '' XFSZ; ulimit -f 1000; exec \"$0\" fetch \"$1\" -o \"$2\""]);
    limited.arg(env!("CARGO_BIN_EXE_hauld")).arg(&published.url).arg(space.path("out.ts"));
    run(&mut limited).failed("ulimit", "disk_failed", &["out.ts.part"]);
    space.has_only_partial_files("ulimit");
    run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded("without the limit");
    assert!(space.read("out.ts") == published.truth);
    assert_eq!(origin.count(&published.segment_paths[0]), 1);
    assert!(!Path::new(&space.path("out.ts.part")).exists());
}

/// A playlist that says of the stream at `/x` that it has so many bits a second.
fn at_bit_rate(origin: &Origin, bits: u64) -> String {
    let text = format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH={bits}\nx/index.m3u8\n");
    origin.put("/rate.m3u8", text);
    origin.url("/rate.m3u8")
}

#[test]
fn line_38_what_has_no_room_for_the_half_of_it_is_not_begun() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(20, 10_000)).encrypted().at(&origin, "/x");
    assert_eq!(published.playlist_path, "/x/index.m3u8");
    let url = at_bit_rate(&origin, 8_000_000);
    let script = format!(
        "mount -t tmpfs -o size=4m none disk
         status=0; \"$1\" fetch {url} -o disk/out.ts 2>first || status=$?
         echo $status; ls -A disk
         mount -o remount,size=64m disk
         \"$1\" fetch {url} -o disk/out.ts
         cp disk/out.ts result"
    );
    let Some(ended) = on_a_small_disk(&space, &script) else { return };
    ended.succeeded("the script");
    assert!(ended.stdout.starts_with("74\n"), "{ended:?}");
    let line = String::from_utf8(space.read("first")).unwrap();
    assert!(line.contains(" bytes are needed for out.ts.part, and ") && line.ends_with("[disk_full]\n"), "{line}");
    assert!(space.read("result") == published.truth);
    assert!(published.segment_paths.iter().all(|path| origin.count(path) == 1), "nothing was asked for in vain");
}
