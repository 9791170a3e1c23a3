//! What README says about settings, failure kinds and metrics is what the code says.

use std::fmt::Write;

use clap::Parser;
use clap::error::ErrorKind;
use hauld::cli::Cli;
use hauld::cli::exit::Exit;
use hauld::config::Config;
use hauld::failure::{FailureKind, JobPolicy};
use hauld::metrics::Metrics;

const README: &str = include_str!("../README.md");

/// The rows of README that begin with one of these names, in its order.
fn assert_table(expected: &str) {
    for row in expected.lines() {
        assert!(README.lines().any(|line| line == row), "README misses or contradicts:\n{row}");
    }
}

#[test]
fn the_configuration_table_is_that_of_the_code() {
    let mut rows = String::new();
    for setting in Config::settings() {
        let default = if setting.default.is_empty() { String::new() } else { format!("`{}`", setting.default) };
        let fallback = setting.fallback.map(|name| format!(" Falls back to `{name}`.")).unwrap_or_default();
        let reloadable = if setting.reloadable { " ↻" } else { "" };
        writeln!(rows, "| `{}` | {default} | {}{fallback}{reloadable} |", setting.name, setting.help).unwrap();
    }
    assert_table(&rows);
    let documented =
        README.lines().filter(|line| line.starts_with("| `") && line.split('`').nth(1).unwrap().contains('.'));
    assert_eq!(documented.count(), Config::settings().len(), "README has settings that do not exist");
}

#[test]
fn the_failure_table_is_that_of_the_code() {
    let mut rows = String::new();
    for kind in FailureKind::ALL {
        let what = match kind.job_policy() {
            JobPolicy::Retry => "tried again",
            JobPolicy::GiveUp => "final",
            JobPolicy::HandBack => "handed back",
            JobPolicy::Abandon => "left alone",
        };
        writeln!(rows, "| `{}` | {what} | {} | {} |", kind.name(), kind.meaning(), kind.remedy()).unwrap();
    }
    assert_table(&rows);
}

#[test]
fn the_exit_status_table_is_that_of_the_code() {
    let mut rows = String::new();
    for exit in Exit::ALL {
        let kinds = FailureKind::ALL.iter().filter(|kind| Exit::from(**kind) == *exit);
        let kinds: Vec<String> = kinds.map(|kind| format!("`{kind}`")).collect();
        writeln!(rows, "| `{}` | {} | {} |", exit.status(), exit.meaning(), kinds.join(" ")).unwrap();
    }
    assert_table(&rows);
}

#[test]
fn the_metrics_table_is_that_of_the_code() {
    let mut rows = String::new();
    for (name, help) in Metrics::table() {
        writeln!(rows, "| `{name}` | {help} |").unwrap();
    }
    assert_table(&rows);
}

/// The commands of `hauld` that README names, in a line of code or a block, without what surrounds them.
fn commands() -> Vec<String> {
    let blocks = README.lines().filter(|line| line.starts_with("    "));
    let blocks = blocks.map(|line| line.split(" # ").next().unwrap_or_default().trim());
    let words = README.split('`').skip(1).step_by(2);
    let bare = |code: &'static str| {
        let command = code.strip_prefix("sudo ").unwrap_or(code);
        command.strip_prefix("-u hauld ").unwrap_or(command)
    };
    blocks.chain(words).map(bare).filter(|code| code.starts_with("hauld ")).map(str::to_owned).collect()
}

/// The arguments of a command as README writes it, with something in place of what is left open.
fn arguments(command: &str) -> Vec<String> {
    let filled = command.replace("URL\\|FILE", "URL").replace(['[', ']'], "");
    let argument = |word: &str| match word {
        "URL" => "https://media.example.com/master.m3u8".to_owned(),
        "N" | "TASK" | "TASK…" => "43".to_owned(),
        "COMMAND" => "check".to_owned(),
        "…" if filled.contains("--kind") => "disk_full".to_owned(),
        "…" => "user@example.com".to_owned(),
        "<host>-<worker.instance>" => "host-0".to_owned(),
        word => word.trim_end_matches('…').to_owned(),
    };
    let mut words: Vec<String> = filled.split(' ').map(argument).collect();
    if let Some(url) = words.iter().position(|word| word == "--course-url") {
        words[url + 1] = "https://learn.example.com/course/intro/".into();
    }
    words
}

#[test]
fn every_command_of_readme_is_understood() {
    let commands = commands();
    assert!(commands.len() > 30, "{commands:?}");
    for command in commands {
        let choices = arguments(&command);
        // `dead list\|show` are two commands.
        let choice = choices.iter().position(|word| word.contains("\\|")).filter(|position| *position == 2);
        let count = choice.map_or(1, |position| choices[position].split("\\|").count());
        for nth in 0..count {
            let mut words = choices.clone();
            if let Some(position) = choice {
                words[position] = choices[position].split("\\|").nth(nth).unwrap().to_owned();
            }
            let Err(error) = Cli::try_parse_from(&words) else { continue };
            // A sentence may name a command without saying of what.
            let understood = matches!(
                error.kind(),
                ErrorKind::MissingRequiredArgument
                    | ErrorKind::DisplayHelp
                    | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
            );
            assert!(understood, "README has `{command}`: {error}");
        }
    }
}
