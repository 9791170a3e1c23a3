//! Redirects: a few, to http and https, and with credentials only to where they belong.

use crate::run::{Workspace, run};
use crate::support::{Fault, Origin, Publish, media};

/// `/hop<count>` leads over `count` redirects to `target`.
fn hops(origin: &Origin, count: usize, target: &str) -> String {
    for hop in 1..=count {
        let next = if hop == 1 { target.to_owned() } else { format!("/hop{}.m3u8", hop - 1) };
        origin.fault(&format!("/hop{hop}.m3u8"), Fault::Redirect(next));
    }
    origin.url(&format!("/hop{count}.m3u8"))
}

#[test]
fn line_10_five_redirects_are_followed_and_six_are_not() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(4, 1000)).at(&origin, "/x");
    let five = hops(&origin, 5, &published.playlist_path);
    run(&mut space.fetch(&five, "five.ts", &[])).succeeded("five");
    assert!(space.read("five.ts") == published.truth);
    let six = hops(&origin, 6, &published.playlist_path);
    run(&mut space.fetch(&format!("{six}?token=SECRET"), "six.ts", &[])).failed("six", "redirect_refused", &[&six]);
    assert_eq!(origin.count("/hop6.m3u8"), 1, "asked once: the next time is no better");
    assert_eq!(space.files(), ["five.ts"]);
}

#[test]
fn redirects_of_segments_and_keys_are_followed() {
    let origin = Origin::start();
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(4, 1000)).encrypted().at(&origin, "/x");
    for path in [&published.segment_paths[1], &published.key_paths[0]] {
        let moved = format!("/moved{path}");
        let body = match path.ends_with(".key") {
            true => (0..16).map(|place| place * 7 + 3).collect::<Vec<u8>>().into(),
            false => published.wire_segments[1].clone(),
        };
        origin.put(&moved, body);
        origin.fault(path, Fault::Redirect(moved));
    }
    run(&mut space.fetch(&published.url, "out.ts", &[])).succeeded("moved");
    assert!(space.read("out.ts") == published.truth);
}

#[test]
fn line_11_redirects_to_another_scheme_are_refused() {
    let origin = Origin::start();
    let published = Publish::of(&media::synthetic(4, 1000)).encrypted().at(&origin, "/x");
    let credentials = "http://user:SECRET@127.0.0.1/x";
    for target in ["file:///etc/passwd", "ftp://127.0.0.1/x", "gopher://127.0.0.1/", "data:;base64,SECRET", credentials]
    {
        // At the first hop and at a later one.
        origin.fault("/hop", Fault::Redirect(target.to_owned()));
        for (hops, first) in [(1, target), (2, "/hop")] {
            for broken in [&published.playlist_path, &published.segment_paths[1], &published.key_paths[0]] {
                let space = Workspace::new();
                origin.fault(broken, Fault::Redirect(first.to_owned()));
                let ended = run(&mut space.fetch(&published.url, "out.ts", &[]));
                let name = format!("{broken} to {target} at hop {hops}");
                ended.failed(&name, "redirect_refused", &[&origin.url(broken), "only http and https are asked"]);
                space.has_only_partial_files(target);
                origin.heal(broken);
            }
        }
        origin.heal("/hop");
    }
}

#[test]
fn line_10_a_redirect_that_leads_back_ends() {
    let origin = Origin::start();
    let space = Workspace::new();
    origin.fault("/a.m3u8", Fault::Redirect("/b.m3u8".into()));
    origin.fault("/b.m3u8", Fault::Redirect("/a.m3u8".into()));
    run(&mut space.fetch(&origin.url("/a.m3u8"), "out.ts", &[])).failed("loop", "redirect_refused", &["/a.m3u8"]);
    assert!(origin.requests().len() <= 6, "{:?}", origin.counts());
}

#[test]
fn the_url_that_redirects_is_not_told_to_where_it_leads() {
    let (origin, elsewhere) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let published = Publish::of(&media::synthetic(4, 1000)).at(&elsewhere, "/x");
    origin.fault("/start.m3u8", Fault::Redirect(published.url.clone()));
    run(&mut space.fetch(&origin.url("/start.m3u8?token=SECRET"), "out.ts", &[])).succeeded("away");
    for request in elsewhere.requests() {
        assert_eq!(request.header("Referer"), None, "{}", request.path);
    }
}
