//! The whole job: a course of every kind of lecture, from the list to the delivered folder.

use std::time::Duration;

use crate::support::backend::{FINALIZE, check_finalize_signature};
use crate::support::daemon::{Builder, SECRET, tree};
use crate::support::media::{self, Container, hashes, hashes_of};
use crate::support::publish::{Published, SeparateAudio, SubtitleRendition, publish_separate_audio, publish_subtitles};
use crate::support::{Daemon, Fault, Lecture, Manifest, Publish};
use crate::world::{LIST, World, assert_lines_name_the_task};

const TASK: u64 = 900_000_043;
const FOLDER: &str = "Rust_ the book";
const CAPTION: &str = "WEBVTT\n\n00:00.000 --> 00:01.000\nHello\n";

/// A course of two sections, and the truth about each stream.
struct Course {
    manifest: Manifest,
    encrypted: Published,
    fragmented: Published,
    apart: SeparateAudio,
    file: Vec<u8>,
}

fn course(world: &World) -> Course {
    let origin = &world.origin;
    let encrypted = Publish::of(media::ts()).encrypted_by_sequence().media_sequence(7).rotating_keys(3);
    let encrypted = encrypted.in_other_directories().at(origin, "/1");
    let segment = |words: &str| format!("WEBVTT\n\n00:01.000 --> 00:02.000\n{words}\n");
    let subtitles = ["en", "de"].map(|language| SubtitleRendition::new(language, &[segment(language)]));
    let with_subtitles = publish_subtitles(origin, "/2", &Publish::of(media::fmp4()).encrypted(), &subtitles);
    let fragmented = with_subtitles.variants[0].clone();
    let video = Publish::of(media::video_only(Container::Ts)).encrypted();
    let audio = Publish::of(media::audio_only(Container::Ts)).encrypted_by_sequence();
    let apart = publish_separate_audio(origin, "/3", &video, &audio);
    let file = media::fmp4().truth();
    origin.put("/4/video.mp4", file.clone());
    origin.put("/en.vtt", CAPTION);
    origin.put("/de.vtt", CAPTION.replace("Hello", "Grüße"));
    origin.put("/slides.pdf", "%PDF-1.4 slides");
    origin.put("/code.zip", "PK code");
    let url = |path: &str| origin.url(path);
    let first = Lecture::new("Welcome / Hello").stream(&encrypted.url).caption("en", &url("/en.vtt"));
    let manifest = Manifest::new("Rust: the book")
        .section(
            "Getting started",
            [
                first.caption("de", &url("/de.vtt")).asset("slides.pdf", &url("/slides.pdf")),
                Lecture::new("Loops").stream(&with_subtitles.url).caption("EN", &url("/en.vtt")),
            ],
        )
        .section(
            "Going on",
            [
                Lecture::new("Sound apart").stream(&apart.url),
                Lecture::new("A file").file(&url("/4/video.mp4")),
                Lecture::new("Exercises").asset("code.zip", &url("/code.zip")),
            ],
        );
    Course { manifest, encrypted, fragmented, apart, file }
}

/// Runs the course to its end.
async fn run(world: &World, course: &Course, builder: Builder) -> Daemon {
    let daemon = builder.start().await;
    world.submit(TASK, &course.manifest);
    world.redis.wait_for_task(TASK, "completed").await;
    world.settled(TASK).await;
    daemon
}

