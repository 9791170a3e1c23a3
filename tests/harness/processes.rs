//! Child processes, and how the daemon is started.

use std::process::Command;
use std::time::Duration;

use hauld::config::Config;

use crate::support::process::Process;
use crate::support::{Backend, Catalog, Daemon, Origin, RedisServer, daemon, port, wait};

fn shell(script: &str, output: &std::path::Path) -> Process {
    let mut command = Command::new("sh");
    command.args(["-c", script]);
    Process::start("sh", command, output)
}

fn is_alive(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

#[tokio::test]
async fn a_process_is_watched_signalled_and_ended() {
    let directory = tempfile::tempdir().unwrap();
    let output = directory.path().join("output");
    let process = shell("trap 'echo stopped; exit 3' TERM; echo started; while :; do sleep 0.02; done", &output);
    wait::until("it has started", Duration::from_secs(5), || process.output().contains("started").then_some(())).await;
    assert!(process.exited().is_none());
    process.signal(rustix::process::Signal::TERM);
    assert_eq!(process.wait_exit(Duration::from_secs(5)).await.code(), Some(3));
    assert_eq!(process.output(), "started\nstopped\n");
    // A signal to a process that has ended goes nowhere.
    process.signal(rustix::process::Signal::KILL);
}

#[test]
fn a_process_does_not_outlive_a_panic() {
    let directory = tempfile::tempdir().unwrap();
    let process = shell("exec sleep 600", &directory.path().join("output"));
    let pid = process.pid();
    assert!(is_alive(pid));
    let failing_test = std::thread::spawn(move || {
        let _process = process;
        panic!("as a failed assertion would");
    });
    assert!(failing_test.join().is_err());
    assert!(!is_alive(pid));
}

#[tokio::test]
#[should_panic(expected = "in vain until pigs fly")]
async fn waiting_in_vain_says_for_what() {
    wait::until("pigs fly", Duration::from_millis(50), || None::<()>).await;
}

#[test]
fn ports_are_free_and_never_the_same() {
    let (one, two) = (port::free(), port::free());
    assert_ne!(one, two);
    assert!(std::net::TcpListener::bind(("127.0.0.1", one)).is_ok());
}

#[test]
fn the_configuration_of_a_daemon_is_valid() {
    let (redis, origin, backend) = (RedisServer::start(), Origin::start(), Backend::start());
    let catalog = Catalog::on(&origin);
    let builder = Daemon::builder().redis(&redis).catalog(&catalog).catalog_token("t0ken").backend(&backend).hook();
    let daemon = builder.set("worker.jobs", 7).launch();
    let config = Config::load(Some(daemon.config()), Default::default(), Default::default()).unwrap();
    assert_eq!(config.worker.jobs, 7);
    assert_eq!(config.redis.shown(), redis.url());
    assert_eq!(config.resolver.catalog_endpoint.unwrap().as_str(), catalog.url());
    assert_eq!(config.enrollment.endpoint.unwrap().as_str(), backend.enroll_url());
    assert_eq!(config.staging.directory, daemon.staging());
    assert_eq!(config.delivery.directory, daemon.delivered());
    assert_eq!(format!("http://{}/x", config.hook.listen.unwrap()), daemon.hook_url("/x"));
    assert_eq!(config.queue.lease, Duration::from_secs(2));
}

#[test]
fn trees_are_listed_in_order() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(directory.path().join("b/c")).unwrap();
    for name in ["b/c/two", "b/one", "a"] {
        std::fs::write(directory.path().join(name), "").unwrap();
    }
    assert_eq!(daemon::tree(directory.path()), ["a", "b/c/two", "b/one"]);
    assert!(daemon::tree(&directory.path().join("nothing")).is_empty());
}
