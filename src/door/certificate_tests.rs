//! Pairs of files that are right, wrong, and change.

use std::fs;
use std::sync::atomic::{AtomicU32, Ordering};

use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, date_time_ymd};

use super::*;

/// A folder of a test's own.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("flumen-certificates-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).expect("a folder");
        Self(path)
    }

    fn files(&self) -> Files {
        Files { cert: self.0.join("cert.pem"), key: self.0.join("key.pem") }
    }

    /// Writes; never with the same stamp as before, however coarse the clock of the file system is.
    fn write(&self, name: &str, text: &str) {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let fresh = self.0.join(format!("fresh-{}", COUNT.fetch_add(1, Ordering::Relaxed)));
        fs::write(&fresh, text).expect("written");
        fs::rename(fresh, self.0.join(name)).expect("put in place");
    }

    fn put(&self, (cert, key): (String, String)) {
        self.write("cert.pem", &cert);
        self.write("key.pem", &key);
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A certificate for these names and its key, as PEM.
fn made(names: &[&str]) -> (String, String) {
    made_with(&KeyPair::generate().expect("a key"), names)
}

fn made_with(key: &KeyPair, names: &[&str]) -> (String, String) {
    let names: Vec<_> = names.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(names).expect("names");
    params.not_after = date_time_ymd(2045, 6, 7);
    (params.self_signed(key).expect("a certificate").pem(), key.serialize_pem())
}

#[test]
fn a_pair_is_read_with_its_names_and_its_end() {
    for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let folder = Folder::new();
        let key = KeyPair::generate_for(algorithm).expect("a key");
        folder.put(made_with(&key, &["radio.example", "*.radio.example", "192.0.2.1"]));
        let certificate = load(&folder.files()).expect("a pair");
        assert_eq!(certificate.facts.names, ["radio.example", "*.radio.example"], "an address is no name that is asked for");
        assert_eq!(certificate.facts.expires, Some(2_380_406_400));
    }
}

#[test]
fn a_chain_and_a_key_in_one_file_are_found_and_other_things_passed_over() {
    let folder = Folder::new();
    let ((cert, key), (above, _)) = (made(&["a.example"]), made(&["authority.example"]));
    folder.write("both.pem", &format!("a remark\n{key}\n{cert}\n{above}"));
    let both = folder.0.join("both.pem");
    let certificate = load(&Files { cert: both.clone(), key: both }).expect("a pair");
    assert_eq!((certificate.facts.names.len(), certificate.key.cert.len()), (1, 2));
}

#[test]
fn what_is_wrong_with_a_pair_is_said_with_the_file_and_a_remedy() {
    let ((cert, key), (other, other_key)) = (made(&["a.example"]), made(&["b.example"]));
    let broken = cert.replace("MII", "M!!");
    let encrypted = key.replace("PRIVATE KEY", "ENCRYPTED PRIVATE KEY");
    let no_key = "-----BEGIN PRIVATE KEY-----\nMAMCAQA=\n-----END PRIVATE KEY-----\n";
    let no_certificate = "-----BEGIN CERTIFICATE-----\nMAMCAQA=\n-----END CERTIFICATE-----\n";
    for (cert, key, which, problem) in [
        (None, Some(&*key), Which::Cert, "cannot be read: No such file"),
        (Some(&*cert), None, Which::Key, "cannot be read: No such file"),
        (Some(""), Some(&key), Which::Cert, "holds no certificate"),
        (Some(&key), Some(&key), Which::Cert, "holds no certificate"),
        (Some(&broken), Some(&key), Which::Cert, "is not PEM"),
        (Some(no_certificate), Some(&key), Which::Cert, "holds no certificate that can be used"),
        (Some(&cert), Some(""), Which::Key, "holds no private key"),
        (Some(&cert), Some(&cert), Which::Key, "holds no private key"),
        (Some(&cert), Some(&encrypted), Which::Key, "holds no private key"),
        (Some(&cert), Some(no_key), Which::Key, "of a kind that cannot be used"),
        (Some(&cert), Some(&other_key), Which::Key, "is not the key of"),
        (Some(&other), Some(&key), Which::Key, "is not the key of"),
    ] {
        let folder = Folder::new();
        cert.inspect(|text| folder.write("cert.pem", text));
        key.inspect(|text| folder.write("key.pem", text));
        let flaw = load(&folder.files()).expect_err(problem);
        let (text, path) = (flaw.to_string(), if which == Which::Cert { folder.files().cert } else { folder.files().key });
        assert!(flaw.which == which && flaw.path == path && !flaw.remedy.is_empty(), "{problem}: {flaw:?}");
        assert!(text.contains(problem) && text.contains(&path.display().to_string()), "{text}");
    }
    let folder = Folder::new();
    folder.put((cert, key));
    folder.write("cert.pem", &"#".repeat(LARGEST_BYTES as usize + 1));
    assert!(load(&folder.files()).expect_err("large").problem.contains("larger than 1MiB"));
}

