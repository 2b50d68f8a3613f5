//! The decision corpus, held against the library with real signed tokens.
#![cfg(not(target_family = "wasm"))]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on has failed"
)]
#![expect(clippy::arithmetic_side_effects, reason = "the numbers are in the test")]

mod support {
    pub(crate) mod corpus;
    #[expect(dead_code, reason = "the corpus needs a part of it")]
    pub(crate) mod gateway;
    #[expect(dead_code, reason = "the corpus needs a part of it")]
    pub(crate) mod issuer;
    pub(crate) mod keys;
}

use std::collections::BTreeSet;
use std::path::Path;

use support::corpus::{FILES, Theme};

#[test]
fn every_case_of_the_corpus_is_decided_as_written() {
    let failures: Vec<String> = FILES
        .iter()
        .flat_map(|(theme, text)| {
            Theme::parse(text).failures().into_iter().map(move |failure| format!("{theme}: {failure}"))
        })
        .collect();
    assert!(failures.is_empty(), "{} cases fail\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn the_corpus_is_complete_and_its_cases_have_names_of_their_own() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/corpus/decisions");
    let on_disk: BTreeSet<String> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_string_lossy().into_owned())
        .collect();
    assert_eq!(on_disk, FILES.iter().map(|(theme, _)| (*theme).to_owned()).collect());
    for (theme, text) in FILES {
        let cases = Theme::parse(text).cases;
        let names: BTreeSet<&str> = cases.iter().map(|case| case.name.as_str()).collect();
        assert_eq!(names.len(), cases.len(), "{theme} has two cases of one name");
    }
}
