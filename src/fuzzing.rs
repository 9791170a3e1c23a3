//! What `tests/fuzz` needs and nobody else: each reader of what strangers write, as a function of
//! bytes that panics when a rule is broken.

use std::path::Component;
use std::time::SystemTime;

use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::Value;
use url::Url;

use crate::config::ManifestLimits;
use crate::failure::Failure;
use crate::http::{AllowedHost, Encoding, is_html, parse_url, redirect_target, retry_after, shown};
use crate::job::{Element, JobSpec};
use crate::media::file::resume::ContentRange;
use crate::resolver::{Course, info_json, manifest};

/// One reader.
pub struct Target {
    pub name: &'static str,
    /// Says whether the bytes are what the reader is for.
    pub check: fn(&[u8]) -> bool,
    /// Texts that are.
    pub seeds: &'static [&'static [u8]],
}

/// All of them but the playlist parser, which has rules of its own.
pub const TARGETS: &[Target] = &[
    Target {
        name: "manifest",
        check: |bytes| course(bytes, manifest::course),
        seeds: &[
            br#"{"title":"C","sections":[{"title":"S","lectures":[{"title":"L","stream":{"url":"https://h/a.m3u8","type":"hls","headers":{"Referer":"x"}},"captions":[{"language":"en","url":"https://h/en.vtt"}],"assets":[{"name":"../x.pdf","url":"https://h/x"}]}]}]}"#,
            "{\"title\":\"C\u{202e}\u{0}/..\",\"sections\":[{\"lectures\":[{\"title\":\"NUL\",\"assets\":[{\"url\":\"http://h/%2e%2e%2f\"}]},{\"title\":\"\u{e4}a\u{308}\",\"assets\":[{\"url\":\"http://h/CON\",\"name\":\"-rf\"},{\"url\":\"http://h/con\",\"name\":\"-RF\"}]}]}]}".as_bytes(),
        ],
    },
    Target {
        name: "info JSON",
        check: |bytes| course(bytes, info_json::course),
        seeds: &[
            br#"{"_type":"playlist","title":"C","entries":[{"id":"1","title":"A","chapter":"One","formats":[{"url":"https://h/a.mp4","ext":"mp4","protocol":"https","height":720}],"subtitles":{"en":[{"ext":"vtt","url":"https://h/en.vtt"}]}}]}"#,
            br#"{"_type":"video","id":"7","title":"L","manifest_url":"https://h/a.m3u8","http_headers":{"Referer":"x"},"formats":[{"manifest_url":"https://h/a.m3u8","protocol":"m3u8_native","url":"https://h/v.m3u8"}]}"#,
        ],
    },
    Target {
        name: "queue element",
        check: element,
        seeds: &[
            br#"{"taskId":43,"email":"user@example.com","courseUrl":"https://learn.example.com/c/","timestamp":"2026-01-13T02:00:00.000Z","jobId":"task-43","force":true}"#,
            br#"{"taskId":"9223372036854775807","email":" a@b ","courseUrl":"http://h/c","x":{"y":[1]}}"#,
        ],
    },
    Target {
        name: "RQ job",
        check: |bytes| crate::rq::decode::task(bytes).is_ok(),
        seeds: &[
            br#"["app.f",null,[],{"task_id":1,"email":"a@b","course_url":"http://h/c"}]"#,
            b"\x80\x04\x95\x3b\x00\x00\x00\x00\x00\x00\x00(\x8c\x05app.f\x94N)}\x94(\x8c\x07task_id\x94K\x01\x8c\x05email\x94\x8c\x03a@b\x94\x8c\ncourse_url\x94\x8c\x0ahttp://h/c\x94ut\x94.",
        ],
    },
    Target {
        name: "cookies file",
        check: cookies,
        seeds: &[
            b"# Netscape HTTP Cookie File\n.example.com\tTRUE\t/\tTRUE\t1893456000\tsession\tx\n#HttpOnly_h.example\tFALSE\t/a\tFALSE\t0\tn\tv\n",
            b"h.example FALSE / FALSE 0 n v\n",
        ],
    },
    Target {
        name: "Set-Cookie",
        check: set_cookie,
        seeds: &[
            b"a=b; Domain=.h.example; Path=/x; Max-Age=100; Secure; HttpOnly; SameSite=Lax",
            b"__Host-a=b; Secure; Path=/; Expires=Wed, 21 Oct 2026 07:28:00 GMT",
        ],
    },
    Target {
        name: "headers",
        check: headers,
        seeds: &[
            b"bytes 0-9/100",
            b"bytes */100",
            b"120",
            b"Sun, 06 Nov 1994 08:49:37 GMT",
            b"gzip",
            b"text/html; charset=utf-8",
            b"/next?x=1",
            b"https://[::1]:8/x",
        ],
    },
    Target {
        name: "hook request",
        check: hook,
        seeds: &[
            br#"{"orderId":41,"tasks":[{"taskId":43,"email":"a@b.example","courseUrl":"https://h.example/c"},{"taskId":"44","email":"c@d.example","courseUrl":"https://x.h.example/d"}]}"#,
            br#"{"email":"a@b.example","urls":["https://h.example/c"],"orderId":"7"}"#,
        ],
    },
    Target {
        name: "journal",
        check: |bytes| {
            // Its checksum keeps nearly everything out: what is behind it is read too.
            let record = crate::hls::journal::parse(bytes, "f").is_some();
            record | serde_json::from_slice::<crate::queue::Record>(bytes).is_ok()
        },
        seeds: &[
            b"hauld-part 1 f boot 3 4096 0123456789abcdef\n",
            br#"{"attempts":2,"crashes":["2026-01-13T02:00:00Z"],"history":[{"at":"2026-01-13T02:00:00Z","instance":"h-0-1","kind":"not_found","message":"x"}]}"#,
        ],
    },
    Target {
        name: "URL",
        check: url,
        seeds: &[
            b"https://user:pass@h.example:8443/a%20b/c.m3u8?token=x#f",
            b"http://0x7f.1/",
            "https://b\u{fc}cher.example/\u{e4}".as_bytes(),
            b"*.lan",
            b"10.0.0.0/8",
            b"[::ffff:127.0.0.1]",
        ],
    },
];

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

