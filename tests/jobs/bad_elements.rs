//! What is on the list and is no job: to the dead list verbatim, and the daemon goes on.

use std::time::Duration;

use base64::Engine;
use redis::AsyncCommands;

use crate::support::wait;
use crate::world::{LIST, World, lecture_path, small};

/// Bytes as they come off the list, the kind, and a part of the reason.
const BAD: &[(&[u8], &str, &str)] = &[
    (b"", "malformed_job", "not a JSON object"),
    (b"{\"taskId\":", "malformed_job", "not JSON"),
    (b"[1,2]", "malformed_job", "not a JSON object"),
    (b"null", "malformed_job", "bare word"),
    (b"{}", "malformed_job", "taskId is missing"),
    (br#"{"taskId":0,"email":"a@b","courseUrl":"http://h/"}"#, "malformed_job", "positive integer"),
    (br#"{"taskId":"4x","email":"a@b","courseUrl":"http://h/"}"#, "malformed_job", "positive integer"),
    (br#"{"taskId":-7,"email":"a@b","courseUrl":"http://h/"}"#, "malformed_job", "positive integer"),
    (br#"{"taskId":1501,"courseUrl":"http://h/"}"#, "malformed_job", "email is missing"),
    (br#"{"taskId":1502,"email":7,"courseUrl":"http://h/"}"#, "malformed_job", "email is not a text"),
    (br#"{"taskId":1503,"email":"a@b"}"#, "malformed_job", "courseUrl is missing"),
    (br#"{"taskId":1504,"email":"a@b","courseUrl":"ftp://h/"}"#, "malformed_job", "http and https"),
    (b" { \"taskId\" : 1505,\t\"odd\" : \"\\u00e9\xc3\xa9\" }\r\n", "malformed_job", "email is missing"),
    (b"\xff\xfe\x00 binary \x80", "malformed_job", "not UTF-8"),
    (b"{\"taskId\":1506,\"email\":\"\xff\"}", "malformed_job", "not JSON"),
    (b"00000000-1111-4222-8333-abcdefabcdef", "malformed_job", "no RQ job"),
];

#[tokio::test]
async fn every_kind_of_rubbish_is_kept_verbatim_with_its_reason() {
    let world = World::new();
    let mut redis = world.redis.connection().await;
    // A key of another type must not stop the daemon.
    world.redis.cli(&["SET", "rq:job:00000000-1111-4222-8333-abcdefabcdef", "not a hash"]);
    for (bytes, ..) in BAD {
        let _: u64 = redis.lpush(LIST, bytes).await.unwrap();
    }
    let deep = [vec![b'['; 200_000], vec![b']'; 200_000]].concat();
    let deep = [br#"{"taskId":1507,"x":"#, &deep[..], b"}"].concat();
    let _: u64 = redis.lpush(LIST, &deep).await.unwrap();
    world.publish(1508, &small());
    world.push(1508);

    let daemon = world.daemon().start().await;
    world.redis.wait_for_task(1508, "completed").await;
    assert!(std::fs::read(lecture_path(&daemon, 1508)).unwrap() == small().truth(), "the daemon goes on");
    let buried = || (world.dead().len() == BAD.len() + 1).then(|| world.dead());
    let mut dead = wait::until("everything is on the dead list", Duration::from_secs(20), buried).await;
    dead.reverse();

    for ((bytes, kind, reason), envelope) in BAD.iter().zip(&dead) {
        let verbatim = match envelope["element"].as_str() {
            Some(element) => element.as_bytes().to_vec(),
            None => {
                base64::engine::general_purpose::STANDARD.decode(envelope["element_base64"].as_str().unwrap()).unwrap()
            }
        };
        let shown = String::from_utf8_lossy(bytes);
        assert_eq!(verbatim, *bytes, "{shown}");
        assert_eq!(envelope["kind"], *kind, "{shown}");
        assert!(envelope["message"].as_str().unwrap().contains(reason), "{shown}: {}", envelope["message"]);
        assert_eq!(envelope["attempts"], 0);
        let failed_at: jiff::Timestamp = envelope["failed_at"].as_str().unwrap().parse().unwrap();
        assert!(jiff::Timestamp::now().as_second() - failed_at.as_second() < 120);
        assert!(!envelope["instance"].as_str().unwrap().is_empty());
    }
    assert_eq!(dead[BAD.len()]["element"].as_str().map(str::len), Some(deep.len()));

    // One line for each, at WARN, and none that is worse.
    let lines = daemon.log_lines();
    let told: Vec<_> = lines.iter().filter(|line| line["message"] == "not started: moved to the dead list").collect();
    assert_eq!(told.len(), dead.len());
    for (line, envelope) in told.iter().zip(&dead) {
        assert_eq!((&line["level"], &line["kind"]), (&"WARN".into(), &envelope["kind"]));
        assert_eq!(line["reason"], envelope["message"]);
        assert_eq!(line["task_id"].as_u64(), envelope["task_id"].as_u64());
    }
    assert!(lines.iter().all(|line| line["level"] != "ERROR"));
    assert_eq!(daemon.metric("hauld_malformed_elements_total"), Some(dead.len() as f64));
    assert_eq!(world.redis.cli(&["KEYS", "hauld:task:150[1-7]"]), "", "no task is made up");
    assert_eq!(world.redis.cli(&["LLEN", LIST]), "0");
}
