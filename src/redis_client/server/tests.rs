use redis::ConnectionAddr;

use super::*;

fn addresses(nodes: &[ConnectionInfo]) -> Vec<String> {
    nodes.iter().map(|node| node.addr().to_string()).collect()
}

fn alone(url: &str) -> ConnectionInfo {
    match Server::parse(url, None) {
        Ok(Server::Alone(info)) => info,
        Ok(_) => panic!("{url} is not one server"),
        Err(reason) => panic!("{url} {reason}"),
    }
}

fn refusal(url: &str) -> String {
    match Server::parse(url, None) {
        Ok(_) => panic!("{url} is accepted"),
        Err(reason) => reason,
    }
}

#[test]
fn one_server_is_read_with_its_defaults() {
    let info = alone("redis://db1");
    assert_eq!((info.addr().to_string(), info.redis_settings().db()), ("db1:6379".into(), 0));
    assert!(info.tcp_settings().nodelay() && info.tcp_settings().user_timeout().is_some());
    let info = alone("valkeys://me:p%40ss%23@[::1]:7000/3");
    let redis = info.redis_settings();
    assert_eq!((redis.username(), redis.password(), redis.db()), (Some("me"), Some("p@ss#"), 3));
    assert!(matches!(info.addr(), ConnectionAddr::TcpTls { host, port: 7000, insecure: false, .. } if host == "::1"));
    let info = alone("redis+unix:///run/redis/redis.sock?db=2&user=me&pass=secret");
    let redis = info.redis_settings();
    assert_eq!((info.addr().to_string(), redis.db()), ("/run/redis/redis.sock".into(), 2));
    assert_eq!((redis.username(), redis.password()), (Some("me"), Some("secret")));
}

#[test]
fn a_cluster_is_read_with_all_its_nodes() {
    let cluster = Server::parse("redis+cluster://me:a%2Cb@n1,n2:7001,[::1]:7002", None);
    let Ok(Server::Cluster(nodes, None)) = cluster else { panic!("not a Cluster") };
    assert_eq!(addresses(&nodes), ["n1:6379", "n2:7001", "::1:7002"]);
    assert!(nodes.iter().all(|node| node.redis_settings().password() == Some("a,b")));
    let Ok(Server::Cluster(nodes, None)) = Server::parse("rediss+cluster://n1/0", None) else { panic!("no TLS") };
    assert!(matches!(nodes[0].addr(), ConnectionAddr::TcpTls { insecure: false, .. }));
}

#[test]
fn sentinels_are_read() {
    for url in [
        "redis+sentinel://s1,s2:26380/2?master=downloads",
        "rediss+sentinel://:secret@s1/0?master=downloads&sentinel_user=u&sentinel_password=p",
    ] {
        assert!(matches!(Server::parse(url, None), Ok(Server::Sentinels(_))), "{url}");
    }
}

#[test]
fn what_makes_no_sense_is_refused_and_nothing_of_it_is_repeated() {
    for (url, reason) in [
        ("hunter2", "is none of redis://"),
        ("http://hunter2@h", "is none of redis://"),
        ("redis://", "names no host"),
        ("redis://user:hunter2@", "names no host"),
        ("redis://:hunter2@h1,h2", "names several hosts: redis+sentinel://"),
        ("redis://:hunter2#x@h", "%23"),
        ("redis://:hunter2?x@h", "%3F"),
        ("redis://h?master=hunter2", "%3F"),
        ("redis://:hunter2@h/zero", "Invalid database number"),
        ("redis://:hunter2@h/-1", "a database below 0"),
        ("redis://:hunter2@h:99999", "is not a URL of Redis"),
        ("redis+unix://host/sock?pass=hunter2", "names no socket"),
        ("redis+unix:///sock?password=hunter2", "none of db, user, pass"),
        ("redis+sentinel://:hunter2@s1", "?master="),
        ("redis+sentinel://:hunter2@s1?master=", "master"),
        ("redis+sentinel://s1,,s2?master=m", "names no host"),
        ("redis+cluster://:hunter2@n1/1", "only database 0"),
    ] {
        let refused = refusal(url);
        assert!(refused.contains(reason) && !refused.contains("hunter2"), "{url}: {refused}");
        let shown = shown(url).unwrap_or_default();
        assert!(!shown.contains("hunter2"), "{url}: {shown}");
    }
}

#[test]
fn a_server_is_shown_without_user_password_and_options() {
    for (url, expected) in [
        ("redis://me:secret@db1:6380/2", "redis://db1:6380/2"),
        ("redis+unix:///run/redis.sock?pass=secret", "redis+unix:///run/redis.sock"),
        ("redis+sentinel://:secret@s1,s2:1/0?sentinel_password=secret&master=m", "redis+sentinel://s1,s2:1/0?master=m"),
        ("rediss+cluster://:secret@n1,n2", "rediss+cluster://n1,n2"),
    ] {
        assert_eq!(shown(url).as_deref(), Some(expected));
    }
}
