//! Hosts that want to be left alone, and what an operator allows.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::run::{Workspace, run};
use crate::support::{Fault, Origin, Publish, media};

#[test]
fn line_33_a_host_that_says_retry_after_is_left_alone_as_a_whole() {
    for name in ["429", "503 with a date"] {
        let soon = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(5));
        let fault = match name {
            "429" => Fault::status_with(429, &[("Retry-After", "4")]),
            _ => Fault::status_with(503, &[("Retry-After", &soon)]),
        };
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = Publish::of(&media::synthetic(6, 3000)).at(&origin, "/x");
        origin.fault(&published.segment_paths[0], fault.times(1));
        // What is under way goes on; what comes after it waits as well.
        origin.fault(&published.segment_paths[1], Fault::Delay(Duration::from_secs(1)));
        run(&mut space.fetch(&published.url, "out.ts", &["--concurrency", "2"])).succeeded(name);
        assert!(space.read("out.ts") == published.truth, "{name}");
        let refused = origin.requests_for(&published.segment_paths[0])[0].at;
        let next = origin.requests_for(&published.segment_paths[2])[0].at;
        assert!(next - refused >= Duration::from_secs(3), "{name}: asked again after {:?}", next - refused);
    }
}

#[test]
fn retries_of_a_lecture_and_of_a_job_come_to_an_end() {
    for (setting, whose) in [("max_lecture_retries", "lecture"), ("max_job_retries", "job")] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = Publish::of(&media::synthetic(20, 3000)).at(&origin, "/x");
        origin.fault("/x/seg*", Fault::Status(503).times(1));
        let fetch = |retries: &str| {
            let setting = format!("hls.{setting}={retries}");
            run(&mut space.fetch(&published.url, "out.ts", &["--set", &setting]))
        };
        fetch("5").failed(setting, "server_error", &[&format!("all 5 retries of the {whose} are used up")]);
        space.has_only_partial_files(setting);
        fetch("20").succeeded(setting);
        assert!(space.read("out.ts") == published.truth);
    }
}

#[test]
fn requests_for_one_host_are_bounded() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(20, 3000)).encrypted().rotating_keys(2).at(&origin, "/x");
    origin.fault("/x/seg*", Fault::Delay(Duration::from_millis(30)));
    let arguments = ["--concurrency", "8", "--set", "hls.max_connections_per_host=2"];
    run(&mut space.fetch(&published.url, "out.ts", &arguments)).succeeded("bounded");
    assert!(space.read("out.ts") == published.truth);
    assert_eq!(origin.most_in_flight(), 2);
}

#[test]
fn bytes_per_second_are_bounded() {
    for setting in ["max_bytes_per_second", "max_job_bytes_per_second"] {
        let (origin, space) = (Origin::start(), Workspace::new());
        let published = Publish::of(&media::synthetic(10, 150_000)).at(&origin, "/x");
        let argument = format!("hls.{setting}=1000000");
        let start = Instant::now();
        run(&mut space.fetch(&published.url, "out.ts", &["--set", &argument])).succeeded(setting);
        assert!(space.read("out.ts") == published.truth);
        // It cannot be too slow: only a limit that does not work is seen here.
        assert!(start.elapsed() >= Duration::from_millis(1400), "1.5 MB in {:?}", start.elapsed());
    }
}

#[test]
fn gaps_are_left_out_and_reported_where_they_are_allowed() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let stream = media::synthetic(5, 3000);
    let published = Publish::of(&stream).at(&origin, "/x");
    let path = &published.segment_paths[2];
    let name = path.rsplit('/').next().unwrap();
    let with_gap = published.playlist.replace(&format!("\n{name}"), &format!("\n#EXT-X-GAP\n{name}"));
    origin.put(&published.playlist_path, with_gap);
    let ended = run(&mut space.fetch(&published.url, "out.ts", &["--set", "hls.allow_gaps=true"]));
    assert!(ended.status.success() && ended.stderr.contains("1 segment declared absent"), "{ended:?}");
    let told = run(&mut space.fetch(&published.url, "told.ts", &["--set", "hls.allow_gaps=true", "--json"]));
    let done = crate::events::events(&told).pop().unwrap();
    assert_eq!(done["remarks"], json!(["1 segment declared absent by the playlist (2.0 s): it lacks them"]));
    let mut truth = stream.clone();
    truth.segments.remove(2);
    assert!(space.read("out.ts") == truth.truth());
    assert_eq!(origin.count(path), 0);
}
