use std::time::Instant;

use super::*;

const LIMIT: Duration = Duration::from_secs(20);

async fn sh(script: &str, limit: Duration, max_output: usize) -> Result<Output, ChildError> {
    run(Path::new("sh"), &["-c".into(), script.into()], limit, max_output, &CancellationToken::new()).await
}

/// Waits until a fact holds; fails the test after 20 s.
fn until(what: &str, mut fact: impl FnMut() -> bool) {
    let start = Instant::now();
    while !fact() {
        assert!(start.elapsed() < LIMIT, "not within {LIMIT:?}: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Whether a process runs; a zombie does not.
fn runs(pid: &str) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    !matches!(stat.rsplit(") ").next().and_then(|rest| rest.chars().next()), None | Some('Z' | 'X'))
}

fn pid_in(file: &Path) -> String {
    until("the child writes its pid", || std::fs::read_to_string(file).is_ok_and(|text| text.ends_with('\n')));
    std::fs::read_to_string(file).unwrap().trim().to_owned()
}

#[tokio::test]
async fn output_and_status_are_kept() {
    let output = sh("echo out; echo first >&2; echo ' last\x1b words ' >&2; exit 3", LIMIT, 100).await.unwrap();
    assert_eq!(output.stdout, b"out\n");
    assert_eq!(output.status.code(), Some(3));
    assert_eq!(output.last_words(), "last words");
}

#[tokio::test]
async fn a_child_sees_four_variables_and_an_empty_stdin() {
    let output = sh("env | cut -d= -f1 | sort | tr '\\n' ' '; cat", LIMIT, 1000).await.unwrap();
    let names = String::from_utf8(output.stdout).unwrap();
    for name in names.split_whitespace() {
        // PWD, SHLVL and _ are the shell's own.
        assert!(ENVIRONMENT.contains(&name) || ["PWD", "OLDPWD", "SHLVL", "_"].contains(&name), "{name}");
    }
    assert!(names.contains("PATH"));
}

#[tokio::test]
async fn line_40_a_child_has_three_descriptors_no_core_file_and_the_memory_that_it_is_given() {
    // Files and sockets of ours that are open meanwhile, and whatever the tests were started with.
    let _file = std::fs::File::open("/dev/zero").unwrap();
    let _socket = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let script = "ls /proc/self/fd | tr '\\n' ' '; ulimit -c; ulimit -d";
    let arguments = ["-c".into(), script.into()];
    let program = Program {
        path: Path::new("sh"),
        arguments: &arguments,
        environment: &[],
        limit: LIMIT,
        max_output: 1000,
        max_memory: 512 << 20,
    };
    let output = run_watched(program, &CancellationToken::new(), |_| {}).await.unwrap();
    // The last one is the directory that ls reads.
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("0 1 2 3 0\n{}\n", 512 << 10));
}

#[tokio::test]
async fn lines_are_seen_as_they_come_and_variables_can_be_added() {
    let folder = tempfile::tempdir().unwrap();
    // The child goes on only after its first line was seen.
    let script = "echo \"$MARK\" >&2; until [ -e \"$MARK\" ]; do sleep 0.01; done; printf 'a\\n\\nlast' >&2";
    let mark = folder.path().join("mark");
    let program = Program {
        path: Path::new("sh"),
        arguments: &["-c".into(), script.into()],
        environment: &[("MARK".into(), mark.clone().into())],
        limit: LIMIT,
        max_output: 10,
        max_memory: MAX_MEMORY,
    };
    let mut lines = Vec::new();
    let watch = |line: &[u8]| {
        let line = String::from_utf8(line.to_vec()).unwrap();
        if lines.is_empty() {
            std::fs::write(&line, "").unwrap();
        }
        lines.push(line);
    };
    let output = run_watched(program, &CancellationToken::new(), watch).await.unwrap();
    assert!(output.status.success());
    assert_eq!(lines, [mark.to_str().unwrap(), "a", "last"]);
}

#[tokio::test]
async fn line_40_a_talkative_child_costs_little_memory() {
    let output = sh("yes filler | head -c 3000000 >&2; printf end >&2", LIMIT, 10).await.unwrap();
    assert_eq!(output.stderr.len(), STDERR_TAIL_BYTES);
    assert!(output.stderr.ends_with(b"end"));
    assert!(matches!(sh("yes", LIMIT, 1000).await, Err(ChildError::OutputTooLarge { .. })));
}

#[tokio::test]
async fn line_40_a_child_that_ignores_sigterm_is_killed_with_its_group() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let script = format!("trap '' TERM; sleep 1000 & echo $! > {}; wait; wait; sleep 1000", file.display());
    let error = sh(&script, Duration::from_millis(500), 10).await.unwrap_err();
    assert!(matches!(error, ChildError::TimedOut { .. }), "{error}");
    let pid = pid_in(&file);
    until("the grandchild is gone", || !runs(&pid));
}

#[tokio::test]
async fn cancelling_and_dropping_kill_the_child() {
    let folder = tempfile::tempdir().unwrap();
    for cancelled in [true, false] {
        let file = folder.path().join(format!("pid-{cancelled}"));
        let script = format!("echo $$ > {}; exec sleep 1000", file.display());
        let cancel = CancellationToken::new();
        let task = tokio::spawn({
            let cancel = cancel.clone();
            async move { run(Path::new("sh"), &["-c".into(), script.into()], LIMIT, 10, &cancel).await }
        });
        let wait_for = file.clone();
        let pid = tokio::task::spawn_blocking(move || pid_in(&wait_for)).await.unwrap();
        if cancelled {
            cancel.cancel();
            assert!(matches!(task.await.unwrap(), Err(ChildError::Cancelled { .. })));
        } else {
            task.abort();
            assert!(task.await.unwrap_err().is_cancelled());
        }
        until("the child is gone", || !runs(&pid));
    }
}

#[tokio::test]
async fn a_missing_program_is_named() {
    let nowhere = Path::new("/nonexistent/program");
    let error = run(nowhere, &[], LIMIT, 10, &CancellationToken::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("/nonexistent/program cannot be started: No such file"), "{error}");
}

#[tokio::test]
async fn a_child_outlives_the_thread_that_asked_for_it() {
    let runtime = Handle::current();
    let asking = std::thread::spawn(move || {
        runtime
            .block_on(Child::start(&Program {
                path: Path::new("sh"),
                arguments: &["-c".into(), "sleep 0.3; echo done".into()],
                environment: &[],
                limit: LIMIT,
                max_output: 100,
                max_memory: MAX_MEMORY,
            }))
            .ok()
            .unwrap()
    });
    let mut child = tokio::task::spawn_blocking(|| asking.join().unwrap()).await.unwrap();
    let output = child.output(100, |_| {}).await.ok().unwrap();
    assert_eq!(output.stdout, b"done\n");
}

/// Not a test of its own: the parent that the next test kills.
#[tokio::test]
#[ignore = "run by kill_9_of_the_parent_takes_the_child_down"]
async fn parent_to_be_killed() {
    let Ok(file) = std::env::var("HAULD_TEST_PID_FILE") else { return };
    let _ = sh(&format!("echo $$ > {file}; exec sleep 1000"), Duration::from_secs(1000), 10).await;
}

#[test]
fn kill_9_of_the_parent_takes_the_child_down() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("pid");
    let mut parent = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", "child::tests::parent_to_be_killed", "--ignored"])
        .env("HAULD_TEST_PID_FILE", &file)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let pid = pid_in(&file);
    assert!(runs(&pid));
    parent.kill().unwrap();
    parent.wait().unwrap();
    until("the child is gone", || !runs(&pid));
}
