//! The course manifest, as catalogues and resolver commands answer it.

use serde_json::Value;

use super::course::{Asset, Caption, Course, Lecture, Section, Stream, StreamKind};
use super::json::{Node, file_name, title};
use crate::config::ManifestLimits;
use crate::failure::{Failure, FailureKind, Result};

/// Errors that are told at once.
const ERRORS_SHOWN: usize = 5;

/// Reads a manifest. Unknown fields are passed over. A lecture with nothing to download keeps its
/// place, so that the numbers of the others do not depend on it.
///
/// # Errors
/// [`FailureKind::ManifestInvalid`] with the JSON path of each error, [`FailureKind::CourseEmpty`]
/// when there is nothing to download at all.
pub fn course(document: &Value, limits: &ManifestLimits) -> Result<Course> {
    let root = Node::root(document);
    root.object()?;
    let mut errors = Vec::new();
    let course_title = root.need("title").and_then(|node| {
        let text = title(node.text()?);
        if text.is_empty() { Err(node.error("is empty")) } else { Ok(text) }
    });
    let course_title = keep(course_title, &mut errors).unwrap_or_default();
    let mut sections = Vec::new();
    for node in keep(root.need("sections").and_then(|node| node.array()), &mut errors).into_iter().flatten() {
        sections.extend(keep(section(&node, limits, &mut errors), &mut errors));
    }
    let lectures: usize = sections.iter().map(|section: &Section| section.lectures.len()).sum();
    if lectures > limits.max_lectures {
        errors.push(root.error(format!("more than {} lectures ({lectures})", limits.max_lectures)));
    }
    if errors.is_empty() { not_empty(Course { title: course_title, sections }) } else { Err(all(&errors)) }
}

/// Refuses a course that has nothing to download.
pub fn not_empty(course: Course) -> Result<Course> {
    let something =
        |lecture: &Lecture| lecture.stream.is_some() || !lecture.captions.is_empty() || !lecture.assets.is_empty();
    if course.sections.iter().flat_map(|section| &section.lectures).any(something) {
        return Ok(course);
    }
    let reason = format!("\"{}\" has no lecture with a stream, captions or assets", course.title);
    Err(Failure::new(FailureKind::CourseEmpty, reason))
}

fn section(node: &Node, limits: &ManifestLimits, errors: &mut Vec<Failure>) -> Result<Section> {
    node.object()?;
    let title = keep(optional_title(node), errors).unwrap_or_default();
    let mut lectures = Vec::new();
    for node in node.need("lectures")?.array()? {
        // A wrong lecture is counted too: only the errors of this document come of it.
        lectures.extend(keep(lecture(&node, limits, errors), errors));
    }
    Ok(Section { title, lectures })
}

fn lecture(node: &Node, limits: &ManifestLimits, errors: &mut Vec<Failure>) -> Result<Lecture> {
    node.object()?;
    let title = keep(optional_title(node), errors).unwrap_or_default();
    let stream = node.get("stream").and_then(|node| keep(stream(&node), errors));
    let captions: Vec<_> = node.optional_array("captions")?.filter_map(|node| keep(caption(&node), errors)).collect();
    let assets: Vec<_> = node.optional_array("assets")?.filter_map(|node| keep(asset(&node), errors)).collect();
    if captions.len() + assets.len() > limits.max_files {
        return Err(node.error(format!("more than {} captions and assets", limits.max_files)));
    }
    Ok(Lecture { title, stream, captions, assets })
}

fn optional_title(node: &Node) -> Result<String> {
    Ok(title(node.optional_text("title")?.unwrap_or_default()))
}

fn stream(node: &Node) -> Result<Stream> {
    node.object()?;
    let kind = match node.optional_text("type")? {
        None | Some("hls") => StreamKind::Hls,
        Some("file") => StreamKind::File,
        Some(_) => return Err(node.need("type")?.error("neither \"hls\" nor \"file\"")),
    };
    let headers = node.get("headers").map(|node| node.headers()).transpose()?.unwrap_or_default();
    Ok(Stream { url: node.need("url")?.url()?, kind, headers })
}

fn caption(node: &Node) -> Result<Caption> {
    node.object()?;
    let language = node.optional_text("language")?.unwrap_or("und").to_owned();
    Ok(Caption { language, url: node.need("url")?.url()? })
}

fn asset(node: &Node) -> Result<Asset> {
    node.object()?;
    let url = node.need("url")?.url()?;
    let name = title(node.optional_text("name")?.unwrap_or_default());
    let name = if name.is_empty() { file_name(&url).unwrap_or_else(|| "asset".into()) } else { name };
    Ok(Asset { name, url })
}

fn keep<T>(result: Result<T>, errors: &mut Vec<Failure>) -> Option<T> {
    result.map_err(|failure| errors.push(failure)).ok()
}

