//! Answers to pictures and questions: what is written, and how a stopped run resumes.

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use serde_json::Value;

use super::folders::adapter;
use crate::{program, root};

const IMAGES: &str = "datasets/painting-form-mini/images";

fn caption(arguments: &[&str]) -> Command {
    let mut command = program("caption");
    command.args(["--max_new_tokens", "6"]).args(arguments);
    command
}

fn text(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

fn succeeded(command: &mut Command) -> (String, String) {
    let output = command.output().unwrap();
    let (out, error) = text(&output);
    assert!(output.status.success(), "{error}");
    (out, error)
}

fn refused(command: &mut Command, words: &str) {
    let output = command.output().unwrap();
    let (_, error) = text(&output);
    assert!(!output.status.success(), "{error}");
    assert!(error.contains(words), "{error}");
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap();
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

#[test]
fn captions_resume_only_with_the_same_settings() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("new/captions.jsonl");
    let output = file.display().to_string();
    let ad = scratch.path().join("ad");
    adapter(&ad);
    let ad = ad.display().to_string();
    let pictures = [0, 1, 2].map(|number| format!("{IMAGES}/test_{number}.jpg"));
    let all: Vec<&str> = pictures.iter().map(String::as_str).collect();
    let (_, said) = succeeded(caption(&["--output", &output]).args(&all[..2]));
    assert!(
        said.contains(&format!("2 answers in {output}, 0 of them from before")),
        "{said}"
    );
    let before = fs::read_to_string(&file).unwrap();
    for (other, words) in [
        (&["--question", "Describe the light."][..], "question"),
        (&["--adapter", &ad], "adapter"),
        (&["--temperature", "0"], "temperature"),
        (&["--seed", "7"], "seed"),
        (&["--conv_mode", "llava_v0"], "template"),
        (&["--load_8bit"], "load_8bit"),
        (&["--dtype", "bf16"], "dtype"),
    ] {
        refused(
            caption(&["--output", &output]).args(other).args(&all),
            words,
        );
        assert_eq!(fs::read_to_string(&file).unwrap(), before, "{words}");
    }
    // Killed in the middle of the second line, then resumed.
    fs::write(&file, &before[..before.len() - 20]).unwrap();
    let (_, said) = succeeded(caption(&["--output", &output]).args(&all));
    assert!(
        said.contains("3 answers") && said.contains("1 of them from before"),
        "{said}"
    );
    let whole = scratch.path().join("whole.jsonl");
    succeeded(caption(&["--output"]).arg(&whole).args(&all));
    assert_eq!(fs::read(&file).unwrap(), fs::read(&whole).unwrap());
    let line = &lines(&file)[0];
    assert_eq!(line["image"], all[0]);
    assert_eq!(line["finish"], "length");
    assert!(line["text"].as_str().is_some_and(|text| !text.is_empty()));
}

/// The adapter of another training, saved in the same folder, is another adapter.
#[test]
fn an_adapter_is_known_by_its_contents() {
    let scratch = tempfile::tempdir().unwrap();
    let (ad, file) = (scratch.path().join("ad"), scratch.path().join("a.jsonl"));
    adapter(&ad);
    let run = || {
        let mut command = caption(&[]);
        command.arg("--adapter").arg(&ad).arg("--output").arg(&file);
        command
    };
    succeeded(&mut run());
    let weights = ad.join("adapter_model.safetensors");
    let mut bytes = fs::read(&weights).unwrap();
    let last = bytes.len() - 1;
    bytes[last] = 0x3c;
    bytes[last - 1] ^= 1;
    fs::write(&weights, bytes).unwrap();
    let output = run().output().unwrap();
    assert!(!output.status.success());
}

#[test]
fn a_file_of_something_else_is_left_as_it_is() {
    let scratch = tempfile::tempdir().unwrap();
    let file = scratch.path().join("notes");
    for content in [
        "mine, without an end",
        "mine\n",
        "{\"image\": \"a.jpg\", \"text\": \"of another program\"}\n",
        "{\"mine\": 1}",
        "{\n  \"pretty\": true\n}\n",
    ] {
        fs::write(&file, content).unwrap();
        let output = caption(&["--output"]).arg(&file).output().unwrap();
        assert!(!output.status.success(), "{content}");
        assert_eq!(fs::read_to_string(&file).unwrap(), content);
    }
    let picture = scratch.path().join("a.jpg");
    fs::copy(root().join(IMAGES).join("test_0.jpg"), &picture).unwrap();
    let before = fs::read(&picture).unwrap();
    for flag in ["--output", "--attention"] {
        let mut command = caption(&[flag]);
        command
            .arg(scratch.path().join("./a.jpg"))
            .arg("--image")
            .arg(&picture);
        if flag == "--attention" {
            command.args(["--phrase", "the"]);
        }
        refused(&mut command, "is read from there");
        assert_eq!(fs::read(&picture).unwrap(), before);
    }
}

#[test]
fn answers_go_to_standard_output_too() {
    let pictures = [0, 1].map(|number| format!("{IMAGES}/test_{number}.jpg"));
    let mut outputs = vec!["-"];
    if cfg!(target_os = "linux") {
        outputs.extend(["/dev/stdout", "/proc/self/fd/1"]);
    }
    for output in outputs {
        let (out, _) = succeeded(caption(&["--output", output]).args(&pictures));
        let lines: Vec<Value> = out
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(lines.len(), 2, "{output}");
        assert_eq!(lines[1]["image"], pictures[1]);
    }
    assert!(!root().join("-").exists());
}

#[test]
fn a_cut_answer_says_so_and_a_whole_one_does_not() {
    let (out, error) = succeeded(&mut caption(&[]));
    assert!(out.ends_with("…\n"), "{out}");
    assert!(error.contains("--max_new_tokens (6)"), "{error}");
    let (out, error) = succeeded(program("caption").args(["--temperature", "0"]));
    assert!(out.ends_with(".\n"), "{out}");
    assert_eq!(error.trim(), "tiny-base");
}

#[test]
fn the_model_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let ad = scratch.path().join("ad");
    adapter(&ad);
    let (_, error) = succeeded(caption(&["--adapter"]).arg(&ad));
    let name = format!("tiny-base + {}\n", ad.display());
    assert!(error.contains(&name), "{error}");
    // LLaVA's `--model-path` alone is a whole model.
    let (_, error) = succeeded(&mut caption(&["--model-path", "datasets/tiny-base"]));
    assert!(error.starts_with("tiny-base\n"), "{error}");
}

