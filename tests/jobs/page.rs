//! The operator page of a running daemon: in a real browser, and asked without one.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use reqwest::{Client, Response, StatusCode};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::process::{Child, ChildStdin, Command};

use crate::support::daemon::{Builder, Daemon};
use crate::support::origin::Hold;
use crate::support::{Proxy, http_client, media, wait};
use crate::world::{World, lectures, small};

const TOKEN: &str = "token-of-the-page";
/// What a title could do when it became markup.
const TITLE: &str = "<img src=x onerror=\"hacked=true\"></script><b>Loops & \"more\"</b>";
const LIMIT: Duration = Duration::from_secs(20);

fn daemon(world: &World) -> Builder {
    world.daemon().secret("admin.token", TOKEN).set("queue.max_attempts", 1).set("hls.concurrency", 1)
}

/// What the script in the browser may ask for.
struct Stage {
    world: World,
    daemon: Daemon,
    proxy: Proxy,
    holds: Vec<Hold>,
}

impl Stage {
    async fn play(&mut self, step: &str) -> Value {
        let world = &self.world;
        match step {
            "download" => {
                let streams = [media::synthetic(8, 40_000), media::synthetic(8, 40_000)];
                let (manifest, segments) = lectures(world, "/43", TITLE, &[&streams[0], &streams[1]]);
                self.holds = segments.iter().map(|paths| world.origin.hold(&paths[4])).rev().collect();
                world.submit(43, &manifest);
                return json!({ "title": TITLE });
            }
            "more" => drop(self.holds.pop()),
            "fail" => {
                for task in [51, 52] {
                    world.push(task);
                    world.dead_of(task).await;
                }
            }
            "publish" => {
                world.publish(51, &small());
            }
            "completed" => world.redis.wait_for_task(51, "completed").await,
            "pauses" => {
                let notes = world.redis.cli(&["HVALS", "{rq:queue:downloads}:hauld:paused"]);
                return notes.lines().filter(|line| !line.is_empty()).collect();
            }
            "stranger" => {
                world.origin.put_as("/stranger.html", "text/html", "<title>another site</title>");
                return json!({ "url": world.origin.url("/stranger.html").replace("127.0.0.1", "localhost") });
            }
            "cut" => {
                self.proxy.freeze();
                self.proxy.cut();
            }
            "heal" => self.proxy.resume(),
            "stop" => {
                self.holds.clear();
                self.world.redis.wait_for_task(43, "completed").await;
                self.daemon.sigterm();
                let begin = std::time::Instant::now();
                assert!(self.daemon.wait_exit(LIMIT).await.success());
                assert!(begin.elapsed() < Duration::from_secs(4), "an open page held it up: {:?}", begin.elapsed());
            }
            other => panic!("what is {other}?"),
        }
        Value::Null
    }
}

#[tokio::test]
async fn a_browser_shows_and_steers_it() {
    let world = World::new();
    let daemon = daemon(&world).start().await;
    let proxy = Proxy::to(daemon.admin_port());
    let pictures = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("page");
    std::fs::create_dir_all(&pictures).unwrap();
    let url = format!("http://127.0.0.1:{}/", proxy.port());
    let (mut script, mut input) = script(&url, &pictures);
    let mut steps = BufReader::new(script.stdout.take().unwrap()).lines();
    let mut stage = Stage { world, daemon, proxy, holds: Vec::new() };
    while let Some(step) = steps.next_line().await.unwrap() {
        let answer = stage.play(&step).await;
        input.write_all(format!("{answer}\n").as_bytes()).await.unwrap();
    }
    assert!(script.wait().await.unwrap().success(), "the script says above what is wrong");
    let log = stage.daemon.log_text();
    assert!(log.contains("starts nothing more"), "actions are in the log");
    assert!(!log.contains(TOKEN), "the token is not");
}

/// The script with the browser, which is asked through its output and answers what it reads.
fn script(url: &str, pictures: &Path) -> (Child, ChildStdin) {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser");
    assert!(directory.join("node_modules").is_dir(), "the Node packages are missing: run `make deps`");
    let mut command = Command::new("node");
    command.arg(directory.join("page.mjs")).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    command.env("PAGE_URL", url).env("PAGE_TOKEN", TOKEN).env("PAGE_PICTURES", pictures);
    let mut script = command.spawn().expect("node; run `make deps`");
    let input = script.stdin.take().unwrap();
    (script, input)
}

struct Caller {
    client: Client,
    base: String,
}

impl Caller {
    fn of(daemon: &Daemon) -> Caller {
        Caller { client: http_client(), base: format!("http://127.0.0.1:{}", daemon.admin_port()) }
    }

    async fn post(&self, path: &str, token: Option<&str>, body: &Value) -> (StatusCode, Value) {
        let mut request = self.client.post(format!("{}{path}", self.base)).json(body);
        if let Some(token) = token {
            request = request.bearer_auth(token);
        }
        let response = request.send().await.unwrap();
        (response.status(), response.json().await.unwrap_or_default())
    }