fn all(errors: &[Failure]) -> Failure {
    let mut text: Vec<&str> = errors.iter().take(ERRORS_SHOWN).map(|failure| failure.message.as_str()).collect();
    let more = format!("and {} more", errors.len().saturating_sub(ERRORS_SHOWN));
    if errors.len() > ERRORS_SHOWN {
        text.push(&more);
    }
    Failure::new(FailureKind::ManifestInvalid, format!("not a course manifest: {}", text.join("; ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn course(document: &Value) -> Result<Course> {
        super::course(document, &ManifestLimits::default())
    }

    fn failure(document: Value) -> Failure {
        course(&document).unwrap_err()
    }

    #[test]
    fn the_documented_manifest_is_read() {
        let course = course(&json!({"title":"Course Name","version":2,
            "sections":[{"title":"Getting started","lectures":[
              {"title":"Welcome","stream":{"url":"https://media.example.com/a/master.m3u8","headers":{"Referer":"https://learn.example.com/"}},
               "captions":[{"language":"en","url":"https://x.example/en.vtt"}],
               "assets":[{"name":"slides.pdf","url":"https://x.example/1"},{"url":"https://x.example/a/code%20base.zip?s=1"}]},
              {"title":"File","stream":{"url":"https://x.example/video.mp4","type":"file"},"captions":null},
              {"title":"Nothing"}]}]}))
        .unwrap();
        let lectures = &course.sections[0].lectures;
        let stream = lectures[0].stream.as_ref().unwrap();
        assert_eq!(course.title, "Course Name");
        assert_eq!(stream.kind, StreamKind::Hls);
        assert_eq!(stream.headers, [("Referer".to_owned(), "https://learn.example.com/".to_owned())]);
        assert_eq!(lectures[0].captions[0].language, "en");
        assert_eq!(lectures[0].assets[0].name, "slides.pdf");
        assert_eq!(lectures[0].assets[1].name, "code base.zip");
        assert_eq!(lectures[1].stream.as_ref().unwrap().kind, StreamKind::File);
        assert_eq!(lectures.len(), 3);
    }

    #[test]
    fn every_error_has_its_path() {
        let with =
            |lecture: Value| json!({"title":"C","sections":[{"title":"S","lectures":[{"title":"ok"}, lecture]}]});
        for (document, says) in [
            (json!([]), "not an object"),
            (json!({"sections":[]}), "title: is missing"),
            (json!({"title":" ","sections":[]}), "title: is empty"),
            (json!({"title":7,"sections":[]}), "title: not a text"),
            (json!({"title":"C"}), "sections: is missing"),
            (json!({"title":"C","sections":{}}), "sections: not an array"),
            (json!({"title":"C","sections":[7]}), "sections[0]: not an object"),
            (json!({"title":"C","sections":[{}]}), "sections[0].lectures: is missing"),
            (with(json!("x")), "sections[0].lectures[1]: not an object"),
            (with(json!({"title":[]})), "sections[0].lectures[1].title: not a text"),
            (with(json!({"stream":"x"})), "sections[0].lectures[1].stream: not an object"),
            (with(json!({"stream":{}})), "sections[0].lectures[1].stream.url: is missing"),
            (with(json!({"stream":{"url":"/rel"}})), "sections[0].lectures[1].stream.url: not a URL"),
            (with(json!({"stream":{"url":"file:///etc/passwd"}})), "sections[0].lectures[1].stream.url: "),
            (with(json!({"stream":{"url":"http://h/","type":"dash"}})), "sections[0].lectures[1].stream.type: neither"),
            (
                with(json!({"stream":{"url":"http://h/","headers":{"a b":"c"}}})),
                "stream.headers.a b: not a header name",
            ),
            (
                with(json!({"stream":{"url":"http://h/","headers":{"X":"a\r\nY: z"}}})),
                "stream.headers.X: not a header value",
            ),
            (with(json!({"captions":[{"language":"en"}]})), "sections[0].lectures[1].captions[0].url: is missing"),
            (with(json!({"assets":[{"name":"x","url":9}]})), "sections[0].lectures[1].assets[0].url: not a text"),
        ] {
            let failure = failure(document);
            assert_eq!(failure.kind, FailureKind::ManifestInvalid);
            assert!(failure.message.contains(says), "{says}: {}", failure.message);
        }
    }

    #[test]
    fn several_errors_are_told_at_once() {
        let lectures: Vec<Value> = (0..8).map(|_| json!({"stream":{"url":"x"}})).collect();
        let failure = failure(json!({"sections":[{"lectures":lectures}]}));
        assert!(failure.message.contains("title: is missing; sections[0].lectures[0].stream.url"), "{failure}");
        assert!(failure.message.ends_with("and 4 more"), "{failure}");
    }

    #[test]
    fn limits_and_emptiness() {
        let lectures: Vec<Value> = (0..=10_000).map(|_| json!({})).collect();
        assert!(failure(json!({"title":"C","sections":[{"lectures":lectures}]})).message.contains("more than 10000"));
        let empty = failure(json!({"title":"C","sections":[{"lectures":[{"title":"L","assets":[]}]}]}));
        assert_eq!(empty.kind, FailureKind::CourseEmpty);
    }
}