#[test]
fn flags_and_pictures_are_taken_as_people_type_them() {
    let picture = format!("{IMAGES}/test_3.jpg");
    let (plain, _) = succeeded(&mut caption(&["--image", &picture]));
    for typed in [
        &[picture.as_str()][..],
        &["--image-file", &picture],
        &["--image_file", &picture, "--top-p", "1", "--top_k", "50"],
        &[&picture, "--num-beams", "1", "--conv-mode", "vicuna_v1"],
    ] {
        assert_eq!(succeeded(&mut caption(typed)).0, plain, "{typed:?}");
    }
    // Beam search is greedy unless a temperature is given; the error shows it as it was written.
    succeeded(&mut caption(&[&picture, "--num_beams", "2"]));
    refused(
        &mut caption(&[&picture, "--num_beams", "2", "--temperature", "0.2"]),
        "temperature is 0.2, expected 0",
    );
}

#[test]
fn outside_of_the_repository_the_default_base_is_explained() {
    let scratch = tempfile::tempdir().unwrap();
    let picture = root().join(IMAGES).join("test_0.jpg");
    let picture = picture.display().to_string();
    for (name, arguments) in [
        ("caption", &[picture.as_str()][..]),
        ("chat", &[&picture]),
        ("inspect", &[]),
        ("merge", &["--adapter", "ad", "--output_dir", "out"]),
        ("convert", &["--layout", "llava", "--output_dir", "out"]),
        ("check", &[]),
        ("evaluate", &[]),
    ] {
        let mut command = program(name);
        command.current_dir(scratch.path()).args(arguments);
        refused(&mut command, "run in the repository or give --");
    }
}

