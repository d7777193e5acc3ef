//! Closed pipes, and Ctrl-C.

use std::{
    fs,
    io::{Read, Write},
    path::Path,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use super::folders::adapter;
use crate::{program, pseudo_terminal::in_a_terminal, root};

const IMAGES: &str = "datasets/painting-form-mini/images";

/// Every command that prints, and whether a closed pipe may end it early.
fn talkers(scratch: &Path) -> Vec<(&'static str, Vec<String>)> {
    let path = |name: &str| scratch.join(name).display().to_string();
    let words = |words: &[&str]| words.iter().map(ToString::to_string).collect::<Vec<_>>();
    vec![
        ("caption", words(&[])),
        (
            "caption",
            words(&["--num_beams", "2", "--max_new_tokens", "5"]),
        ),
        ("caption", words(&[IMAGES, "--max_new_tokens", "2"])),
        (
            "caption",
            words(&[IMAGES, "--max_new_tokens", "2", "--output", "-"]),
        ),
        ("inspect", words(&["--tensors"])),
        ("inspect", words(&["--adapter", &path("ad")])),
        ("check", words(&["--show", "0", "1"])),
        (
            "merge",
            words(&["--adapter", &path("ad"), "--output_dir", &path("merged")]),
        ),
        (
            "convert",
            words(&["--layout", "llava", "--output_dir", &path("converted")]),
        ),
        (
            "evaluate",
            words(&[
                "--adapter",
                &path("ad"),
                "--resamples",
                "5",
                "--max_new_tokens",
                "2",
                "--output_dir",
                &path("scores"),
                "--base",
                "datasets/tiny-base",
            ]),
        ),
    ]
}

#[test]
fn a_closed_pipe_is_no_error() {
    let scratch = tempfile::tempdir().unwrap();
    adapter(&scratch.path().join("ad"));
    for closed in ["stdout", "stderr", "both"] {
        for (name, arguments) in talkers(scratch.path()) {
            let mut command = program(name);
            command
                .args(&arguments)
                .stdout(Stdio::piped())
                .stderr(Stdio::piped());
            let mut child = command.spawn().unwrap();
            let mut said = String::new();
            if closed != "stderr" {
                drop(child.stdout.take());
            }
            if closed == "stdout" {
                child
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut said)
                    .unwrap();
            } else {
                drop(child.stderr.take());
            }
            let output = child.wait_with_output().unwrap();
            assert!(!said.contains("panicked"), "{name}: {said}");
            assert!(
                output.status.success(),
                "{name} {arguments:?} {closed}: {said}"
            );
        }
        // Commands that write files have written them.
        for file in [
            "merged/model.safetensors",
            "converted/config.json",
            "scores/report.html",
        ] {
            let file = scratch.path().join(file);
            fs::remove_file(&file).unwrap_or_else(|error| panic!("{closed} {file:?}: {error}"));
            fs::remove_dir_all(file.parent().unwrap()).unwrap();
        }
    }
}

/// `/dev/full` behaves as a full disk.
#[cfg(target_os = "linux")]
#[test]
fn an_answer_that_cannot_be_written_is_an_error() {
    for arguments in [&[][..], &["--output", "-"]] {
        let full = fs::OpenOptions::new()
            .write(true)
            .open("/dev/full")
            .unwrap();
        let mut command = program("caption");
        command.args(["--max_new_tokens", "3"]).args(arguments);
        let output = command.stdout(full).stderr(Stdio::piped()).spawn().unwrap();
        let output = output.wait_with_output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success());
        assert!(
            error.contains("cannot write standard output: No space"),
            "{error}"
        );
    }
}

fn interrupt(child: &Child) {
    let pid = child.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-INT", &pid])
            .status()
            .unwrap()
            .success()
    );
}

/// Waits until a file has lines.
fn wait_for_lines(file: &Path, count: usize) {
    let began = Instant::now();
    while fs::read_to_string(file).unwrap_or_default().lines().count() < count {
        assert!(began.elapsed() < Duration::from_secs(120), "{file:?}");
        thread::sleep(Duration::from_millis(2));
    }
}

