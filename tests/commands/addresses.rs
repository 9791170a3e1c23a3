//! What a stranger names must be on the public internet; what the operator names may be anywhere.

use std::io::{BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::{Arc, Mutex};

use crate::run::{Workspace, run};
use crate::support::catalog::CATALOG;
use crate::support::{Catalog, Fault, Lecture, Manifest, Origin, Publish, Published, media};

const COURSE: &str = "https://learn.example/course/1?ref=SECRET";

/// `hauld fetch` as an operator runs it, who has allowed nothing.
fn fetch(space: &Workspace, url: &str, output: &str, arguments: &[&str]) -> Command {
    let mut command = space.fetch(url, output, arguments);
    command.env_remove("HAULD_NETWORK_ALLOW");
    command
}

/// The server that must not be asked, under every name by which it could be reached.
fn names_of(inside: &Origin) -> Vec<String> {
    let port = inside.url("").rsplit(':').next().unwrap().to_owned();
    let hosts = [
        "127.0.0.1",
        "localhost",
        "LOCALHOST",
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "%31%32%37.0.0.1",
        "0.0.0.0",
        "[::ffff:127.0.0.1]",
        "[::ffff:7f00:1]",
        "[64:ff9b::7f00:1]",
        "[2002:7f00:1::]",
        "[::1]",
        "[::]",
    ];
    hosts.iter().map(|host| format!("http://{host}:{port}")).collect()
}

/// An encrypted stream with an initialization section.
fn published(origin: &Origin) -> Published {
    Publish::of(media::fmp4()).encrypted().at(origin, "/x")
}

#[test]
fn line_12_a_segment_on_an_internal_host_is_not_asked_for_under_any_name() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let stream = Publish::of(&media::synthetic(2, 1000)).at(&origin, "/x");
    run(&mut fetch(&space, &stream.url, "plain.ts", &[])).succeeded("what was typed may be on this host");
    for name in names_of(&inside) {
        let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{name}/?token=SECRET\n#EXT-X-ENDLIST\n");
        origin.put("/evil.m3u8", playlist);
        let ended = run(&mut fetch(&space, &origin.url("/evil.m3u8"), "evil.ts", &[]));
        ended.failed(&name, "address_refused", &["network.allow"]);
    }
    for host in ["169.254.169.254", "[fd00:ec2::254]", "10.0.0.1", "100.100.100.200", "192.168.0.1", "[fe80::1]"] {
        let playlist = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\nhttp://{host}/x\n#EXT-X-ENDLIST\n");
        origin.put("/evil.m3u8", playlist);
        let ended = run(&mut fetch(&space, &origin.url("/evil.m3u8"), "evil.ts", &[]));
        ended.failed(host, "address_refused", &[host]);
    }
    assert_eq!(inside.connections(), 0);
}

#[test]
fn line_12_no_place_of_a_stream_leads_inside() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let stream = published(&origin);
    let hostile = |path: &str| stream.playlist.replace(path.rsplit('/').next().unwrap(), &inside.url(path));
    let init = stream.init_path.clone().unwrap();
    let media_playlist =
        "#EXT-X-STREAM-INF:BANDWIDTH=1,RESOLUTION=1280x720,AUDIO=\"a\",SUBTITLES=\"s\"\n/x/index.m3u8\n";
    let rendition = |kind: &str, group: &str| {
        let url = inside.url("/rendition.m3u8");
        format!(
            "#EXTM3U\n#EXT-X-MEDIA:TYPE={kind},GROUP-ID=\"{group}\",NAME=\"n\",LANGUAGE=\"en\",DEFAULT=YES,URI=\"{url}\"\n\
             {media_playlist}"
        )
    };
    let cases = [
        ("segment", hostile(&stream.segment_paths[0])),
        ("key", hostile(&stream.key_paths[0])),
        ("initialization section", hostile(&init)),
        ("variant", format!("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\n{}\n", inside.url("/v.m3u8"))),
        ("sound", rendition("AUDIO", "a")),
        ("subtitles", rendition("SUBTITLES", "s")),
    ];
    for (place, playlist) in cases {
        assert!(playlist.contains(&inside.url("")), "{place}: {playlist}");
        origin.put("/x/evil.m3u8", playlist.replace("/x/index.m3u8", &stream.playlist_path));
        // What an earlier case has fetched would not be asked for again.
        let space = Workspace::new();
        let ended = run(&mut fetch(&space, &origin.url("/x/evil.m3u8"), "evil.mp4", &[]));
        ended.failed(place, "address_refused", &["127.0.0.1"]);
        space.has_only_partial_files(place);
    }
    assert_eq!(inside.connections(), 0);
}

