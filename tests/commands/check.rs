//! `hauld check`: what is usable, and what is not, in plain words.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;

use crate::run::{Ended, SECRET, Workspace, run};
use crate::support::{Backend, Catalog, Origin, RedisServer, hauld, port};

/// Everything that a daemon needs, up and well.
struct World {
    redis: RedisServer,
    origin: Origin,
    backend: Backend,
    space: Workspace,
    settings: toml::Table,
}

fn world() -> World {
    let (redis, origin, backend, space) =
        (RedisServer::start_durable(), Origin::start(), Backend::start(), Workspace::new());
    let catalog = Catalog::on(&origin);
    let mut world = World { redis, origin, backend, space, settings: toml::Table::new() };
    let secret = world.space.write("secret", "SECRET\n");
    std::fs::set_permissions(&secret, std::fs::Permissions::from_mode(0o600)).unwrap();
    let secret = secret.display().to_string();
    let directory = |world: &World, name: &str| {
        let path = world.space.path(name);
        std::fs::create_dir(&path).unwrap();
        path.display().to_string()
    };
    for (name, value) in [
        ("redis.url", world.redis.url()),
        ("staging.directory", directory(&world, "staging")),
        ("delivery.directory", directory(&world, "delivery")),
        ("resolver.catalog_endpoint", catalog.url().to_owned()),
        ("resolver.catalog_token_file", secret.clone()),
        ("report.api_base_url", world.backend.base_url()),
        ("report.secret_file", secret.clone()),
        ("enrollment.endpoint", world.backend.enroll_url()),
        ("hook.listen", format!("127.0.0.1:{}", port::free())),
        ("hook.token_file", secret),
    ] {
        world.set(name, &value);
    }
    world
}

impl World {
    fn set(&mut self, name: &str, value: &str) {
        let (section, key) = name.split_once('.').unwrap();
        let section = self.settings.entry(section).or_insert_with(|| toml::Table::new().into());
        section.as_table_mut().unwrap().insert(key.to_owned(), value.into());
    }

    fn check(&self, overrides: &[(&str, String)]) -> Ended {
        let file: PathBuf = self.space.write("hauld.toml", self.settings.to_string());
        let mut command = hauld();
        command.arg("check").arg("--config").arg(file);
        for (name, value) in overrides {
            command.args(["--set", &format!("{name}={value}")]);
        }
        run(&mut command)
    }
}

/// Exit 1; exactly the lines of these things begin with FAIL, and each says its part.
#[track_caller]
fn not_usable(ended: &Ended, broken: &[(&str, &str)]) {
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    let fails: Vec<&str> = ended.stdout.lines().filter(|line| line.starts_with("FAIL")).collect();
    assert_eq!(fails.len(), broken.len(), "{}", ended.stdout);
    for (what, says) in broken {
        let found = fails.iter().any(|line| line[4..].trim_start().starts_with(what) && line.contains(says));
        assert!(found, "no FAIL of {what} with {says:?} in\n{}", ended.stdout);
    }
    assert!(ended.stdout.ends_with(&format!("NOT usable: {} to mend\n", broken.len())), "{}", ended.stdout);
    assert!(!ended.stdout.contains(SECRET) && ended.stderr.is_empty(), "{ended:?}");
}

#[test]
fn all_is_well() {
    let world = world();
    let ended = world.check(&[]);
    ended.succeeded("check");
    assert!(ended.stdout.ends_with("\nusable\n"), "{}", ended.stdout);
    assert!(ended.stdout.lines().all(|line| !line.starts_with("FAIL")), "{}", ended.stdout);
    let things = [
        "redis",
        "task store",
        "ffmpeg",
        "staging",
        "delivery",
        "finalize",
        "hook",
        "catalogue",
        "enrollment",
        "backend",
    ];
    for what in things {
        let line = ended.stdout.lines().find(|line| line[4..].trim_start().starts_with(what));
        assert!(line.is_some_and(|line| line.starts_with("ok ")), "{what}:\n{}", ended.stdout);
    }
    assert!(!ended.stdout.contains(SECRET), "{}", ended.stdout);
    assert!(world.backend.enroll_calls().is_empty() || world.backend.enroll_calls()[0].method == "HEAD");
    assert!(world.backend.finalize_calls().is_empty());
    // Looking leaves nothing behind.
    assert_eq!(world.space.files(), ["hauld.toml", "secret"]);
}