#[cfg(unix)]
#[test]
fn what_is_answered_is_kept_when_a_folder_is_stopped() {
    let scratch = tempfile::tempdir().unwrap();
    let pictures = scratch.path().join("pictures");
    fs::create_dir(&pictures).unwrap();
    for number in 0..40 {
        let name = format!("{number}.jpg");
        fs::copy(root().join(IMAGES).join(&name), pictures.join(&name)).unwrap();
    }
    let captions = |file: &Path| {
        let mut command = program("caption");
        command
            .arg(&pictures)
            .args(["--batch_size", "2", "--max_new_tokens", "20", "--output"]);
        command.arg(file).stderr(Stdio::piped());
        command
    };
    let whole = scratch.path().join("whole.jsonl");
    assert!(captions(&whole).output().unwrap().status.success());
    let file = scratch.path().join("stopped.jsonl");
    let child = captions(&file).spawn().unwrap();
    wait_for_lines(&file, 3);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(
        said.contains("stopped:") && said.contains("the same command resumes it"),
        "{said}"
    );
    let kept = fs::read_to_string(&file).unwrap();
    assert!(kept.ends_with('\n') && kept.lines().count() < 40);
    assert!(fs::read_to_string(&whole).unwrap().starts_with(&kept));
    assert!(captions(&file).output().unwrap().status.success());
    assert_eq!(fs::read(&file).unwrap(), fs::read(&whole).unwrap());
}

#[cfg(unix)]
#[test]
fn a_stopped_evaluation_resumes() {
    let scratch = tempfile::tempdir().unwrap();
    adapter(&scratch.path().join("ad"));
    let evaluate = |folder: &str| {
        let mut command = program("evaluate");
        command.args([
            "--resamples",
            "5",
            "--max_new_tokens",
            "20",
            "--batch_size",
            "2",
        ]);
        command.arg("--adapter").arg(scratch.path().join("ad"));
        command.arg("--output_dir").arg(scratch.path().join(folder));
        command.stdout(Stdio::null()).stderr(Stdio::piped());
        command
    };
    assert!(evaluate("whole").output().unwrap().status.success());
    let predictions = |folder: &str| {
        let mut files: Vec<_> = fs::read_dir(scratch.path().join(folder))
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect();
        files.sort();
        files
    };
    let name = predictions("whole")[0].file_name().unwrap().to_owned();
    let child = evaluate("stopped").spawn().unwrap();
    wait_for_lines(&scratch.path().join("stopped").join(name), 3);
    interrupt(&child);
    let output = child.wait_with_output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(130), "{said}");
    assert!(said.contains("the same command resumes it"), "{said}");
    assert!(evaluate("stopped").output().unwrap().status.success());
    for (a, b) in predictions("whole").iter().zip(predictions("stopped")) {
        assert_eq!(fs::read(a).unwrap(), fs::read(b).unwrap());
    }
    let scores = |folder: &str| fs::read(scratch.path().join(folder).join("scores.json")).unwrap();
    assert_eq!(scores("whole"), scores("stopped"));
}

/// A conversation over pipes.
struct Talk {
    child: Child,
}

impl Talk {
    fn begin(folder: &Path) -> Self {
        let mut command = program("chat");
        command.env("HOME", folder).args(["--temperature", "0"]);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self {
            child: command.spawn().unwrap(),
        }
    }

