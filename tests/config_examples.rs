//! Every file in `config/` loads, and the example of all keys says what the defaults are.

use std::path::{Path, PathBuf};

use flumen::config::{Config, Costs, Environment, Source, describe, load};

fn directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("config")
}

fn loaded(path: PathBuf) -> Config {
    let name = path.display().to_string();
    load(&Source::File(path), &Environment::default(), &|_| Ok(())).unwrap_or_else(|errors| panic!("{name}:\n{errors}"))
}

#[test]
fn each_file_loads() {
    let mut files = 0;
    for entry in std::fs::read_dir(directory()).expect("config/") {
        let path = entry.expect("an entry").path();
        assert_eq!(path.extension().and_then(|e| e.to_str()), Some("toml"), "{}", path.display());
        assert!(!loaded(path).mounts.is_empty());
        files += 1;
    }
    assert!(files >= 4, "{files} files");
}

#[test]
fn the_example_of_all_keys_says_what_the_defaults_are() {
    let bare = std::env::temp_dir().join(format!("flumen-defaults-{}.toml", std::process::id()));
    std::fs::write(&bare, "[[mount]]\npath = \"/radio.mp3\"\n").expect("written");
    let (mut defaults, mut example) = (loaded(bare.clone()), loaded(directory().join("flumen.example.toml")));
    std::fs::remove_file(bare).expect("removed");
    defaults.origin = flumen::config::Origin::Demo;
    example.origin = flumen::config::Origin::Demo;
    assert_eq!(format!("{example:#?}"), format!("{defaults:#?}"));
}

#[test]
fn the_example_of_all_keys_names_all_keys() {
    let text = std::fs::read_to_string(directory().join("flumen.example.toml")).expect("the example");
    let described = describe(
        &loaded(directory().join("low-latency.toml")),
        Costs { listener_bytes: 2048, connection_bytes: 8192, socket_buffer_max: 212_992, cores: 2, event_log_bytes: 32 << 20 },
    );
    let keys = described.lines().filter(|line| !line.starts_with('#')).filter_map(|line| line.split_once(" = "));
    for (key, _) in keys {
        let says = |line: &str| line.trim_start_matches("# ").starts_with(&format!("{key} = "));
        assert!(text.lines().any(says), "{key} is not in flumen.example.toml");
    }
}

#[test]
fn the_demo_has_three_mounts_to_hear_and_see() {
    let demo = load(&Source::Demo, &Environment::default(), &|_| Ok(())).expect("the demo");
    let paths: Vec<_> = demo.mounts.iter().map(|mount| mount.path.as_str()).collect();
    assert_eq!(paths, ["/demo.mp3", "/demo.ogg", "/demo.webm"]);
    assert!(demo.mounts.iter().all(|mount| mount.pipeline.is_some() && mount.profile.name.is_some()));
}