/// What is said to people is one short line.
fn is_presentable(failure: &Failure) {
    assert!(!failure.message.chars().any(char::is_control), "{:?}", failure.message);
    assert!(failure.message.len() < 16 * 1024, "{} bytes", failure.message.len());
}

fn course(bytes: &[u8], read: fn(&Value, &ManifestLimits) -> Result<Course, Failure>) -> bool {
    let Ok(document) = serde_json::from_slice(bytes) else { return false };
    let limits = ManifestLimits { max_bytes: 1 << 20, max_lectures: 50, max_files: 20, max_title_characters: 500 };
    let course = match read(&document, &limits) {
        Ok(course) => course,
        Err(failure) => {
            is_presentable(&failure);
            return false;
        }
    };
    for paths in crate::media::names::plan(&course) {
        for path in [&paths.stem].into_iter().chain(&paths.captions).chain(&paths.assets) {
            assert_eq!(path.components().count(), 3, "{path:?}");
            for component in path.components() {
                let Component::Normal(name) = component else { panic!("{path:?}") };
                let name = name.to_str().expect("names are texts");
                assert!(name.len() <= 255 && !name.starts_with(['.', '-']), "{name:?}");
                assert!(!name.contains(['/', '\\', ':']) && !name.chars().any(char::is_control), "{name:?}");
            }
        }
    }
    true
}

fn element(bytes: &[u8]) -> bool {
    let element = Element(bytes.to_vec());
    match JobSpec::parse(&element) {
        Ok(spec) => {
            assert_eq!(JobSpec::task_id_of(&element), Some(spec.task_id));
            let again = JobSpec::parse(&spec.to_element(jiff::Timestamp::UNIX_EPOCH));
            assert_eq!(again.expect("what is written is read"), spec);
            true
        }
        Err(failure) => {
            is_presentable(&failure);
            false
        }
    }
}

fn cookies(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let cookies = crate::http::cookies::netscape::parse(text);
    assert!(cookies.len() <= text.lines().count());
    !cookies.is_empty()
}

fn set_cookie(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let url = Url::parse("https://a.h.example/x/y").expect("it is a URL");
    crate::http::cookies::set_cookie::read(&value, &url, 1_800_000_000).is_some()
}

fn headers(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let names = [CONTENT_RANGE, RETRY_AFTER, CONTENT_ENCODING, CONTENT_TYPE, LOCATION];
    let headers: HeaderMap = names.into_iter().map(|name| (name, value.clone())).collect();
    let range = ContentRange::of(&headers);
    let pause = retry_after(&headers, SystemTime::UNIX_EPOCH);
    let html = is_html(&headers);
    if let Err(failure) = Encoding::of(&headers) {
        is_presentable(&failure);
    }
    let target = redirect_target(&Url::parse("https://h.example/a/b").expect("it is a URL"), &headers);
    if let Some(target) = target {
        assert!(!shown(&target).chars().any(char::is_control), "{target}");
    }
    range.is_some() || pause.is_some() || html
}

fn hook(bytes: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice(bytes) else { return false };
    let hosts = ["h.example".to_owned(), "*.h.example".to_owned()];
    crate::hook::is_understood(&body, &hosts)
}

fn url(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    if let Ok(AllowedHost::Name(name)) = AllowedHost::parse(text) {
        assert!(!name.is_empty() && !name.contains(['/', ':', '@']), "{name}");
    }
    match parse_url(text) {
        Ok(url) => {
            let shown = shown(&url);
            assert!(!shown.contains('@') || url.path().contains('@'), "{shown}");
            assert_eq!(parse_url(url.as_str()).expect("it is one still"), url);
            true
        }
        Err(failure) => {
            is_presentable(&failure);
            false
        }
    }
}