#[test]
fn line_12_no_redirect_leads_inside() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let stream = published(&origin);
    let targets = ["http://169.254.169.254/latest/meta-data/?x=SECRET", "http://[fd00::1]/", &inside.url("/x")];
    for broken in [&stream.playlist_path, &stream.segment_paths[0], &stream.key_paths[0]] {
        for target in targets {
            origin.fault(broken, Fault::Redirect(target.to_owned()));
            let ended = run(&mut fetch(&space, &stream.url, "evil.mp4", &[]));
            ended.failed(&format!("{broken} to {target}"), "address_refused", &[&origin.url(broken)]);
            space.has_only_partial_files(target);
            origin.heal(broken);
        }
    }
    assert_eq!(inside.connections(), 0);
}

#[test]
fn line_15_a_key_on_an_internal_host_is_fetched_when_it_is_allowed_and_only_then() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let stream = Publish::of(&media::synthetic(2, 1000)).encrypted().at(&origin, "/x");
    let key: Vec<u8> = (0..16).map(|place| place * 7 + 3).collect();
    inside.put("/the.key", key);
    let name = stream.key_paths[0].rsplit('/').next().unwrap();
    origin.put("/x/inside.m3u8", stream.playlist.replace(name, &inside.url("/the.key?token=SECRET")));
    let url = origin.url("/x/inside.m3u8");
    run(&mut fetch(&space, &url, "out.ts", &[])).failed("not allowed", "address_refused", &[&inside.url("/the.key")]);
    assert_eq!(inside.connections(), 0);
    for allowed in ["network.allow=127.0.0.1", "network.allow=192.168.0.0/16 127.0.0.0/8"] {
        let output = format!("{}.ts", allowed.len());
        let ended = run(&mut fetch(&space, &url, &output, &["--set", allowed, "--set", "log.level=trace"]));
        assert!(ended.status.success(), "{allowed}: {ended:?}");
        for shown in ["030a1118", "030A1118", "AwoRGB", "[3, 10, 17, 24", "SECRET"] {
            assert!(!ended.stderr.contains(shown), "the key stands in the log: {shown}");
        }
        assert!(space.read(&output) == stream.truth, "{allowed}");
    }
}

#[test]
fn line_12_a_manifest_names_no_internal_host() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let catalog = Catalog::on(&origin);
    let stream = Publish::of(&media::synthetic(2, 1000)).at(&origin, "/x");
    let endpoint = format!("resolver.catalog_endpoint={}", catalog.url());
    let get = || run(&mut fetch(&space, COURSE, "courses", &["--set", &endpoint, "--container", "ts"]));
    let good = || Lecture::new("One").stream(&stream.url);
    let evil = inside.url("/evil?token=SECRET");
    for (place, lecture) in [
        ("stream", Lecture::new("One").stream(&inside.url("/evil.m3u8?token=SECRET"))),
        ("file", Lecture::new("One").file(&evil)),
        ("caption", good().caption("en", &evil)),
        ("asset", good().asset("slides.pdf", &evil)),
    ] {
        catalog.course(COURSE, &Manifest::new(place).section("Start", [lecture]));
        get().failed(place, "address_refused", &["127.0.0.1"]);
    }
    // The catalogue's own host was named by the operator.
    catalog.course(COURSE, &Manifest::new("good").section("Start", [good()]));
    get().succeeded("the catalogue's own host");
    assert_eq!(inside.connections(), 0);
}

