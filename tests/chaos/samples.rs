//! What the instances use, looked at every few seconds, and whether any of it grows.

use std::fmt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;
use tokio::task::block_in_place;

use crate::slope::{Series, quarters, slope};
use crate::support::daemon;
use crate::world::World;

/// How much of a run belongs to its beginning: pools, caches and arenas fill up.
const WARM_UP: f64 = 0.15;
/// A shorter run is all beginning: the heap is as large as it gets after some hundred jobs.
const LONG: Duration = Duration::from_secs(1_200);

/// One quantity that must not grow.
struct Watched {
    name: String,
    /// What is in it, behind a value.
    unit: &'static str,
    /// By how much it may grow from the end of the beginning to the end of the run.
    allowed: f64,
    series: Series,
}

/// Everything that was looked at.
pub struct Samples(Vec<Watched>);

/// Looks at the instances with these process ids and admin ports as long as the plan goes on. `None` when the
/// plan does not want it.
pub async fn take(world: Arc<World>, instances: Vec<(u32, u16)>) -> Option<Samples> {
    let pause = world.plan.samples?;
    let mut samples = Samples(Vec::new());
    let mut connection = None;
    while world.goes_on() {
        tokio::time::sleep(pause).await;
        let at = world.seconds();
        for (slot, (pid, admin_port)) in instances.iter().enumerate() {
            for (name, unit, allowed, value) in block_in_place(|| of_process(*pid, *admin_port)) {
                samples.add(format!("instance {slot}: {name}"), unit, allowed, (at, value));
            }
        }
        let (entries, bytes) = block_in_place(|| of_staging(&world));
        samples.add("staging: files of jobs that are not to fail".into(), "", 5.0, (at, entries));
        samples.add("staging: their size".into(), "MB", 1.0, (at, bytes / 1e6));
        // Now and then the server is away.
        if connection.is_none() {
            connection = world.connect().await.ok();
        }
        let Some(redis) = &mut connection else { continue };
        match of_redis(redis).await {
            Ok((lasting, members)) => {
                samples.add("Redis: keys without an expiry".into(), "", 2.0, (at, lasting));
                samples.add("Redis: entries of jobs under way".into(), "", 5.0, (at, members));
            }
            Err(_) => connection = None,
        }
    }
    Some(samples)
}

type Value = (&'static str, &'static str, f64, f64);

/// Nothing of a process that is gone.
fn of_process(pid: u32, admin_port: u16) -> Vec<Value> {
    let directory = format!("/proc/{pid}");
    let directory = Path::new(&directory);
    let count = |name: &str| std::fs::read_dir(directory.join(name)).map(Iterator::count).unwrap_or_default() as f64;
    let Ok(status) = std::fs::read_to_string(directory.join("status")) else { return Vec::new() };
    let megabytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap_or_default();
        line.split_whitespace().next().and_then(|number| number.parse::<f64>().ok()).unwrap_or_default() / 1024.0
    };
    let mut values = vec![
        // What it has allocated: 2 MiB in an hour are about 1 kB for each job. Pages of the program itself come
        // with the first use of its parts.
        ("memory of its own", "MiB", 2.0, megabytes("RssAnon:")),
        ("resident memory", "MiB", 3.0, megabytes("VmRSS:")),
        // The rest is counted while jobs run: a few more or less are the jobs of the moment.
        ("descriptors", "", 2.0, count("fd")),
        ("threads", "", 2.0, count("task")),
        ("children", "", 1.0, children(directory)),
    ];
    if let Ok((_, metrics)) = daemon::get(admin_port, "/metrics") {
        let tasks = daemon::sample(&metrics, "hauld_runtime_tasks").expect("the gauge of tasks");
        values.push(("tasks", "", 3.0, tasks));
    }
    values
}

fn children(process: &Path) -> f64 {
    let threads = std::fs::read_dir(process.join("task")).into_iter().flatten().flatten();
    let lists = threads.map(|thread| std::fs::read_to_string(thread.path().join("children")).unwrap_or_default());
    lists.map(|list| list.split_whitespace().count()).sum::<usize>() as f64
}

