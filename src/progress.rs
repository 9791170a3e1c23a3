//! How far a job is: written by the engine and the delivery, read by whoever shows it. Never blocks a
//! download.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Shared between one attempt at a job and its watchers.
#[derive(Debug, Default)]
pub struct Progress(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The course goes over a network twice: the download is one half of the way, the upload the other.
    upload_follows: bool,
    course: String,
    lectures_total: u64,
    /// The number of the lecture that is on its way, from 1.
    lecture: u64,
    delivering: bool,
    /// Bytes received, what had to be fetched again not counted twice.
    bytes: u64,
    items_done: u64,
    items_total: u64,
    item: Item,
    current_file: String,
    uploaded: u64,
    to_upload: u64,
    /// What somebody should know of lectures, by their numbers.
    remarks: Vec<(u64, String)>,
    /// How many have been taken.
    remarks_taken: usize,
    /// What is shown never sinks: not when bytes have to be fetched again, and not when a file turns out
    /// to have more segments than it seemed.
    highest: f64,
}

/// The file that is being downloaded.
#[derive(Debug, Default)]
struct Item {
    /// Bytes of the job when it began.
    bytes_before: u64,
    segments_done: u64,
    segments_total: u64,
    /// Tracks in it that say how many bytes they are, and those that have.
    tracks: usize,
    tracks_told: usize,
    /// What they have said.
    bytes_expected: u64,
}

/// One look at a [`Progress`].
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Snapshot {
    /// 0 to 100; never less than in an earlier look.
    pub percent: f64,
    /// Name of the file that is on its way; empty before the first.
    pub current_file: String,
    /// 0 to 100, of that file alone. It sinks when bytes have to be fetched again.
    pub file_percent: f64,
    /// Title of the course; empty before it is known.
    pub course: String,
    /// The number of the lecture that is on its way, from 1; 0 before the first.
    pub lecture: u64,
    /// Lectures of the course; 0 before they are known.
    pub lectures: u64,
    /// Whether all is downloaded, and the course goes to its destination.
    pub delivering: bool,
    /// Bytes received.
    pub bytes_downloaded: u64,
    /// Bytes that will have been received; `None` as long as that is not known.
    pub total_bytes: Option<u64>,
    /// Bytes received and bytes sent.
    pub bytes_moved: u64,
}

impl Progress {
    /// Of a course that is uploaded when it is there.
    pub fn with_upload(upload_follows: bool) -> Progress {
        Progress(Mutex::new(State { upload_follows, ..State::default() }))
    }

    /// The course is known, with its number of lectures.
    pub fn set_course(&self, title: &str, lectures: u64) {
        let mut state = self.state();
        (state.course, state.lectures_total) = (title.to_owned(), lectures);
    }

    /// The next lecture begins.
    pub fn start_lecture(&self) {
        self.state().lecture += 1;
    }

    /// Somebody should know this of the lecture that is on its way, though it is no failure.
    pub fn remark(&self, remark: String) {
        let mut state = self.state();
        let lecture = state.lecture;
        state.remarks.push((lecture, remark));
    }

    /// What has been remarked since the last call, with the number of the lecture that it is about, from 1;
    /// and how many had been taken before.
    pub fn take_remarks(&self) -> (usize, Vec<(u64, String)>) {
        let mut state = self.state();
        let (before, remarks) = (state.remarks_taken, std::mem::take(&mut state.remarks));
        state.remarks_taken += remarks.len();
        (before, remarks)
    }

    /// All is downloaded, and goes to its destination.
    pub fn start_delivery(&self) {
        self.state().delivering = true;
    }

    /// The number of files in the job is known.
    pub fn set_items(&self, total: u64) {
        self.state().items_total = total;
    }

    /// The next file begins.
    pub fn start_item(&self, name: &str) {
        let mut state = self.state();
        state.begin_item();
        state.current_file = name.to_owned();
    }

    /// The file comes in so many tracks, of which each tells its segments.
    pub fn set_tracks(&self, count: usize) {
        self.state().item.tracks = count;
    }

    /// A track of the file has this many segments, of which `done` are there already; the others have
    /// so many `bytes`, if that is known.
    pub fn add_track(&self, total: u64, done: u64, bytes: Option<u64>) {
        let mut state = self.state();
        let item = &mut state.item;
        item.segments_done += done;
        item.segments_total += total;
        if let Some(bytes) = bytes {
            item.tracks_told += 1;
            item.bytes_expected += bytes;
        }
    }

    /// A track that grows has so many segments more.
    pub fn add_segments(&self, count: u64) {
        self.state().item.segments_total += count;
    }

    /// So many segments have been written.
    pub fn segments_done(&self, count: u64) {
        self.state().item.segments_done += count;
    }

