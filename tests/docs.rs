//! What the documents promise is there.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

#[test]
fn each_fault_has_its_row_and_each_test_that_is_named_there_exists() {
    let text = read("docs/faults.md");
    let rows: BTreeMap<usize, Vec<&str>> = text
        .lines()
        .filter_map(|line| {
            let cells: Vec<_> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            Some((cells.first()?.parse().ok()?, cells))
        })
        .collect();
    assert_eq!(rows.keys().copied().collect::<Vec<_>>(), (1..=67).collect::<Vec<_>>());
    let (mut tests, mut open) = (0, Vec::new());
    for (number, cells) in rows {
        let [_, fault, outcome, shown] = cells[..] else { panic!("{number}: {cells:?}") };
        assert!(!fault.is_empty() && !outcome.is_empty(), "{number}");
        let named: Vec<_> = shown.split('`').filter_map(|part| part.split_once("::")).collect();
        let excused = shown.starts_with("not yet: ") || shown.starts_with("not applicable: ");
        assert_ne!(named.is_empty(), !excused, "{number} names a test, or says why not: {shown}");
        if excused {
            open.push(number);
        }
        for (file, test) in named {
            let source = read(file);
            let at = source.find(&format!("fn {test}(")).unwrap_or_else(|| panic!("{number}: there is no {file}::{test}"));
            assert!(source[..at].contains("#[test]") || source[..at].contains("#[actix::test]"), "{number}: {file}::{test} is no test");
            tests += 1;
        }
    }
    assert!(tests >= 90, "{tests} tests");
    assert!(open.len() <= 6, "without a test: {open:?}");
}
