//! Chromium without a window, driven over the pipe of its developer tools.

use std::{
    io::{BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread::sleep,
    time::{Duration, Instant},
};

use serde_json::{Value, json};

/// Chromium reads its commands from descriptor 3 and writes to 4; these are the pipes here, and its own output goes nowhere.
const PIPES: &str = "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1";
const LONG: Duration = Duration::from_secs(60);

/// The browser of `GALLERY_GPT_CHROMIUM`, or one of the usual names. Without any, a line on standard error says what is not tested, which
/// the test runner does not hold back.
pub(super) fn chromium() -> Option<PathBuf> {
    if let Some(named) = std::env::var_os("GALLERY_GPT_CHROMIUM") {
        return Some(named.into());
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let names = ["chromium", "chromium-browser", "google-chrome"];
    let found = std::env::split_paths(&path)
        .flat_map(|folder| names.map(|name| folder.join(name)))
        .find(|file| file.is_file());
    if found.is_none() {
        let line =
            b"NOT TESTED: the server's page: no Chromium here; GALLERY_GPT_CHROMIUM names one\n";
        std::io::stderr().write_all(line).unwrap();
    }
    found
}

/// A page of a browser of its own, which ends with this value.
pub(super) struct Page {
    child: Child,
    commands: ChildStdin,
    messages: Receiver<Value>,
    commands_sent: u64,
    session: Value,
    /// What the page's scripts or the browser complained about.
    complaints: Vec<String>,
    _profile: tempfile::TempDir,
}

impl Drop for Page {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Page {
    /// Opens an address.
    pub(super) fn open(chromium: &Path, address: &str) -> Self {
        let profile = tempfile::tempdir().unwrap();
        let mut child = Command::new("sh")
            .args(["-c", PIPES, "sh"])
            .arg(chromium)
            // The only page is this project's own, and a container has no sandbox to give.
            .args(["--headless=new", "--no-sandbox", "--disable-gpu"])
            .args(["--disable-dev-shm-usage", "--disable-background-networking"])
            .args(["--no-first-run", "--remote-debugging-pipe"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .arg("about:blank")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let commands = child.stdin.take().unwrap();
        let mut pipe = BufReader::new(child.stdout.take().unwrap());
        let (send, messages) = channel();
        std::thread::spawn(move || {
            let mut message = Vec::new();
            while pipe.read_until(0, &mut message).is_ok_and(|read| read > 0) {
                message.pop();
                let Ok(value) = serde_json::from_slice(&message) else {
                    return;
                };
                if send.send(value).is_err() {
                    return;
                }
                message.clear();
            }
        });
        let mut page = Self {
            child,
            commands,
            messages,
            commands_sent: 0,
            session: Value::Null,
            complaints: Vec::new(),
            _profile: profile,
        };
        let target = page.call("Target.createTarget", &json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        page.session = page.call("Target.attachToTarget", &attach)["sessionId"].take();
        for domain in ["Page", "Runtime", "Log", "DOM"] {
            page.call(&format!("{domain}.enable"), &json!({}));
        }
        page.call("Page.navigate", &json!({ "url": address }));
        page.until(&format!(
            "location.href === {address:?} && document.readyState === 'complete'"
        ));
        page
    }

    /// Sends a command and waits for its answer.
    fn call(&mut self, method: &str, parameters: &Value) -> Value {
        self.commands_sent += 1;
        let id = self.commands_sent;
        let mut command = json!({ "id": id, "method": method, "params": parameters });
        if !self.session.is_null() {
            command["sessionId"] = self.session.clone();
        }
        let sent = write!(self.commands, "{command}\0").and_then(|()| self.commands.flush());
        sent.unwrap_or_else(|error| panic!("Chromium does not take {method}: {error}"));
        loop {
            let message = self.messages.recv_timeout(LONG);
            let mut message = message
                .unwrap_or_else(|error| panic!("Chromium does not answer {method}: {error}"));
            match message["method"].as_str() {
                Some("Runtime.exceptionThrown") => self.complaints.push(message.to_string()),
                Some("Log.entryAdded") if message["params"]["entry"]["level"] == "error" => {
                    let entry = &message["params"]["entry"];
                    self.complaints
                        .push(format!("{} {}", entry["text"], entry["url"]));
                }
                _ => {}
            }
            if message["id"] == id {
                assert!(message["error"].is_null(), "{method}: {message}");
                return message["result"].take();
            }
        }
    }

    /// The value of an expression in the page; of a promise, what it comes to.
    pub(super) fn value(&mut self, expression: &str) -> Value {
        let wanted =
            json!({ "expression": expression, "returnByValue": true, "awaitPromise": true });
        let mut found = self.call("Runtime.evaluate", &wanted);
        let thrown = &found["exceptionDetails"];
        assert!(thrown.is_null(), "{expression}: {thrown}");
        found["result"]["value"].take()
    }

    /// A text in the page.
    pub(super) fn text(&mut self, expression: &str) -> String {
        let value = self.value(expression);
        let text = value.as_str();
        text.unwrap_or_else(|| panic!("{expression} is {value}"))
            .to_owned()
    }

    /// Waits until an expression is true.
    pub(super) fn until(&mut self, expression: &str) {
        let began = Instant::now();
        while self.value(expression) != true {
            if began.elapsed() > LONG {
                let shown = self.text("document.body.innerText");
                panic!("never {expression}; the page shows:\n{shown}");
            }
            sleep(Duration::from_millis(20));
        }
    }

    /// Gives a file to an input for files, as a user's choice does.
    pub(super) fn choose(&mut self, input: &str, file: &Path) {
        let root = self.call("DOM.getDocument", &json!({}));
        let wanted = json!({ "nodeId": root["root"]["nodeId"], "selector": input });
        let node = self.call("DOM.querySelector", &wanted);
        let chosen = json!({ "files": [file.canonicalize().unwrap()], "nodeId": node["nodeId"] });
        self.call("DOM.setFileInputFiles", &chosen);
    }

    /// Types a text over what a field holds, and presses Enter.
    pub(super) fn type_and_enter(&mut self, field: &str, text: &str) {
        self.value(&format!("document.querySelector({field:?}).select()"));
        self.call("Input.insertText", &json!({ "text": text }));
        for kind in ["keyDown", "keyUp"] {
            let key = json!({
                "type": kind, "key": "Enter", "code": "Enter", "text": "\r", "windowsVirtualKeyCode": 13
            });
            self.call("Input.dispatchKeyEvent", &key);
        }
    }

    /// What scripts and browser complained about, but for the answers with these statuses.
    pub(super) fn complaints(&mut self, expected: &[&str]) -> Vec<String> {
        // All messages of before have come once this is answered.
        self.value("0");
        let is_expected = |text: &String| {
            expected
                .iter()
                .any(|status| text.contains(&format!("status of {status} ")))
        };
        self.complaints.retain(|text| !is_expected(text));
        std::mem::take(&mut self.complaints)
    }
}
