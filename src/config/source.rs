//! Where the configuration lies, and its text.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::environment::Environment;
use super::error::{ConfigError, ConfigErrors, Place};

/// The configuration inside the program: three mounts a visitor can hear and see.
pub const DEMO: &str = include_str!("../../config/demo.toml");

/// Looked for in this order when nobody names a file.
const SEARCHED: [&str; 2] = ["./flumen.toml", "/etc/flumen/flumen.toml"];
/// A configuration is written by people; what is larger is another file by mistake.
const LARGEST_BYTES: u64 = 1 << 20;

/// Where the configuration lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In a file.
    File(PathBuf),
    /// Inside the program.
    Demo,
}

/// Finds the configuration: the file named on the command line, else `$FLUMEN_CONFIG`, `./flumen.toml`,
/// `/etc/flumen/flumen.toml`, else the demo. A file that is named is taken even if it is not there; reading it says so.
pub fn locate(explicit: Option<PathBuf>, environment: &Environment) -> Source {
    let named = explicit.or_else(|| environment.config_file());
    named.or_else(|| first_of(SEARCHED.map(Path::new))).map_or(Source::Demo, Source::File)
}

fn first_of<'p>(candidates: impl IntoIterator<Item = &'p Path>) -> Option<PathBuf> {
    // One that is there but may not be looked at is chosen too: passing it over in silence would surprise.
    candidates.into_iter().find(|path| path.try_exists().unwrap_or(true)).map(Path::to_owned)
}

impl Source {
    /// Its name and its text.
    pub(super) fn read(&self) -> Result<(Arc<str>, String), ConfigErrors> {
        let path = match self {
            Self::Demo => return Ok((Arc::from("demo.toml (embedded)"), DEMO.to_owned())),
            Self::File(path) => path,
        };
        let name: Arc<str> = path.strip_prefix("./").unwrap_or(path).display().to_string().into();
        let wrong = |line, problem: String, remedy: &str| {
            let (key, value, place) = (String::new(), String::new(), Place::File { name: name.clone(), line });
            ConfigErrors::from(ConfigError { place, key, value, problem, remedy: remedy.to_owned() })
        };
        let mut bytes = Vec::new();
        let read = File::open(path).and_then(|file| file.take(LARGEST_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(|error| wrong(0, format!("cannot be read: {error}"), "name a file that flumen may read (-c FILE)"))?;
        if bytes.len() as u64 > LARGEST_BYTES {
            return Err(wrong(0, "is larger than 1MiB".to_owned(), "name a configuration file; [mount_defaults] keeps long ones short"));
        }
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
            let line = 1 + valid.iter().filter(|&&byte| byte == b'\n').count();
            wrong(line, "is not UTF-8".to_owned(), "save the file as UTF-8")
        })?;
        Ok((name, text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_file_that_is_there_is_taken() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let (cargo, source) = (here.join("Cargo.toml"), here.join("src"));
        assert_eq!(first_of([Path::new("/no/such"), &cargo, &source]), Some(cargo.clone()));
        assert_eq!(first_of([Path::new("/no/such")]), None);
    }

    #[test]
    fn a_named_file_is_taken_before_any_other_even_if_it_is_missing() {
        let environment = Environment::from([("FLUMEN_CONFIG", "/from/env")]);
        assert_eq!(locate(Some("/named".into()), &environment), Source::File("/named".into()));
        assert_eq!(locate(None, &environment), Source::File("/from/env".into()));
    }

    #[test]
    fn what_cannot_be_a_configuration_is_refused_with_its_name() {
        let dir = std::env::temp_dir().join(format!("flumen-source-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        let file = |name: &str, bytes: &[u8]| {
            std::fs::write(dir.join(name), bytes).expect(name);
            dir.join(name)
        };
        for (path, want) in [
            (dir.join("missing.toml"), "missing.toml: cannot be read"),
            (dir.clone(), "cannot be read"),
            (file("latin.toml", b"a = 1\nb = \"\xe9\"\n"), "latin.toml:2: is not UTF-8"),
            (file("large.toml", &vec![b'#'; (1 << 20) + 1]), "large.toml: is larger than 1MiB"),
        ] {
            let error = Source::File(path).read().expect_err(want).to_string();
            assert!(error.contains(want), "{error}");
        }
        std::fs::remove_dir_all(&dir).expect("removed");
    }
}
