//! Folders of Qwen-VL-Chat: every command that takes one.

use std::{
    fs,
    io::Write,
    path::{Path, PathBuf},
    process::{Output, Stdio},
};

use serde_json::{Value, json};

use super::{program, root};

/// A picture of the sample, from the repository's root.
const PICTURE: &str = "datasets/painting-form-mini/images/test_0.jpg";

fn goldens() -> PathBuf {
    root().join("crates/gallery-gpt/tests/goldens/qwen_basic")
}

fn base() -> PathBuf {
    goldens().join("model")
}

/// The fixtures' adapter, with one file of weights.
fn adapter(folder: &Path) -> PathBuf {
    let (source, folder) = (goldens().join("lora/peft"), folder.join("ad"));
    fs::create_dir(&folder).unwrap();
    let weights = ["adapter_model.safetensors", "adapter_model.bin"];
    let weights = weights.into_iter().find(|name| source.join(name).is_file());
    for name in ["adapter_config.json", weights.unwrap()] {
        fs::copy(source.join(name), folder.join(name)).unwrap();
    }
    folder
}

fn run(command: &str, flags: &[(&str, &Path)], words: &[&str]) -> Output {
    let mut program = program(command);
    program.arg("--base").arg(base()).args(words);
    for (flag, path) in flags {
        program.arg(flag).arg(path);
    }
    program.output().unwrap()
}

