//! Config files and command lines that no one would write on purpose.

use proptest::prelude::*;
use skiff_store::conformance::fuzz::mutated;

use super::*;
use crate::cli::{Request, Settings};
use crate::config::Config;

/// The checked-in files: each is taken or refused, as its name says.
fn corpus() -> Vec<(String, String)> {
    let dir = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fuzz/config");
    let mut files: Vec<(String, String)> = std::fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .map(|path| {
            (path.file_name().unwrap().to_str().unwrap().to_owned(), std::fs::read_to_string(path).unwrap())
        })
        .collect();
    files.sort();
    assert!(files.len() >= 4);
    files
}

#[test]
fn the_corpus_is_taken_or_refused() {
    for (name, text) in corpus() {
        assert_eq!(entries(&text).is_ok(), name.starts_with("good"), "{name}: {:?}", entries(&text));
    }
}

#[test]
fn deep_nesting_does_not_take_the_stack() {
    for text in ["[".repeat(500_000), "- ".repeat(400_000), "{a: ".repeat(200_000), "? ".repeat(400_000)] {
        assert!(entries(&text).is_err());
    }
    let stairs: String = (0..1000).map(|level| format!("{}a:\n", " ".repeat(level))).collect();
    assert!(entries(&stairs).is_err());
}

#[test]
fn a_file_without_end_is_not_read_to_its_end() {
    let text = read("/dev/zero").unwrap();
    assert!(entries(&text).unwrap_err().contains("larger than"));
}

fn any_value() -> impl Strategy<Value = String> {
    prop_oneof![
        "[ -~]{0,20}",
        ".{0,10}",
        "(https?|unixs?)://[a-z0-9.:\\[\\]%-]{0,20}",
        "[a-z]{0,4}=http://[a-z0-9:]{0,9}(,[a-z]{0,4}=http://[a-z0-9:]{0,9}){0,3}",
        "-?[0-9]{1,20}(ns|us|ms|s|m|h)?",
        Just(String::new()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 500, ..Default::default() })]

    #[test]
    fn strange_files_never_panic(at in any::<prop::sample::Index>(), seed: u64, other in ".{0,60}") {
        let corpus = corpus();
        let changed = mutated(at.get(&corpus).1.as_bytes(), seed);
        for text in [String::from_utf8_lossy(&changed).into_owned(), other] {
            for (key, value) in entries(&text).unwrap_or_default() {
                if let Some(flag) = flag_of(&key) {
                    let _ = crate::cli::value::check(flag.kind, &normalize(flag, value));
                }
            }
        }
    }

    #[test]
    fn strange_command_lines_never_panic(
        flags in prop::collection::vec((any::<prop::sample::Index>(), any_value(), 0u8..4), 0..6),
        variables in prop::collection::vec((any::<prop::sample::Index>(), any_value()), 0..4),
    ) {
        let usable: Vec<&Flag> = ETCD.flags.iter().filter(|flag| flag.name != "config-file").collect();
        let arguments = flags.iter().map(|(at, value, form)| match form {
            0 => format!("--{}={value}", at.get(&usable).name),
            1 => format!("-{}", at.get(&usable).name),
            2 => format!("--{value}"),
            _ => value.clone(),
        });
        let arguments: Vec<String> = arguments.filter(|text| !text.contains("config-file")).collect();
        let environment = variables.iter().map(|(at, value)| (ETCD.env_name(at.get(&usable).name), value.clone()));
        if let Ok(Request::Run(settings)) = Settings::parse(arguments, environment) {
            let _ = Config::from_settings(&settings);
        }
    }
}
