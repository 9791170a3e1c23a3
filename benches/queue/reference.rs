//! The least that a worker can do which loses nothing when it dies: move, remove, one after the other.

use redis::{Commands, Direction};

use super::LIST;
use super::ready::Clock;

/// Works until so many elements are removed.
pub fn run(url: &str, count: usize) {
    let mut connection = super::connect(url);
    println!("ready");
    let mut clock = None;
    let mut latencies = Vec::with_capacity(count);
    while latencies.len() < count {
        let element: Option<String> =
            connection.blmove(LIST, "reference", Direction::Right, Direction::Left, 2.0).expect("BLMOVE");
        let Some(element) = element else { continue };
        let now = super::now();
        clock.get_or_insert_with(Clock::start);
        let job: serde_json::Value = serde_json::from_str(&element).expect("JSON");
        let pushed: u128 = job["email"].as_str().and_then(|text| text.split('@').next()?.parse().ok()).expect("when");
        latencies.push(now.saturating_sub(pushed) as f64 / 1e9);
        let _: usize = connection.lrem("reference", 1, &element).expect("LREM");
    }
    clock.expect("it has begun").done(latencies).print();
}
