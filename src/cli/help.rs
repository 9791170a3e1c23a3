//! The longer help: examples, exit statuses, what was built.

use std::fmt::Write;
use std::sync::LazyLock;

use super::DEFAULT_CONFIG;
use super::exit::Exit;

/// `--version`: what somebody needs who reads a report. `HAULD_COMMIT` is set by `make`.
pub(super) static LONG_VERSION: LazyLock<String> = LazyLock::new(|| {
    format!(
        "{}\ncommit: {}\nplatform: {}-{}\nconfiguration: {DEFAULT_CONFIG}",
        env!("CARGO_PKG_VERSION"),
        option_env!("HAULD_COMMIT").unwrap_or("unknown"),
        std::env::consts::ARCH,
        std::env::consts::OS,
    )
});

pub(super) const EXAMPLES: &str = "\
Examples:
  hauld check                                   is everything usable?
  hauld status --watch                          what waits, runs and has failed
  hauld fetch https://media.example/a.m3u8 -o a.mp4
                                                one download, without Redis
  hauld pause --reason 'disk is full'           start nothing more; hauld resume
  hauld dead list --kind disk_full              what was given up, and why
  hauld tasks show 43                           what happened to a task
  hauld queue verify --json                     the account, for a program
";

/// Below the list of commands.
pub(super) fn overview() -> String {
    let mut text = format!("{EXAMPLES}\nExit status:\n");
    for exit in Exit::ALL {
        // Writing into a String does not fail.
        let _ = writeln!(text, "  {:>3}  {}", exit.status(), exit.meaning());
    }
    text
}

pub(super) const RUN: &str = "\
Examples:
  hauld run                                     with /etc/hauld/hauld.toml
  hauld run --config test.toml --set log.level=debug

SIGTERM drains: nothing more is taken, what runs may go on for worker.drain_seconds and is handed
back then; a second one hands back at once. SIGHUP reads the configuration again.";

pub(super) const FETCH: &str = "\
Examples:
  hauld fetch https://media.example/a.m3u8 -o a.mp4
  hauld fetch https://media.example/a.m3u8 -o a.ts --quality 1080 --header 'Referer: https://media.example/'
  hauld fetch https://learn.example/course/intro/ -o courses --config hauld.toml

Run again, it goes on where it was.";

pub(super) const INSPECT: &str = "\
Examples:
  hauld inspect https://media.example/master.m3u8
  hauld inspect --json list.m3u8 --base-url https://media.example/a/";

pub(super) const STATUS: &str = "\
Examples:
  hauld status
  hauld status --watch
  hauld status --watch --json --interval 10     one object each time";

pub(super) const ENQUEUE: &str = "\
Example:
  hauld enqueue --task-id 43 --email user@example.com --course-url https://learn.example.com/course/intro/";

pub(super) const REQUEUE: &str = "\
Examples:
  hauld requeue 43 44
  hauld requeue --force 43                      also when it is under way or completed";

pub(super) const CANCEL: &str = "\
Example:
  hauld cancel 43 44";

pub(super) const TASKS: &str = "\
Examples:
  hauld tasks show 43                           every step of it, with all attempts
  hauld tasks list --state dead --limit 20
  hauld tasks list --kind link_expired --json";

pub(super) const DEAD: &str = "\
Examples:
  hauld dead list --older-than 3d
  hauld dead show 1f2e3d
  hauld dead retry --kind catalog_unavailable   the catalogue is back
  hauld dead purge --task 43";

pub(super) const QUEUE: &str = "\
Examples:
  hauld queue verify                            exit status 1 when something does not add up
  hauld queue repair";

pub(super) const PAUSE: &str = "\
Examples:
  hauld pause --reason 'disk is full'
  hauld pause --instance worker1-0";

pub(super) const RESUME: &str = "\
Examples:
  hauld resume
  hauld resume --instance worker1-0";

pub(super) const CHECK: &str = "\
Examples:
  sudo -u hauld hauld check                     as the daemon sees it
  hauld check --config test.toml --json";
