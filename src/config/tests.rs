use super::*;

fn load(file: &str, environment: &[(&str, &str)], flags: &[(&str, &str)]) -> Result<Config, Vec<ConfigError>> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("hauld.toml");
    std::fs::write(&path, file).unwrap();
    let map = |pairs: &[(&str, &str)]| pairs.iter().map(|(k, v)| (k.to_string(), v.to_string())).collect();
    Config::load(Some(&path), map(environment), map(flags))
}

#[test]
fn flags_win_over_environment_over_file_over_field_names() {
    let file = "[worker]\njobs = 5\n";
    assert_eq!(load("", &[], &[]).unwrap().worker.jobs, 4);
    assert_eq!(load(file, &[], &[]).unwrap().worker.jobs, 5);
    assert_eq!(load(file, &[("HAULD_WORKER_JOBS", "6")], &[]).unwrap().worker.jobs, 6);
    assert_eq!(load(file, &[("HAULD_WORKER_JOBS", "6")], &[("worker.jobs", "7")]).unwrap().worker.jobs, 7);
    assert_eq!(load("", &[("INSTANCE_ID", "3")], &[]).unwrap().worker.instance, "3");
    assert_eq!(load("[worker]\ninstance = \"a\"\n", &[("INSTANCE_ID", "3")], &[]).unwrap().worker.instance, "a");
}

#[test]
fn instances_of_one_host_have_an_admin_port_each() {
    let port = |file, environment: &[(&str, &str)]| Some(load(file, environment, &[]).unwrap().admin.listen?.port());
    for (instance, expected) in [("0", 9300), ("1", 9301), ("4", 9304), ("99", 9399), ("100", 9300), ("blue", 9300)] {
        assert_eq!(port("", &[("INSTANCE_ID", instance)]), Some(expected), "{instance}");
    }
    let given = "[admin]\nlisten = \"127.0.0.1:9400\"\n";
    assert_eq!(port(given, &[("INSTANCE_ID", "4")]), Some(9400));
    assert_eq!(port("", &[("INSTANCE_ID", "4"), ("HAULD_ADMIN_LISTEN", "off")]), None);
}

#[test]
fn every_error_comes_in_one_run_with_name_value_and_reason() {
    let errors = load(
        "[worker]\njobs = 0\njops = 3\n[gate]\nwait_seconds = \"soon\"\n[resolver]\nkind = \"magic\"\n",
        &[("HAULD_HLS_QUALTY", "720")],
        &[],
    )
    .unwrap_err();
    let all: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let text = all.join("\n");
    for part in [
        "worker.jobs = 0",
        "not within 1 to 256",
        "worker.jops",
        "did you mean worker.jobs?",
        "gate.wait_seconds = \"soon\"",
        "not a whole number",
        "resolver.kind = \"magic\"",
        "none of auto, direct, catalog, command",
        "HAULD_HLS_QUALTY",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
    assert_eq!(errors.len(), 5, "{text}");
}

#[test]
fn the_old_workers_redis_variables_become_a_url() {
    let environment = [("REDIS_HOST", "db1"), ("REDIS_PORT", "6380"), ("REDIS_PASSWORD", "p@ss/"), ("REDIS_DB", "2")];
    let config = load("", &environment, &[]).unwrap();
    assert_eq!(config.redis.url.expose_secret(), "redis://:p%40ss%2F@db1:6380/2");
    assert_eq!(config.redis.shown(), "redis://db1:6380/2");
    assert!(!format!("{config:?}").contains("p%40ss"));
}

#[test]
fn the_old_workers_database_variables_choose_the_table() {
    let all = [("DB_HOST", "db1"), ("DB_USER", "worker"), ("DB_PASSWORD", "p@ss/"), ("DB_NAME", "shop")];
    let config = load("", &all, &[]).unwrap();
    assert_eq!(config.store.kind, StoreKind::Mysql);
    assert_eq!(config.store.mysql.shown(), "db1:3306, table shop.download_tasks");
    assert_eq!(config.store.mysql.password.as_ref().unwrap().expose_secret(), "p@ss/");
    assert!(!format!("{config:?}").contains("p@ss"));
    assert_eq!(load("", &[("DB_NAME", "shop")], &[]).unwrap().store.kind, StoreKind::Redis);
    assert_eq!(load("", &all, &[("store.kind", "redis")]).unwrap().store.kind, StoreKind::Redis);
    assert_eq!(load("", &all, &[("store.mysql_host", "db2")]).unwrap().store.mysql.host, "db2");

    let wrong = [("store.kind", "mysql"), ("store.mysql_table", "a`b"), ("store.mysql_ca_file", "/ca.pem")];
    let errors = load("", &[], &wrong).unwrap_err();
    let mut names: Vec<&str> = errors.iter().map(|error| error.name.as_str()).collect();
    names.sort_unstable();
    let expected = ["ca_file", "database", "host", "table", "user"].map(|name| format!("store.mysql_{name}"));
    assert_eq!(names, expected);
}

#[test]
fn an_endpoint_for_tasks_wins_over_the_old_workers_database() {
    let old = [("DB_HOST", "db1"), ("DB_USER", "worker"), ("DB_NAME", "shop")];
    let endpoint = ("store.http_endpoint", "https://backend.example.com/api/v1/tasks");
    assert_eq!(load("", &old, &[endpoint]).unwrap().store.kind, StoreKind::Http);
    assert_eq!(load("", &old, &[endpoint, ("store.kind", "mysql")]).unwrap().store.kind, StoreKind::Mysql);
    let errors = load("", &old, &[("store.kind", "http")]).unwrap_err();
    assert_eq!(errors.iter().map(|error| error.name.as_str()).collect::<Vec<_>>(), ["store.http_endpoint"]);
}

#[test]
fn a_secret_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("token");
    std::fs::write(&path, "s3cret\n").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let file = format!("[enrollment]\ntoken_file = {:?}\n", path.display().to_string());
    let errors = load(&file, &[], &[]).unwrap_err();
    assert!(errors[0].reason.contains("chmod 600"), "{errors:?}");
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let config = load(&file, &[], &[]).unwrap();
    assert_eq!(config.enrollment.token.unwrap().token.expose_secret(), "s3cret");
}

