//! How flags may be given: as Python writes them, from a file, by the original's names.

use std::{fs, process::Output};

use crate::program;

fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn refused(output: &Output, code: i32, words: &str) {
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(code), "{error}");
    assert!(error.contains(words), "{words}: {error}");
}

/// The flags of a command, as `--print-config` prints them.
fn config(command: &str, flags: &[&str]) -> String {
    let output = program(command).args(flags).arg("--print-config").output();
    said(&output.unwrap())
}

#[test]
fn what_is_printed_is_read_back() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    for (command, flags) in [
        (
            "finetune",
            &["--lora_r", "3", "--sample_images", "a.jpg", "b.jpg"][..],
        ),
        (
            "finetune",
            &["--preset", "gallery_gpt", "--max_grad_norm", "0"],
        ),
        ("plan", &["--device_memory", "24"]),
        (
            "caption",
            &[
                "--temperature",
                "0.7",
                "--stop_strings",
                "a b",
                "c\"d",
                "--load_8bit",
                "True",
            ],
        ),
        ("chat", &[]),
        ("serve", &["--allow_host", "a", "b", "--port", "0"]),
        ("evaluate", &["--predictions", "a=b.jsonl"]),
        ("check", &["--show", "1", "2"]),
        ("inspect", &["--device", "cpu"]),
        ("merge", &["--adapter", "a", "--output_dir", "b"]),
        ("convert", &["--layout", "llava", "--output_dir", "b"]),
        ("answer-questions", &["--questions", "q", "--output", "a"]),
    ] {
        let printed = config(command, flags);
        fs::write(&file, &printed).unwrap();
        let again = config(command, &["--config", file.to_str().unwrap()]);
        assert_eq!(again, printed, "{command}");
    }
}

#[test]
fn a_preset_s_values_are_printed() {
    let sample = config("finetune", &[]);
    for line in [
        "learning_rate = 0.004\n",
        "lora_r = 16\n",
        "lora_enable = true\n",
    ] {
        assert!(sample.contains(line), "{line}: {sample}");
    }
    let original = config("finetune", &["--preset", "gallery_gpt", "--lr", "1e-3"]);
    for line in [
        "learning_rate = 0.001\n",
        "lora_r = 128\n",
        "order = \"gallery_gpt\"\n",
    ] {
        assert!(original.contains(line), "{line}: {original}");
    }
    let qwen = config("finetune", &["--preset", "qwen_vl_chat"]);
    for line in [
        "learning_rate = 0.00001\n",
        "lora_r = 64\n",
        "weight_decay = 0.1\n",
    ] {
        assert!(qwen.contains(line), "{line}: {qwen}");
    }
}

#[test]
fn the_command_line_wins_over_the_file() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    let text = "max-new-tokens = 7\ntemperature = 0\nload_8bit = true\nquery = \"What?\"\nstop_strings = [\"x\", \"y\"]\n";
    fs::write(&file, text).unwrap();
    let file = file.to_str().unwrap();
    let printed = config("caption", &["--config", file, "--max_new_tokens", "9"]);
    for line in [
        "max_new_tokens = 9\n",
        "load_8bit = true\n",
        "question = \"What?\"\n",
        "stop_strings = [\"x\", \"y\"]\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let printed = config(
        "caption",
        &["--stop_strings", "z", "--load_8bit=False", "--config", file],
    );
    for line in ["stop_strings = [\"z\"]\n", "load_8bit = false\n"] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn a_file_of_flags_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("run.toml");
    for (text, code, words) in [
        (
            "lora_rr = 3",
            1,
            "finetune has no flag `lora_rr`; did you mean `lora_r`?",
        ),
        (
            "print_config = true",
            1,
            "finetune has no flag `print_config`",
        ),
        (
            "lora_r = { a = 1 }",
            1,
            "`lora_r` is table, expected a text, a number or a boolean",
        ),
        ("lora_r = ", 1, "run.toml"),
        ("lora_r = \"many\"", 2, "'many'"),
    ] {
        fs::write(&file, text).unwrap();
        let output = program("finetune")
            .arg("--config")
            .arg(&file)
            .output()
            .unwrap();
        refused(&output, code, words);
    }
    let output = program("finetune")
        .args(["--config", "no/such.toml"])
        .output()
        .unwrap();
    refused(&output, 1, "no/such.toml");
}

#[test]
fn booleans_stand_alone_or_with_a_value() {
    for (flags, expected) in [
        (&["--load_8bit"][..], true),
        (&["--load-8bit", "True"], true),
        (&["--load_8bit=1"], true),
        (&["--load_8bit", "False"], false),
        (&["--load_8bit", "0"], false),
        // What follows a lone flag is a picture.
        (&["--load_8bit", "painting.jpg"], true),
    ] {
        let printed = config("caption", flags);
        assert!(
            printed.contains(&format!("load_8bit = {expected}\n")),
            "{flags:?}: {printed}"
        );
    }
    let output = program("caption")
        .arg("--load_8bit=maybe")
        .output()
        .unwrap();
    refused(&output, 2, "expected True or False");
}

#[test]
fn the_originals_names_are_aliases() {
    let printed = config(
        "finetune",
        &[
            "--version",
            "v1",
            "--model_name_or_path",
            "b",
            "--data_path",
            "d",
            "--image_folder",
            "i",
            "--epochs",
            "2",
        ],
    );
    for line in [
        "num_train_epochs = 2",
        "template = \"v1\"\n",
        "base = \"b\"\n",
        "data = \"d\"\n",
        "images = \"i\"\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let printed = config(
        "answer-questions",
        &[
            "--question-file",
            "q",
            "--answers-file",
            "a",
            "--image-folder",
            "i",
        ],
    );
    for line in [
        "questions = \"q\"\n",
        "output = \"a\"\n",
        "images = \"i\"\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
    let printed = config(
        "caption",
        &[
            "--prompt",
            "Why?",
            "--conv-mode",
            "llava_v0",
            "--model-path",
            "m",
        ],
    );
    for line in [
        "question = \"Why?\"\n",
        "template = \"llava_v0\"\n",
        "adapter = \"m\"\n",
    ] {
        assert!(printed.contains(line), "{line}: {printed}");
    }
}

#[test]
fn versions_and_completions_are_written() {
    for command in ["finetune", "check", "caption"] {
        let text = said(&program(command).arg("--version").output().unwrap());
        assert!(text.contains(env!("CARGO_PKG_VERSION")), "{text}");
    }
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let text = said(&program("completions").arg(shell).output().unwrap());
        assert!(
            text.contains("answer-questions") && text.contains("lora_r"),
            "{shell}"
        );
    }
}

#[test]
fn help_has_headings() {
    let text = said(&program("finetune").arg("--help").output().unwrap());
    for heading in [
        "Model:",
        "Data:",
        "What is trained:",
        "Optimizer:",
        "Configuration:",
    ] {
        assert!(
            text.contains(&format!("\n{heading}\n")),
            "{heading}: {text}"
        );
    }
    assert!(text.lines().all(|line| line.chars().count() <= 100));
}
