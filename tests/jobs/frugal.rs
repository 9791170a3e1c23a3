//! What a job costs Redis.

use std::collections::BTreeMap;
use std::time::Instant;

use crate::support::media::synthetic;
use crate::world::World;

/// Calls by command since the server was started, those of scripts among them.
fn calls(world: &World) -> BTreeMap<String, u64> {
    let info = world.redis.cli(&["INFO", "commandstats"]);
    let calls = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(':')?;
        Some((name.to_owned(), rest.split(['=', ',']).nth(1)?.parse().ok()?))
    };
    info.lines().filter_map(calls).collect()
}

#[tokio::test]
async fn a_long_lecture_costs_redis_no_more_than_a_short_one() {
    let world = World::new();
    let daemon = world.daemon().set("hls.concurrency", 8).start().await;
    for (task_id, segments) in [(5101, 3), (5102, 600)] {
        world.publish(task_id, &synthetic(segments, 2000));
        let (before, begin) = (calls(&world), Instant::now());
        world.push(task_id);
        world.redis.wait_for_task(task_id, "completed").await;
        world.settled(task_id).await;
        let seconds = begin.elapsed().as_secs_f64();
        let after = calls(&world);
        let count = |name: &str| after.get(name).copied().unwrap_or(0) - before.get(name).copied().unwrap_or(0);
        // Scripts: start, look for more, confirm twice, conclude, settle, the status of the task and
        // four events of it, two sweeps that may come in between; four times a second the progress; its
        // story, once a second and once more behind the end.
        let scripts = count("evalsha");
        let allowed = 18.0 + 5.0 * (seconds + 1.0);
        assert!((9.0..allowed).contains(&(scripts as f64)), "{segments} segments: {scripts} scripts in {seconds} s");
        assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"done\"}"), Some((task_id - 5100) as f64));
        println!("{segments} segments, {seconds:.2} s: {scripts} scripts, {} BLMOVE", count("blmove"));
    }
}
