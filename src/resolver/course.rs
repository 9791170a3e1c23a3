//! What a course consists of: the answer of every resolver.

use url::Url;

/// A course, in the order in which it is shown to the customer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Course {
    /// As the catalogue gives it; made safe for the disk later.
    pub title: String,
    pub sections: Vec<Section>,
}

impl Course {
    /// Cuts every title, and the name of every asset, to so many characters.
    pub fn cut_titles(&mut self, characters: usize) {
        let cut = |title: &mut String| {
            if let Some((end, _)) = title.char_indices().nth(characters) {
                title.truncate(end);
            }
        };
        cut(&mut self.title);
        for section in &mut self.sections {
            cut(&mut section.title);
            for lecture in &mut section.lectures {
                cut(&mut lecture.title);
                lecture.assets.iter_mut().for_each(|asset| cut(&mut asset.name));
            }
        }
    }
}

/// A chapter of the course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Section {
    pub title: String,
    pub lectures: Vec<Lecture>,
}

/// One lecture: a stream, assets, or both.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lecture {
    pub title: String,
    pub stream: Option<Stream>,
    pub captions: Vec<Caption>,
    pub assets: Vec<Asset>,
}

/// Where the pictures and the sound are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    pub url: Url,
    pub kind: StreamKind,
    /// Sent with every request for the stream, to the stream's own host.
    pub headers: Vec<(String, String)>,
}

/// How a stream is fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamKind {
    /// An HLS playlist.
    Hls,
    /// One plain file.
    File,
}

/// Subtitles as a file of their own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Caption {
    /// Language tag, part of the file name.
    pub language: String,
    pub url: Url,
}

/// Something to download beside the lecture (slides, exercises).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Asset {
    /// File name with extension.
    pub name: String,
    pub url: Url,
}
