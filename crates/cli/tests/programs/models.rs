//! Which model a command reads: the same flags everywhere, with the same meaning.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

use super::folders::adapter;
use crate::{program, root};

/// What a command needs beside the flags that all have.
const COMMANDS: [(&str, &[&str]); 8] = [
    ("caption", &[]),
    ("chat", &[]),
    ("serve", &[]),
    ("evaluate", &[]),
    ("answer-questions", &["--questions", "q", "--output", "a"]),
    ("inspect", &[]),
    ("merge", &["--output_dir", "o"]),
    ("convert", &["--output_dir", "o", "--layout", "llava"]),
];

fn config(command: &str, flags: &[&str]) -> String {
    let output = program(command).args(flags).arg("--print-config").output();
    let output = output.unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {flags:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn every_command_finds_its_model_by_the_same_flags() {
    for (command, needed) in COMMANDS {
        for (base, adapter) in [
            ("--base", "--adapter"),
            ("--model_base", "--model_path"),
            ("--model-name-or-path", "--model-path"),
        ] {
            let flags = [base, "b", adapter, "a", "--vision_tower", "t"];
            let printed = config(command, &[needed, &flags].concat());
            for line in [
                "base = \"b\"\n",
                "adapter = \"a\"\n",
                "vision_tower = \"t\"\n",
            ] {
                assert!(printed.contains(line), "{command}: {line}: {printed}");
            }
        }
    }
}

#[test]
fn every_command_that_runs_a_model_takes_the_same_flags() {
    let flags = [
        ("--device", "cpu", "device = \"cpu\"\n"),
        ("--dtype", "bf16", "dtype = \"bf16\"\n"),
        ("--load_8bit", "True", "load_8bit = true\n"),
        ("--template", "llava_v1", "template = \"llava_v1\"\n"),
        ("--temperature", "0.5", "temperature = 0.5\n"),
        ("--top_k", "7", "top_k = 7\n"),
        ("--num_beams", "1", "num_beams = 1\n"),
        ("--max_new_tokens", "9", "max_new_tokens = 9\n"),
        ("--seed", "3", "seed = 3\n"),
    ];
    for (command, needed) in &COMMANDS[..5] {
        let given: Vec<&str> = flags
            .iter()
            .flat_map(|(flag, value, _)| [*flag, *value])
            .collect();
        let printed = config(command, &[needed, &given[..]].concat());
        for (.., line) in flags {
            assert!(printed.contains(line), "{command}: {line}: {printed}");
        }
    }
}

#[test]
fn defaults_of_the_same_thing_are_the_same() {
    for (command, needed) in &COMMANDS[..5] {
        let printed = config(command, needed);
        let number = |name: &str| {
            let mut lines = printed.lines();
            lines.find_map(|line| line.strip_prefix(&format!("{name} = ")))
        };
        // The default of LLaVA's own batch evaluation, as the help says.
        let of_llava = (*command == "answer-questions").then_some("1024");
        assert_eq!(number("max_new_tokens"), of_llava, "{command}");
        let is_batched = !["chat", "serve"].contains(command);
        assert_eq!(number("batch_size"), is_batched.then_some("8"), "{command}");
    }
    for (command, reason) in [
        ("answer-questions", "model_vqa.py"),
        ("evaluate", "no seed"),
    ] {
        let help = program(command).arg("--help").output().unwrap();
        let help = String::from_utf8(help.stdout).unwrap();
        assert!(help.contains(reason), "{command}: {help}");
    }
}

/// The records of two test paintings, in a file.
fn references(folder: &Path) -> PathBuf {
    let sample = root().join("datasets/painting-form-mini/formalanalysis_test_gpt.json");
    let records: Vec<Value> = serde_json::from_slice(&fs::read(sample).unwrap()).unwrap();
    let path = folder.join("references.json");
    fs::write(&path, json!(records[..2]).to_string()).unwrap();
    path
}

/// Runs `evaluate` on two paintings; returns the files of texts that it adds, with the names of their systems.
fn evaluate(folder: &Path, flags: &[&str]) -> Vec<(String, String)> {
    let out = folder.join("out");
    let files = || -> BTreeSet<PathBuf> {
        let entries = fs::read_dir(&out).into_iter().flatten();
        let paths = entries.map(|entry| entry.unwrap().path());
        paths
            .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
            .collect()
    };
    let before = files();
    let output = program("evaluate")
        .arg("--references")
        .arg(references(folder))
        .arg("--adapter")
        .arg(folder.join("ad"))
        .arg("--output_dir")
        .arg(&out)
        .args(["--resamples", "2", "--max_new_tokens", "12"])
        .args(flags)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{flags:?}: {error}");
    let added: Vec<PathBuf> = files().difference(&before).cloned().collect();
    added
        .iter()
        .map(|path| {
            let name = path.file_name().unwrap().to_string_lossy();
            let system = name.split_once('-').unwrap().0.to_owned();
            (system, fs::read_to_string(path).unwrap())
        })
        .collect()
}

#[test]
fn a_model_is_evaluated_as_it_is_asked_to_run() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    adapter(&folder.join("ad"));
    let plain = evaluate(folder, &[]);
    let systems: Vec<&str> = plain.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(systems, ["base", "finetuned"]);
    // Defaults that are given add nothing.
    let defaults = [
        "--temperature",
        "0",
        "--template",
        "vicuna_v1",
        "--batch_size",
        "1",
    ];
    assert_eq!(evaluate(folder, &defaults), []);
    for flags in [
        &["--dtype", "bf16"][..],
        &["--load_8bit"],
        &["--template", "llava_v0"],
        &["--temperature", "5"],
        &["--num_beams", "2"],
        &["--repetition_penalty", "3"],
    ] {
        let other = evaluate(folder, flags);
        assert_eq!(other.len(), 2, "{flags:?}");
        if flags[0] == "--temperature" {
            assert_ne!(other, plain, "{flags:?}");
        }
    }
}

#[test]
fn a_whole_model_is_evaluated_alone() {
    let scratch = tempfile::tempdir().unwrap();
    let output = program("evaluate")
        .arg("--references")
        .arg(references(scratch.path()))
        .args(["--model_path", "datasets/tiny-base", "--resamples", "2"])
        .args(["--max_new_tokens", "4", "--output_dir"])
        .arg(scratch.path().join("out"))
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(
        said.contains("base") && !said.contains("finetuned"),
        "{said}"
    );
}

#[test]
fn an_adapter_that_is_a_whole_model_is_not_merged() {
    let scratch = tempfile::tempdir().unwrap();
    let out = scratch.path().join("out");
    let output = program("merge")
        .args(["--model_path", "datasets/tiny-base", "--output_dir"])
        .arg(&out)
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(error.contains("no adapter to merge"), "{error}");
    assert!(!output.status.success() && !out.exists());
    let output = program("merge")
        .args(["--output_dir", "out"])
        .output()
        .unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{error}");
    assert!(error.contains("--adapter"), "{error}");
}

#[test]
fn weights_in_blocks_answer_and_say_what_fits() {
    let answer = |flags: &[&str]| {
        let mut caption = program("caption");
        caption
            .args(["datasets/painting-form-mini/images/test_0.jpg"])
            .args(["--max_new_tokens", "6", "--temperature", "0"])
            .args(flags);
        let output = caption.output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (_, exact, _) = answer(&[]);
    for flags in [
        &["--load_8bit"][..],
        &["--dtype", "q8_0"],
        &["--load_4bit"],
        &["--dtype", "q6_k"],
        &["--dtype", "q4_0"],
    ] {
        let (code, found, said) = answer(flags);
        assert_eq!((code, &found), (Some(0), &exact), "{flags:?}: {said}");
        // The tiny base is 128 wide, and the blocks of the K formats have 256 values.
        let is_short = flags
            .iter()
            .any(|flag| flag.contains("_k") || flag.contains("4bit"));
        assert_eq!(said.contains("q8_0"), is_short, "{flags:?}: {said}");
    }
    for (flags, words) in [
        (&["--dtype", "q5_k"][..], "q8_0, q6_k, q4_k, q4_0"),
        (&["--load_8bit", "--load_4bit"], "exclude each other"),
        (&["--dtype", "q4_k", "--load_8bit"], "exclude each other"),
    ] {
        let (code, _, said) = answer(flags);
        assert!(code != Some(0) && said.contains(words), "{flags:?}: {said}");
    }
}
