//! Mutated texts into everything that reads what strangers write, with nothing but a stable toolchain:
//! `make fuzz` runs each target for `FUZZ_SECONDS`, the tests for some thousand executions. `FUZZ_SEED`
//! repeats a run, `FUZZ_TARGETS` names some of the targets.

mod memory;
mod mutation;
mod rules;

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use fastrand::Rng;
use hauld::fuzzing::TARGETS;

#[global_allocator]
static HEAP: memory::Counting = memory::Counting;

/// Executions when nobody says for how long.
const EXECUTIONS: u64 = 1_000;
/// A text is made as long as this once in so many executions, for the time that it takes; once in a short run.
const LONG_BYTES: usize = 256 * 1024;
const EXECUTIONS_PER_LONG: u64 = 4_000;
/// The longest texts take some hundredths of a second, optimised: only a loop over all that came before, for each
/// of what comes, misses this.
const MAX_TIME: Duration = Duration::from_secs(10);

/// A reader and how it is tried.
struct Target {
    name: &'static str,
    check: fn(&[u8]) -> bool,
    mutated: fn(&[Vec<u8>], &mut Rng) -> Vec<u8>,
    /// Fewer accepted texts mean that only the door was knocked at.
    executions_per_hit: u64,
    /// Bytes on the heap for each byte of text, and for any text.
    heap: [usize; 2],
}

fn targets() -> Vec<Target> {
    let playlist = Target {
        name: "playlist",
        check: rules::check,
        mutated: mutation::mutated,
        executions_per_hit: 10,
        // Keys of 32 formats at each segment cost most, and variables may add `max_bytes`.
        heap: [200, 256 * 1024],
    };
    let other = |target: &hauld::fuzzing::Target| Target {
        name: target.name,
        check: target.check,
        mutated: mutation::mixed,
        executions_per_hit: 100,
        // Gzip may grow to two megabytes, and files are read in pieces of one.
        heap: [200, 8 << 20],
    };
    let all = std::iter::once(playlist).chain(TARGETS.iter().map(other));
    match std::env::var("FUZZ_TARGETS") {
        Ok(names) if !names.is_empty() => {
            let names: Vec<&str> = names.split(',').collect();
            let chosen: Vec<Target> = all.filter(|target| names.contains(&target.name)).collect();
            assert_eq!(chosen.len(), names.len(), "FUZZ_TARGETS: one of {names:?} is not there");
            chosen
        }
        _ => all.collect(),
    }
}

/// What became of a target.
struct Tally {
    name: &'static str,
    executions: u64,
    /// Executions whose text was what the target reads.
    hits: u64,
    seconds: f64,
}

impl Target {
    /// Every seed, then mutations of them.
    fn run(&self) -> Tally {
        let setting = |name: &str| std::env::var(name).ok().map(|text| text.parse::<u64>().expect(name));
        let limit = setting("FUZZ_SECONDS").map(Duration::from_secs);
        // Another one for each long run, the same for all tests.
        let seed = setting("FUZZ_SEED").unwrap_or_else(|| if limit.is_some() { fastrand::u64(..) } else { 1 });
        println!("{}: FUZZ_SEED={seed}", self.name);
        let mut rng = Rng::with_seed(seed);
        let begin = Instant::now();
        let seeds = seeds(self.name);
        let (mut executions, mut hits) = (0, 0);
        for seed in &seeds {
            self.execute(seed);
        }
        // The clock is looked at seldom: some targets take a microsecond.
        while limit.map_or(executions < EXECUTIONS, |limit| executions % 256 != 0 || begin.elapsed() < limit) {
            let text = (self.mutated)(&seeds, &mut rng);
            hits += u64::from(self.execute(&text));
            executions += 1;
            if executions % EXECUTIONS_PER_LONG == EXECUTIONS / 2 {
                self.execute(&text.repeat(LONG_BYTES.div_ceil(text.len().max(1))));
            }
        }
        assert!(hits >= executions / self.executions_per_hit, "{}: {hits} of {executions} accepted", self.name);
        Tally {
            name: self.name,
            executions: executions + seeds.len() as u64,
            hits,
            seconds: begin.elapsed().as_secs_f64(),
        }
    }

    fn execute(&self, text: &[u8]) -> bool {
        // Shown only when the check does not come back from it.
        let shown = Shown { target: self.name, text };
        let begin = Instant::now();
        let (is_hit, heap) = memory::peak_of(|| (self.check)(text));
        assert!(begin.elapsed() < MAX_TIME, "{:?} for {} bytes", begin.elapsed(), text.len());
        let [per_byte, always] = self.heap;
        assert!(heap <= always + per_byte * text.len(), "{heap} bytes for {} of text", text.len());
        std::mem::forget(shown);
        is_hit
    }
}

#[test]
fn what_strangers_write_breaks_no_rule() {
    let waiting = Mutex::new(VecDeque::from(targets()));
    let next = || waiting.lock().expect("nobody panics with it").pop_front();
    let work = || std::iter::from_fn(next).map(|target| target.run()).collect::<Vec<_>>();
    let tallies: Vec<Tally> = std::thread::scope(|scope| {
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("a rule was broken")).collect()
    });
    println!("{:<18}{:>14}{:>12}{:>12}", "target", "executions", "per second", "accepted");
    for Tally { name, executions, hits, seconds } in &tallies {
        println!(
            "{name:<18}{executions:>14}{:>12.0}{:>11.0}%",
            *executions as f64 / seconds,
            100.0 * *hits as f64 / *executions as f64
        );
    }
    println!("{:<18}{:>14}", "all", tallies.iter().map(|tally| tally.executions).sum::<u64>());
}

/// Texts that a target reads, and those with which something was found.
fn seeds(target: &str) -> Vec<Vec<u8>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut paths = files(&root.join("tests/fuzz/seeds").join(target));
    if target == "playlist" {
        paths.extend(files(&root.join("tests/playlists")));
        paths.retain(|path| path.extension().is_none_or(|extension| extension == "m3u8"));
    }
    assert!(!paths.is_empty(), "{target} has no seeds");
    paths.iter().map(|path| std::fs::read(path).expect("a seed can be read")).collect()
}

/// In the order of their names.
fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.expect("a folder can be read").path()).collect();
    paths.sort();
    paths
}

/// Prints a text when a panic passes by.
struct Shown<'t> {
    target: &'static str,
    text: &'t [u8],
}

impl Drop for Shown<'_> {
    fn drop(&mut self) {
        let text = &self.text[..self.text.len().min(16 * 1024)];
        println!(
            "{} was given:\n{}\n= {:?}",
            self.target,
            String::from_utf8_lossy(text),
            text.escape_ascii().to_string()
        );
    }
}
