//! A real browser, told what to do over a pipe (the DevTools protocol).

use std::fs::{File, OpenOptions};
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::{Duration, Instant};

use base64::Engine;
use serde_json::{Value, json};

/// The longest that the browser may take for one order.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) struct Chromium {
    child: Child,
    orders: File,
    answers: Receiver<Value>,
    session: Option<String>,
    next: u64,
}

impl Chromium {
    /// Starts with a profile of its own below `dir`, and one empty page.
    pub(crate) fn start(dir: &Path) -> Self {
        let (orders, answers) = (dir.join("orders"), dir.join("answers"));
        let made = Command::new("mkfifo").args([&orders, &answers]).status().expect("mkfifo");
        assert!(made.success());
        let child = Command::new("sh")
            .args([
                "-c",
                "exec chromium --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
                   --disable-component-update --disable-sync --hide-scrollbars --autoplay-policy=no-user-gesture-required \
                   --remote-debugging-pipe --user-data-dir=\"$3\" 3<\"$1\" 4>\"$2\"",
                "sh",
            ])
            .args([&orders, &answers, &dir.join("profile")])
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromium");
        let orders = OpenOptions::new().write(true).open(&orders).expect("a pipe"); // both wait until the browser has come
        let heard = BufReader::new(File::open(&answers).expect("a pipe"));
        let (tell, answers) = channel();
        std::thread::spawn(move || {
            let messages = heard.split(0).map_while(Result::ok);
            messages.filter_map(|message| serde_json::from_slice(&message).ok()).try_for_each(|message: Value| tell.send(message))
        });
        let mut chromium = Self { child, orders, answers, session: None, next: 0 };
        let target = chromium.order("Target.createTarget", json!({ "url": "about:blank" }));
        let session = chromium.order("Target.attachToTarget", json!({ "targetId": target["targetId"], "flatten": true }));
        chromium.session = session["sessionId"].as_str().map(Into::into);
        chromium
    }

    /// One order, and what came of it.
    pub(crate) fn order(&mut self, method: &str, parameters: Value) -> Value {
        self.next += 1;
        let mut order = json!({ "id": self.next, "method": method });
        order["params"] = parameters;
        if let Some(session) = &self.session {
            order["sessionId"] = session.as_str().into();
        }
        self.orders.write_all(format!("{order}\0").as_bytes()).expect("the browser listens");
        let end = Instant::now() + PATIENCE;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let answer = self.answers.recv_timeout(left).unwrap_or_else(|error| panic!("{method}: the browser is silent: {error}"));
            if answer["id"] == self.next {
                assert!(answer.get("error").is_none(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }

    /// The page becomes what is at this address.
    pub(crate) fn open(&mut self, url: &str) {
        self.order("Page.navigate", json!({ "url": url }));
        self.until("document.readyState === 'complete' && true");
    }

    /// The value of an expression in the page.
    pub(crate) fn value(&mut self, expression: &str) -> Value {
        let parameters = json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let answer = self.order("Runtime.evaluate", parameters);
        assert!(answer.get("exceptionDetails").is_none(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// Waits until an expression is true in the page.
    pub(crate) fn until(&mut self, expression: &str) {
        let end = Instant::now() + PATIENCE;
        while self.value(&format!("Boolean({expression})")) != true {
            if Instant::now() >= end {
                let text = self.value("document.body.innerText");
                panic!("never true: {expression}\n{}", text.as_str().unwrap_or_default());
            }
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Presses a button, or whatever else is there.
    pub(crate) fn click(&mut self, selector: &str) {
        self.until(&format!("document.querySelector({selector:?})"));
        self.value(&format!("document.querySelector({selector:?}).click()"));
    }

    /// Presses a key.
    pub(crate) fn key(&mut self, key: &str, code: u32) {
        for kind in ["rawKeyDown", "keyUp"] {
            self.order("Input.dispatchKeyEvent", json!({ "type": kind, "key": key, "code": key, "windowsVirtualKeyCode": code }));
        }
    }

    /// A screen of this size, by day or by night.
    pub(crate) fn screen(&mut self, (width, height): (u32, u32), dark: bool) {
        let mobile = width < 600;
        self.order(
            "Emulation.setDeviceMetricsOverride",
            json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": mobile }),
        );
        let scheme = if dark { "dark" } else { "light" };
        let features =
            json!([{ "name": "prefers-color-scheme", "value": scheme }, { "name": "prefers-reduced-motion", "value": "reduce" }]);
        self.order("Emulation.setEmulatedMedia", json!({ "features": features }));
    }

    /// Keeps a picture of the whole page as `$FLUMEN_SCREENSHOTS/NAME.png`, for whoever wants to see it.
    pub(crate) fn picture(&mut self, name: &str) {
        let Some(dir) = std::env::var_os("FLUMEN_SCREENSHOTS").map(PathBuf::from) else { return };
        let picture = self.order("Page.captureScreenshot", json!({ "captureBeyondViewport": true }));
        let picture = base64::engine::general_purpose::STANDARD.decode(picture["data"].as_str().expect("a picture")).expect("base64");
        std::fs::write(dir.join(format!("{name}.png")), picture).expect("written");
    }
}

impl Drop for Chromium {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
