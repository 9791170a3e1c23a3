//! With real rclone, onto a directory that it takes for a remote.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use super::super::Delivery;
use super::*;

const COURSE: &str = "-Intro: 100% *[a]{b}? \"x\"";

/// A destination and sandboxes.
struct World {
    folder: tempfile::TempDir,
    delivery: RcloneDelivery,
}

fn task(id: u64) -> TaskId {
    TaskId::new(id).unwrap()
}

fn plan(checked: bool) -> RclonePlan {
    RclonePlan { remote: "out:courses".into(), folder_name: COURSE.into(), source: COURSE.into(), checked }
}

fn tree_of(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).into_iter().flatten().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.extend(tree_of(&entry.path()).into_iter().map(|(path, text)| (format!("{name}/{path}"), text)));
        } else {
            found.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

impl World {
    fn new() -> World {
        let folder = tempfile::tempdir().unwrap();
        let config = folder.path().join("rclone.conf");
        fs::write(&config, format!("[out]\ntype = alias\nremote = {}\n", folder.path().join("out").display())).unwrap();
        let delivery = RcloneDelivery::new(&RcloneSettings {
            remote: "out:courses".into(),
            config: Some(config),
            program: "rclone".into(),
            stall: Duration::from_secs(60),
            max_memory_bytes: crate::child::MAX_MEMORY,
            environment: Vec::new(),
        });
        World { folder, delivery }
    }

    fn sandbox(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("staging/Task_{id}"))
    }

    fn out(&self, name: &str) -> PathBuf {
        self.folder.path().join("out/courses").join(name)
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.out("")).into_iter().flatten();
        let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }

    fn download(&self, id: u64, content: &str) -> BTreeMap<String, String> {
        let section = self.sandbox(id).join(COURSE).join("01 Start");
        fs::create_dir_all(&section).unwrap();
        fs::write(section.join("001 Welcome.mp4"), content).unwrap();
        fs::write(section.join("-001 Empty.vtt"), "").unwrap();
        tree_of(&self.sandbox(id).join(COURSE))
    }

    /// Puts a file at the destination, as an earlier delivery or somebody else has.
    fn put(&self, name: &str, path: &str, content: &str) {
        let path = self.out(name).join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    async fn deliver(&self, id: u64) -> Result<String> {
        let (delivery, sandbox) = (Delivery::Rclone(self.delivery.clone()), Sandbox::at(&self.sandbox(id)));
        let cancel = CancellationToken::new();
        let receipt = delivery.deliver(&sandbox, COURSE, task(id), &Progress::default(), &cancel).await?;
        assert_eq!(delivery.delivered(&sandbox).await.unwrap(), Some(receipt.clone()));
        Ok(receipt.folder_name)
    }
}

#[test]
fn a_name_stays_below_the_remote() {
    let settings = |remote: &str| RcloneSettings {
        remote: remote.into(),
        config: None,
        program: "rclone".into(),
        stall: Duration::from_secs(60),
        max_memory_bytes: crate::child::MAX_MEMORY,
        environment: Vec::new(),
    };
    for (remote, expected) in [("r:", "r:-x: y"), ("r:a", "r:a/-x: y"), ("r:a/", "r:a/-x: y"), ("r:/", "r:/-x: y")] {
        assert_eq!(RcloneDelivery::new(&settings(remote)).path_of("-x: y"), expected);
    }
}

#[tokio::test]
async fn a_course_is_moved_whole_and_once() {
    let world = World::new();
    let truth = world.download(7, "film");
    let sandbox = Sandbox::at(&world.sandbox(7));
    assert_eq!(world.delivery.delivered(sandbox.path()).unwrap(), None);
    assert_eq!(world.deliver(7).await.unwrap(), COURSE);
    assert_eq!(tree_of(&world.out(COURSE)), truth);
    assert!(!world.sandbox(7).join(COURSE).exists());
    // A second call, as after a crash, says the same and changes nothing.
    assert_eq!(world.deliver(7).await.unwrap(), COURSE);
    assert_eq!(world.names(), [COURSE]);
    // It says nothing of another remote.
    let elsewhere = RcloneDelivery { remote: "out:other".into(), ..world.delivery.clone() };
    assert_eq!(elsewhere.delivered(sandbox.path()).unwrap(), None);
}

