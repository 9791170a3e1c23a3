//! Which variant, which container, which name.

use crate::run::{Workspace, run};
use crate::support::media::{self, hashes_of, picture_sizes};
use crate::support::publish::publish_master;
use crate::support::{Origin, Publish, hauld};

#[test]
fn the_quality_chooses_the_variant() {
    let origin = Origin::start();
    let space = Workspace::new();
    let ladder = media::ladder();
    let master = publish_master(&origin, "/m", &ladder, |stream| Publish::of(stream).encrypted());
    let cases: [(&[&str], usize); 6] = [
        (&[], 1),
        (&["--quality", "360"], 0),
        (&["--quality", "1080"], 2),
        (&["--quality", "144"], 0),
        (&["--quality", "900"], 1),
        (&["--set", "hls.quality=1080"], 2),
    ];
    for (number, (arguments, expected)) in cases.into_iter().enumerate() {
        origin.forget_requests();
        let output = format!("{number}.ts");
        run(&mut space.fetch(&master.url, &output, arguments)).succeeded(&format!("{arguments:?}"));
        assert!(space.read(&output) == master.variants[expected].truth, "{arguments:?}");
        for (index, variant) in master.variants.iter().enumerate() {
            let asked = origin.count(&variant.playlist_path) + origin.count(&variant.segment_paths[0]);
            assert_eq!(asked, if index == expected { 2 } else { 0 }, "{arguments:?}, variant {index}");
        }
    }
    run(&mut space.fetch(&master.url, "out.mp4", &["--quality", "360"])).succeeded("mp4");
    assert_eq!(picture_sizes(space.path("out.mp4")), [(640, 360)]);
}

#[test]
fn a_master_without_the_low_heights_gives_its_lowest() {
    let origin = Origin::start();
    let space = Workspace::new();
    let ladder = media::ladder();
    let master = publish_master(&origin, "/m", &ladder[2..], Publish::of);
    run(&mut space.fetch(&master.url, "out.ts", &["--quality", "480"])).succeeded("only 1080");
    assert!(space.read("out.ts") == master.variants[0].truth);
    let master = publish_master(&origin, "/n", &[ladder[0], ladder[2]], Publish::of);
    run(&mut space.fetch(&master.url, "other.ts", &[])).succeeded("no 720");
    assert!(space.read("other.ts") == master.variants[0].truth, "the best that is not above 720 is 360");
}

#[test]
fn the_container_goes_by_the_extension() {
    let origin = Origin::start();
    let space = Workspace::new();
    let ts = Publish::of(media::ts()).encrypted().at(&origin, "/ts");
    let fmp4 = Publish::of(media::fmp4()).at(&origin, "/fmp4");
    let truth = hashes_of(&ts.truth);
    // Output, arguments, and whether the bytes stay as they came.
    let cases: [(&str, &[&str], bool); 7] = [
        ("a.ts", &[], true),
        ("a.mp4", &[], false),
        ("A.MP4", &[], false),
        ("a.m4v", &[], false),
        ("plain", &[], false),
        ("b.mp4", &["--container", "ts"], true),
        ("b.ts", &["--container", "mp4"], false),
    ];
    for (output, arguments, as_it_came) in cases {
        run(&mut space.fetch(&ts.url, output, arguments)).made(output, &space.path(output));
        let bytes = space.read(output);
        assert_eq!(bytes == ts.truth, as_it_came, "{output} {arguments:?}");
        assert_eq!(&bytes[4..8] == b"ftyp", !as_it_came, "{output} {arguments:?}");
        assert_eq!(media::hashes(space.path(output)), truth, "{output}");
    }
    run(&mut space.fetch(&fmp4.url, "c.mp4", &[])).succeeded("fMP4 needs no remux");
    assert!(space.read("c.mp4") == fmp4.truth);
}

#[test]
fn without_ffmpeg_a_transport_stream_stays_one_or_says_why_not() {
    let origin = Origin::start();
    let space = Workspace::new();
    let ts = Publish::of(media::ts()).at(&origin, "/ts");
    let fmp4 = Publish::of(media::fmp4()).at(&origin, "/fmp4");
    let without = ["--set", "remux.ffmpeg=/nonexistent/ffmpeg"];
    run(&mut space.fetch(&ts.url, "plain", &without)).succeeded("auto");
    assert!(space.read("plain") == ts.truth);
    run(&mut space.fetch(&fmp4.url, "a.mp4", &without)).succeeded("fMP4");
    assert!(space.read("a.mp4") == fmp4.truth);
    origin.forget_requests();
    run(&mut space.fetch(&ts.url, "b.mp4", &without)).failed("mp4", "remux_failed", &["ffmpeg"]);
    assert!(!space.path("b.mp4").exists());
    // What was downloaded is not lost: with ffmpeg it becomes the file without the origin.
    origin.forget_requests();
    run(&mut space.fetch(&ts.url, "b.mp4", &[])).succeeded("with ffmpeg");
    assert_eq!(origin.count("/ts/seg*"), 0);
}

#[test]
fn bad_usage_ends_with_2() {
    let space = Workspace::new();
    let output = space.path("out.ts");
    let output = output.to_str().unwrap();
    let url = "http://127.0.0.1:9/a.m3u8";
    let cases: [(&[&str], &str); 13] = [
        (&["fetch"], "--output"),
        (&["fetch", url], "--output"),
        (&["fetch", url, "-o", output, "--quality", "high"], "--quality"),
        (&["fetch", url, "-o", output, "--concurrency", "0"], "--concurrency"),
        (&["fetch", url, "-o", output, "--container", "avi"], "--container"),
        (&["fetch", url, "-o", output, "--header", "no colon"], "--header"),
        (&["fetch", url, "-o", output, "--header", "bad name: x"], "--header"),
        (&["fetch", url, "-o", output, "--header", "X: line\nbreak"], "--header"),
        (&["fetch", "not a url", "-o", output], "not a URL"),
        (&["fetch", "ftp://h/a.m3u8", "-o", output], "only http and https"),
        (&["fetch", "http://user:SECRET@h/a.m3u8", "-o", output], "carries credentials"),
        (&["fetch", url, "-o", ""], "--output"),
        (&["no-such-command"], "no-such-command"),
    ];
    for (arguments, says) in cases {
        let ended = run(hauld().args(arguments));
        ended.refused_usage(&format!("{arguments:?}"), says);
        assert!(!ended.stderr.contains("SECRET"), "{ended:?}");
    }
    assert!(space.files().is_empty(), "{:?}", space.files());
}