fn said(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{error}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn config(folder: &Path) -> Value {
    serde_json::from_slice(&fs::read(folder.join("config.json")).unwrap()).unwrap()
}

#[test]
fn a_model_is_described_with_its_context_and_its_answers() {
    let scratch = tempfile::tempdir().unwrap();
    let adapter = adapter(scratch.path());
    let text = said(&run("inspect", &[("--adapter", &adapter)], &[]));
    for line in [
        "model: Qwen-VL's layout, 1642052 parameters in 73 tensors (73 bfloat16)",
        "  tower 48 wide, 3 layers, 224 px in patches of 7, no class token, every layer used: 256 tokens a picture\n",
        "context 8192; projector resampler of 256 queries; pictures squash\n",
        "  Qwen-VL, trained on 256 tokens; beyond them dynamic NTK is on and log-n attention on\n",
        "  answers: temperature 1, top_p 0.3, top_k off, at most 512 tokens, ended by [420, 421, 422]; earlier turns up to 6144 tokens\n",
        "  PEFT's layout: rank 4, alpha 2, dropout 0, on c_attn attn.c_proj w2 w1; 16 tensors\n",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let text = said(&run("inspect", &[], &["--tensors"]));
    let line = "  transformer.visual.attn_pool.query bfloat16 65536\n";
    assert!(text.contains(line), "{text}");
}

#[test]
fn a_model_stays_in_its_own_layout() {
    let scratch = tempfile::tempdir().unwrap();
    let converted = scratch.path().join("converted");
    let flags: &[(&str, &Path)] = &[("--output_dir", &converted)];
    said(&run("convert", flags, &["--dtype", "f16"]));
    let mut expected = config(&base());
    expected["torch_dtype"] = "float16".into();
    for name in ["_name_or_path", "transformers_version"] {
        expected.as_object_mut().unwrap().remove(name);
    }
    expected["rotary_emb_base"] = 10000.0.into();
    assert_eq!(config(&converted), expected);
    for name in ["qwen.tiktoken", "generation_config.json"] {
        assert!(converted.join(name).is_file(), "{name}");
    }

    let adapter = adapter(scratch.path());
    let again = scratch.path().join("adapter");
    let flags = [("--adapter", &*adapter), ("--output_dir", &*again)];
    said(&run("convert", &flags, &[]));
    assert!(again.join("adapter_model.safetensors").is_file());
    let none = scratch.path().join("none");
    let model: &[(&str, &Path)] = &[("--output_dir", &none)];
    let of_adapter: &[(&str, &Path)] = &[("--adapter", &adapter), ("--output_dir", &none)];
    for (command, flags) in [
        ("convert", model),
        ("convert", of_adapter),
        ("merge", of_adapter),
    ] {
        for (layout, name) in [("llava_hf", "llava-hf's"), ("llava", "LLaVA's own")] {
            let output = run(command, flags, &["--layout", layout]);
            let error = String::from_utf8_lossy(&output.stderr);
            let words =
                format!("{name} layout cannot store a model of Qwen-VL; save in its own (qwen_vl)");
            assert_eq!(output.status.code(), Some(1), "{command}: {error}");
            assert!(error.contains(&words), "{command}: {error}");
            assert!(!none.exists());
        }
    }
    // A LLaVA is not saved as a Qwen-VL either, and is in llava-hf's layout by default.
    let llava = |words: &[&str], folder: &Path| {
        let mut convert = program("convert");
        let convert = convert.args(words).arg("--output_dir").arg(folder);
        convert.output().unwrap()
    };
    let output = llava(&["--layout", "qwen_vl"], &none);
    let error = String::from_utf8_lossy(&output.stderr);
    let words = "Qwen-VL's layout cannot store a model of LLaVA; save in llava-hf's (llava_hf)";
    assert!(error.contains(words), "{error}");
    said(&llava(&[], &none));
    assert_eq!(config(&none)["model_type"], "llava");
}

#[test]
fn a_merged_model_answers_as_with_its_adapter() {
    let scratch = tempfile::tempdir().unwrap();
    let adapter = adapter(scratch.path());
    let merged = scratch.path().join("merged");
    let flags = [("--adapter", &*adapter), ("--output_dir", &*merged)];
    let text = said(&run("merge", &flags, &["--dtype", "f32"]));
    let end = "adapter against merged: differ by at most ";
    let at = text.find(end).unwrap() + end.len();
    let differ: f64 = text[at..].split(',').next().unwrap().parse().unwrap();
    assert!(differ < 4e-4, "{text}");
    assert_eq!(config(&merged)["model_type"], "qwen");
    let mut inspect = program("inspect");
    let output = inspect.arg("--base").arg(&merged).output().unwrap();
    assert!(said(&output).contains("Qwen-VL's layout"));
}

#[test]
fn its_row_of_the_table_is_scored_without_tags() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    // Two paintings of the sample's test set, and imported texts about them, one with tags.
    let references = root().join("datasets/painting-form-mini/formalanalysis_test_gpt.json");
    let records: Vec<Value> = serde_json::from_slice(&fs::read(references).unwrap()).unwrap();
    let few = folder.join("few.json");
    fs::write(&few, serde_json::to_vec(&records[..2]).unwrap()).unwrap();
    let texts = |name: &str, first: &str| {
        let lines = [first, "A wall in brown."].into_iter().zip(&records);
        let lines = lines.map(|(text, record)| {
            let line = json!({ "image": record["image"], "text": text });
            format!("{line}\n")
        });
        let file = folder.join(name);
        fs::write(&file, lines.collect::<String>()).unwrap();
        format!("{}={}", name.replace(".jsonl", ""), file.display())
    };
    let tagged = texts(
        "tagged.jsonl",
        "<ref>The bottle</ref><box>(1,2),(3,4)</box> stands at the left.",
    );
    let plain = texts("plain.jsonl", "The bottle stands at the left.");
    let output = program("evaluate")
        .arg("--model-path")
        .arg(base())
        .arg("--references")
        .arg(&few)
        .args(["--predictions", &tagged, "--predictions", &plain])
        .arg("--output_dir")
        .arg(folder.join("out"))
        .args([
            "--max_new_tokens",
            "8",
            "--temperature",
            "0",
            "--resamples",
            "10",
        ])
        .output()
        .unwrap();
    let note = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(
        note.contains("1 texts of tagged have tags of regions"),
        "{note}"
    );
    let table = said(&output);
    assert!(table.contains("  base "), "{table}");
    let scores = fs::read(folder.join("out/scores.json")).unwrap();
    let scores: Value = serde_json::from_slice(&scores).unwrap();
    let systems = scores["systems"].as_array().unwrap();
    assert_eq!(systems.len(), 3);
    let of = |name: &str| {
        systems
            .iter()
            .find(|system| system["name"] == name)
            .unwrap()
    };
    assert_eq!(
        of("tagged")["scores"]["BLEU"]["score"],
        of("plain")["scores"]["BLEU"]["score"]
    );
    assert!(of("base")["scores"]["ROUGE-L"]["score"].is_number());
}

/// The random model writes no boxes, so that `--boxes` ends with an error that says so, and no file.
#[test]
fn it_answers_about_pictures() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path();
    let picture = root().join(PICTURE);
    let short = ["--max_new_tokens", "3"];
    let text = said(&run("caption", &[("--image", &*picture)], &short));
    assert!(!text.trim().is_empty());

    let boxes = folder.join("boxes.png");
    let flags = [("--image", &*picture), ("--boxes", &*boxes)];
    let output = run("caption", &flags, &short);
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("points at nothing"), "{error}");
    assert!(!boxes.exists());

    let (questions, answers) = (folder.join("questions.jsonl"), folder.join("answers.jsonl"));
    let question = json!({ "question_id": 7, "image": PICTURE, "text": "What is in it?" });
    fs::write(&questions, question.to_string()).unwrap();
    let root = root();
    let flags = [
        ("--questions", &*questions),
        ("--images", &*root),
        ("--output", &*answers),
    ];
    said(&run("answer-questions", &flags, &short));
    let line: Value = serde_json::from_slice(&fs::read(&answers).unwrap()).unwrap();
    assert_eq!(line["question_id"], 7);
    assert_eq!(line["prompt"], "What is in it?");
    assert!(
        line["text"].is_string() && line.get("regions").is_none(),
        "{line}"
    );
}

