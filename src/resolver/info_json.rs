//! The info JSON that `yt-dlp -J` prints: one video, or a playlist of them, nested too.

use std::cmp::Reverse;

use serde_json::Value;

use super::course::{Caption, Course, Lecture, Section, Stream, StreamKind};
use super::json::{Node, title};
use super::manifest::not_empty;
use crate::config::ManifestLimits;
use crate::failure::{Failure, FailureKind, Result};

/// Playlists within playlists.
const MAX_DEPTH: usize = 16;

/// Reads an info JSON. A playlist is a section; where videos name their chapter, each chapter is one.
///
/// # Errors
/// [`FailureKind::ManifestInvalid`] with the JSON path, [`FailureKind::LiveUnsupported`],
/// [`FailureKind::DrmProtected`], [`FailureKind::CourseEmpty`].
pub fn course(document: &Value, limits: &ManifestLimits) -> Result<Course> {
    let root = Node::root(document);
    root.object()?;
    let course_title = title_of(&root)?.ok_or_else(|| root.error("title: is missing"))?;
    let mut sections = Vec::new();
    if is_playlist(&root) {
        read_playlist(&root, &course_title, 0, &mut sections)?;
    } else {
        sections.push(Section { title: course_title.clone(), lectures: vec![lecture(&root)?] });
    }
    let lectures: usize = sections.iter().map(|section: &Section| section.lectures.len()).sum();
    if lectures > limits.max_lectures {
        return Err(root.error(format!("more than {} entries ({lectures})", limits.max_lectures)));
    }
    let files = |lecture: &Lecture| lecture.captions.len() > limits.max_files;
    if sections.iter().flat_map(|section| &section.lectures).any(files) {
        return Err(root.error(format!("an entry with more than {} subtitles", limits.max_files)));
    }
    not_empty(Course { title: course_title, sections })
}

fn is_playlist(node: &Node) -> bool {
    node.get("entries").is_some()
}

/// Title, else the id.
fn title_of(node: &Node) -> Result<Option<String>> {
    for name in ["title", "id"] {
        let text = title(node.optional_text(name)?.unwrap_or_default());
        if !text.is_empty() {
            return Ok(Some(text));
        }
    }
    Ok(None)
}

fn read_playlist(node: &Node, name: &str, depth: usize, sections: &mut Vec<Section>) -> Result<()> {
    if depth > MAX_DEPTH {
        return Err(node.error(format!("playlists nested deeper than {MAX_DEPTH}")));
    }
    // A section goes on as long as its videos name the same chapter and no playlist comes between.
    let mut open = false;
    for entry in node.need("entries")?.array()? {
        if entry.value.is_null() {
            return Err(entry.error("null: yt-dlp could not read this entry"));
        }
        entry.object()?;
        if is_playlist(&entry) {
            let name = title_of(&entry)?.unwrap_or_else(|| name.to_owned());
            read_playlist(&entry, &name, depth + 1, sections)?;
            open = false;
            continue;
        }
        let chapter = entry.get("chapter").and_then(|chapter| chapter.value.as_str().map(title));
        let chapter = chapter.unwrap_or_else(|| name.to_owned());
        let lecture = lecture(&entry)?;
        match sections.last_mut() {
            Some(section) if open && section.title == chapter => section.lectures.push(lecture),
            _ => sections.push(Section { title: chapter, lectures: vec![lecture] }),
        }
        open = true;
    }
    Ok(())
}

fn lecture(node: &Node) -> Result<Lecture> {
    let name = title_of(node)?.unwrap_or_default();
    let refuse = |kind, reason: &str| {
        let text = node.error(format!("\"{name}\" {reason}")).message;
        Err(Failure::new(kind, text))
    };
    let says = |field: &str, word: &str| node.value.get(field).and_then(Value::as_str) == Some(word);
    if is_true(node, "is_live") || says("live_status", "is_live") || says("live_status", "is_upcoming") {
        return refuse(FailureKind::LiveUnsupported, "is a live stream");
    }
    if is_true(node, "_has_drm") || is_true(node, "has_drm") {
        return refuse(FailureKind::DrmProtected, "is protected by DRM");
    }
    if says("_type", "url") || says("_type", "url_transparent") {
        return refuse(FailureKind::ManifestInvalid, "is only a link: run yt-dlp without --flat-playlist");
    }
    let mut formats: Vec<Node> = node.optional_array("formats")?.filter(|format| format.value.is_object()).collect();
    if formats.is_empty() && (node.get("url").is_some() || node.get("manifest_url").is_some()) {
        formats.push(node.clone());
    }
    if formats.is_empty() {
        return refuse(FailureKind::ManifestInvalid, "has no formats");
    }
    formats.retain(|format| !is_true(format, "has_drm"));
    if formats.is_empty() {
        return refuse(FailureKind::DrmProtected, "is protected by DRM in every format");
    }
    let Some(stream) = stream(node, &formats)? else {
        return refuse(FailureKind::ManifestInvalid, "has no HLS manifest and no file with both picture and sound");
    };
    Ok(Lecture { title: name.clone(), stream: Some(stream), captions: captions(node)?, assets: Vec::new() })
}

