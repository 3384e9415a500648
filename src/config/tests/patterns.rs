//! Patterns, and what holds while a source is away.

use std::time::Duration;

use super::{assert_refused, good, load_with};

#[test]
fn a_pattern_is_a_mount_of_which_there_may_be_many() {
    let text = "[push]\npassword = \"s3cret\"\n[mount_defaults]\ngenre = \"G\"\n[[mount]]\npath = \"/live/*\"\nmax_listeners = 5\n\
                [[mount]]\npath = \"/a\"\nlinger = \"1m\"\n[[mount]]\npath = \"/b/*\"\nlinger = \"0s\"\nmax_mounts = 7\n";
    let config = good(text);
    let patterns: Vec<_> = config.patterns.iter().map(|p| (p.paths.as_str(), p.most, p.mounts.linger, p.mounts.max_listeners)).collect();
    let seconds = |seconds| Some(Duration::from_secs(seconds));
    assert_eq!(patterns, [("/live/*", 100, seconds(10), Some(5)), ("/b/*", 7, seconds(0), None)]);
    assert_eq!((config.mounts.len(), config.mounts[0].linger), (1, seconds(60)));
    for settings in config.settings_of_mounts() {
        let password = settings.push.as_ref().and_then(|push| push.password.as_ref());
        assert!(password.is_some_and(|password| password.verify("s3cret")) && settings.profile.genre.as_deref() == Some("G"));
    }
    let described = super::describe(&config, super::COSTS);
    for part in ["path = \"/live/*\"", "max_mounts = 7", "# 100 of /live/*"] {
        assert!(described.contains(part), "{part}: {described}");
    }
    assert_eq!(good("[[mount]]\npath = \"/a\"\n").mounts[0].linger, None, "who waits is kept");
}

#[test]
fn a_patterns_recording_is_a_mount_of_its_own_that_nobody_fills_and_is_counted() {
    let file = std::env::temp_dir().join(format!("flumen-pattern-{}.mp3", std::process::id()));
    std::fs::write(&file, [[0xFF, 0xFB, 0x90, 0x00].as_slice(), &[0; 413]].concat().repeat(8)).expect("written");
    let keys = format!("fallback = \"file:{}\"\nname = \"N\"\npublic = true\nmax_listeners = 5\n", file.display());
    let config =
        good(&format!("[push]\npassword = \"s3cret\"\n[[mount]]\npath = \"/live/*\"\nmax_mounts = 7\n{keys}[[mount]]\npath = \"/b/*\"\n"));
    std::fs::remove_file(&file).expect("removed");
    let recordings: Vec<_> = config.patterns.iter().filter_map(crate::mount::Pattern::recording).collect();
    let [recording] = recordings.as_slice() else { panic!("{recordings:?}") };
    assert_eq!((recording.path.as_str(), recording.profile.name.as_deref(), recording.max_listeners), ("/live/*", Some("N"), Some(5)));
    assert_eq!((&recording.push, recording.linger, recording.profile.hidden, recording.profile.public), (&None, None, true, false));
    assert_eq!(recording.fallback.file(), config.patterns[0].mounts.fallback.file());
    let described = super::describe(&config, super::COSTS);
    assert!(described.contains("# 7 of /live/*") && described.contains("# recording of /live/*"), "{described}");
    assert!(!described.contains("recording of /b/*"));
}

#[test]
fn what_a_pattern_cannot_have_is_refused_with_line_key_value_and_remedy() {
    for (lines, parts) in [
        ("path = \"/live/*\"\npipeline = \"fakesrc\"", &[":3: mount[0].pipeline = \"fakesrc\"", "is a pattern", "path of its own"] as &[_]),
        ("path = \"/live/*\"\nrelay = \"http://a/b\"", &["mount[0].relay", "is a pattern"]),
        ("path = \"/live/*\"\ntcp = [\"127.0.0.1:1\"]", &["mount[0].tcp", "is a pattern"]),
        ("path = \"/live/*\"\nlinger = \"none\"", &["mount[0].linger = \"none\"", "for ever", "\"10s\""]),
        ("path = \"/live/*\"\nmax_mounts = 0", &["mount[0].max_mounts = 0", "from 1 to 10000"]),
        ("path = \"/a\"\nmax_mounts = 5", &[":3: mount[0].max_mounts = 5", "is for patterns"]),
        ("path = \"/live/**\"", &["mount[0].path = \"/live/**\"", "side by side", "/live/*"]),
        ("path = \"/*\"\n[[mount]]\npath = \"/*\"", &["mount[1].path", "is the path of mount[0] already"]),
        ("path = \"/a\"\nlinger = \"soon\"", &["mount[0].linger = \"soon\"", "\"none\""]),
    ] {
        assert_refused(load_with(&format!("[[mount]]\n{lines}\n"), &[]), parts, lines);
    }
}

#[test]
fn a_fallback_that_leads_round_or_cannot_be_heard_is_refused_with_line_key_value_and_remedy() {
    let mounts = |all: &str| -> String {
        let one = |(path, to): (&str, &str)| format!("[[mount]]\npath = \"{path}\"\nfallback = \"{to}\"\n");
        all.split_whitespace().filter_map(|pair| pair.split_once('>')).map(one).collect()
    };
    for (all, parts) in [
        ("/a>/b /b>/a", &[":3: mount[0].fallback = \"/b\"", "in a circle: /b → /a → /b", "no fallback"] as &[_]),
        ("/x>/a /a>/b /b>/c /c>/a", &["mount[0].fallback", "/a → /b → /c → /a"]),
        ("/a/*>/b/x /b/*>/a/y", &["mount[0].fallback", "/b/x → /a/y → /b/x"]),
        ("/a>file:/no/such.mp3", &["mount[0].fallback = \"file:/no/such.mp3\"", "cannot be read", "Opus"]),
        ("/a>file:/etc/hostname", &["mount[0].fallback", "is no MP3"]),
        ("/a>backup", &["mount[0].fallback = \"backup\"", "slash"]),
    ] {
        assert_refused(load_with(&mounts(all), &[]), parts, all);
    }
    let config = good(&mounts("/a>/b /b>/c /live/*>/live/backup /d>/d /e>none"));
    assert_eq!(config.settings_of_mounts().filter(|mount| mount.fallback.mount().is_some()).count(), 4);
    let warned = crate::config::warnings(&config).join("\n");
    assert!(warned.contains("mount /b: fallback = \"/c\" is no mount") && warned.matches("fallback").count() == 1, "{warned}");
}