#[test]
fn no_key_is_shown() {
    let folder = Folder::new();
    let (cert, key) = made(&["a.example"]);
    folder.put((cert, key.clone()));
    let keyring = Keyring::default();
    keyring.pair(&folder.files()).expect("a pair");
    let broken = key.replace("-----END", "?\n-----END");
    folder.write("key.pem", &broken);
    let (shown, flaw) = (format!("{keyring:?}"), load(&folder.files()).expect_err("broken").to_string());
    for line in key.lines().filter(|line| !line.starts_with('-')) {
        assert!(!shown.contains(line) && !flaw.contains(line), "{shown}\n{flaw}");
    }
}

#[test]
fn a_name_covers_itself_and_a_star_one_label() {
    for (name, asked, want) in [
        ("radio.example", "radio.example", true),
        ("Radio.Example", "radio.EXAMPLE", true),
        ("radio.example", "a.radio.example", false),
        ("*.radio.example", "a.radio.example", true),
        ("*.radio.example", "radio.example", false),
        ("*.radio.example", "a.b.radio.example", false),
        ("*.radio.example", ".radio.example", false),
        ("*", "radio", false),
        ("", "radio", false),
    ] {
        assert_eq!(covers(name, asked), want, "{name} {asked}");
    }
}

#[test]
fn a_new_pair_is_taken_when_it_is_at_rest_and_counted() {
    let folder = Folder::new();
    folder.put(made(&["old.example"]));
    let keyring = Keyring::default();
    let pair = keyring.pair(&folder.files()).expect("a pair");
    for _ in 0..3 {
        assert_eq!(keyring.look(), Reloaded::default());
    }
    let (cert, key) = made(&["new.example"]);
    folder.write("cert.pem", &cert);
    assert_eq!(keyring.look(), Reloaded::default(), "one of the two has been written, and nobody knows whether that is all");
    folder.write("key.pem", &key);
    assert_eq!(keyring.look(), Reloaded::default(), "they have changed since the last look");
    assert!(pair.is_for("old.example"));
    assert_eq!(keyring.look(), Reloaded { renewed: 1, failed: 0 });
    assert!(pair.is_for("new.example") && !pair.is_for("old.example"));
    assert_eq!(keyring.look(), Reloaded::default());
    assert_eq!(keyring.renewals(), (1, 0));
}

#[test]
fn a_bad_pair_keeps_the_old_one_and_is_complained_of_once() {
    let folder = Folder::new();
    folder.put(made(&["old.example"]));
    let keyring = Keyring::default();
    let pair = keyring.pair(&folder.files()).expect("a pair");
    let (cert, key) = made(&["new.example"]);
    folder.write("cert.pem", &cert); // and its key does not come
    let looks: Vec<_> = (0..5).map(|_| keyring.look().failed).collect();
    assert_eq!(looks, [0, 1, 0, 0, 0]);
    fs::remove_file(folder.files().key).expect("removed");
    let looks: Vec<_> = (0..5).map(|_| keyring.look().failed).collect();
    assert_eq!(looks, [0, 1, 0, 0, 0]);
    assert!(pair.is_for("old.example"));
    folder.write("key.pem", &key);
    let looks: Vec<_> = (0..3).map(|_| keyring.look().renewed).collect();
    assert_eq!(looks, [0, 1, 0]);
    assert!(pair.is_for("new.example"));
    assert_eq!(keyring.renewals(), (1, 2));
}

#[test]
fn who_tells_it_to_reload_need_not_wait_for_a_look() {
    let folder = Folder::new();
    let old = made(&["old.example"]);
    folder.put(old.clone());
    let keyring = Keyring::default();
    let pair = keyring.pair(&folder.files()).expect("a pair");
    folder.put(made(&["new.example"]));
    assert_eq!(keyring.reload(), Reloaded { renewed: 1, failed: 0 });
    assert!(pair.is_for("new.example"));
    assert_eq!(keyring.reload(), Reloaded::default(), "the same is nothing new");
    folder.write("key.pem", &old.1);
    for _ in 0..2 {
        assert_eq!(keyring.reload(), Reloaded { renewed: 0, failed: 1 }, "who asks is answered each time");
    }
    assert_eq!([keyring.look(), keyring.look()], [Reloaded::default(); 2], "and the looks do not say it again");
    assert!(pair.is_for("new.example"));
}

#[test]
fn one_pair_of_files_is_one_pair_and_each_path_has_one_end() {
    let folder = Folder::new();
    folder.put(made(&["a.example"]));
    let keyring = Keyring::default();
    let (first, second) = (keyring.pair(&folder.files()).expect("a pair"), keyring.pair(&folder.files()).expect("a pair"));
    assert!(Arc::ptr_eq(&first, &second));
    fs::copy(folder.files().key, folder.0.join("copy.pem")).expect("copied");
    keyring.pair(&Files { key: folder.0.join("copy.pem"), ..folder.files() }).expect("a pair");
    assert_eq!(keyring.expiries(), [(folder.files().cert.display().to_string(), 2_380_406_400)]);
    assert!(keyring.pair(&Files { key: "/no/such".into(), ..folder.files() }).is_err());
}