#[tokio::test]
async fn what_others_have_put_there_is_left_alone() {
    // A whole course, and one that another task is putting there.
    for theirs in ["001 Other.mp4", ".hauld-task-9"] {
        let world = World::new();
        world.put(COURSE, theirs, "theirs");
        let own = format!("{COURSE} (Task 7)");
        let truth = world.download(7, "film");
        assert_eq!(world.deliver(7).await.unwrap(), own);
        assert_eq!(tree_of(&world.out(&own)), truth);
        assert_eq!(tree_of(&world.out(COURSE)), BTreeMap::from([(theirs.to_owned(), "theirs".to_owned())]));
        // The same task again, from a new sandbox.
        fs::remove_dir_all(world.sandbox(7)).unwrap();
        let truth = world.download(7, "another film");
        assert_eq!(world.deliver(7).await.unwrap(), own);
        assert_eq!(tree_of(&world.out(&own)), truth);
        assert_eq!(world.names().len(), 2);
    }
}

/// Both found nothing and put their claims; ours came second, and died before it was given up.
#[tokio::test]
async fn a_claim_of_ours_beside_what_others_have_put_there_is_given_up() {
    for theirs in ["01 Start/001 Welcome.mp4", ".hauld-task-9"] {
        let world = World::new();
        world.put(COURSE, theirs, "theirs");
        world.put(COURSE, ".hauld-task-7", "");
        let own = format!("{COURSE} (Task 7)");
        let truth = world.download(7, "film");
        assert_eq!(world.deliver(7).await.unwrap(), own);
        assert_eq!(tree_of(&world.out(&own)), truth);
        assert_eq!(tree_of(&world.out(COURSE)), BTreeMap::from([(theirs.to_owned(), "theirs".to_owned())]));
    }
}

#[tokio::test]
async fn tasks_of_one_course_all_arrive() {
    let world = World::new();
    let ids = [1, 2, 3];
    for id in ids {
        world.download(id, &format!("film {id}"));
    }
    let names = futures_util::future::join_all(ids.map(|id| world.deliver(id))).await;
    let names: Vec<String> = names.into_iter().map(Result::unwrap).collect();
    assert_eq!(names.iter().filter(|name| *name == COURSE).count(), 1, "{names:?}");
    for (id, name) in ids.iter().zip(&names) {
        let tree = tree_of(&world.out(name));
        assert_eq!((tree["01 Start/001 Welcome.mp4"].clone(), tree.len()), (format!("film {id}"), 2));
    }
    assert_eq!(world.names().len(), ids.len());
}

#[tokio::test]
async fn instances_that_come_at_one_moment_never_share_a_name() {
    let world = World::new();
    let delivery = RcloneDelivery { naming: Arc::default(), ..world.delivery.clone() };
    world.download(1, "film 1");
    world.download(2, "film 2");
    let deliver = async |delivery: RcloneDelivery, id: u64| {
        let sandbox = Sandbox::at(&world.sandbox(id));
        let cancel = CancellationToken::new();
        delivery.deliver(&sandbox, COURSE, task(id), &Progress::default(), &cancel).await.unwrap().folder_name
    };
    let (one, two) = tokio::join!(deliver(world.delivery.clone(), 1), deliver(delivery, 2));
    assert_ne!(one, two);
    for (id, name) in [(1, one), (2, two)] {
        let tree = tree_of(&world.out(&name));
        assert_eq!((tree["01 Start/001 Welcome.mp4"].clone(), tree.len()), (format!("film {id}"), 2));
    }
}

