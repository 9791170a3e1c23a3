//! One server, by every way that leads to it.

use std::path::Path;
use std::time::{Duration, Instant};

use hauld::config::RedisSettings;

use crate::support::certificates::{NEW_KEY, openssl};
use crate::support::redis::{RedisServer, job};
use crate::support::{bundled_server, port};
use crate::works::{LIST, Works, key};

/// Jobs and rubbish through the server, and a stop, which ends the wait.
async fn assert_serves(settings: &RedisSettings, server: &RedisServer) {
    let works = Works::start(settings).await;
    for task in 1..=5 {
        server.push_job(task, "https://h/c");
    }
    server.cli(&["LPUSH", LIST, "{rubbish"]);
    works.wait_for(1..=5).await;
    server.cli(&["SCRIPT", "FLUSH"]);
    server.cli(&["LPUSH", LIST, &job(6, "https://h/c")]);
    works.wait_for([6]).await;
    assert!((1..=6).all(|task| works.runs(task) == 1));
    let begin = Instant::now();
    works.stop().await;
    assert!(begin.elapsed() < Duration::from_secs(1), "the stop waited for the block: {:?}", begin.elapsed());
    assert_eq!((server.list(LIST).len(), server.list(&key("dead")).len()), (0, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_and_the_oldest_redis_serve() {
    for (program, version) in [("valkey-server", "valkey_version:9."), ("redis-server", "redis_version:6.2.")] {
        let program = bundled_server(program).display().to_string();
        let server = RedisServer::start_program(&program, &["--save", "", "--appendonly", "no"]);
        let info = server.cli(&["INFO", "server"]);
        assert!(info.contains(version), "{info}");
        assert_serves(&RedisSettings::new(server.url().replace("redis://", "valkey://")), &server).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_socket_leads_to_the_server_and_its_database() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("redis.sock").display().to_string();
    let server = RedisServer::start_with(&["--save", "", "--appendonly", "no", "--unixsocket", &socket]);
    assert_serves(&RedisSettings::new(format!("redis+unix://{socket}")), &server).await;
    let works = Works::start(&RedisSettings::new(format!("redis+unix://{socket}?db=3"))).await;
    server.cli(&["-n", "3", "LPUSH", LIST, &job(7, "https://h/c")]);
    works.wait_for([7]).await;
    works.stop().await;
}

/// An authority, a certificate of it for 127.0.0.1, one for a client, and another authority.
fn make_certificates(directory: &Path) {
    let (openssl, key) = (|arguments: &str| openssl(directory, arguments), NEW_KEY);
    std::fs::write(directory.join("server"), "subjectAltName=IP:127.0.0.1\nbasicConstraints=CA:FALSE\n").unwrap();
    std::fs::write(directory.join("client"), "extendedKeyUsage=clientAuth\nbasicConstraints=CA:FALSE\n").unwrap();
    for authority in ["ca", "other"] {
        openssl(&format!("req -x509 {key} -keyout {authority}.key -out {authority}.crt -days 2 -subj /CN={authority}"));
    }
    for name in ["server", "client"] {
        openssl(&format!("req {key} -keyout {name}.key -out {name}.csr -subj /CN={name}"));
        let signed = "-CA ca.crt -CAkey ca.key -CAcreateserial -days 2";
        openssl(&format!("x509 -req -in {name}.csr {signed} -extfile {name} -out {name}.crt"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_needs_the_right_authority_and_where_asked_our_certificate() {
    let directory = tempfile::tempdir().unwrap();
    make_certificates(directory.path());
    let file = |name: &str| directory.path().join(name);
    let tls_port = port::free().to_string();
    let server = RedisServer::start_with(&[
        "--save",
        "",
        "--appendonly",
        "no",
        "--tls-port",
        &tls_port,
        "--tls-ca-cert-file",
        &file("ca.crt").display().to_string(),
        "--tls-cert-file",
        &file("server.crt").display().to_string(),
        "--tls-key-file",
        &file("server.key").display().to_string(),
        "--tls-auth-clients",
        "no",
    ]);
    let url = format!("rediss://127.0.0.1:{tls_port}/0");
    let with =
        |authority: Option<&str>| RedisSettings { ca_file: authority.map(file), ..RedisSettings::new(url.clone()) };
    for authority in [Some("other.crt"), None] {
        let Err(refused) = Works::try_start(&with(authority)).await else { panic!("{authority:?} is accepted") };
        assert!(refused.message.contains("certificate"), "{refused}");
    }
    assert_serves(&with(Some("ca.crt")), &server).await;

    server.cli(&["CONFIG", "SET", "tls-auth-clients", "yes"]);
    assert!(Works::try_start(&with(Some("ca.crt"))).await.is_err(), "nobody asked for our certificate");
    let settings = RedisSettings {
        certificate_file: Some(file("client.crt")),
        key_file: Some(file("client.key")),
        ..with(Some("ca.crt"))
    };
    let works = Works::start(&settings).await;
    server.push_job(7, "https://h/c");
    works.wait_for([7]).await;
    works.stop().await;
}