#[test]
fn a_hook_that_others_reach_needs_to_know_who_asks() {
    let names = |address: &str| {
        let errors = load(&format!("[hook]\nlisten = \"{address}:1\"\n"), &[], &[]).unwrap_err();
        errors.into_iter().map(|error| error.name).collect::<Vec<_>>()
    };
    assert_eq!(names("127.0.0.1"), ["enrollment.endpoint"]);
    assert_eq!(names("0.0.0.0"), ["hook.listen", "enrollment.endpoint"]);
}

#[test]
fn jobs_of_rq_are_run_from_a_queue_of_rq_and_not_in_a_cluster() {
    let with = |url: &str, list: &str| {
        load("[rq]\ncompat = \"worker\"\n", &[], &[("redis.url", url), ("queue.list", list)])
            .map_err(|errors| errors.iter().map(ToString::to_string).collect::<String>())
    };
    assert!(with("redis://h/0", "rq:queue:videos").is_ok());
    assert!(with("redis+sentinel://h:26379/0?master=m", "rq:queue:videos").is_ok());
    assert!(with("redis://h/0", "videos").unwrap_err().contains("rq:queue:<name of a queue of RQ>"));
    assert!(with("redis+cluster://h", "rq:queue:videos").unwrap_err().contains("RQ's keys are in many slots"));
}

/// The sample with every setting switched on.
fn sample_switched_on() -> String {
    let sample = include_str!("../../systemd/hauld.toml");
    let is_setting = |rest: &str| rest.split_once(" = ").is_some_and(|(name, _)| !name.contains(' '));
    let line = |line: &str| match line.strip_prefix('#').filter(|rest| is_setting(rest)) {
        Some(setting) => setting.to_owned(),
        None => line.to_owned(),
    };
    sample.lines().map(line).collect::<Vec<_>>().join("\n")
}

#[test]
fn the_sample_names_every_setting_with_its_default() {
    let table: toml::Table = sample_switched_on().parse().unwrap();
    let mut documented = Vec::new();
    for (section, settings) in &table {
        for (name, value) in settings.as_table().unwrap() {
            documented.push((format!("{section}.{name}"), value.clone()));
        }
    }
    for setting in Config::settings() {
        let (_, value) = documented.iter().find(|(name, _)| *name == setting.name).expect(&setting.name);
        let text = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        if !setting.default.is_empty() {
            assert_eq!(text, setting.default, "{}", setting.name);
        }
    }
    assert_eq!(documented.len(), Config::settings().len(), "the sample has settings that do not exist");
}