fn is_true(node: &Node, name: &str) -> bool {
    node.value.get(name).and_then(Value::as_bool) == Some(true)
}

/// The HLS manifest, else the best whole file. yt-dlp lists formats from worst to best.
fn stream(node: &Node, formats: &[Node]) -> Result<Option<Stream>> {
    let candidates = formats.iter().enumerate().filter_map(|(index, format)| {
        let hls = matches!(text(format, "protocol"), "m3u8" | "m3u8_native");
        let (picture, sound) = (text(format, "vcodec") != "none", text(format, "acodec") != "none");
        let whole = picture && sound;
        let manifest = hls.then(|| format.get("manifest_url").or_else(|| node.get("manifest_url"))).flatten();
        // A multivariant playlist brings its own audio; anything else must have both in one.
        let rank = match (hls, &manifest, whole) {
            (true, Some(_), _) if picture => 4,
            (true, None, true) => 3,
            (false, _, true) if is_plain_file(format) => 2,
            (true, _, false) if sound => 1,
            (false, _, false) if sound && is_plain_file(format) => 0,
            _ => return None,
        };
        // Sound alone is a lecture only when nothing at all has a picture.
        let only_sound = !picture && formats.iter().any(|format| text(format, "vcodec") != "none" && !is_image(format));
        if only_sound {
            return None;
        }
        let kind = if hls { StreamKind::Hls } else { StreamKind::File };
        Some((Reverse(rank), Reverse(index), manifest.or_else(|| format.get("url")), kind, format))
    });
    let Some((.., url, kind, format)) = candidates.min_by_key(|&(rank, index, ..)| (rank, index)) else {
        return Ok(None);
    };
    let url = url.ok_or_else(|| format.error("url: is missing"))?.url()?;
    let headers = format.get("http_headers").or_else(|| node.get("http_headers"));
    let headers = headers.map(|headers| headers.headers()).transpose()?.unwrap_or_default();
    Ok(Some(Stream { url, kind, headers }))
}

fn text<'a>(node: &Node<'a>, name: &str) -> &'a str {
    node.value.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn is_plain_file(format: &Node) -> bool {
    let protocol = text(format, "protocol");
    let plain = matches!(protocol, "http" | "https") || protocol.is_empty() && text(format, "url").starts_with("http");
    plain && !is_image(format)
}

/// Storyboards are listed among the formats.
fn is_image(format: &Node) -> bool {
    matches!(text(format, "ext"), "mhtml" | "jpg" | "png" | "webp")
}

