//! https: a certificate that nobody vouches for is refused, and there is no way round it but to
//! vouch for its authority.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::run::{Workspace, run};
use crate::support::certificates::{NEW_KEY, openssl};
use crate::support::process::Process;
use crate::support::{Origin, Publish, hauld, media, port, wait};

/// An authority and a certificate of it for `localhost`, and one that is nobody's, in `directory`.
fn make_certificates(directory: &Path) {
    let (openssl, key) = (|arguments: &str| openssl(directory, arguments), NEW_KEY);
    openssl(&format!("req -x509 {key} -keyout ca.key -out ca.crt -days 2 -subj /CN=authority"));
    openssl(&format!("req {key} -keyout site.key -out site.csr -subj /CN=localhost"));
    std::fs::write(directory.join("names"), "subjectAltName=DNS:localhost\nbasicConstraints=CA:FALSE\n").unwrap();
    openssl("x509 -req -in site.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 2 -extfile names -out site.crt");
}

/// Serves the files of `directory` over TLS, with more options of `openssl s_server`. Returns the port.
async fn serve(directory: &Path, certificate: &str, options: &[&str]) -> (Process, u16) {
    let port = port::free();
    let mut command = Command::new("openssl");
    command.args([
        "s_server",
        "-quiet",
        "-WWW",
        "-cert",
        certificate,
        "-key",
        "site.key",
        "-accept",
        &port.to_string(),
    ]);
    command.args(options);
    command.current_dir(directory);
    let process = Process::start("openssl s_server", command, &directory.join("server.log"));
    let open = || std::net::TcpStream::connect(("127.0.0.1", port)).ok();
    wait::until("the TLS server listens", Duration::from_secs(20), open).await;
    (process, port)
}

#[tokio::test]
async fn line_35_only_a_certificate_that_somebody_vouches_for_is_accepted() {
    let site = tempfile::tempdir().unwrap();
    make_certificates(site.path());
    let stream = media::synthetic(2, 1000);
    std::fs::write(site.path().join("a.ts"), &stream.segments[0]).unwrap();
    std::fs::write(site.path().join("b.ts"), &stream.segments[1]).unwrap();
    let playlist = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\na.ts\n#EXTINF:1,\nb.ts\n#EXT-X-ENDLIST\n";
    std::fs::write(site.path().join("list.m3u8"), playlist).unwrap();
    let (_server, port) = serve(site.path(), "site.crt", &[]).await;
    let space = Workspace::new();

    let url = format!("https://localhost:{port}/list.m3u8");
    run(&mut space.fetch(&url, "out.ts", &[])).failed("unknown authority", "tls_failed", &[&url, "certificate"]);
    assert_eq!(space.files(), Vec::<String>::new());

    let vouched = |url: &str| {
        let mut command = hauld();
        command.args(["fetch", url, "-o"]).arg(space.path("out.ts"));
        command.env("SSL_CERT_FILE", site.path().join("ca.crt"));
        command
    };
    let by_setting = || {
        let mut command = space.fetch(&url, "setting.ts", &["--set"]);
        command.arg(format!("network.ca_file={}", site.path().join("ca.crt").display()));
        command
    };
    run(&mut by_setting()).succeeded("vouched for by configuration");
    std::fs::remove_file(space.path("setting.ts")).unwrap();
    let other_name = format!("https://127.0.0.1:{port}/list.m3u8");
    run(&mut vouched(&other_name)).failed("another name", "tls_failed", &[&other_name]);
    run(&mut vouched(&url)).succeeded("vouched for");
    assert!(space.read("out.ts") == stream.truth());
    assert_eq!(space.files(), ["out.ts"]);
}

#[tokio::test]
async fn line_14_no_redirect_leads_from_https_down_to_http() {
    let site = tempfile::tempdir().unwrap();
    make_certificates(site.path());
    let origin = Origin::start();
    let stream = Publish::of(&media::synthetic(2, 1000)).at(&origin, "/x");
    let moved = format!("HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: {}\r\n\r\n", stream.url);
    std::fs::write(site.path().join("list.m3u8"), moved).unwrap();
    // Files are whole answers.
    let (_server, port) = serve(site.path(), "site.crt", &["-HTTP"]).await;
    let space = Workspace::new();
    let url = format!("https://localhost:{port}/list.m3u8");
    let authority = format!("network.ca_file={}", site.path().join("ca.crt").display());
    let cookie = ["--set", &authority, "--header", "Authorization: Bearer SECRET"];
    let ended = run(&mut space.fetch(&url, "out.ts", &cookie));
    ended.failed("down", "redirect_refused", &[&url, "from https down to http"]);
    assert_eq!(origin.requests().len(), 0);
}

#[tokio::test]
async fn line_35_what_is_broken_is_refused_and_there_is_no_way_down() {
    let site = tempfile::tempdir().unwrap();
    make_certificates(site.path());
    let expired =
        "x509 -req -in site.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days -1 -extfile names -out expired.crt";
    openssl(site.path(), expired);
    openssl(site.path(), &format!("req -x509 {NEW_KEY} -keyout self.key -out self.crt -days 2 -subj /CN=localhost"));
    let space = Workspace::new();
    let authority = format!("network.ca_file={}", site.path().join("ca.crt").display());
    let cases: [(&str, &str, &[&str]); 4] = [
        ("expired", "expired.crt", &[]),
        ("self-signed", "self.crt", &["-key", "self.key"]),
        ("TLS 1.1", "site.crt", &["-tls1_1", "-cipher", "ALL:@SECLEVEL=0"]),
        ("an old cipher", "site.crt", &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA"]),
    ];
    for (name, certificate, options) in cases {
        let (_server, port) = serve(site.path(), certificate, options).await;
        let url = format!("https://localhost:{port}/list.m3u8");
        run(&mut space.fetch(&url, "out.ts", &["--set", &authority])).failed(name, "tls_failed", &[&url]);
    }
    assert_eq!(space.files(), Vec::<String>::new());
}