#[test]
fn a_cause_is_said_once() {
    for (name, arguments) in [
        ("caption", &["nope.jpg"][..]),
        ("caption", &["--base", "nope"]),
        ("inspect", &["--base", "nope"]),
        ("merge", &["--adapter", "nope", "--output_dir", "nope-2"]),
        ("evaluate", &["--references", "nope.json"]),
    ] {
        let output = program(name).args(arguments).output().unwrap();
        let (_, error) = text(&output);
        assert!(!output.status.success(), "{name}");
        assert!(error.matches("No such file").count() <= 1, "{error}");
        assert!(!error.contains("Caused by"), "{error}");
    }
}

#[test]
fn pictures_of_attention_are_large_and_of_the_kind_their_name_says() {
    let scratch = tempfile::tempdir().unwrap();
    for (name, start) in [
        ("a.png", &b"\x89PNG"[..]),
        ("new/a.jpg", b"\xff\xd8"),
        ("a.JPEG", b"\xff\xd8"),
    ] {
        let file = scratch.path().join(name);
        let mut command = program("caption");
        command.args(["--temperature", "0", "--phrase", "THE EYE", "--attention"]);
        succeeded(command.arg(&file));
        assert!(fs::read(&file).unwrap().starts_with(start), "{name}");
        let picture = image::ImageReader::open(&file)
            .unwrap()
            .with_guessed_format()
            .unwrap();
        let (width, height) = picture.into_dimensions().unwrap();
        assert!(width >= 512 && height > 512, "{width}x{height}");
    }
    for name in ["a.xyz", "a"] {
        let mut command = program("caption");
        command
            .args(["--phrase", "the", "--attention"])
            .arg(scratch.path().join(name));
        refused(&mut command, "expected a name that ends in .png");
    }
    let mut command = program("caption");
    command.args(["--phrase", "a submarine", "--attention"]);
    refused(command.arg(scratch.path().join("b.png")), "a submarine");
}

/// LLaVA's own command line of a batch evaluation, unchanged.
fn answer_questions(questions: &Path, answers: &Path, more: &[&str]) -> Command {
    let mut command = program("answer-questions");
    command
        .args(["--model-path", "datasets/tiny-base"])
        .arg("--question-file")
        .arg(questions)
        .args(["--image-folder", IMAGES])
        .arg("--answers-file")
        .arg(answers)
        .args(["--num-chunks", "1", "--chunk-idx", "0"])
        .args(["--temperature", "0", "--top_p", "1", "--num_beams", "1"])
        .args(["--conv-mode", "vicuna_v1", "--max_new_tokens", "6"])
        .args(more);
    command
}

