//! A server that another binary may take over from.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::PathBuf;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::Value;

use super::Server;

const FLUMEN: &str = env!("CARGO_BIN_EXE_flumen");

/// A server under a name of its own, behind which another binary may lie next time, and whichever process it is by now.
pub struct Line {
    pub server: Server,
    binary: PathBuf,
    /// Whichever process it is by now.
    pub pid: u32,
}

impl Line {
    pub fn start(server: &str, mounts: &str) -> Self {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let binary = std::env::temp_dir().join(format!("flumen-upgrade-{}-{number}", std::process::id()));
        let _ = fs::remove_file(&binary);
        symlink(FLUMEN, &binary).expect("a link");
        let run = format!("shift; exec {} \"$@\"", binary.display());
        let server = Server::spawn(server, mounts, &["sh", "-c", &run, "sh"]);
        let pid = server.pid();
        Self { server, binary, pid }
    }

    /// What lies there from now on.
    pub fn replace(&self, script: Option<&str>) {
        let _ = fs::remove_file(&self.binary);
        match script {
            None => symlink(FLUMEN, &self.binary).expect("a link"),
            Some("") => {}
            Some(script) => {
                fs::write(&self.binary, script).expect("a script");
                fs::set_permissions(&self.binary, fs::Permissions::from_mode(0o755)).expect("executable");
            }
        }
    }

    pub fn upgrade(&mut self) -> (u16, Value) {
        let answer = self.server.request("POST", "/api/v1/upgrade").expect("an answer");
        let value: Value = serde_json::from_slice(&answer.body).unwrap_or_else(|error| panic!("{error}: {}", answer.body_text()));
        if let Some(pid) = value["pid"].as_u64() {
            self.pid = pid as u32;
        }
        (answer.status, value)
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        if self.pid != self.server.pid() {
            let _ = Command::new("kill").args(["-KILL", &self.pid.to_string()]).status();
        }
        let _ = fs::remove_file(&self.binary);
    }
}

/// A program that greets as a flumen does and then does this, in Python.
pub fn fake(then: &str) -> String {
    format!(
        "#!/usr/bin/env python3\nimport json, os, socket, sys, time\n\
         s = socket.socket(fileno=0)\n\
         def hear(): return json.loads(s.recvmsg(65536, 65536)[0])\n\
         def say(x): s.send(json.dumps(x).encode())\n\
         hello = hear()['Hello']\n{then}\n"
    )
}
