//! icecast2 itself, in a process of its own. It needs the package icecast2 (`make test` installs it).
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use super::{free_port, until};

/// The password of everybody.
pub const PASSWORD: &str = "only-on-loopback";

/// Ends what it runs when dropped.
pub struct Running(pub Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A running icecast2.
pub struct Icecast {
    pub port: u16,
    dir: PathBuf,
    _server: Running,
    encoders: Vec<Running>,
}

impl Drop for Icecast {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

pub fn installed() -> bool {
    Path::new("/usr/bin/icecast2").is_file()
}

impl Icecast {
    /// Starts it with these elements in its configuration.
    pub fn start(more: &str) -> Self {
        let port = free_port();
        let dir = std::env::temp_dir().join(format!("flumen-icecast-{}-{port}", std::process::id()));
        fs::create_dir_all(&dir).expect("a directory");
        // It refuses to run as root, and becomes its package's user, who has to be able to write there.
        fs::set_permissions(&dir, fs::Permissions::from_mode(0o777)).expect("set");
        let root = fs::metadata("/proc/self").is_ok_and(|itself| itself.uid() == 0);
        let owner = if root { "<changeowner><user>icecast2</user><group>icecast</group></changeowner>" } else { "" };
        let text = format!(
            "<icecast><location>Earth</location><admin>icemaster@localhost</admin><hostname>127.0.0.1</hostname>\
             <limits><clients>100</clients><sources>5</sources></limits>\
             <authentication><source-password>{PASSWORD}</source-password><relay-password>{PASSWORD}</relay-password>\
             <admin-user>admin</admin-user><admin-password>{PASSWORD}</admin-password></authentication>\
             <listen-socket><port>{port}</port><bind-address>127.0.0.1</bind-address></listen-socket>{more}\
             <paths><basedir>/usr/share/icecast2</basedir><logdir>{}</logdir><webroot>/usr/share/icecast2/web</webroot>\
             <adminroot>/usr/share/icecast2/admin</adminroot></paths>\
             <logging><accesslog>-</accesslog><errorlog>-</errorlog><loglevel>2</loglevel></logging>\
             <security>{owner}</security></icecast>",
            dir.display()
        );
        let config = dir.join("icecast.xml");
        fs::write(&config, text).expect("written");
        let mut command = Command::new("/usr/bin/icecast2");
        command.arg("-c").arg(&config).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let server = Running(command.spawn().expect("icecast2"));
        assert!(until(Duration::from_secs(10), || TcpStream::connect(("127.0.0.1", port)).is_ok()), "icecast2 does not listen");
        Self { port, dir, _server: server, encoders: Vec::new() }
    }

    /// Lets ffmpeg publish MP3 there.
    pub fn encode(&mut self, path: &str) {
        let mut command = Command::new("ffmpeg");
        command.args(["-nostdin", "-v", "error", "-re", "-f", "lavfi", "-i", "sine=frequency=440:sample_rate=44100", "-c:a", "libmp3lame"]);
        command.args(["-b:a", "128k", "-f", "mp3", "-content_type", "audio/mpeg", "-ice_name", "Name & <b>", "-ice_genre", "Talk"]);
        command.args(["-ice_description", "All day", "-ice_url", "https://example.org/", "-ice_public", "0"]);
        command.arg(format!("icecast://source:{PASSWORD}@127.0.0.1:{}{path}", self.port));
        self.encoders.push(Running(command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("ffmpeg")));
    }

    /// The encoders go away.
    pub fn silence(&mut self) {
        self.encoders.clear();
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}