    async fn watch(&self) -> Response {
        self.client.get(format!("{}/api/events", self.base)).send().await.unwrap()
    }
}

#[tokio::test]
async fn without_a_token_the_page_only_shows() {
    let world = World::new();
    let daemon = world.daemon().start().await;
    let caller = Caller::of(&daemon);
    let page = caller.client.get(&caller.base).send().await.unwrap();
    let policy = page.headers()["content-security-policy"].to_str().unwrap().to_owned();
    assert!(policy.starts_with("default-src 'none'") && policy.contains("frame-ancestors 'none'"), "{policy}");
    assert_eq!(page.headers()["x-content-type-options"], "nosniff");
    let (status, answer) = caller.post("/api/pause", Some("any"), &json!({})).await;
    assert!(
        status == StatusCode::FORBIDDEN && answer["detail"].as_str().unwrap().contains("admin.token_file"),
        "{answer}"
    );
    let mut events = caller.watch().await;
    let mut text = String::new();
    while !text.contains("event: now") {
        text.push_str(&String::from_utf8_lossy(&events.chunk().await.unwrap().unwrap()));
    }
    assert!(text.starts_with("event: hello") && text.contains("\"may_act\":false"), "{text}");
}

#[tokio::test]
async fn an_action_needs_the_token_json_and_no_other_site() {
    let world = World::new();
    let daemon = daemon(&world).start().await;
    let caller = Caller::of(&daemon);
    for (token, expected) in [(None, 401), (Some("wrong"), 401), (Some(TOKEN), 204)] {
        assert_eq!(caller.post("/api/token", token, &json!({})).await.0, expected, "{token:?}");
    }
    let post = |path: &str| caller.client.post(format!("{}{path}", caller.base)).bearer_auth(TOKEN);
    for (name, value) in [("sec-fetch-site", "cross-site"), ("origin", "http://evil.example"), ("host", "evil.example")]
    {
        let response = post("/api/pause").header(name, value).json(&json!({})).send().await.unwrap();
        assert_eq!(response.status(), 403, "{name}");
    }
    let form = post("/api/pause").header("content-type", "text/plain").body("{}").send().await.unwrap();
    assert_eq!(form.status(), 415);
    assert_eq!(
        caller.client.get(format!("{}/api/pause", caller.base)).bearer_auth(TOKEN).send().await.unwrap().status(),
        405
    );
    let (status, _) = caller.post("/api/dead/purge", Some(TOKEN), &json!({})).await;
    assert_eq!(status, 422, "everything only when asked for");
    assert_eq!(world.redis.cli(&["EXISTS", "{rq:queue:downloads}:hauld:paused"]), "0");
    // The file is read again.
    let directory = daemon.config().parent().unwrap();
    std::fs::write(directory.join("admin.token"), "another\n").unwrap();
    wait::until_async("the new token opens", LIMIT, async || {
        (caller.post("/api/token", Some("another"), &json!({})).await.0 == 204).then_some(())
    })
    .await;
}

#[tokio::test]
async fn many_pages_cost_one_look_a_second_and_none_nothing() {
    let world = World::new();
    let daemon = daemon(&world).start().await;
    let caller = Caller::of(&daemon);
    let looks = || {
        let stats = world.redis.cli(&["INFO", "commandstats"]);
        let line = stats.lines().find_map(|line| line.strip_prefix("cmdstat_zrevrange:calls=")).unwrap_or("0");
        line.split(',').next().unwrap().parse::<u64>().unwrap()
    };
    assert_eq!(looks(), 0, "nobody looks");
    let mut pages = Vec::new();
    for _ in 0..32 {
        let page = caller.watch().await;
        assert_eq!(page.status(), 200);
        pages.push(page);
    }
    assert_eq!(caller.watch().await.status(), 503, "no more");
    assert_eq!(daemon.admin("/livez").unwrap().0, 200);
    let (before, begin) = (looks(), std::time::Instant::now());
    let mut text = String::new();
    while text.matches("event: now").count() < 4 {
        text.push_str(&String::from_utf8_lossy(&pages[0].chunk().await.unwrap().unwrap()));
    }
    let made = looks() - before;
    assert!(made as f64 <= begin.elapsed().as_secs_f64() + 2.0, "{made} looks in {:?}", begin.elapsed());
    drop(pages);
    wait::until_async("there is room again", LIMIT, async || (caller.watch().await.status() == 200).then_some(()))
        .await;
    // While Redis is away, that is what is shown.
    let mut page = caller.watch().await;
    world.redis.pause();
    let mut text = String::new();
    while !text.contains("event: trouble") {
        text.push_str(&String::from_utf8_lossy(&page.chunk().await.unwrap().unwrap()));
    }
    world.redis.resume();
}
