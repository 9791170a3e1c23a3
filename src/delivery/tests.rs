use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;

use std::path::PathBuf;

use super::receipt::{FolderPlan, Identity};
use super::*;

/// A sandbox with a course in it and a destination.
struct World {
    folder: tempfile::TempDir,
    delivery: FolderDelivery,
}

const COURSE: &str = "Intro to C++";

fn task(id: u64) -> TaskId {
    TaskId::new(id).unwrap()
}

/// Everything in a tree: path and content.
fn tree_of(directory: &Path) -> BTreeMap<String, String> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap().map(Result::unwrap) {
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            found.insert(format!("{name}/"), String::new());
            found.extend(tree_of(&entry.path()).into_iter().map(|(path, text)| (format!("{name}/{path}"), text)));
        } else {
            found.insert(name, fs::read_to_string(entry.path()).unwrap());
        }
    }
    found
}

fn names_in(directory: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

impl World {
    fn new(always_copy: bool) -> World {
        let folder = tempfile::tempdir().unwrap();
        let delivery = FolderDelivery { always_copy, ..FolderDelivery::new(folder.path().join("out/courses")) };
        World { folder, delivery }
    }

    fn sandbox(&self, id: u64) -> PathBuf {
        self.folder.path().join(format!("staging/Task_{id}"))
    }

    /// Puts a course into the task's sandbox.
    fn download(&self, id: u64, content: &str) -> BTreeMap<String, String> {
        let section = self.sandbox(id).join(COURSE).join("01 Start");
        fs::create_dir_all(section.join("empty")).unwrap();
        fs::write(section.join("001 Welcome.mp4"), content).unwrap();
        fs::write(section.join("001 Welcome.en.vtt"), "WEBVTT").unwrap();
        tree_of(&self.sandbox(id).join(COURSE))
    }

    fn out(&self, name: &str) -> PathBuf {
        self.delivery.directory.join(name)
    }

    async fn deliver(&self, id: u64) -> Result<String> {
        Ok(self.deliver_as(id, COURSE).await?.folder_name)
    }

    async fn deliver_as(&self, id: u64, folder: &str) -> Result<Receipt> {
        let (delivery, sandbox) = (Delivery::Folder(self.delivery.clone()), Sandbox::at(&self.sandbox(id)));
        delivery.deliver(&sandbox, folder, task(id), &Progress::default(), &CancellationToken::new()).await
    }

    async fn delivered(&self, id: u64) -> Option<String> {
        let delivery = Delivery::Folder(self.delivery.clone());
        delivery.delivered(&Sandbox::at(&self.sandbox(id))).await.unwrap().map(|receipt| receipt.folder_name)
    }
}

#[tokio::test]
async fn a_course_is_moved_whole_and_once() {
    for always_copy in [false, true] {
        let world = World::new(always_copy);
        let truth = world.download(7, "film");
        assert_eq!(world.delivered(7).await, None);
        assert_eq!(world.deliver(7).await.unwrap(), COURSE);
        assert_eq!(tree_of(&world.out(COURSE)), truth);
        assert_eq!(names_in(&world.delivery.directory), [COURSE]);
        assert_eq!(names_in(&world.sandbox(7)), ["delivery.json"]);
        // A second call, as after a crash, says the same and changes nothing.
        assert_eq!(world.delivered(7).await.as_deref(), Some(COURSE));
        assert_eq!(world.deliver(7).await.unwrap(), COURSE);
        assert_eq!(names_in(&world.delivery.directory), [COURSE]);
    }
}

#[tokio::test]
async fn another_file_system_is_reached_by_copying() {
    let Ok(other) = tempfile::tempdir_in("/dev/shm") else { return };
    let mut world = World::new(false);
    if fs::metadata(other.path()).unwrap().dev() == fs::metadata(world.folder.path()).unwrap().dev() {
        return;
    }
    world.delivery = FolderDelivery::new(other.path());
    let truth = world.download(7, "film");
    assert_eq!(world.deliver(7).await.unwrap(), COURSE);
    assert_eq!(tree_of(&world.out(COURSE)), truth);
    assert_eq!(names_in(other.path()), [COURSE]);
    assert_eq!(names_in(&world.sandbox(7)), ["delivery.json"]);
}

#[tokio::test]
async fn what_is_there_already_is_never_overwritten() {
    for always_copy in [false, true] {
        let world = World::new(always_copy);
        fs::create_dir_all(world.out(COURSE)).unwrap();
        fs::write(world.out(COURSE).join("mine"), "precious").unwrap();
        world.download(7, "first");
        let own = format!("{COURSE} (Task 7)");
        assert_eq!(world.deliver(7).await.unwrap(), own);
        assert_eq!(tree_of(&world.out(COURSE)).len(), 1);

        // The same task again, from a new sandbox: its own earlier delivery is replaced.
        fs::remove_dir_all(world.sandbox(7)).unwrap();
        let truth = world.download(7, "second");
        assert_eq!(world.deliver(7).await.unwrap(), own);
        assert_eq!(tree_of(&world.out(&own)), truth);
        assert_eq!(names_in(&world.delivery.directory), [COURSE, own.as_str()]);
        assert_eq!(tree_of(&world.out(COURSE))["mine"], "precious");
    }
}

#[tokio::test]
async fn tasks_that_race_for_a_name_all_arrive() {
    for always_copy in [false, true] {
        let world = World::new(always_copy);
        let ids: Vec<u64> = (1..=8).collect();
        for id in &ids {
            world.download(*id, &format!("film {id}"));
        }
        let deliveries = ids.iter().map(|id| world.deliver(*id));
        let names: Vec<String> =
            futures_util::future::join_all(deliveries).await.into_iter().map(Result::unwrap).collect();
        assert_eq!(names.iter().filter(|name| *name == COURSE).count(), 1, "{names:?}");
        for (id, name) in ids.iter().zip(&names) {
            assert_eq!(tree_of(&world.out(name))["01 Start/001 Welcome.mp4"], format!("film {id}"));
        }
        assert_eq!(names_in(&world.delivery.directory).len(), 8);
    }
}

#[tokio::test]
async fn a_crash_after_the_plan_begins_again() {
    let world = World::new(true);
    let truth = world.download(7, "film");
    let identity = Identity::of(&fs::metadata(world.sandbox(7)).unwrap());
    let plan = FolderPlan { folder_name: COURSE.into(), source: COURSE.into(), identity };
    receipt::store(&plan, &world.sandbox(7)).unwrap();
    let partial = world.out(&format!(".{COURSE}.hauld-7.partial"));
    fs::create_dir_all(&partial).unwrap();
    fs::write(partial.join("half"), "").unwrap();
    assert_eq!(world.delivered(7).await, None);
    assert_eq!(world.deliver(7).await.unwrap(), COURSE);
    assert_eq!(tree_of(&world.out(COURSE)), truth);
    assert_eq!(names_in(&world.delivery.directory), [COURSE]);
}

#[tokio::test]
async fn a_crash_after_the_name_was_given_only_cleans_up() {
    // The copy has its name, the source is still there.
    let world = World::new(true);
    let truth = world.download(7, "film");
    fs::create_dir_all(&world.delivery.directory).unwrap();
    tree::copy(&world.sandbox(7).join(COURSE), &world.out(COURSE), &AtomicBool::new(false)).unwrap();
    let identity = Identity::of(&fs::metadata(world.out(COURSE)).unwrap());
    let plan = FolderPlan { folder_name: COURSE.into(), source: COURSE.into(), identity };
    receipt::store(&plan, &world.sandbox(7)).unwrap();
    assert_eq!(world.delivered(7).await.as_deref(), Some(COURSE));
    assert_eq!(world.deliver(7).await.unwrap(), COURSE);
    assert_eq!(tree_of(&world.out(COURSE)), truth);
    assert_eq!(names_in(&world.delivery.directory), [COURSE]);
    assert_eq!(names_in(&world.sandbox(7)), ["delivery.json"]);
}

#[tokio::test]
async fn a_name_that_somebody_else_took_is_not_ours() {
    // The plan was to take the name; after the crash it is another's.
    let world = World::new(false);
    world.download(7, "film");
    let identity = Identity::of(&fs::metadata(world.sandbox(7).join(COURSE)).unwrap());
    let plan = FolderPlan { folder_name: COURSE.into(), source: COURSE.into(), identity };
    receipt::store(&plan, &world.sandbox(7)).unwrap();
    fs::create_dir_all(world.out(COURSE)).unwrap();
    fs::write(world.out(COURSE).join("theirs"), "x").unwrap();
    assert_eq!(world.delivered(7).await, None);
    assert_eq!(world.deliver(7).await.unwrap(), format!("{COURSE} (Task 7)"));
    assert_eq!(tree_of(&world.out(COURSE)).len(), 1);
}

#[tokio::test]
async fn refusals_leave_the_source_and_no_name() {
    for always_copy in [false, true] {
        let world = World::new(always_copy);
        for bad in ["", ".", "..", "a/b", "/etc", "a/"] {
            let failure = world.deliver_as(7, bad).await.unwrap_err();
            assert_eq!(failure.kind, FailureKind::DeliveryFailed, "{bad:?}");
        }
        assert_eq!(world.deliver(7).await.unwrap_err().kind, FailureKind::DeliveryFailed);
        world.download(7, "film");
        std::os::unix::fs::symlink("/etc/passwd", world.sandbox(7).join(COURSE).join("link")).unwrap();
        let failure = world.deliver(7).await.unwrap_err();
        assert!(failure.message.ends_with("link is neither a file nor a directory"), "{failure}");
        assert!(names_in(&world.delivery.directory).is_empty());
        assert!(world.sandbox(7).join(COURSE).join("01 Start/001 Welcome.mp4").exists());

        fs::remove_dir_all(world.sandbox(7)).unwrap();
        fs::create_dir_all(world.sandbox(7)).unwrap();
        std::os::unix::fs::symlink("/etc", world.sandbox(7).join(COURSE)).unwrap();
        let failure = world.deliver(7).await.unwrap_err();
        assert!(failure.message.ends_with("is not a directory"), "{failure}");
    }
}

#[test]
fn a_delivery_that_is_stopped_gives_no_name() {
    let world = World::new(true);
    world.download(7, "film");
    let stop = AtomicBool::new(true);
    let failure = folder::deliver(&world.delivery, &world.sandbox(7), COURSE, task(7), &stop).unwrap_err();
    assert_eq!(failure.kind, FailureKind::Interrupted);
    assert!(names_in(&world.delivery.directory).is_empty());
}
