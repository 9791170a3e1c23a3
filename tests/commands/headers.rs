//! Which headers and cookies go where.

use crate::run::{Workspace, run};
use crate::support::origin::Request;
use crate::support::{Fault, Origin, Publish, media};

const HEADERS: [&str; 8] = [
    "--header",
    "Referer: https://learn.example/",
    "--header",
    "authorization: Bearer SECRET",
    "--header",
    "Cookie: session=SECRET",
    "--header",
    "X-Player:  web ",
];

fn credentials(request: &Request) -> (Option<&str>, Option<&str>) {
    (request.header("Authorization"), request.header("Cookie"))
}

#[test]
fn headers_go_to_playlist_key_and_segments() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(media::fmp4()).encrypted().redirected().at(&origin, "/x");
    run(&mut space.fetch(&published.url, "out.mp4", &HEADERS)).succeeded("headers");
    let requests = origin.requests();
    assert_eq!(requests.len(), published.segment_paths.len() + 4, "redirect, playlist, init, key, segments");
    for request in requests {
        assert_eq!(request.header("Referer"), Some("https://learn.example/"), "{}", request.path);
        assert_eq!(request.header("X-Player"), Some("web"), "{}", request.path);
        assert_eq!(credentials(&request), (Some("Bearer SECRET"), Some("session=SECRET")), "{}", request.path);
        assert!(request.header("User-Agent").is_some_and(|agent| agent.starts_with("hauld/")), "{}", request.path);
    }
}

#[test]
fn line_14_credentials_do_not_go_to_another_origin() {
    let (origin, elsewhere, space) = (Origin::start(), Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(4, 1000)).encrypted().at(&elsewhere, "/x");
    // The first segment is at home, and its answer leads away.
    let mut playlist = published.playlist.replace("seg0000.ts", &origin.url("/seg0000.ts"));
    for path in published.segment_paths.iter().skip(1).chain(&published.key_paths) {
        let name = path.rsplit('/').next().unwrap();
        playlist = playlist.replace(name, &elsewhere.url(path));
    }
    origin.put("/index.m3u8", playlist);
    origin.fault("/seg0000.ts", Fault::Redirect(elsewhere.url(&published.segment_paths[0])));
    run(&mut space.fetch(&origin.url("/index.m3u8"), "out.ts", &HEADERS)).succeeded("two origins");
    assert!(space.read("out.ts") == published.truth);
    for request in origin.requests() {
        assert_eq!(credentials(&request), (Some("Bearer SECRET"), Some("session=SECRET")), "{}", request.path);
    }
    let requests = elsewhere.requests();
    assert_eq!(requests.len(), 5);
    for request in requests {
        assert_eq!(credentials(&request), (None, None), "{}", request.path);
        assert_eq!(request.header("Referer"), Some("https://learn.example/"), "{}", request.path);
    }
}

#[test]
fn cookies_of_a_file_go_where_they_belong() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(4, 1000)).encrypted().at(&origin, "/x");
    let cookies = space.write(
        "cookies.txt",
        "# Netscape HTTP Cookie File\n\
         #HttpOnly_127.0.0.1\tFALSE\t/\tFALSE\t0\tsession\tSECRET\n\
         127.0.0.1\tFALSE\t/x\tFALSE\t4102444800\tpath\tx\n\
         127.0.0.1\tFALSE\t/y\tFALSE\t0\tother\ty\n\
         127.0.0.1\tFALSE\t/\tTRUE\t0\tsecure\tz\n\
         127.0.0.1\tFALSE\t/\tFALSE\t1000\texpired\tz\n\
         other.example\tFALSE\t/\tFALSE\t0\tforeign\tz\n",
    );
    let argument = cookies.to_str().unwrap();
    run(&mut space.fetch(&published.url, "out.ts", &["--cookies", argument])).succeeded("cookies");
    for request in origin.requests() {
        assert_eq!(request.header("Cookie"), Some("path=x; session=SECRET"), "{}", request.path);
    }
    let missing = space.path("missing.txt");
    let ended = run(&mut space.fetch(&published.url, "other.ts", &["--cookies", missing.to_str().unwrap()]));
    ended.failed("missing", "disk_failed", &["missing.txt"]);
}

#[test]
fn the_cookies_of_a_file_are_chosen_anew_for_each_hop() {
    let (origin, space) = (Origin::start(), Workspace::new());
    let published = Publish::of(&media::synthetic(3, 1000)).at(&origin, "/x");
    // Another name for the same server is another site.
    let elsewhere = origin.url("/away.m3u8").replace("127.0.0.1", "localhost");
    origin.fault("/start.m3u8", Fault::Redirect(elsewhere));
    origin.fault("/away.m3u8", Fault::Redirect(origin.url(&published.playlist_path)));
    let cookies = "127.0.0.1\tFALSE\t/\tFALSE\t0\thome\t1\n127.0.0.1\tFALSE\t/x\tFALSE\t0\tbelow\t2\n\
        localhost\tFALSE\t/\tFALSE\t0\taway\t3\n";
    let file = space.write("cookies.txt", cookies).display().to_string();
    run(&mut space.fetch(&origin.url("/start.m3u8"), "out.ts", &["--cookies", &file])).succeeded("three hops");
    for request in origin.requests() {
        let expected = match request.path.as_str() {
            "/start.m3u8" => "home=1",
            "/away.m3u8" => "away=3",
            _ => "below=2; home=1",
        };
        assert_eq!(request.header("Cookie"), Some(expected), "{}", request.path);
    }
}
