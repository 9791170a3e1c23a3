//! The commands of README, each row of its table, as they stand there.

use std::time::Duration;

use crate::support::{Daemon, Publish, wait};
use crate::world::{World, course_url, small};

const README: &str = include_str!("../../README.md");

/// What stands as code in the first cell of each row of README's table of commands.
fn rows() -> Vec<&'static str> {
    let table = README.lines().skip_while(|line| *line != "| command | what it does |").skip(2);
    let rows = table.take_while(|line| line.starts_with('|'));
    rows.flat_map(|row| row.split(" | ").next().unwrap().split('`').skip(1).step_by(2)).collect()
}

/// Runs a command that must succeed, and returns what it says.
fn run(daemon: &Daemon, arguments: &[&str]) -> String {
    let output = daemon.command(arguments).output().unwrap();
    let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
    assert!(output.status.success(), "hauld {}: {}: {said}", arguments.join(" "), output.status);
    said
}

#[tokio::test]
async fn every_command_of_the_table_does_what_it_says() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let run = |arguments: &[&str]| run(&daemon, arguments);
    let url = Publish::of(&small()).encrypted().at(&world.origin, "/fetched").url;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("lecture.ts").display().to_string();
    for row in rows() {
        match row {
            "hauld run" => assert!(daemon.is_ready()),
            // A program of its own, which `make demo` runs.
            "hauld demo" => {}
            "hauld fetch URL -o PATH" => {
                run(&["fetch", &url, "-o", &path]);
                assert!(std::fs::metadata(&path).unwrap().len() > 0);
            }
            "hauld inspect URL\\|FILE" => assert!(run(&["inspect", &url]).contains("AES-128")),
            "hauld status" => assert!(run(&["status"]).contains("rq:queue:downloads")),
            "hauld enqueue --task-id N --email … --course-url …" => {
                world.publish(51, &small());
                world.redis.set_task(51, "enrolled");
                let course = course_url(51);
                run(&["enqueue", "--task-id", "51", "--email", "user@example.com", "--course-url", &course]);
                world.redis.wait_for_task(51, "completed").await;
            }
            "hauld tasks show TASK" => {
                // A step is written within a second.
                let told = || daemon.command(&["tasks", "show", "51"]).output().unwrap().stdout;
                let told = || String::from_utf8(told()).unwrap().contains("completed").then_some(());
                wait::until("the story of the task is told", Duration::from_secs(20), told).await;
            }
            "hauld tasks list" => assert!(run(&["tasks", "list"]).contains("51")),
            "hauld requeue TASK…" => {
                // The catalogue does not know its course yet.
                world.push(52);
                world.dead_of(52).await;
                world.publish(52, &small());
                run(&["requeue", "52"]);
                world.redis.wait_for_task(52, "completed").await;
            }
            "hauld cancel TASK…" => {
                run(&["pause"]);
                daemon.wait_for_log(&["paused"]).await;
                world.push(53);
                run(&["cancel", "53"]);
                assert_eq!(world.dead_of(53).await["kind"], "job_stopped");
                run(&["resume"]);
            }
            "hauld dead list\\|show\\|retry\\|purge" => {
                world.push(54);
                world.dead_of(54).await;
                assert!(run(&["dead", "list", "--kind", "course_not_found"]).contains("54"));
                assert!(run(&["dead", "show", "--task", "54"]).contains("course/54/"));
                world.publish(54, &small());
                run(&["dead", "retry", "--task", "54"]);
                world.redis.wait_for_task(54, "completed").await;
                run(&["dead", "purge", "--all"]);
                assert!(world.dead().is_empty());
            }
            "hauld queue verify" | "hauld queue repair" => {
                let words: Vec<&str> = row.split(' ').skip(1).collect();
                world.settled(54).await;
                assert!(run(&words).contains("everything adds up"));
            }
            "hauld pause" => assert!(run(&["pause"]).contains("starts nothing more")),
            "hauld resume" => assert!(run(&["resume"]).contains("resumed")),
            "hauld check" => drop(run(&["check"])),
            _ => panic!("README has a command that is not run here: {row}"),
        }
    }
}
