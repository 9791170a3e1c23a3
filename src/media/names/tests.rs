use super::*;
use crate::resolver::{Asset, Caption, Section};
use proptest::prelude::*;
use std::path::{Component, Path};
use url::Url;

fn url() -> Url {
    Url::parse("http://h/x").unwrap()
}

fn lecture(title: &str, captions: &[&str], assets: &[&str]) -> Lecture {
    Lecture {
        title: title.into(),
        stream: None,
        captions: captions.iter().map(|&language| Caption { language: language.into(), url: url() }).collect(),
        assets: assets.iter().map(|&name| Asset { name: name.into(), url: url() }).collect(),
    }
}

fn course(title: &str, sections: Vec<(&str, Vec<Lecture>)>) -> Course {
    let section = |(title, lectures): (&str, _)| Section { title: title.to_owned(), lectures };
    Course { title: title.into(), sections: sections.into_iter().map(section).collect() }
}

fn text(paths: &[PathBuf]) -> Vec<&str> {
    paths.iter().map(|path| path.to_str().unwrap()).collect()
}

#[test]
fn a_course_is_laid_out_as_people_expect() {
    let course = course(
        "Intro to C++: part 1",
        vec![
            ("Getting started", vec![lecture("Welcome", &["en"], &["slides.pdf"]), lecture(".NET 8.0", &[], &[])]),
            ("", vec![lecture("", &[], &[])]),
        ],
    );
    let plan = plan(&course);
    assert_eq!(plan[0].directory, Path::new("Intro to C++_ part 1/01 Getting started"));
    assert_eq!(plan[0].media("mp4"), Path::new("Intro to C++_ part 1/01 Getting started/001 Welcome.mp4"));
    assert_eq!(text(&plan[0].captions), ["Intro to C++_ part 1/01 Getting started/001 Welcome.en.vtt"]);
    assert_eq!(text(&plan[0].assets), ["Intro to C++_ part 1/01 Getting started/001 Welcome - slides.pdf"]);
    assert_eq!(plan[1].media("mp4"), Path::new("Intro to C++_ part 1/01 Getting started/002 .NET 8.0.mp4"));
    assert_eq!(plan[2].media("ts"), Path::new("Intro to C++_ part 1/02/001.ts"));
    assert_eq!((plan[2].section, plan[2].lecture), (1, 0));
}

#[test]
fn numbers_grow_with_the_course() {
    let lectures = (0..1000).map(|_| lecture("x", &[], &[])).collect();
    let mut sections = vec![("big", lectures)];
    sections.extend((0..99).map(|_| ("s", vec![lecture("y", &[], &[])])));
    let plan = plan(&course("c", sections));
    assert_eq!(plan[0].stem, Path::new("c/001 big/0001 x"));
    assert_eq!(plan[999].stem, Path::new("c/001 big/1000 x"));
    assert_eq!(plan[1000].stem, Path::new("c/002 s/001 y"));
}

#[test]
fn line_37_equal_names_are_told_apart_by_position() {
    let lectures = vec![
        lecture("A", &["en", "EN", "../x", ""], &["n.pdf", "N.PDF", "cafe\u{301}.txt", "caf\u{e9}.txt"]),
        lecture("A", &[], &["x", "x.part", "x.part.meta", "", "."]),
    ];
    let plan = plan(&course("c", vec![("s", lectures)]));
    assert_eq!(
        text(&plan[0].captions),
        ["c/01 s/001 A.en.vtt", "c/01 s/001 A.EN-2.vtt", "c/01 s/001 A.x.vtt", "c/01 s/001 A.und.vtt"]
    );
    assert_eq!(
        text(&plan[0].assets),
        [
            "c/01 s/001 A - n.pdf",
            "c/01 s/001 A - N (2).PDF",
            "c/01 s/001 A - caf\u{e9}.txt",
            "c/01 s/001 A - caf\u{e9} (2).txt"
        ]
    );
    // "x.part" is what "x" is called while it grows.
    assert_eq!(
        text(&plan[1].assets),
        [
            "c/01 s/002 A - x",
            "c/01 s/002 A - x (2).part",
            "c/01 s/002 A - x.part (2).meta",
            "c/01 s/002 A - _",
            "c/01 s/002 A - _ (2)"
        ]
    );
}