#[test]
fn it_chats() {
    let scratch = tempfile::tempdir().unwrap();
    let mut chat = program("chat");
    chat.env("HOME", scratch.path())
        .args(["--max_new_tokens", "3", "--base"])
        .arg(base())
        .arg(PICTURE)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = chat.spawn().unwrap();
    let lines = "What does <img>a.jpg</img> mean?\nAnd now?\n/save ~/talk.json\n";
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(lines.as_bytes()).unwrap();
    drop(stdin);
    said(&child.wait_with_output().unwrap());
    let saved = fs::read(scratch.path().join("talk.json")).unwrap();
    let record: Value = serde_json::from_slice(&saved).unwrap();
    let turns = record["conversations"].as_array().unwrap();
    assert_eq!(turns.len(), 4, "{record}");
    let asked = turns[0]["value"].as_str().unwrap();
    assert!(
        asked.ends_with("What does <img>a.jpg</img> mean?"),
        "{asked}"
    );
}

#[test]
fn it_is_checked_planned_and_finetuned() {
    let scratch = tempfile::tempdir().unwrap();
    let records = json!([{ "id": "0", "image": PICTURE, "conversations": [
        { "from": "human", "value": "<image>\nWhat is in it?" },
        { "from": "gpt", "value": "A boat." },
    ] }]);
    let data = scratch.path().join("records.json");
    fs::write(&data, records.to_string()).unwrap();
    let (root, runs) = (root(), scratch.path().join("run"));
    let of_records = [("--data", &*data), ("--images", &*root)];
    said(&run("check", &of_records, &[]));
    let preset = [
        "--preset",
        "qwen_vl_chat",
        "--lora_r",
        "2",
        "--per_device_train_batch_size",
        "1",
        "--gradient_accumulation_steps",
        "1",
        "--num_train_epochs",
        "1",
    ];
    let plan = [&preset[..], &["--plan"]].concat();
    let text = said(&run("finetune", &of_records, &plan));
    assert!(text.contains("1 step"), "{text}");
    let flags = [&of_records[..], &[("--output_dir", &*runs)]].concat();
    let trained = run("finetune", &flags, &preset);
    said(&trained);
    assert!(!String::from_utf8_lossy(&trained.stderr).contains("--preset"));
    let other = scratch.path().join("other");
    let flags = [&of_records[..], &[("--output_dir", &*other)]].concat();
    let by_the_sample = run("finetune", &flags, &["--max_steps", "1"]);
    said(&by_the_sample);
    let notes = String::from_utf8_lossy(&by_the_sample.stderr);
    assert!(notes.contains("--preset qwen_vl_chat"), "{notes}");
    let adapter = runs.join("adapter");
    let flags = [("--adapter", &*adapter), ("--image", &*root.join(PICTURE))];
    let text = said(&run("caption", &flags, &["--max_new_tokens", "3"]));
    assert!(!text.trim().is_empty());
}