    /// So many bytes of the file are still to come.
    pub fn expect_bytes(&self, remaining: u64) {
        let mut state = self.state();
        let received = state.item_bytes();
        let item = &mut state.item;
        (item.tracks, item.tracks_told, item.bytes_expected) = (1, 1, received.saturating_add(remaining));
    }

    /// Bytes have arrived.
    pub fn add_bytes(&self, count: u64) {
        self.state().bytes += count;
    }

    /// Bytes that had arrived have to be fetched again.
    pub fn take_back_bytes(&self, count: u64) {
        let mut state = self.state();
        state.bytes = state.bytes.saturating_sub(count);
    }

    /// The file is finished.
    pub fn finish_item(&self) {
        let mut state = self.state();
        state.begin_item();
        state.items_done += 1;
    }

    /// So many bytes of the course, of so many, are at its destination; `file` is on its way there.
    pub fn uploaded(&self, bytes: u64, total: u64, file: Option<&str>) {
        let mut state = self.state();
        (state.uploaded, state.to_upload) = (bytes, total);
        if let Some(file) = file {
            state.current_file = file.to_owned();
        }
    }

    /// How far it is now.
    pub fn snapshot(&self) -> Snapshot {
        let mut state = self.state();
        state.highest = state.highest.max(state.percent());
        Snapshot {
            percent: state.highest,
            current_file: state.current_file.clone(),
            file_percent: 100.0 * state.within_file(),
            course: state.course.clone(),
            lecture: state.lecture,
            lectures: state.lectures_total,
            delivering: state.delivering,
            bytes_downloaded: state.bytes,
            total_bytes: state.total_bytes(),
            bytes_moved: state.bytes + state.uploaded,
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // Whoever panicked under it has left numbers, which are shown and nothing else.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn begin_item(&mut self) {
        self.item = Item { bytes_before: self.bytes, ..Item::default() };
    }

    /// Bytes of the current file.
    fn item_bytes(&self) -> u64 {
        self.bytes.saturating_sub(self.item.bytes_before)
    }

    /// The current file, by its bytes where they are known, else by its segments.
    fn within_file(&self) -> f64 {
        match (self.item.bytes_total(), self.item.segments_total) {
            (Some(total), _) => share(self.item_bytes(), total),
            (None, total) => share(self.item.segments_done, total),
        }
    }

    /// Every file counts the same.
    fn downloaded(&self) -> f64 {
        if self.items_total == 0 {
            return 0.0;
        }
        ((self.items_done as f64 + self.within_file()) / self.items_total as f64).min(1.0)
    }

    fn percent(&self) -> f64 {
        match self.upload_follows {
            true => 50.0 * (self.downloaded() + share(self.uploaded, self.to_upload)),
            false => 100.0 * self.downloaded(),
        }
    }

    /// Known from the beginning of the last file on.
    fn total_bytes(&self) -> Option<u64> {
        match self.items_total.checked_sub(self.items_done)? {
            0 if self.items_total > 0 => Some(self.bytes),
            1 => Some(self.item.bytes_before + self.item.bytes_total()?).map(|total| total.max(self.bytes)),
            _ => None,
        }
    }
}

impl Item {
    fn bytes_total(&self) -> Option<u64> {
        (self.tracks > 0 && self.tracks_told == self.tracks).then_some(self.bytes_expected)
    }
}

/// From 0 to 1; 0 of nothing.
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part.min(whole) as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn percent(progress: &Progress) -> f64 {
        progress.snapshot().percent
    }

    #[test]
    fn files_count_the_same_and_the_current_one_by_its_segments() {
        let progress = Progress::default();
        assert_eq!(percent(&progress), 0.0);
        progress.set_items(4);
        progress.start_item("a");
        progress.add_track(10, 5, None);
        assert_eq!(percent(&progress), 12.5);
        // The sound has as many.
        progress.add_track(10, 0, None);
        assert_eq!(percent(&progress), 12.5);
        progress.segments_done(10);
        assert_eq!(percent(&progress), 18.75);
        progress.finish_item();
        assert_eq!(percent(&progress), 25.0);
        for _ in 0..3 {
            progress.start_item("b");
            progress.finish_item();
        }
        assert_eq!(percent(&progress), 100.0);
    }