/// Files and bytes, without those of tasks whose jobs are to die: their sandboxes stay.
fn of_staging(world: &World) -> (f64, f64) {
    let mut found = (0.0, 0.0);
    for path in daemon::tree(&world.staging()) {
        let task = path.split('/').next().and_then(|name| name.strip_prefix("Task_")?.parse().ok());
        if task.is_some_and(|task| world.is_doomed(task)) {
            continue;
        }
        if let Ok(file) = std::fs::metadata(world.staging().join(path)) {
            found = (found.0 + 1.0, found.1 + file.len() as f64);
        }
    }
    found
}

/// Keys of ours without an expiry, and the entries of those that hold what is under way.
async fn of_redis(redis: &mut MultiplexedConnection) -> redis::RedisResult<(f64, f64)> {
    const LOOK: &str = r"
        local lasting, entries = 0, 0
        for _, key in ipairs(redis.call('KEYS', '*:hauld:*')) do
            if redis.call('TTL', key) == -1 then
                lasting = lasting + 1
            end
            local name = string.match(key, ':hauld:(.*)$')
            if name == 'records' or name == 'guards' then
                entries = entries + redis.call('HLEN', key)
            elseif name == 'delayed' or name == 'untold' or name == 'notices' then
                entries = entries + redis.call('ZCARD', key)
            end
        end
        return {lasting, entries}";
    let counts: (u64, u64) = Script::new(LOOK).invoke_async(redis).await?;
    Ok((counts.0 as f64, counts.1 as f64))
}

impl Samples {
    fn add(&mut self, name: String, unit: &'static str, allowed: f64, sample: (f64, f64)) {
        match self.0.iter_mut().find(|watched| watched.name == name) {
            Some(watched) => watched.series.push(sample),
            None => self.0.push(Watched { name, unit, allowed, series: vec![sample] }),
        }
    }

    /// What grows, in a run of this length.
    pub fn complaints(&self, time: Duration) -> Vec<String> {
        if time < LONG {
            return Vec::new();
        }
        self.0.iter().filter(|watched| watched.grows()).map(|watched| format!("it grows: {watched}")).collect()
    }
}

impl Watched {
    fn after_the_beginning(&self) -> &[(f64, f64)] {
        &self.series[(self.series.len() as f64 * WARM_UP) as usize..]
    }

    /// By its slope, over the time that was looked at.
    fn growth(&self) -> f64 {
        let series = self.after_the_beginning();
        let time = series.last().map_or(0.0, |(end, _)| end - series[0].0);
        slope(series) * time
    }

    /// Both must say so: a slope may come of waves, and a difference of a single one.
    fn grows(&self) -> bool {
        let (first, last) = quarters(self.after_the_beginning());
        self.growth() > self.allowed && last - first > self.allowed / 2.0
    }
}

impl fmt::Display for Watched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (first, last) = quarters(self.after_the_beginning());
        let most = self.series.iter().map(|(_, value)| *value).fold(0.0, f64::max);
        let text = format!(
            "{:<44} {:+8.2} (allowed {:+.0}) {:8.2} {:8.2} {most:8.2} {}",
            self.name,
            self.growth(),
            self.allowed,
            first,
            last,
            self.unit
        );
        f.write_str(text.trim_end())
    }
}

impl fmt::Display for Samples {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "growth by slope after the first {:.0} %, median of first and last quarter, most:",
            WARM_UP * 100.0
        )?;
        self.0.iter().try_for_each(|watched| writeln!(f, "  {watched}"))
    }
}

#[test]
fn only_what_leaks_is_complained_of_and_only_after_a_long_run() {
    let mut samples = Samples(Vec::new());
    for step in 0..720 {
        let (at, wave) = (f64::from(step * 5), f64::from(step % 7));
        samples.add("still".into(), "", 2.0, (at, 20.0 + wave));
        // Two in the hour are allowed, and five come.
        samples.add("leaking".into(), "", 2.0, (at, 20.0 + wave + 5.0 * f64::from(step) / 720.0));
    }
    let complaints = samples.complaints(LONG);
    assert!(matches!(&complaints[..], [one] if one.contains("leaking")), "{complaints:?}");
    assert!(samples.complaints(LONG / 2).is_empty());
}