fn read(daemon: &Daemon, name: &str) -> Vec<u8> {
    let path = daemon.delivered().join(FOLDER).join(name);
    std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// What is the same in both containers: captions, assets, plain files.
fn assert_plain_files(daemon: &Daemon, course: &Course) {
    assert_eq!(read(daemon, "01 Getting started/001 Welcome _ Hello.en.vtt"), CAPTION.as_bytes());
    let german = CAPTION.replace("Hello", "Grüße");
    assert_eq!(read(daemon, "01 Getting started/001 Welcome _ Hello.de.vtt"), german.as_bytes());
    // In a language that the catalogue has, its file; in others the stream's.
    assert_eq!(read(daemon, "01 Getting started/002 Loops.EN.vtt"), CAPTION.as_bytes());
    let from_stream = "WEBVTT\n\n00:00:01.000 --> 00:00:02.000\nde\n";
    assert_eq!(read(daemon, "01 Getting started/002 Loops.de.vtt"), from_stream.as_bytes());
    assert_eq!(read(daemon, "01 Getting started/001 Welcome _ Hello - slides.pdf"), b"%PDF-1.4 slides");
    assert_eq!(read(daemon, "02 Going on/002 A file.mp4"), course.file);
    assert_eq!(read(daemon, "02 Going on/003 Exercises - code.zip"), b"PK code");
}

#[tokio::test]
async fn without_remuxing_every_byte_is_that_of_the_truth() {
    let world = World::new();
    let course = course(&world);
    // A request that is made again belongs to the story; its log line, too.
    world.origin.fault(&course.encrypted.segment_paths[2], Fault::Status(503).times(1));
    let daemon = run(&world, &course, world.daemon()).await;
    let names = [
        "01 Getting started/001 Welcome _ Hello - slides.pdf",
        "01 Getting started/001 Welcome _ Hello.de.vtt",
        "01 Getting started/001 Welcome _ Hello.en.vtt",
        "01 Getting started/001 Welcome _ Hello.ts",
        "01 Getting started/002 Loops.EN.vtt",
        "01 Getting started/002 Loops.de.vtt",
        "01 Getting started/002 Loops.mp4",
        "02 Going on/001 Sound apart.audio.ts",
        "02 Going on/001 Sound apart.ts",
        "02 Going on/002 A file.mp4",
        "02 Going on/003 Exercises - code.zip",
    ];
    assert_eq!(tree(daemon.delivered()), names.map(|name| format!("{FOLDER}/{name}")));
    assert!(read(&daemon, "01 Getting started/001 Welcome _ Hello.ts") == course.encrypted.truth);
    assert!(read(&daemon, "01 Getting started/002 Loops.mp4") == course.fragmented.truth);
    assert!(read(&daemon, "02 Going on/001 Sound apart.ts") == course.apart.video.truth);
    assert!(read(&daemon, "02 Going on/001 Sound apart.audio.ts") == course.apart.audio.truth);
    assert_plain_files(&daemon, &course);

    assert_nothing_is_left(&world, &daemon).await;
    assert_finalized(&world);
    assert_lines_name_the_task(&daemon);
    for words in ["ENROLL CHECK", "DOWNLOAD"] {
        assert_eq!(daemon.wait_for_log(&[words]).await["task_id"], TASK);
    }
    daemon.sigterm();
    assert!(daemon.wait_exit(Duration::from_secs(10)).await.success());
}

#[tokio::test]
async fn remuxed_lectures_show_and_sound_as_the_truth() {
    let world = World::new();
    let course = course(&world);
    let daemon = run(&world, &course, world.daemon().set("remux.container", "mp4")).await;
    let names = [
        "01 Getting started/001 Welcome _ Hello - slides.pdf",
        "01 Getting started/001 Welcome _ Hello.de.vtt",
        "01 Getting started/001 Welcome _ Hello.en.vtt",
        "01 Getting started/001 Welcome _ Hello.mp4",
        "01 Getting started/002 Loops.EN.vtt",
        "01 Getting started/002 Loops.de.vtt",
        "01 Getting started/002 Loops.mp4",
        "02 Going on/001 Sound apart.mp4",
        "02 Going on/002 A file.mp4",
        "02 Going on/003 Exercises - code.zip",
    ];
    assert_eq!(tree(daemon.delivered()), names.map(|name| format!("{FOLDER}/{name}")));
    let delivered = |name: &str| hashes(daemon.delivered().join(FOLDER).join(name));
    assert_eq!(delivered("01 Getting started/001 Welcome _ Hello.mp4"), hashes_of(&course.encrypted.truth));
    assert_eq!(delivered("01 Getting started/002 Loops.mp4"), hashes_of(&course.fragmented.truth));
    let apart = media::Hashes {
        picture: hashes_of(&course.apart.video.truth).picture,
        sound: hashes_of(&course.apart.audio.truth).sound,
    };
    assert_eq!(delivered("02 Going on/001 Sound apart.mp4"), apart);
    assert!(!apart.picture.is_empty() && !apart.sound.is_empty());
    assert_plain_files(&daemon, &course);
    assert_nothing_is_left(&world, &daemon).await;
}

/// Neither on disk nor in Redis, but for what the contracts name.
async fn assert_nothing_is_left(world: &World, daemon: &Daemon) {
    // The sandbox goes when the job is settled.
    daemon.wait_for_log(&["job settled"]).await;
    assert_eq!(std::fs::read_dir(daemon.staging()).unwrap().count(), 0, "{:?}", tree(daemon.staging()));
    assert_eq!(world.redis.cli(&["LLEN", LIST]), "0");
    let recent = "{rq:queue:downloads}:hauld:recent";
    assert_eq!(world.queue_keys_with(&TASK.to_string()), [recent], "so that a second element is set aside");
    let status = (world.redis.task_field(TASK, "status"), world.redis.task_field(TASK, "error_log"));
    assert_eq!(status, ("completed".into(), String::new()));
    assert_eq!(daemon.metric("hauld_jobs_total{outcome=\"done\"}"), Some(1.0));
}

fn assert_finalized(world: &World) {
    let calls = world.backend.finalize_calls();
    assert_eq!(calls.len(), 1);
    let call = &calls[0];
    let stamp = call.header("X-Timestamp").unwrap();
    let expected =
        format!(r#"{{"secret_key":"{SECRET}","task_id":{TASK},"folder_name":"{FOLDER}","timestamp":"{stamp}"}}"#);
    assert_eq!(String::from_utf8_lossy(&call.body), expected);
    assert_eq!((call.method.as_str(), call.target.as_str()), ("POST", FINALIZE));
    assert_eq!(call.header("Content-Type"), Some("application/json"));
    assert_eq!(call.header("X-Signature").map(str::len), Some(64));
    check_finalize_signature(call, SECRET);
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(now.abs_diff(stamp.parse().unwrap()) < 60, "{stamp}");
}

#[tokio::test]
async fn a_playlist_url_is_a_course_of_one_lecture_in_the_wanted_quality() {
    let world = World::new();
    let ladder = media::ladder();
    let master = crate::support::publish::publish_master(&world.origin, "/videos/Intro", &ladder, |stream| {
        Publish::of(stream).encrypted().rotating_keys(1)
    });
    let daemon = world.daemon().start().await;
    world.redis.set_task(TASK, "enrolled");
    world.redis.push_job(TASK, &master.url);
    world.redis.wait_for_task(TASK, "completed").await;
    assert_eq!(tree(daemon.delivered()), ["Intro/01 Intro/001 Intro.ts"]);
    let path = daemon.delivered().join("Intro/01 Intro/001 Intro.ts");
    assert!(std::fs::read(path).unwrap() == master.variants[1].truth, "720 lines are the default");
    assert_eq!(world.origin.count("/videos/Intro/1080p/*"), 0);
}