#[test]
fn line_37_a_thousand_equal_names_are_all_there() {
    let long = "\u{e4}".repeat(300);
    let assets: Vec<&str> = (0..1000).map(|copy| if copy % 2 == 0 { "Notes.pdf" } else { long.as_str() }).collect();
    let plan = plan(&course("c", vec![("s", vec![lecture("A", &[], &assets)])]));
    let names: HashSet<String> = text(&plan[0].assets).into_iter().map(|name| name.to_lowercase()).collect();
    assert_eq!(names.len(), 1000);
    assert!(names.contains("c/01 s/001 a - notes (500).pdf"), "numbered in their order");
    assert!(names.iter().all(|name| name.rsplit('/').next().unwrap().len() <= 255 - 16));
}

#[test]
fn line_36_hostile_titles_become_one_harmless_component() {
    for (title, folder) in [
        ("../../etc/passwd", "etc_passwd"),
        ("/abs", "abs"),
        ("C:\\x", "C__x"),
        ("NUL", "NUL_"),
        ("..", "Course"),
        ("", "Course"),
        ("\u{200b}\u{feff}", "Course"),
        (".hidden", "hidden"),
        ("-rf", "rf"),
        ("a\u{202e}gpj.exe", "a_gpj.exe"),
        ("in\u{200b}visible", "invisible"),
        ("tab\tnew\nline\u{0}", "tab new line"),
        ("a/b", "a_b"),
        ("dots and blank. . ", "dots and blank"),
        ("e\u{301}", "\u{e9}"),
        ("concat:http://h/", "concat_http___h"),
    ] {
        assert_eq!(course_folder(title), folder, "{title:?}");
    }
}

#[test]
fn a_long_asset_keeps_its_extension() {
    let long = "\u{0915}".repeat(300);
    let name = format!("{long}.pdf");
    let plan = plan(&course(&long, vec![(&long, vec![lecture(&long, &[&long], &[&name, &name])])]));
    assert!(text(&plan[0].assets).iter().all(|name| name.ends_with(".pdf")));
    assert_ne!(plan[0].assets[0], plan[0].assets[1]);
}

proptest! {
    #[test]
    fn line_37_every_name_is_safe_short_and_alone(titles in proptest::collection::vec("\\PC{0,200}|[./\\\\:\\p{Cc} A-Ca-c]{0,9}", 12)) {
        let lectures = titles.chunks(3).map(|three| {
            let texts: Vec<&str> = three.iter().map(String::as_str).collect();
            lecture(texts[0], &texts, &texts)
        }).collect();
        let course = course(&titles[0], vec![(&titles[1], lectures)]);
        let plan = plan(&course);
        let mut seen = HashSet::new();
        for paths in &plan {
            let mut all = vec![paths.media("mp4")];
            all.extend(paths.captions.iter().chain(&paths.assets).cloned());
            for path in all {
                prop_assert_eq!(path.components().count(), 3);
                for component in path.components() {
                    prop_assert!(matches!(component, Component::Normal(_)));
                    let name = component.as_os_str().to_str().unwrap();
                    prop_assert!(name.len() <= MAX_NAME_BYTES - SUFFIX_BYTES || path.parent().unwrap().ends_with(name), "{}", name);
                    prop_assert!(!name.starts_with(['.', '-', ' ']) && !name.contains(char::is_control));
                }
                prop_assert!(seen.insert(path.to_str().unwrap().to_lowercase()), "{:?}", path);
            }
        }
    }
}