    #[test]
    fn bytes_count_where_they_are_known() {
        let progress = Progress::default();
        progress.set_items(2);
        progress.start_item("a");
        progress.add_bytes(10);
        // Resumed, and the server tells the length: 30 of 40 are still to come.
        progress.expect_bytes(30);
        assert_eq!(percent(&progress), 12.5);
        assert_eq!(progress.snapshot().total_bytes, None, "the other file is not known");
        progress.add_bytes(30);
        progress.finish_item();
        progress.start_item("b");
        progress.set_tracks(2);
        progress.add_track(9, 0, Some(50));
        assert_eq!(progress.snapshot().total_bytes, None, "the sound is not known");
        progress.add_track(1, 0, Some(10));
        assert_eq!(progress.snapshot().total_bytes, Some(100));
        progress.add_bytes(30);
        assert_eq!(percent(&progress), 75.0);
        progress.take_back_bytes(15);
        assert_eq!(percent(&progress), 75.0);
        progress.add_bytes(45);
        progress.finish_item();
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.percent, snapshot.bytes_downloaded, snapshot.total_bytes), (100.0, 100, Some(100)));
    }

    #[test]
    fn an_upload_is_the_second_half() {
        let progress = Progress::with_upload(true);
        progress.set_items(1);
        progress.start_item("a");
        progress.add_bytes(100);
        progress.finish_item();
        assert_eq!(percent(&progress), 50.0);
        progress.uploaded(20, 80, Some("b"));
        let snapshot = progress.snapshot();
        assert_eq!((snapshot.percent, &*snapshot.current_file, snapshot.bytes_moved), (62.5, "b", 120));
        // More has been found in the folder.
        progress.uploaded(30, 160, None);
        assert_eq!(percent(&progress), 62.5);
        progress.uploaded(160, 160, None);
        assert_eq!(percent(&progress), 100.0);
    }

    #[test]
    fn a_watcher_sees_the_lecture_and_the_share_of_its_file() {
        let progress = Progress::default();
        progress.set_course("Loops", 2);
        progress.set_items(2);
        progress.start_lecture();
        progress.start_item("a");
        progress.finish_item();
        progress.start_lecture();
        progress.start_item("b");
        progress.add_track(4, 1, None);
        let seen = progress.snapshot();
        assert_eq!((&*seen.course, seen.lecture, seen.lectures), ("Loops", 2, 2));
        assert_eq!((seen.percent, seen.file_percent, seen.delivering), (62.5, 25.0, false));
        progress.start_delivery();
        assert!(progress.snapshot().delivering);
    }

    #[derive(Debug, Clone)]
    enum Call {
        Items(u64),
        Start,
        Tracks(usize),
        Track(u64, u64, Option<u64>),
        More(u64),
        Done(u64),
        Expect(u64),
        Bytes(u64),
        Back(u64),
        Finish,
        Uploaded(u64, u64),
    }

    fn call() -> impl Strategy<Value = Call> {
        prop_oneof![
            (0..5_u64).prop_map(Call::Items),
            Just(Call::Start),
            (0..3_usize).prop_map(Call::Tracks),
            (0..9_u64, 0..9_u64, proptest::option::of(0..99_u64))
                .prop_map(|(total, done, bytes)| { Call::Track(total, done, bytes) }),
            (0..9_u64).prop_map(Call::More),
            (0..9_u64).prop_map(Call::Done),
            (0..99_u64).prop_map(Call::Expect),
            (0..99_u64).prop_map(Call::Bytes),
            (0..99_u64).prop_map(Call::Back),
            Just(Call::Finish),
            (0..99_u64, 0..99_u64).prop_map(|(bytes, total)| Call::Uploaded(bytes, total)),
        ]
    }

    proptest! {
        #[test]
        fn it_never_goes_backwards_whatever_is_told(upload in any::<bool>(), calls in prop::collection::vec(call(), 0..60)) {
            let progress = Progress::with_upload(upload);
            let mut before = 0.0;
            for call in calls {
                match call.clone() {
                    Call::Items(total) => progress.set_items(total),
                    Call::Start => progress.start_item("x"),
                    Call::Tracks(count) => progress.set_tracks(count),
                    Call::Track(total, done, bytes) => progress.add_track(total, done, bytes),
                    Call::More(count) => progress.add_segments(count),
                    Call::Done(count) => progress.segments_done(count),
                    Call::Expect(bytes) => progress.expect_bytes(bytes),
                    Call::Bytes(count) => progress.add_bytes(count),
                    Call::Back(count) => progress.take_back_bytes(count),
                    Call::Finish => progress.finish_item(),
                    Call::Uploaded(bytes, total) => progress.uploaded(bytes, total, None),
                }
                let snapshot = progress.snapshot();
                prop_assert!((before..=100.0).contains(&snapshot.percent), "{call:?}: {before}, then {snapshot:?}");
                prop_assert!(snapshot.total_bytes.is_none_or(|total| total >= snapshot.bytes_downloaded));
                before = snapshot.percent;
            }
        }
    }
}
