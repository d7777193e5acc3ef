//! Runs of `finetune` that are stopped, resumed, changed behind their backs and shared: nothing is lost, and no run is resumed as another
//! training.

mod changed;
#[cfg(target_os = "linux")]
mod disk;
mod stopped;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use serde_json::{Value, json};

use crate::{program, root};

/// A folder with a base and a data set of its own, which a test may change.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let sample = root().join("datasets/painting-form-mini");
        let text = fs::read_to_string(sample.join("train_samples_tuning.json")).unwrap();
        let records: Vec<Value> = serde_json::from_str(&text).unwrap();
        site.write("data/train.json", &json!(records[..8]).to_string());
        site.write("data/eval.json", &json!(records[8..10]).to_string());
        for record in &records[..10] {
            let image = record["image"].as_str().unwrap();
            site.copy(&sample.join(image), &format!("data/{image}"));
        }
        for entry in fs::read_dir(root().join("datasets/tiny-base")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            site.copy(&path, &format!("base/{name}"));
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn copy(&self, from: &Path, name: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::copy(from, self.path(name)).unwrap();
    }

    /// `finetune` in this folder, two records a step.
    fn finetune(&self, run: &str, more: &str) -> Command {
        let flags = "--base base --data data/train.json --images data --eval_data data/eval.json \
                     --sample_images data/images/0.jpg --per_device_train_batch_size 1 --lora_r 4 \
                     --lora_dropout 0.1 --save_steps 3 --eval_steps 4";
        let mut command = program("finetune");
        command.current_dir(self.0.path());
        command.args(flags.split_whitespace());
        command.args(["--output_dir", run]);
        command.args(more.split_whitespace());
        command
    }

    fn resume(&self, run: &str, more: &str) -> Command {
        let mut command = program("finetune");
        command.current_dir(self.0.path());
        command.args(["--resume", run]);
        command.args(more.split_whitespace());
        command
    }

    /// Every file of a run, without its speeds and its page.
    fn files(&self, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let run = self.path(run);
        let mut found = BTreeMap::new();
        let mut left = vec![run.clone()];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).unwrap();
                left.extend(entries.map(|entry| entry.unwrap().path()));
            } else if !path.ends_with("speed.jsonl") && !path.ends_with("page.html") {
                let name = path.strip_prefix(&run).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
        found
    }

    fn copy_run(&self, from: &str, to: &str) {
        let _ = fs::remove_dir_all(self.path(to));
        let done = Command::new("cp")
            .arg("-r")
            .arg(self.path(from))
            .arg(self.path(to))
            .status();
        assert!(done.unwrap().success());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// The error of a run that has to fail.
fn refused(output: &Output) -> String {
    let error = text(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}{error}",
        text(&output.stdout)
    );
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn assert_same_files(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{} differs", name.display());
    }
}

/// Waits until a run has logged so many steps.
fn wait_for_steps(site: &Site, run: &str, steps: usize) {
    let began = Instant::now();
    let log = site.path(run).join("log.jsonl");
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < steps {
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "no {steps} steps"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, signal: &str) {
    let done = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status();
    assert!(done.unwrap().success());
}

fn piped(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}
