//! Every shape of stream: byte for byte before a remux, picture for picture after it.

use std::collections::HashMap;

use crate::run::{Workspace, run};
use crate::support::media::{self, duration_seconds, hashes, hashes_of, track_kinds};
use crate::support::publish::every_shape;
use crate::support::{Origin, Publish};

#[test]
fn every_shape_is_exact_before_the_remux() {
    let origin = Origin::start();
    let space = Workspace::new();
    for (number, (name, shape)) in every_shape().into_iter().enumerate() {
        let published = shape.at(&origin, &format!("/{number}"));
        let output = format!("{number}.ts");
        run(&mut space.fetch(&published.url, &output, &["--container", "ts"])).made(name, &space.path(&output));
        assert!(space.read(&output) == published.truth, "{name}:\n{}", published.playlist);
        for path in &published.key_paths {
            assert_eq!(origin.count(path), 1, "{name}: {path}");
        }
        assert_eq!(origin.count(&published.playlist_path), 1, "{name}");
    }
    let count = every_shape().len();
    assert_eq!(space.files().len(), count, "nothing is left beside the files: {:?}", space.files());
}

#[test]
fn every_shape_is_exact_after_the_remux() {
    let origin = Origin::start();
    let space = Workspace::new();
    let mut truths = HashMap::new();
    for (number, (name, shape)) in every_shape().into_iter().enumerate() {
        let published = shape.at(&origin, &format!("/{number}"));
        let output = format!("{number}.mp4");
        run(&mut space.fetch(&published.url, &output, &[])).made(name, &space.path(&output));
        let truth = truths.entry(published.truth.clone()).or_insert_with_key(|truth| hashes_of(truth));
        let path = space.path(&output);
        assert_eq!(hashes(&path), *truth, "{name}");
        assert_eq!(track_kinds(&path), ["video", "audio"], "{name}");
        // Both shapes that are joined have 4 s on each side.
        let (seconds, expected) = (duration_seconds(&path), 8.0);
        assert!((seconds - expected).abs() < 0.15, "{name}: {seconds} s instead of {expected}");
    }
    assert!(space.files().iter().all(|file| file.ends_with(".mp4")), "{:?}", space.files());
}

#[test]
fn a_segment_of_many_blocks_is_exact_at_any_length() {
    let origin = Origin::start();
    let space = Workspace::new();
    // Below, at and above the 256 KiB in which bytes go to the file.
    for (number, bytes) in [1, 200, 262_000, 262_144, 262_300, 600_000].into_iter().enumerate() {
        let stream = media::synthetic(5, bytes);
        for (shape, name) in [(Publish::of(&stream), "clear"), (Publish::of(&stream).encrypted(), "encrypted")] {
            let published = shape.at(&origin, &format!("/{name}/{number}"));
            let output = format!("{name}{number}.ts");
            run(&mut space.fetch(&published.url, &output, &[])).succeeded(name);
            assert!(space.read(&output) == published.truth, "{name}, {bytes} bytes");
        }
    }
}