#[tokio::test]
async fn a_crash_at_any_point_is_gone_on_from() {
    // The name is taken; then the plan is noted; then a part of the course is there.
    for (half, noted) in [(false, false), (false, true), (true, true)] {
        let world = World::new();
        let truth = world.download(7, "film");
        world.put(COURSE, ".hauld-task-7", "");
        if half {
            world.put(COURSE, "01 Start/001 Welcome.mp4", "fi");
        }
        if noted {
            receipt::store(&plan(false), &world.sandbox(7)).unwrap();
        }
        assert_eq!(world.delivery.delivered(&world.sandbox(7)).unwrap(), None);
        assert_eq!(world.deliver(7).await.unwrap(), COURSE);
        assert_eq!(tree_of(&world.out(COURSE)), truth);
        assert_eq!(world.names(), [COURSE]);
    }
    // All is there, and the file that stood for the name is gone already; or even the note is made.
    for checked in [false, true] {
        let world = World::new();
        let truth = world.download(7, "film");
        world.put(COURSE, "01 Start/001 Welcome.mp4", "film");
        world.put(COURSE, "01 Start/-001 Empty.vtt", "");
        receipt::store(&plan(checked), &world.sandbox(7)).unwrap();
        assert_eq!(world.delivery.delivered(&world.sandbox(7)).unwrap().is_some(), checked);
        assert_eq!(world.deliver(7).await.unwrap(), COURSE);
        assert_eq!(tree_of(&world.out(COURSE)), truth);
        assert_eq!(world.names(), [COURSE]);
        assert!(!world.sandbox(7).join(COURSE).exists());
    }
}

#[tokio::test]
async fn a_file_of_the_same_size_and_another_content_is_mended() {
    let world = World::new();
    let truth = world.download(7, "film");
    receipt::store(&plan(false), &world.sandbox(7)).unwrap();
    world.put(COURSE, ".hauld-task-7", "");
    world.put(COURSE, "01 Start/001 Welcome.mp4", "fi?m");
    assert_eq!(world.deliver(7).await.unwrap(), COURSE);
    assert_eq!(tree_of(&world.out(COURSE)), truth);
}

#[tokio::test]
async fn refusals_leave_the_source_and_no_name() {
    let world = World::new();
    let sandbox = Sandbox::at(&world.sandbox(7));
    fs::create_dir_all(world.out("")).unwrap();
    let cancel = CancellationToken::new();
    for bad in ["", ".", "..", "a/b", "/etc"] {
        let failed = world.delivery.deliver(&sandbox, bad, task(7), &Progress::default(), &cancel).await.unwrap_err();
        assert_eq!(failed.kind, FailureKind::DeliveryFailed, "{bad:?}");
    }
    world.download(7, "film");
    std::os::unix::fs::symlink("/etc/passwd", world.sandbox(7).join(COURSE).join("link")).unwrap();
    let failed = world.deliver(7).await.unwrap_err();
    assert!(failed.message.ends_with("link is neither a file nor a directory"), "{failed}");
    fs::remove_file(world.sandbox(7).join(COURSE).join("link")).unwrap();
    cancel.cancel();
    let failed = world.delivery.deliver(&sandbox, COURSE, task(7), &Progress::default(), &cancel).await.unwrap_err();
    assert_eq!(failed.kind, FailureKind::Interrupted);
    assert!(world.sandbox(7).join(COURSE).join("01 Start/001 Welcome.mp4").exists());
    let unknown = RcloneDelivery { remote: "nowhere:x".into(), ..world.delivery.clone() };
    assert_eq!(unknown.examine().await.unwrap_err().kind, FailureKind::DeliveryRefused);
    assert!(world.delivery.examine().await.unwrap().ends_with("out:courses can be listed"));
}

#[test]
fn only_a_check_of_every_file_counts() {
    let answer = |code, stdout: &str| Answer::for_test(code, stdout);
    assert!(judge_check(answer(0, "= a\n= b\n"), 2, "").is_ok());
    // A filter has hidden one.
    let failed = judge_check(answer(0, "= a\n"), 2, "").unwrap_err();
    assert_eq!(failed.message, "1 of 2 files are there as they should be");
    let failed = judge_check(answer(1, "= a\n* b\n+ c\n"), 3, "").unwrap_err();
    assert_eq!(failed.message, "1 of 3 files are there as they should be; not so: b, c");
    // It could not look.
    let failed = judge_check(answer(1, "! a\n"), 1, "").unwrap_err();
    assert_eq!(failed.message, "rclone check (exit status 1): it said nothing");
}
