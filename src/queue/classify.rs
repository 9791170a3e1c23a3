//! What an element is, by its bytes alone.

use crate::failure::{Failure, FailureKind};
use crate::job::{Element, JobSpec};

/// The longest id that can be one of RQ.
const LONGEST_ID: usize = 128;

/// What an element looks like.
#[derive(Debug)]
pub(super) enum Reading<'a> {
    /// A job.
    Job(JobSpec),
    /// Perhaps the id of an RQ job: only its hash can tell.
    Id(&'a str),
    /// Neither.
    Rubbish(Failure),
}

pub(super) fn read(element: &Element) -> Reading<'_> {
    let bytes = &element.0;
    if bytes.trim_ascii_start().first() == Some(&b'{') {
        return JobSpec::parse(element).map_or_else(Reading::Rubbish, Reading::Job);
    }
    let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if (1..=LONGEST_ID).contains(&bytes.len())
        && bytes.iter().all(is_id)
        && let Ok(id) = std::str::from_utf8(bytes)
    {
        return Reading::Id(id);
    }
    let what = if std::str::from_utf8(bytes).is_err() { "not UTF-8" } else { "not a JSON object" };
    Reading::Rubbish(Failure::new(FailureKind::MalformedJob, format!("the element is {what}")))
}

/// An id without the hash of an RQ job.
pub(super) fn orphan_id(id: &str) -> Failure {
    Failure::new(
        FailureKind::MalformedJob,
        format!("the element is the bare word {id:?}, and there is no RQ job of that id"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kind(bytes: &[u8]) -> &'static str {
        match read(&Element(bytes.to_vec())) {
            Reading::Job(_) => "job",
            Reading::Id(_) => "id",
            Reading::Rubbish(_) => "rubbish",
        }
    }

    #[test]
    fn elements_are_told_apart_by_their_bytes() {
        let job = br#"{"taskId":1,"email":"a@b","courseUrl":"https://h/c"}"#;
        assert_eq!(kind(job), "job");
        assert_eq!(kind(&[b" \n", &job[..]].concat()), "job");
        assert_eq!(kind(b"5f1c0d9e-1111-4222-8333-abcdefabcdef"), "id");
        assert_eq!(kind(b"task-28"), "id");
        assert_eq!(kind(&[b'a'; 128]), "id");
        for rubbish in
            [&b""[..], b" ", b"{}", b"{\"taskId\":1}", b"[1]", b"\"task-28\"", b"a b", b"a:b", b"\xff\xfe", b"{\xff}"]
        {
            assert_eq!(kind(rubbish), "rubbish", "{rubbish:?}");
        }
        assert_eq!(kind(&[b'a'; 129]), "rubbish");
    }
}
