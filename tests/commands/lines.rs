//! Forty-five things that hostile or broken servers, stewards of courses and hosts do: each has tests that are
//! named after its number, `line_01_…` to `line_45_…`, in the room or the test program that it is about.

use std::path::Path;

const LINES: usize = 45;

/// Calls `see` with the name of each test function below a directory.
fn each_test(directory: &Path, see: &mut impl FnMut(&str)) {
    for entry in std::fs::read_dir(directory).expect("a directory of the sources") {
        let path = entry.expect("its entry").path();
        if path.is_dir() {
            each_test(&path, see);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path).expect("a source file");
            let lines: Vec<&str> = text.lines().map(str::trim).collect();
            for (number, line) in lines.iter().enumerate() {
                let name =
                    line.trim_start_matches("async ").strip_prefix("fn ").and_then(|rest| rest.split('(').next());
                let is_test =
                    lines[..number].iter().rev().take(3).any(|line| line.contains("test") && line.starts_with("#["));
                if let Some(name) = name.filter(|_| is_test || text.contains("proptest!")) {
                    see(name);
                }
            }
        }
    }
}

#[test]
fn each_line_has_its_tests() {
    let mut tests = [const { Vec::new() }; LINES + 1];
    for directory in ["src", "tests"] {
        each_test(&Path::new(env!("CARGO_MANIFEST_DIR")).join(directory), &mut |name| {
            let Some((number, _)) = name.strip_prefix("line_").and_then(|rest| rest.split_once('_')) else { return };
            let line: usize = number.parse().unwrap_or_else(|_| panic!("{name}: no number of a line"));
            assert!(number.len() == 2 && (1..=LINES).contains(&line), "{name}: not a line of 01 to {LINES}");
            tests[line].push(name.to_owned());
        });
    }
    let missing: Vec<usize> = (1..=LINES).filter(|line| tests[*line].is_empty()).collect();
    assert!(missing.is_empty(), "no test is named after the lines {missing:?}");
}
