//! `hauld fetch` of a whole course: a catalogue, a directory.

use crate::run::{SECRET, Workspace, run};
use crate::support::catalog::CATALOG;
use crate::support::media::{self, hashes, hashes_of};
use crate::support::{Catalog, Fault, Lecture, Manifest, Origin, Publish};

const COURSE: &str = "https://learn.example/course/1?ref=SECRET";

struct World {
    origin: Origin,
    elsewhere: Origin,
    catalog: Catalog,
    truths: [Vec<u8>; 2],
}

fn world() -> World {
    let (origin, elsewhere) = (Origin::start(), Origin::start());
    let catalog = Catalog::on(&origin);
    let first = Publish::of(media::ts()).encrypted().at(&origin, "/1");
    let second = Publish::of(media::fmp4()).at(&elsewhere, "/2");
    origin.put("/1/en.vtt", "WEBVTT\n");
    origin.put("/1/slides.pdf", "%PDF");
    elsewhere.put("/3/film.mp4", media::fmp4().truth());
    let manifest = Manifest::new("Rust: the / course").section(
        "Start",
        [
            Lecture::new("One")
                .stream(&first.url)
                .caption("en", &origin.url("/1/en.vtt"))
                .asset("slides.pdf", &origin.url("/1/slides.pdf")),
            Lecture::new("Two").stream(&second.url),
            Lecture::new("Three").file(&elsewhere.url("/3/film.mp4")),
        ],
    );
    catalog.course(COURSE, &manifest);
    World { origin, elsewhere, catalog, truths: [first.truth, second.truth] }
}

#[test]
fn a_course_becomes_a_folder() {
    let world = world();
    let space = Workspace::new();
    let setting = format!("resolver.catalog_endpoint={}", world.catalog.url());
    let ended = run(&mut space.fetch(COURSE, "courses", &["--set", &setting]));
    ended.succeeded("course");
    let folder = ended.stdout.trim_end_matches('\n').to_owned();
    let files = space.files();
    let name = folder.rsplit('/').next().unwrap();
    assert_eq!(folder, space.path("courses").join(name).display().to_string());
    let relative = |path: &String| path.strip_prefix(&format!("courses/{name}/01 Start/")).map(str::to_owned);
    let names: Vec<String> = files.iter().filter_map(relative).collect();
    assert_eq!(names.len(), files.len(), "{files:?}");
    let expected = ["001 One - slides.pdf", "001 One.en.vtt", "001 One.mp4", "002 Two.mp4", "003 Three.mp4"];
    assert_eq!(names, expected);
    let path = |name: &str| format!("courses/{}/01 Start/{name}", folder.rsplit('/').next().unwrap());
    assert_eq!(hashes(space.path(&path("001 One.mp4"))), hashes_of(&world.truths[0]));
    assert!(space.read(&path("002 Two.mp4")) == world.truths[1]);
    assert!(space.read(&path("003 Three.mp4")) == media::fmp4().truth());

    // Again: only the catalogue is asked.
    world.origin.forget_requests();
    world.elsewhere.forget_requests();
    run(&mut space.fetch(COURSE, "courses", &["--set", &setting])).succeeded("again");
    assert_eq!(world.origin.requests().len(), world.origin.count(CATALOG));
    assert_eq!(world.elsewhere.requests().len(), 0);
    assert_eq!(space.files(), files);
}

#[test]
fn headers_for_a_course_reach_its_streams_and_credentials_only_those_at_home() {
    let world = world();
    let space = Workspace::new();
    // The course page and the first stream are of one origin.
    let course = world.origin.url("/course");
    let manifest = Manifest::new("C").section(
        "S",
        [
            Lecture::new("One").stream(&world.origin.url("/1/index.m3u8")),
            Lecture::new("Two").stream(&world.elsewhere.url("/2/index.m3u8")),
            Lecture::new("Three").file(&world.elsewhere.url("/3/film.mp4")),
        ],
    );
    world.catalog.course(&course, &manifest);
    let setting = format!("resolver.catalog_endpoint={}", world.catalog.url());
    let headers = ["--header", "Authorization: Bearer SECRET", "--header", "Referer: https://learn.example/"];
    run(&mut space.fetch(&course, "courses", &[&headers[..], &["--set", &setting]].concat())).succeeded("headers");
    for request in world.origin.requests_for("/1/*") {
        assert_eq!(request.header("Authorization"), Some("Bearer SECRET"), "{}", request.path);
    }
    let requests = world.elsewhere.requests();
    assert!(requests.len() > 8);
    for request in requests {
        assert_eq!(request.header("Authorization"), None, "{}", request.path);
        assert_eq!(request.header("Referer"), Some("https://learn.example/"), "{}", request.path);
    }
}

#[test]
fn a_course_that_fails_names_the_lecture() {
    let world = world();
    let space = Workspace::new();
    let setting = format!("resolver.catalog_endpoint={}", world.catalog.url());
    world.elsewhere.fault("/2/seg0003.m4s", Fault::Status(404));
    let ended = run(&mut space.fetch(COURSE, "courses", &["--set", &setting]));
    ended.failed("404", "not_found", &["lecture \"Two\"", "segment 3 ", &world.elsewhere.url("/2/seg0003.m4s")]);
    let finished: Vec<String> = space.files().into_iter().filter(|file| file.ends_with(".mp4")).collect();
    assert!(finished.len() == 1 && finished[0].ends_with("001 One.mp4"), "{finished:?}");

    for (name, fault, kind) in [
        ("unknown", Fault::Status(404), "course_not_found"),
        ("refused", Fault::Status(403), "catalog_refused"),
        ("not a manifest", Fault::Html, "manifest_invalid"),
    ] {
        let space = Workspace::new();
        world.origin.fault(CATALOG, fault);
        let ended = run(&mut space.fetch(COURSE, "courses", &["--set", &setting]));
        ended.failed(name, kind, &[&world.origin.url(CATALOG)]);
        assert!(!ended.stderr.contains(SECRET));
        assert!(space.files().is_empty());
        world.origin.heal(CATALOG);
    }
}