/// WebVTT files. Subtitles that are playlists themselves are not files.
fn captions(node: &Node) -> Result<Vec<Caption>> {
    let mut captions = Vec::new();
    let Some(subtitles) = node.get("subtitles") else { return Ok(captions) };
    for (language, tracks) in subtitles.members()? {
        let file = |track: &Node| text(track, "ext") == "vtt" && !text(track, "protocol").starts_with("m3u8");
        if let Some(track) = tracks.array()?.find(|track| file(track) && track.get("url").is_some()) {
            captions.push(Caption { language: language.to_owned(), url: track.need("url")?.url()? });
        }
    }
    Ok(captions)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn course(document: &Value) -> Result<Course> {
        super::course(document, &ManifestLimits::default())
    }

    fn hls(height: u32) -> Value {
        json!({"protocol":"m3u8_native","url":format!("https://m.example/{height}.m3u8"),"vcodec":"avc1","acodec":"none",
               "manifest_url":"https://m.example/master.m3u8","http_headers":{"Referer":"https://l.example/"}})
    }

    fn only_stream(document: Value) -> Stream {
        course(&document).unwrap().sections[0].lectures[0].stream.clone().unwrap()
    }

    #[test]
    fn a_video_gives_its_manifest_headers_and_vtt_subtitles() {
        let course = course(&json!({"_type":"video","id":"7","title":"Loops","is_live":false,"_has_drm":null,
            "formats":[{"protocol":"mhtml","ext":"mhtml","vcodec":"none","acodec":"none","url":"https://m.example/s"},
                       {"protocol":"https","url":"https://m.example/360.mp4","vcodec":"avc1","acodec":"mp4a"}, hls(480), hls(720)],
            "subtitles":{"en":[{"ext":"srt","url":"https://m.example/en.srt"},{"ext":"vtt","url":"https://m.example/en.vtt"}],
                         "de":[{"ext":"vtt","protocol":"m3u8_native","url":"https://m.example/de.m3u8"}]}}))
        .unwrap();
        let lecture = &course.sections[0].lectures[0];
        let stream = lecture.stream.as_ref().unwrap();
        assert_eq!((stream.url.as_str(), stream.kind), ("https://m.example/master.m3u8", StreamKind::Hls));
        assert_eq!(stream.headers, [("Referer".to_owned(), "https://l.example/".to_owned())]);
        assert_eq!(lecture.captions.len(), 1);
        assert_eq!(lecture.captions[0].url.as_str(), "https://m.example/en.vtt");
    }

    #[test]
    fn a_plain_file_is_taken_when_there_is_no_manifest() {
        let stream = only_stream(json!({"title":"T","formats":[
            {"protocol":"https","url":"https://m.example/a.m4a","vcodec":"none","acodec":"mp4a"},
            {"protocol":"https","url":"https://m.example/360.mp4","vcodec":"avc1","acodec":"mp4a"},
            {"protocol":"https","url":"https://m.example/720.mp4","vcodec":"avc1","acodec":"mp4a"},
            {"protocol":"https","url":"https://m.example/1080v.mp4","vcodec":"avc1","acodec":"none"},
            {"protocol":"http_dash_segments","url":"https://m.example/x.mpd","manifest_url":"https://m.example/x.mpd"}]}));
        assert_eq!((stream.url.as_str(), stream.kind), ("https://m.example/720.mp4", StreamKind::File));
        let single = only_stream(json!({"title":"T","url":"https://m.example/v.mp4","ext":"mp4"}));
        assert_eq!(single.kind, StreamKind::File);
        let sound = only_stream(
            json!({"title":"T","formats":[{"protocol":"https","url":"https://m.example/a.mp3","vcodec":"none"}]}),
        );
        assert_eq!(sound.url.as_str(), "https://m.example/a.mp3");
    }

    #[test]
    fn playlists_and_chapters_become_sections() {
        let video = |title: &str, chapter: Option<&str>| json!({"title":title,"chapter":chapter,"formats":[hls(1)]});
        let course = course(&json!({"_type":"playlist","title":"Course","entries":[
            video("a", None), video("b", Some("One")), video("c", Some("One")),
            {"_type":"playlist","title":"Nested","entries":[video("d", None)]},
            video("e", Some("One"))]}))
        .unwrap();
        let shape: Vec<(&str, Vec<&str>)> = course
            .sections
            .iter()
            .map(|s| (s.title.as_str(), s.lectures.iter().map(|l| l.title.as_str()).collect()))
            .collect();
        assert_eq!(shape, [("Course", vec!["a"]), ("One", vec!["b", "c"]), ("Nested", vec!["d"]), ("One", vec!["e"])]);
    }

    #[test]
    fn what_cannot_be_downloaded_is_refused_with_its_reason() {
        let within = |entry: Value| json!({"_type":"playlist","title":"C","entries":[entry]});
        for (document, kind, says) in [
            (json!({"title":"T","is_live":true,"formats":[hls(1)]}), FailureKind::LiveUnsupported, "\"T\" is a live"),
            (json!({"title":"T","live_status":"is_upcoming"}), FailureKind::LiveUnsupported, "\"T\" is a live"),
            (json!({"title":"T","_has_drm":true,"formats":[hls(1)]}), FailureKind::DrmProtected, "\"T\" is protected"),
            (
                json!({"title":"T","formats":[{"has_drm":true,"url":"https://h/"}]}),
                FailureKind::DrmProtected,
                "every format",
            ),
            (
                within(json!({"title":"T","formats":[]})),
                FailureKind::ManifestInvalid,
                "entries[0]: \"T\" has no formats",
            ),
            (
                within(json!({"title":"T","formats":[{"protocol":"rtmp","url":"rtmp://h/"}]})),
                FailureKind::ManifestInvalid,
                "no HLS",
            ),
            (within(json!(null)), FailureKind::ManifestInvalid, "entries[0]: null"),
            (
                within(json!({"_type":"url","id":"x","url":"https://h/"})),
                FailureKind::ManifestInvalid,
                "--flat-playlist",
            ),
            (
                within(json!({"title":"T","formats":[{"protocol":"m3u8","manifest_url":"x"}]})),
                FailureKind::ManifestInvalid,
                "entries[0].formats[0].manifest_url: not a URL",
            ),
            (json!({"_type":"playlist","title":"C","entries":[]}), FailureKind::CourseEmpty, "no lecture"),
            (json!({"formats":[]}), FailureKind::ManifestInvalid, "title: is missing"),
        ] {
            let failure = course(&document).unwrap_err();
            assert_eq!(failure.kind, kind, "{document}");
            assert!(failure.message.contains(says), "{says}: {}", failure.message);
        }
        let deep =
            (0..30).fold(json!({"title":"T","formats":[hls(1)]}), |inner, _| json!({"title":"P","entries":[inner]}));
        assert!(course(&deep).unwrap_err().message.contains("nested deeper"));
    }
}
