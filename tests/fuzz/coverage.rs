//! The same targets under libFuzzer, which is led by coverage. From the root of the project, with a nightly
//! toolchain and cargo-fuzz:
//!
//! FUZZ_TARGET=webvtt cargo fuzz run --fuzz-dir tests/fuzz reader tests/fuzz/corpus/webvtt tests/fuzz/seeds/webvtt
#![no_main]

mod rules;

use std::sync::LazyLock;

use hauld::fuzzing::TARGETS;

static CHECK: LazyLock<fn(&[u8]) -> bool> = LazyLock::new(|| {
    let name = std::env::var("FUZZ_TARGET").expect("FUZZ_TARGET names a target");
    let other = || TARGETS.iter().find(|target| target.name == name).expect("FUZZ_TARGET is one of TARGETS").check;
    if name == "playlist" { rules::check } else { other() }
});

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    CHECK(text);
});