#[test]
fn the_sample_is_accepted_as_it_is_and_with_every_setting_switched_on() {
    load(include_str!("../../systemd/hauld.toml"), &[], &[]).unwrap();
    let errors = load(&sample_switched_on(), &[], &[]).unwrap_err();
    for error in errors {
        // The sample's secrets are not on this host, and what needs them misses them.
        let is_not_built_in = error.name == "traces.endpoint" && !cfg!(feature = "otlp");
        assert!(error.name.ends_with("_file") || is_not_built_in, "{error}");
    }
}

#[test]
fn rclone_delivers_when_its_remote_is_set() {
    let kind = |text| load(text, &[], &[]).unwrap().delivery.kind;
    assert_eq!(kind(""), DeliveryKind::Folder);
    assert_eq!(kind("[delivery]\nrclone_remote = \"r:x\""), DeliveryKind::Rclone);
    assert_eq!(kind("[delivery]\nkind = \"folder\"\nrclone_remote = \"r:x\""), DeliveryKind::Folder);
    for text in ["[delivery]\nkind = \"rclone\"", "[delivery]\nrclone_remote = \"/srv/courses\""] {
        assert_eq!(load(text, &[], &[]).unwrap_err()[0].name, "delivery.rclone_remote", "{text}");
    }
}

/// Every setting that is not secret, with another value than its default.
#[test]
fn a_reload_takes_what_is_marked_and_leaves_the_rest() {
    use std::os::unix::fs::PermissionsExt;
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(secret.path(), "whsec_MDEyMzQ1Njc4OWFiY2RlZg==").unwrap();
    std::fs::set_permissions(secret.path(), std::fs::Permissions::from_mode(0o600)).unwrap();
    let path = secret.path().to_str().unwrap();
    let (old, old_values) = Config::load_with_values(None, BTreeMap::new(), BTreeMap::new()).unwrap();
    for setting in Config::settings() {
        let number = setting.default.parse().map_or(1, |number: u64| if number > 1 { number - 1 } else { number + 1 });
        let candidates =
            [&number.to_string(), "true", "false", "127.0.0.1:1", path, "human", "a:b", "direct", "ts", "rq:queue:a"];
        let changed = candidates.into_iter().find_map(|value| {
            let mut flags = BTreeMap::from([(setting.name.clone(), value.to_owned())]);
            match setting.name.as_str() {
                "report.api_base_url" => drop(flags.insert("report.secret_file".into(), path.into())),
                "rq.compat" => drop(flags.insert(setting.name.clone(), "worker".into())),
                name if name.ends_with("kind") || name.ends_with("endpoint") || name.ends_with("url") => {
                    flags.insert(name.into(), "http://127.0.0.1/".into());
                }
                _ => {}
            }
            let (new, values) = Config::load_with_values(None, BTreeMap::new(), flags).ok()?;
            let is_it = |change: &Change| change.name == setting.name;
            old_values.changes(&values).into_iter().find(is_it).map(|change| (new, change))
        });
        let Some((new, change)) = changed else {
            assert!(!setting.reloadable, "no other value found for {}", setting.name);
            continue;
        };
        assert_eq!(change.reloadable, setting.reloadable, "{}", setting.name);
        let reloaded = old.reloaded(&new).unwrap();
        let is_taken = format!("{reloaded:?}") != format!("{old:?}");
        assert_eq!(is_taken, setting.reloadable, "{}", setting.name);
    }
}

#[test]
fn changes_are_shown_without_secrets() {
    let values = |url: &str| {
        let flags = BTreeMap::from([("redis.url".to_owned(), url.to_owned())]);
        Config::load_with_values(None, BTreeMap::new(), flags).unwrap().1
    };
    let old = values("redis://:one@h:1/0");
    let shown = |new: &str| old.changes(&values(new)).iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(shown("redis://:one@h:1/0"), [""; 0]);
    assert_eq!(shown("redis://:two@h:1/0"), ["redis.url (what is not shown of it)"]);
    assert_eq!(shown("redis://:two@h:2/0"), ["redis.url redis://h:1/0 -> redis://h:2/0"]);
}
