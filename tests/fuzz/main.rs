//! Mutated texts into everything that reads what strangers write, with nothing but a stable toolchain:
//! `make fuzz` runs each target for `FUZZ_SECONDS`, the tests for some thousand executions. `FUZZ_SEED`
//! repeats a run.

mod memory;
mod mutation;
mod rules;

use std::path::Path;
use std::time::{Duration, Instant};

use hauld::fuzzing::TARGETS;
use hauld::hls::playlist::{self, Limits};

#[global_allocator]
static HEAP: memory::Counting = memory::Counting;

/// Executions when nobody says for how long.
const EXECUTIONS: u64 = 5_000;
/// Bytes on the heap for each byte of text, and for any text: keys of 32 formats at each segment
/// cost most, and variables may add `max_bytes`.
const HEAP_PER_BYTE: usize = 200;
const HEAP_ALWAYS: usize = 256 * 1024;

/// How far a run goes, and from where.
struct Run {
    target: &'static str,
    seconds: Option<Duration>,
    rng: fastrand::Rng,
    begin: Instant,
    executions: u64,
    /// Executions whose text was what the target reads.
    hits: u64,
}

impl Run {
    fn of(target: &'static str) -> Run {
        let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        let seconds = setting("FUZZ_SECONDS").map(Duration::from_secs);
        // Another one for each long run, the same for all tests.
        let seed = setting("FUZZ_SEED").unwrap_or_else(|| if seconds.is_some() { fastrand::u64(..) } else { 1 });
        println!("{target}: FUZZ_SEED={seed}");
        let rng = fastrand::Rng::with_seed(seed);
        Run { target, seconds, rng, begin: Instant::now(), executions: 0, hits: 0 }
    }

    fn goes_on(&self) -> bool {
        match self.seconds {
            None => self.executions < EXECUTIONS,
            // The clock is looked at seldom: some targets take a microsecond.
            Some(seconds) => !self.executions.is_multiple_of(256) || self.begin.elapsed() < seconds,
        }
    }

    fn count(&mut self, is_hit: bool) {
        self.executions += 1;
        self.hits += u64::from(is_hit);
    }

    /// Says how many there were; fewer than one in `executions_per_hit` means that only the door was knocked at.
    fn end(self, executions_per_hit: u64) {
        let (seconds, executions, hits) = (self.begin.elapsed().as_secs_f64(), self.executions, self.hits);
        let rate = executions as f64 / seconds;
        println!("{}: {executions} executions in {seconds:.0} s, {rate:.0}/s, {hits} of them accepted", self.target);
        assert!(hits > executions / executions_per_hit, "{}: only {hits} of {executions} were accepted", self.target);
    }
}

#[test]
fn mutated_playlists_break_no_rule() {
    let mut run = Run::of("playlist");
    let seeds = seeds();
    while run.goes_on() {
        let text = mutation::mutated(&seeds, &mut run.rng);
        // Shown only when the check does not come back from it.
        let shown = Shown(&text);
        let (is_playlist, heap) = memory::peak_of(|| rules::check(&text));
        assert!(heap <= HEAP_ALWAYS + HEAP_PER_BYTE * text.len(), "{heap} bytes for {} of text", text.len());
        if run.executions.is_multiple_of(1000) {
            check_time(&text);
        }
        std::mem::forget(shown);
        run.count(is_playlist);
    }
    run.end(10);
}

#[test]
fn what_else_strangers_write_breaks_no_rule() {
    for target in TARGETS {
        let mut run = Run::of(target.name);
        while run.goes_on() {
            let text = mutation::mixed(target.seeds, &mut run.rng);
            let shown = Shown(&text);
            let is_hit = (target.check)(&text);
            std::mem::forget(shown);
            run.count(is_hit);
        }
        run.end(50);
    }
}

/// A long text of the same lines is read in a time that only a loop over all that came before could
/// miss: a second stands for ten milliseconds.
fn check_time(text: &[u8]) {
    let long = text.repeat((512 * 1024_usize).div_ceil(text.len().max(1)));
    let begin = Instant::now();
    let _ = playlist::parse(&long, &rules::base(), &Limits::default());
    assert!(begin.elapsed() < Duration::from_secs(5), "{:?} for {} bytes", begin.elapsed(), long.len());
}

fn seeds() -> Vec<Vec<u8>> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/playlists");
    let mut paths: Vec<_> = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "m3u8"));
    paths.iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// Prints a text when a panic passes by.
struct Shown<'t>(&'t [u8]);

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        println!("the text was:\n{}\n= {:?}", String::from_utf8_lossy(self.0), self.0.escape_ascii().to_string());
    }
}
