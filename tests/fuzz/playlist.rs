//! The same rules under libFuzzer, which is led by coverage: `cargo fuzz run --fuzz-dir tests/fuzz
//! playlist` from the root of the project. It needs a nightly toolchain and cargo-fuzz.
#![no_main]

mod rules;

libfuzzer_sys::fuzz_target!(|text: &[u8]| {
    rules::check(text);
});