    fn say(&mut self, line: &str) {
        writeln!(self.child.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Exit status, standard output and standard error.
    fn end(mut self) -> (Option<i32>, String, String) {
        drop(self.child.stdin.take());
        let output = self.child.wait_with_output().unwrap();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        (
            output.status.code(),
            text(&output.stdout),
            text(&output.stderr),
        )
    }
}

#[cfg(unix)]
#[test]
fn ctrl_c_stops_an_answer_and_keeps_the_conversation() {
    let scratch = tempfile::tempdir().unwrap();
    let mut talk = Talk::begin(scratch.path());
    talk.say("Please write a paragraph of formal analysis for this painting.");
    let mut first = [0; 8];
    talk.child
        .stdout
        .as_mut()
        .unwrap()
        .read_exact(&mut first)
        .unwrap();
    interrupt(&talk.child);
    talk.say("Describe the light.");
    talk.say("/save ~/talk.json");
    talk.say("/save ~/talk.json");
    let (status, answers, remarks) = talk.end();
    assert_eq!(status, Some(0), "{remarks}");
    assert!(
        remarks.contains("stopped; the conversation continues"),
        "{remarks}"
    );
    assert!(answers.contains("…\n"), "{answers}");
    let saved = fs::read_to_string(scratch.path().join("talk.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&saved).unwrap();
    let turns = record["conversations"].as_array().unwrap();
    assert_eq!(turns.len(), 4, "{saved}");
    assert!(
        turns[1]["value"]
            .as_str()
            .is_some_and(|text| !text.contains('…'))
    );
}

#[cfg(unix)]
#[test]
fn questions_are_kept_for_the_next_conversation() {
    let home = tempfile::tempdir().unwrap();
    let history = home.path().join("gallery-gpt/chat_history");
    let mut chat = program("chat");
    chat.args(["--temperature", "0", "--max_new_tokens", "3"]);
    // In the second conversation the key "up" brings the question back, whose words are not typed again.
    for keys in [
        &b"Describe the light.\r/quit\r"[..],
        b"\x1b[A\x1b[A\r/quit\r",
    ] {
        let Some(mut terminal) = in_a_terminal(&chat) else {
            return;
        };
        let mut child = terminal.env("XDG_STATE_HOME", home.path()).spawn().unwrap();
        let mut typing = child.stdin.take().unwrap();
        typing.write_all(keys).unwrap();
        drop(typing);
        let output = child.wait_with_output().unwrap();
        let screen = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{screen}");
        assert!(screen.contains("Describe the light."), "{screen}");
        let kept = fs::read_to_string(&history).unwrap();
        assert!(kept.contains("Describe the light.\n"), "{kept}");
    }
}

#[test]
fn commands_of_a_conversation() {
    let scratch = tempfile::tempdir().unwrap();
    let picture = scratch.path().join("my 'own' picture.jpg");
    fs::copy(root().join(IMAGES).join("test_1.jpg"), &picture).unwrap();
    fs::write(scratch.path().join("thesis.txt"), "mine").unwrap();
    let mut talk = Talk::begin(scratch.path());
    let pasted = format!("\"{}\"", picture.display());
    let escaped = picture
        .display()
        .to_string()
        .replace(' ', "\\ ")
        .replace('\'', "\\'");
    for line in [
        "/help",
        "/image",
        "/save",
        "/dance",
        &format!("/image {pasted}"),
        &format!("/image {escaped}"),
        &format!("/image {}", picture.display()),
        "/image ~/my 'own' picture.jpg",
        "/image nope.jpg",
        "/save ~/thesis.txt",
        &format!("/save {}", picture.display()),
        "quit",
        "not asked any more",
    ] {
        talk.say(line);
    }
    let (status, answers, remarks) = talk.end();
    assert_eq!(status, Some(0), "{remarks}");
    assert!(
        answers.contains("/clear") && answers.lines().count() == 6,
        "{answers}"
    );
    for words in [
        "/image needs a file",
        "/save needs a file",
        "/dance is no command",
        "nope.jpg",
    ] {
        assert!(remarks.contains(words), "{words} in {remarks}");
    }
    assert_eq!(
        remarks.matches("new conversation about /").count(),
        4,
        "{remarks}"
    );
    assert_eq!(remarks.matches("No such file").count(), 1, "{remarks}");
    assert!(remarks.starts_with("tiny-base\n"), "{remarks}");
    assert!(remarks.contains("is read from there"), "{remarks}");
    assert_eq!(
        fs::read_to_string(scratch.path().join("thesis.txt")).unwrap(),
        "mine"
    );
}