#[test]
fn line_12_a_course_and_a_catalogue_that_redirect_lead_nowhere_inside() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let catalog = Catalog::on(&origin);
    origin.fault(CATALOG, Fault::Redirect(inside.url("/manifest")));
    let endpoint = format!("resolver.catalog_endpoint={}", catalog.url());
    let ended = run(&mut fetch(&space, COURSE, "courses", &["--set", &endpoint]));
    ended.failed("catalogue", "address_refused", &[CATALOG]);
    assert_eq!(inside.connections(), 0);
}

#[test]
fn what_is_allowed_must_be_hosts_addresses_or_networks() {
    let space = Workspace::new();
    let ended = run(&mut fetch(&space, "http://127.0.0.1:9/x.m3u8", "x.ts", &["--set", "network.allow=http://h/"]));
    assert_eq!(ended.status.code(), Some(78), "{ended:?}");
    assert!(ended.stderr.contains("network.allow"), "{ended:?}");
}

/// An HTTP proxy that connects to `target` whatever it is asked for. Returns its address and what it was
/// asked: the first line and the Proxy-Authorization of each connection.
fn proxy_to(target: String) -> (String, Arc<Mutex<Vec<[String; 2]>>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let asked: Arc<Mutex<Vec<[String; 2]>>> = Arc::default();
    let seen = asked.clone();
    std::thread::spawn(move || {
        for client in listener.incoming().flatten() {
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            let head: Vec<String> = lines.take_while(|line| !line.is_empty()).collect();
            let authorization = head.iter().find(|line| line.to_ascii_lowercase().starts_with("proxy-authorization"));
            seen.lock().unwrap().push([first, authorization.cloned().unwrap_or_default()]);
            let server = TcpStream::connect(&target).unwrap();
            (&client).write_all(b"HTTP/1.1 200 OK\r\n\r\n").unwrap();
            let (mut from, mut to) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut from, &mut to));
            std::thread::spawn(move || std::io::copy(&mut &server, &mut &client));
        }
    });
    (address, asked)
}

#[test]
fn through_a_proxy_the_names_are_its_business_and_addresses_are_ours() {
    let (origin, inside) = (Origin::start(), Origin::start());
    let space = Workspace::new();
    let stream = Publish::of(&media::synthetic(2, 1000)).at(&origin, "/x");
    let (proxy, asked) = proxy_to(origin.url("").trim_start_matches("http://").to_owned());
    let credentials = space.write("credentials", "user:pass-SECRET\n");
    std::fs::set_permissions(&credentials, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let (proxy, credentials) =
        (format!("network.proxy=http://{proxy}"), format!("network.proxy_credentials_file={}", credentials.display()));
    let settings = ["--set", &proxy, "--set", &credentials];

    // Nobody here knows this name; what was typed is not asked directly for that.
    let url = format!("http://media.invalid{}", stream.playlist_path);
    run(&mut fetch(&space, &url, "out.ts", &settings)).succeeded("through the proxy");
    assert!(space.read("out.ts") == stream.truth);
    for [request, authorization] in asked.lock().unwrap().drain(..) {
        assert_eq!(request, "CONNECT media.invalid:80 HTTP/1.1");
        assert!(authorization.ends_with("Basic dXNlcjpwYXNzLVNFQ1JFVA=="), "{authorization}");
    }

    let evil = format!("#EXTM3U\n#EXT-X-TARGETDURATION:4\n#EXTINF:4,\n{}\n#EXT-X-ENDLIST\n", inside.url("/x"));
    origin.put("/evil.m3u8", evil);
    let ended = run(&mut fetch(&space, "http://media.invalid/evil.m3u8", "evil.ts", &settings));
    ended.failed("an address", "address_refused", &[&inside.url("/x")]);
    assert_eq!(inside.connections(), 0);

    // Our own hosts are asked directly.
    asked.lock().unwrap().clear();
    let allowed = [&settings[..], &["--set", "network.allow=127.0.0.1"]].concat();
    run(&mut fetch(&space, &stream.url, "direct.ts", &allowed)).succeeded("direct");
    assert_eq!(asked.lock().unwrap().len(), 0);
}
