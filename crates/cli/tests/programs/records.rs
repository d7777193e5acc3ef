//! Training records and questions in formats of other projects.

use std::{fs, path::Path};

use gallery_gpt_testkit::records::RECORDS;

use crate::{program, root};

fn pictures() -> std::path::PathBuf {
    root().join("datasets/painting-form-mini")
}

/// What a command prints about a data set, and whether it succeeded.
fn run(name: &str, data: &Path, images: &Path, more: &[&str]) -> (bool, String) {
    let output = program(name)
        .args([
            "--data",
            data.to_str().unwrap(),
            "--images",
            images.to_str().unwrap(),
        ])
        .args(more)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn every_form_is_validated_and_trained_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("set.json");
    let array = format!("[{}]", RECORDS.join(",\n"));
    let utf16: Vec<u8> = format!("\u{FEFF}{array}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let python = array.replace(r#""id":"r0""#, r#""id":"r0","score":NaN,"loss":-Infinity"#);
    let windows = array.replace("images/0.jpg", r"images\\0.jpg");
    let absolute = pictures().join("images/0.jpg");
    let absolute = array.replace("images/0.jpg", absolute.to_str().unwrap());
    let mut losses = Vec::new();
    for (nth, bytes) in [
        array.clone().into_bytes(),
        RECORDS.join("\n").into_bytes(),
        utf16,
        python.into_bytes(),
        windows.into_bytes(),
        absolute.into_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&data, bytes).unwrap();
        let (well, said) = run("check", &data, &pictures(), &[]);
        assert!(well, "{said}");
        for expected in [
            "3 with one picture",
            "1 with several pictures",
            "2 text only",
            "1 with their own system prompt",
            "(You look at light only.) <image>",
            "1 as `messages` with content parts",
            "1 as an instruction and its answer",
            "6 records can be used, 0 cannot",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let output = folder.path().join(format!("run-{nth}"));
        let output = ["--max_steps", "2", "--output_dir", output.to_str().unwrap()];
        let more = [
            "--per_device_train_batch_size",
            "2",
            "--logging_steps",
            "1",
            "--seed",
            "1",
        ];
        let (well, said) = run(
            "finetune",
            &data,
            &pictures(),
            &[output.as_slice(), &more].concat(),
        );
        assert!(well, "{said}");
        assert!(said.contains("2 text only"), "{said}");
        let log = folder.path().join(format!("run-{nth}/log.jsonl"));
        let log = fs::read_to_string(log).unwrap();
        let loss =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].clone();
        losses.push(log.lines().map(loss).collect::<Vec<_>>());
    }
    assert_eq!(losses[0].len(), 2);
    assert!(losses.iter().all(|other| *other == losses[0]), "{losses:?}");
}

#[test]
fn what_cannot_be_used_is_named_by_every_program() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("set.json");
    let missing = fs::metadata("/no/such/file").unwrap_err().to_string();
    for (json, expected) in [
        (
            RECORDS[0].replace("images/0.jpg", "images/none.jpg"),
            &*missing,
        ),
        (
            RECORDS[0].replace("images/0.jpg", "../x.jpg"),
            "leads out of the picture folder",
        ),
        (
            RECORDS[0].replace("images/0.jpg", "/etc/passwd"),
            "leads out of the picture folder",
        ),
        (
            RECORDS[0].replace("images/0.jpg", "https://example.com/0.jpg"),
            "is a URL",
        ),
        (
            RECORDS[0].replace(r"\n<image>", ""),
            "0 <image> placeholders for 1 pictures",
        ),
        (RECORDS[0].replace("\"gpt\"", "\"owl\""), "`owl` in turn 1"),
        (RECORDS[0].replace("\"r0\",", "\"r0\""), "line 2 column 11"),
    ] {
        fs::write(&data, format!("[{},\n{json}]", RECORDS[1])).unwrap();
        for name in ["check", "finetune"] {
            let output = folder.path().join("run");
            let more = ["--output_dir", output.to_str().unwrap()];
            let more = if name == "finetune" { &more[..] } else { &[] };
            let (well, said) = run(name, &data, &pictures(), more);
            assert!(!well, "{name}: {said}");
            assert!(
                said.contains("record 1 (id ") && said.contains(expected),
                "{name}: {said}"
            );
            assert!(!output.exists(), "{name} began");
        }
    }
}

#[cfg(unix)]
#[test]
fn devices_are_refused_and_no_record_steers_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let zero = folder.path().join("zero.json");
    std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
    let (well, said) = run("check", &zero, &pictures(), &[]);
    assert!(!well && said.contains("a device or a pipe"), "{said}");

    let data = folder.path().join("set.json");
    let picture = folder.path().join("picture.jpg");
    std::os::unix::fs::symlink("/dev/zero", &picture).unwrap();
    let device = RECORDS[0].replace("images/0.jpg", "picture.jpg");
    let steering = RECORDS[1]
        .replace("\"t0\"", r#""\u001b[2Jt0""#)
        .replace("What is", r"\u001b]0;What is");
    fs::write(&data, format!("[{device},{steering},{steering}]")).unwrap();
    let (well, said) = run("check", &data, folder.path(), &["--show", "1"]);
    assert!(!well && said.contains("device or a pipe"), "{said}");
    assert!(!said.contains('\x1b'), "{said:?}");
    assert!(
        said.contains(r"\u{1b}[2Jt0` is the id of 2 records, 1 and 2"),
        "{said}"
    );
}

#[test]
fn questions_find_their_pictures_as_records_do() {
    let folder = tempfile::tempdir().unwrap();
    let absolute = pictures().join("images/0.jpg");
    let images = [
        r"images\\0.jpg",
        absolute.to_str().unwrap(),
        "",
        "../tiny-base/config.json",
        "/etc/passwd",
        "https://example.com/0.jpg",
    ];
    let questions: Vec<String> = images
        .iter()
        .enumerate()
        .map(|(id, image)| format!(r#"{{"question_id":{id},"image":"{image}","text":"Light?"}}"#))
        .collect();
    let file = folder.path().join("questions.jsonl");
    fs::write(&file, questions.join("\n")).unwrap();
    let answers = folder.path().join("answers.jsonl");
    let output = program("answer-questions")
        .args([
            "--max_new_tokens",
            "2",
            "--image_folder",
            pictures().to_str().unwrap(),
        ])
        .args(["--question_file", file.to_str().unwrap()])
        .args(["--answers_file", answers.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert_eq!(
        said.matches("leads out of the picture folder").count(),
        2,
        "{said}"
    );
    assert_eq!(said.matches("is a URL").count(), 1, "{said}");
    assert_eq!(
        fs::read_to_string(answers).unwrap().lines().count(),
        3,
        "{said}"
    );
}