#[test]
fn each_broken_thing_is_named() {
    let world = world();
    let nobody = format!("127.0.0.1:{}", port::free());
    let file = world.space.path("secret").display().to_string();
    let check = |name: &str, value: String| world.check(&[(name, value)]);

    let redis = check("redis.url", format!("redis://:SECRET@{nobody}/0"));
    not_usable(&redis, &[("redis", &format!("redis://{nobody}/0: "))]);
    let no_url = check("redis.url", "http://:SECRET@h/".into());
    assert!(no_url.status.code() == Some(78) && no_url.stderr.contains("redis.url"), "{no_url:?}");
    assert!(!no_url.stderr.contains("SECRET"), "{no_url:?}");
    not_usable(&check("staging.directory", format!("{file}/below")), &[("staging", &file)]);
    not_usable(&check("delivery.directory", "/proc/hauld".into()), &[("delivery", "/proc/hauld")]);
    let catalogue = check("resolver.catalog_endpoint", format!("http://{nobody}/c?token=SECRET"));
    not_usable(&catalogue, &[("catalogue", &format!("http://{nobody}/c?…"))]);
    let endpoint = check("enrollment.endpoint", format!("http://{nobody}/e"));
    not_usable(&endpoint, &[("enrollment", &format!("http://{nobody}/e"))]);
    not_usable(&check("report.api_base_url", format!("http://{nobody}/")), &[("backend", &nobody)]);
    let command = check("resolver.command", "/nonexistent/resolver --json".into());
    not_usable(&command, &[("resolver", "/nonexistent/resolver")]);

    let without = |container: &str| {
        world.check(&[("remux.ffmpeg", "/nonexistent/ffmpeg".into()), ("remux.container", container.into())])
    };
    not_usable(&without("mp4"), &[("ffmpeg", "remux.container is mp4")]);
    for (container, mark) in [("auto", "warn  ffmpeg"), ("ts", "ok    ffmpeg")] {
        let ended = without(container);
        ended.succeeded(container);
        assert!(ended.stdout.lines().any(|line| line.starts_with(mark)), "{}", ended.stdout);
    }
}

#[test]
fn several_broken_things_are_named_in_one_run() {
    let world = world();
    let nobody = format!("127.0.0.1:{}", port::free());
    let ended = world.check(&[
        ("redis.url", format!("redis://{nobody}")),
        ("staging.directory", "/proc/hauld".into()),
        ("resolver.catalog_endpoint", format!("http://{nobody}/")),
    ]);
    not_usable(&ended, &[("redis", &nobody), ("staging", "/proc/hauld"), ("catalogue", &nobody)]);
}

#[test]
fn services_that_are_silent_do_not_hold_it_up() {
    let world = world();
    let _catalogue = world.origin.hold("/catalog");
    world.redis.pause();
    let ended = world.check(&[]);
    world.redis.resume();
    not_usable(&ended, &[("redis", "timed out"), ("catalogue", "")]);
}

#[test]
fn a_redis_with_a_password() {
    let redis = RedisServer::start();
    redis.cli(&["CONFIG", "SET", "requirepass", SECRET]);
    let space = Workspace::new();
    let directory = space.path("d");
    let check = |url: String| {
        let mut command = hauld();
        command.arg("check").env("HAULD_REDIS_URL", url);
        for name in ["staging", "delivery"] {
            command.args(["--set", &format!("{name}.directory={}", directory.display())]);
        }
        run(&mut command)
    };
    check(format!("redis://:SECRET@127.0.0.1:{}/0", redis.port())).succeeded("the right one");
    let wrong = check(format!("redis://:SECRETwrong@127.0.0.1:{}/0", redis.port()));
    not_usable(&wrong, &[("redis", "")]);
    not_usable(&check(format!("redis://127.0.0.1:{}/0", redis.port())), &[("redis", "")]);
}

#[test]
fn logins_say_how_long_they_last() {
    let world = world();
    let private = |name: &str, text: &str| {
        let path = world.space.write(name, text);
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        path.display().to_string()
    };
    let cookie = |expires: i64| format!("127.0.0.1\tFALSE\t/\tFALSE\t{expires}\tsession\tSECRET\n");
    let fresh = private("cookies.txt", &cookie(4_000_000_000));
    let settings = |cookies: &str, token: &str| {
        [
            ("enrollment.cookies_file", cookies.to_owned()),
            ("enrollment.token_file", token.to_owned()),
            ("resolver.cookies_file", cookies.to_owned()),
        ]
    };
    // {"exp":4000000000}
    let token = private("token", "e30.eyJleHAiOjQwMDAwMDAwMDB9.c2ln");
    let ended = world.check(&settings(&fresh, &token));
    ended.succeeded("fresh");
    for line in
        ["ok    enrollment_cookies ", "ok    enrollment_token ", "ok    resolver_cookies ", "ok    catalog_token "]
    {
        assert!(ended.stdout.lines().any(|found| found.starts_with(line)), "{line}:\n{}", ended.stdout);
    }
    assert!(ended.stdout.contains("\"session\" expires first, at 2096-10-02T07:06:40Z"), "{}", ended.stdout);

    // {"exp":1000000000}
    let stale_token = private("stale", "e30.eyJleHAiOjEwMDAwMDAwMDB9.c2ln");
    let stale = private("stale.txt", &cookie(1_000_000_000));
    let expired = "\"session\" expired at 2001-09-09T01:46:40Z";
    not_usable(
        &world.check(&settings(&stale, &stale_token)),
        &[
            ("enrollment_cookies", expired),
            ("enrollment_token", "has expired at 2001-09-09T01:46:40Z"),
            ("resolver_cookies", expired),
        ],
    );
    let empty = private("empty.txt", "# nothing\n");
    not_usable(&world.check(&[("resolver.cookies_file", empty)]), &[("resolver_cookies", "holds no cookie for ")]);
    let open = private("open.txt", &cookie(0));
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ended = world.check(&[("resolver.cookies_file", open)]);
    ended.succeeded("open");
    assert!(ended.stdout.lines().any(|line| line.starts_with("warn  resolver_cookies") && line.contains("chmod 600")));
    let gone = world.space.path("gone").display().to_string();
    not_usable(&world.check(&[("resolver.cookies_file", gone)]), &[("logins", "cannot be read")]);
}
