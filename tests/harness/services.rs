//! The catalogue and the backend.

use serde_json::{Value, json};

use crate::support::backend::{ENROLL, FINALIZE, check_finalize_signature};
use crate::support::catalog::CATALOG;
use crate::support::{Backend, Catalog, Fault, Lecture, Manifest, Origin, http_client};

#[tokio::test]
async fn the_catalogue_answers_manifests_in_their_order() {
    let origin = Origin::start();
    let catalog = Catalog::on(&origin);
    let course = "https://learn.example.com/course/intro/?a=1&b=2";
    let manifest = Manifest::new("Course Name").section(
        "Getting started",
        [
            Lecture::new("Welcome")
                .stream_with_headers("http://h/m.m3u8", &[("Referer", "http://r/")])
                .caption("en", "http://h/en.vtt")
                .asset("slides.pdf", "http://h/s.pdf"),
            Lecture::new("File").file("http://h/v.mp4"),
        ],
    );
    catalog.course_series(course, &[&manifest, &Manifest::of_one("Later", "Only", "http://h/2.m3u8")]);
    let ask = async |url: &str| {
        let response =
            http_client().get(catalog.url()).query(&[("url", url)]).bearer_auth("t0ken").send().await.unwrap();
        (response.status().as_u16(), response.json::<Value>().await.unwrap())
    };
    let expected = json!({"title": "Course Name", "sections": [{"title": "Getting started", "lectures": [
        {"title": "Welcome", "stream": {"url": "http://h/m.m3u8", "headers": {"Referer": "http://r/"}},
         "captions": [{"language": "en", "url": "http://h/en.vtt"}],
         "assets": [{"name": "slides.pdf", "url": "http://h/s.pdf"}]},
        {"title": "File", "stream": {"url": "http://h/v.mp4", "type": "file"}}]}]});
    assert_eq!(ask(course).await, (200, expected));
    assert_eq!(ask(course).await.1["title"], "Later");
    assert_eq!(ask(course).await.1["title"], "Later");
    assert_eq!(ask("https://learn.example.com/other").await.0, 404);
    catalog.require_token("t0ken");
    assert_eq!(ask(course).await.0, 200);
    catalog.require_token("another");
    assert_eq!(ask(course).await.0, 401);
    catalog.require_token("t0ken");
    origin.fault(CATALOG, Fault::Body("[]".into()).times(1));
    assert_eq!(ask(course).await, (200, json!([])));
}

#[tokio::test]
async fn the_backend_enrolls_refuses_and_records() {
    let backend = Backend::start();
    backend.refuse("https://learn.example.com/no", "course is full");
    let client = http_client();
    let body =
        json!({"email": "user@example.com", "urls": ["https://learn.example.com/yes", "https://learn.example.com/no"]});
    let enroll = async || client.post(backend.enroll_url()).json(&body).send().await.unwrap();
    let answer: Value = enroll().await.json().await.unwrap();
    assert_eq!(answer["results"][0]["status"], "enrolled");
    assert_eq!(
        (&answer["results"][1]["success"], &answer["results"][1]["message"]),
        (&json!(false), &json!("course is full"))
    );
    assert_eq!(backend.enroll_calls()[0].json(), body);
    backend.origin.fault(ENROLL, Fault::Status(500).times(1));
    assert_eq!(enroll().await.status(), 500);
}

#[tokio::test]
async fn finalize_calls_are_recorded_and_their_signature_is_checked() {
    let backend = Backend::start();
    // The signature was made with: printf '43Course Name1768262400' | openssl dgst -sha256 -hmac s3cret
    let signature = "6f615695e724ccde4f6af2273de6cd38ed7502ff475494cf4fe16e62b7209f19";
    let body = json!({"secret_key": "s3cret", "task_id": 43, "folder_name": "Course Name", "timestamp": "1768262400"});
    let url = format!("{}{FINALIZE}", backend.base_url());
    let post = http_client().post(url).header("X-Timestamp", "1768262400").header("X-Signature", signature).json(&body);
    assert_eq!(post.send().await.unwrap().status(), 200);
    let calls = backend.wait_for_finalize(1).await;
    assert_eq!(calls[0].json(), body);
    check_finalize_signature(&calls[0], "s3cret");
    assert!(std::panic::catch_unwind(|| check_finalize_signature(&calls[0], "another")).is_err());
}