#[test]
fn questions_are_answered_by_one_model_and_meet_their_scores() {
    let scratch = tempfile::tempdir().unwrap();
    let path = |name: &str| scratch.path().join(name);
    let (questions, answers) = (path("q.jsonl"), path("a.jsonl"));
    let ask = |text: &str| {
        let lines = (0..60).map(|number| {
            format!("{{\"question_id\": {number}, \"image\": \"test_{number}.jpg\", \"text\": \"{text}\"}}\n")
        });
        fs::write(&questions, lines.collect::<String>()).unwrap();
    };
    ask("Describe the painting.");
    succeeded(&mut answer_questions(&questions, &answers, &[]));
    let written = lines(&answers);
    assert_eq!(written.len(), 60);
    for field in [
        "question_id",
        "prompt",
        "text",
        "answer_id",
        "model_id",
        "metadata",
    ] {
        assert!(written[7].get(field).is_some(), "{field}");
    }
    assert_eq!(written[7]["image"], "test_7.jpg");
    assert_eq!(written[7]["finish"], "length");

    let before = fs::read(&answers).unwrap();
    let ad = path("ad");
    adapter(&ad);
    let mut with_adapter = program("answer-questions");
    with_adapter
        .args(["--model-base", "datasets/tiny-base", "--model-path"])
        .arg(&ad);
    with_adapter.args([
        "--temperature",
        "0",
        "--top_k",
        "50",
        "--max_new_tokens",
        "6",
    ]);
    with_adapter
        .arg("--question-file")
        .arg(&questions)
        .args(["--image-folder", IMAGES]);
    refused(with_adapter.arg("--answers-file").arg(&answers), "adapter");
    refused(
        &mut answer_questions(&questions, &answers, &["--seed", "7"]),
        "seed",
    );
    ask("Another question.");
    refused(&mut answer_questions(&questions, &answers, &[]), "prompt");
    assert_eq!(fs::read(&answers).unwrap(), before);
    refused(
        &mut answer_questions(&questions, &questions, &[]),
        "is read from there",
    );

    let mut evaluate = program("evaluate");
    evaluate
        .args(["--resamples", "5", "--output_dir"])
        .arg(path("scores"));
    let system = format!("mine={}", answers.display());
    let (out, _) = succeeded(evaluate.args(["--predictions", &system]));
    assert!(out.contains("mine"), "{out}");
    // Its own folder is written again; another file in it stays.
    fs::write(path("scores/notes.md"), "mine").unwrap();
    let again = |more: &[&str]| {
        let mut evaluate = program("evaluate");
        evaluate.args(["--resamples", "5", "--predictions", &system, "--output_dir"]);
        evaluate.arg(path("scores")).args(more);
        evaluate
    };
    succeeded(&mut again(&[]));
    assert_eq!(fs::read_to_string(path("scores/notes.md")).unwrap(), "mine");
    fs::remove_file(path("scores/gallery_gpt.json")).unwrap();
    refused(&mut again(&[]), "notes.md");
    succeeded(&mut again(&["--overwrite"]));
    assert_eq!(fs::read_to_string(path("scores/notes.md")).unwrap(), "mine");
}

#[test]
fn no_question_leads_out_of_the_picture_folder() {
    let scratch = tempfile::tempdir().unwrap();
    let picture = root().join(IMAGES).join("test_0.jpg");
    fs::create_dir(scratch.path().join("images")).unwrap();
    for name in ["images/in.jpg", "out.jpg"] {
        fs::copy(&picture, scratch.path().join(name)).unwrap();
    }
    let absolute = scratch.path().join("images/in.jpg").display().to_string();
    for (image, words) in [
        ("in.jpg", None),
        (&absolute, None),
        ("../out.jpg", Some("leads out of the picture folder")),
        (
            "../../../../../../etc/hostname",
            Some("leads out of the picture folder"),
        ),
        (
            "https://example.org/a.jpg",
            Some("https://example.org/a.jpg"),
        ),
        ("missing.jpg", Some("missing.jpg")),
    ] {
        let (questions, answers) = (scratch.path().join("q"), scratch.path().join("a"));
        let line = serde_json::json!({"question_id": 1, "image": image, "text": "Describe."});
        fs::write(&questions, line.to_string()).unwrap();
        let mut command = program("answer-questions");
        command
            .args(["--max_new_tokens", "2", "--question-file"])
            .arg(&questions);
        command
            .arg("--image-folder")
            .arg(scratch.path().join("images"));
        command.arg("--answers-file").arg(&answers);
        match words {
            None => {
                succeeded(&mut command);
                assert_eq!(lines(&answers).len(), 1);
                fs::remove_file(&answers).unwrap();
            }
            Some(words) => refused(&mut command, words),
        }
    }
}

#[test]
fn boxes_of_a_model_that_writes_none_are_refused_before_it_answers() {
    let folder = tempfile::tempdir().unwrap();
    let boxes = folder.path().join("boxes.png");
    let mut command = caption(&[&format!("{IMAGES}/test_0.jpg"), "--boxes"]);
    let output = command.arg(&boxes).output().unwrap();
    let (out, error) = text(&output);
    assert!(error.contains("the model is a LLaVA"), "{error}");
    assert!(out.is_empty() && !boxes.exists(), "{out}");
}
