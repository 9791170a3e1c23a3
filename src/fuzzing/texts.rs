//! Readers of documents, headers and jobs.

use std::collections::HashMap;
use std::path::Component;
use std::time::SystemTime;

use axum::http::HeaderName;
use bytes::Bytes;
use reqwest::StatusCode;
use reqwest::header::{CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE, HeaderMap, HeaderValue, LOCATION, RETRY_AFTER};
use serde_json::Value;
use url::Url;

use super::{check_same, is_presentable, odd_pieces, presentable};
use crate::config::ManifestLimits;
use crate::failure::{Failure, FailureKind, Result};
use crate::http::{AllowedHost, Encoding, Gunzip, is_html, parse_url, redirect_target, retry_after, shown};
use crate::job::{Element, JobSpec, TaskId};
use crate::media::file::resume::ContentRange;
use crate::resolver::{Course, info_json as info, manifest as manifests};
use crate::rq::decode::{FIELDS, RqJob, task};

fn text(bytes: &[u8]) -> Option<&str> {
    std::str::from_utf8(bytes).ok()
}

fn a_url() -> Url {
    Url::parse("https://a.h.example/x/y").expect("it is a URL")
}

pub fn manifest(bytes: &[u8]) -> bool {
    course(bytes, manifests::course)
}

pub fn info_json(bytes: &[u8]) -> bool {
    course(bytes, info::course)
}

fn course(bytes: &[u8], read: fn(&Value, &ManifestLimits) -> Result<Course>) -> bool {
    let Ok(document) = serde_json::from_slice(bytes) else { return false };
    let limits = ManifestLimits { max_bytes: 1 << 20, max_lectures: 50, max_files: 20, max_title_characters: 500 };
    let Some(course) = presentable(read(&document, &limits)) else { return false };
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

pub fn queue_element(bytes: &[u8]) -> bool {
    let element = Element(bytes.to_vec());
    let Some(spec) = presentable(JobSpec::parse(&element)) else { return false };
    assert_eq!(JobSpec::task_id_of(&element), Some(spec.task_id));
    let again = JobSpec::parse(&spec.to_element(jiff::Timestamp::UNIX_EPOCH));
    assert_eq!(again.expect("what is written is read"), spec);
    true
}

pub fn cookies_file(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    let cookies = crate::http::cookies::netscape::parse(text);
    assert!(cookies.len() <= text.lines().count());
    !cookies.is_empty()
}

pub fn set_cookie(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    crate::http::cookies::set_cookie::read(&value, &a_url(), 1_800_000_000).is_some()
}

pub fn headers(bytes: &[u8]) -> bool {
    let Ok(value) = HeaderValue::from_bytes(bytes) else { return false };
    let names = [CONTENT_RANGE, RETRY_AFTER, CONTENT_ENCODING, CONTENT_TYPE, LOCATION];
    let headers: HeaderMap = names.into_iter().map(|name| (name, value.clone())).collect();
    let range = ContentRange::of(&headers);
    let pause = retry_after(&headers, SystemTime::UNIX_EPOCH);
    let html = is_html(&headers);
    presentable(Encoding::of(&headers));
    let target = redirect_target(&a_url(), &headers);
    if let Some(target) = target {
        assert!(!shown(&target).chars().any(char::is_control), "{target}");
    }
    range.is_some() || pause.is_some() || html
}

pub fn hook_request(bytes: &[u8]) -> bool {
    let Ok(body) = serde_json::from_slice(bytes) else { return false };
    let hosts = ["h.example".to_owned(), "*.h.example".to_owned()];
    crate::hook::is_understood(&body, &hosts)
}

pub fn url(bytes: &[u8]) -> bool {
    let Some(text) = text(bytes) else { return false };
    if let Ok(AllowedHost::Name(name)) = AllowedHost::parse(text) {
        assert!(!name.is_empty() && !name.contains(['/', ':', '@']), "{name}");
    }
    let Some(url) = presentable(parse_url(text)) else { return false };
    let shown = shown(&url);
    assert!(!shown.contains('@') || url.path().contains('@'), "{shown}");
    assert_eq!(parse_url(url.as_str()).expect("it is one still"), url);
    true
}

/// The data of a job of RQ, and the numbers beside it.
pub fn rq_job(bytes: &[u8]) -> bool {
    let value = bytes.get(..80).unwrap_or(bytes);
    let mut fields: HashMap<String, Vec<u8>> = FIELDS.iter().map(|name| ((*name).to_owned(), value.to_vec())).collect();
    fields.insert("data".into(), bytes.to_vec());
    let (_, spec) = RqJob::read("id", "queue", &fields).expect("it has data");
    presentable(spec);
    task(bytes).is_ok()
}

/// A line for each header, then the body.
pub fn hook_signature(bytes: &[u8]) -> bool {
    let mut lines = bytes.splitn(6, |byte| *byte == b'\n');
    let mut headers = HeaderMap::new();
    for name in ["webhook-id", "webhook-timestamp", "webhook-signature", "x-timestamp", "x-signature"] {
        let Ok(value) = HeaderValue::from_bytes(lines.next().unwrap_or_default()) else { return false };
        if !value.is_empty() {
            headers.insert(HeaderName::from_static(name), value);
        }
    }
    crate::hook::claims_a_signature(&headers, lines.next().unwrap_or_default(), 1_800_000_000)
}

/// What is kept beside the bytes of a part and beside a queue element.
pub fn journal(bytes: &[u8]) -> bool {
    let record = crate::hls::fuzzing::part_record(bytes);
    record | serde_json::from_slice::<crate::queue::Record>(bytes).is_ok()
}

/// What the enrollment service and a task store answer.
pub fn service_answer(bytes: &[u8]) -> bool {
    let is_enrolled = presentable(crate::enroll::understand(&a_url(), StatusCode::OK, bytes)).is_some();
    let task_id = TaskId::new(43).expect("it is not 0");
    is_enrolled | presentable(crate::store::record(task_id, bytes)).is_some()
}

pub fn rclone_log(bytes: &[u8]) -> bool {
    let failure = crate::delivery::failure_said(bytes, "remote:course");
    is_presentable(&failure);
    failure.kind != FailureKind::DeliveryFailed
}

/// A body that is gzip'd, however it is cut.
pub fn gzip(bytes: &[u8]) -> bool {
    const LIMIT: u64 = 2 << 20;
    let undone = |piece: usize| {
        let mut gunzip = Gunzip::new(LIMIT);
        let mut clear = Vec::new();
        let mut buffer = [0; 4096];
        let mut drain = |gunzip: &mut Gunzip| loop {
            match gunzip.read(&mut buffer)? {
                0 => return Ok(()),
                count => clear.extend_from_slice(&buffer[..count]),
            }
        };
        for piece in bytes.chunks(piece) {
            gunzip.feed(Bytes::copy_from_slice(piece));
            drain(&mut gunzip)?;
        }
        gunzip.complete();
        drain(&mut gunzip)?;
        Ok::<_, Failure>(clear)
    };
    let whole = undone(bytes.len().max(1));
    check_same(&whole, &undone(odd_pieces(bytes)));
    assert!(whole.as_ref().map_or(0, Vec::len) as u64 <= LIMIT);
    whole.is_ok()
}
