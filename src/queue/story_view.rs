//! Reading the stories of tasks.

use redis::{AsyncCommands, RedisError};
use serde::Serialize;

use super::QueueView;
use super::story::{Line, State, Step};
use crate::failure::{FailureKind, Result};
use crate::job::TaskId;
use crate::redis_client;

/// Tasks that are looked at together.
const PAGE: usize = 200;
/// Lines at the end of a story among which is the last one: hosts write theirs together, each at its time.
const LAST_LINES: isize = 8;

/// A line, and whose it is.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TaskLine {
    pub task_id: TaskId,
    #[serde(flatten)]
    pub line: Line,
}

/// Which tasks are meant. An empty one means all.
#[derive(Debug, Clone, Default)]
pub struct StoryFilter {
    /// How they are now.
    pub states: Vec<State>,
    /// The failure that was their last step.
    pub kinds: Vec<FailureKind>,
}

impl StoryFilter {
    fn admits(&self, line: &Line) -> bool {
        let kind = line.step.failure().map(|(kind, _)| kind);
        (self.states.is_empty() || self.states.contains(&line.step.state()))
            && (self.kinds.is_empty() || self.kinds.iter().any(|wanted| Some(wanted.name()) == kind))
    }
}

/// Lines in the sequence in which things happened. A line whose answer was lost has been written twice;
/// one that cannot be read is of a newer version.
fn lines(texts: Vec<Vec<u8>>) -> Vec<Line> {
    let mut lines: Vec<Line> = texts.iter().filter_map(|text| serde_json::from_slice(text).ok()).collect();
    lines.sort_by_key(|line| line.at);
    lines.dedup();
    lines
}

/// The line that says how the task is: who has lost a job and awakes later tells nothing of it.
pub fn last_step(lines: &[Line]) -> Option<&Line> {
    let told = lines.iter().rev().find(|line| line.step != Step::Abandoned);
    told.or(lines.last())
}

impl QueueView {
    /// What happened to a task in the last 30 days, the first step first; empty when nothing is known.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn story(&self, task_id: TaskId) -> Result<Vec<Line>> {
        let texts: Result<_, RedisError> = self.commands.clone().lrange(self.keys.story(task_id), 0, -1).await;
        texts.map(lines).map_err(|error| redis_client::failure("reading the story of a task", &error))
    }

    /// The last step of at most `limit` tasks, those first that something happened to last.
    ///
    /// # Errors
    /// `queue_unavailable`.
    pub async fn recent_tasks(&self, filter: &StoryFilter, limit: usize) -> Result<Vec<TaskLine>> {
        let found = self.find_tasks(filter, limit).await;
        found.map_err(|error| redis_client::failure("reading the stories of tasks", &error))
    }

    async fn find_tasks(&self, filter: &StoryFilter, limit: usize) -> Result<Vec<TaskLine>, RedisError> {
        let mut commands = self.commands.clone();
        let mut found = Vec::new();
        for page in 0.. {
            let mut range = redis::cmd("ZRANGE");
            range.arg(&self.keys.stories).arg(page * PAGE).arg((page + 1) * PAGE - 1).arg("REV");
            let ids: Vec<u64> = range.query_async(&mut commands).await?;
            let ids: Vec<TaskId> = ids.into_iter().filter_map(TaskId::new).collect();
            if ids.is_empty() {
                break;
            }
            let mut ends = redis::pipe();
            for id in &ids {
                ends.lrange(self.keys.story(*id), -LAST_LINES, -1);
            }
            let ends: Vec<Vec<Vec<u8>>> = ends.query_async(&mut commands).await?;
            let ends = ids.into_iter().zip(ends).filter_map(|(task_id, texts)| {
                let lines = lines(texts);
                let line = last_step(&lines).filter(|line| filter.admits(line))?.clone();
                Some(TaskLine { task_id, line })
            });
            found.extend(ends);
            if found.len() >= limit {
                break;
            }
        }
        found.truncate(limit);
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;

    #[test]
    fn who_awakes_without_its_job_does_not_say_how_the_task_is() {
        let line = |second, step| Line {
            at: Timestamp::from_second(second).unwrap(),
            instance: "host-0".into(),
            attempt: 1,
            step,
        };
        let reaped = line(1, Step::Returned);
        assert_eq!(last_step(&[reaped.clone(), line(2, Step::Abandoned)]), Some(&reaped));
        let alone = line(2, Step::Abandoned);
        assert_eq!(last_step(std::slice::from_ref(&alone)), Some(&alone));
        assert_eq!(last_step(&[]), None);
    }
}
