//! What `inspect` says about checkpoints, adapters and devices, in the words that a reader needs.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Output,
};

use gallery_gpt_testkit::copy_of_tiny_base;

use super::{folders::adapter, program, root};

fn inspect(flags: &[&str], paths: &[(&str, &Path)]) -> Output {
    let mut command = program("inspect");
    command.args(flags);
    for (flag, path) in paths {
        command.arg(flag).arg(path);
    }
    command.output().unwrap()
}

/// The lines of a program that succeeded and wrote no error.
fn lines(output: &Output) -> Vec<String> {
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && error.is_empty(), "{error}");
    let text = String::from_utf8_lossy(&output.stdout);
    text.lines().map(str::to_owned).collect()
}

/// Both streams of a program that has to fail with this status.
fn refused(output: &Output, status: i32) -> String {
    let texts = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let text = texts.concat();
    assert_eq!(output.status.code(), Some(status), "{text}");
    text
}

/// Writes another text of the same length over one in a file.
fn replace(path: &Path, from: &str, to: &str) {
    assert_eq!(from.len(), to.len());
    let mut bytes = fs::read(path).unwrap();
    let at = bytes
        .windows(from.len())
        .position(|part| part == from.as_bytes())
        .unwrap();
    bytes[at..at + to.len()].copy_from_slice(to.as_bytes());
    fs::write(path, bytes).unwrap();
}

fn tiny_base() -> PathBuf {
    root().join("datasets/tiny-base")
}

#[test]
fn a_checkpoint_is_described_by_layout_dtype_sizes_and_tower() {
    let said = lines(&inspect(&[], &[]));
    let expected = [
        "datasets/tiny-base: llava-hf's layout, 1362240 parameters in 114 tensors (114 bfloat16), 2.7 MB, fingerprint e59e626b656c2a21",
        "vision tower d29b6ac27850fd39 from datasets/tiny-base",
        "    114 tensors, 2.60 MiB from datasets/tiny-base/model.safetensors",
        "         373696 parameters in vision_tower",
        "          28928 parameters in multi_modal_projector",
        "         959616 parameters in language_model",
        "  tower 96 wide, 4 layers, 64 px in patches of 8, select_layer -2: 64 tokens a picture",
        "  decoder 128 wide, 4 layers, 4 heads (4 for keys), 800 words, context 1024; projector mlp2x_gelu; pictures pad",
    ];
    assert_eq!(said, expected);
    // Every tensor, beside all of that.
    let all = lines(&inspect(&["--tensors"], &[]));
    assert_eq!(all.len(), expected.len() + 114);
    for line in [
        "  vision_tower.vision_model.embeddings.class_embedding bfloat16 96",
        "  multi_modal_projector.linear_1.bias bfloat16 128",
    ] {
        assert!(all.iter().any(|found| found == line), "{line}: {all:#?}");
    }
}

#[test]
fn another_layout_and_dtype_are_named() {
    let scratch = tempfile::tempdir().unwrap();
    let original = scratch.path().join("original");
    let converted = program("convert")
        .args(["--layout", "llava", "--dtype", "f16", "--output_dir"])
        .arg(&original)
        .output()
        .unwrap();
    assert!(converted.status.success());
    let said = lines(&inspect(&[], &[("--base", &original)]));
    let first = format!(
        "{}: LLaVA's own layout, 1362240 parameters in 114 tensors (114 float16)",
        original.display()
    );
    assert!(said[0].starts_with(&first), "{said:#?}");
    let tower = format!(
        " from {}/vision_tower (the config names vision_tower)",
        original.display()
    );
    assert!(said[1].ends_with(&tower), "{said:#?}");
}

#[test]
fn an_adapter_is_described_by_rank_targets_and_what_it_was_trained_on() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("ad");
    adapter(&folder);
    let base = tiny_base();
    let said = lines(&inspect(&[], &[("--adapter", &folder)]));
    let start = said.iter().position(String::is_empty).unwrap();
    let expected = [
        String::new(),
        format!("{}:", folder.display()),
        "  PEFT's layout: rank 2, alpha 4, dropout 0, on q_proj k_proj v_proj o_proj gate_proj up_proj down_proj; 60 tensors, some of them the projector's".to_owned(),
        format!("  trained on {}", base.display()),
        format!("  recorded at its training: base {}", base.display()),
        "    fingerprint of the base sha256:e59e626b656c2a212de11b33be44ca6b6b960a82406eeb091dc164d873ca898a".to_owned(),
        "    template vicuna_v1".to_owned(),
        "    image_aspect_ratio pad".to_owned(),
        "    size of a picture 64 px".to_owned(),
    ];
    assert_eq!(said[start..], expected);
    // Of one trained elsewhere: what it changes besides, and nothing that it does not record.
    let others = root().join("crates/gallery-gpt/tests/user_files/fixtures/adapters");
    let said = lines(&inspect(&[], &[("--adapter", &others.join("dora"))]));
    let expected = [
        "  PEFT's layout: rank 2, alpha 4, dropout 0, on q_proj v_proj; 24 tensors",
        "  changes weights of the base when it is loaded: 8 modules, the first is language_model.model.layers.0.self_attn.q_proj",
        "  trained on datasets/tiny-base",
    ];
    assert_eq!(said[said.len() - 3..], expected);
    let said = lines(&inspect(&[], &[("--adapter", &others.join("olora"))]));
    let projector = "on v_proj up_proj; 8 tensors, some of them the projector's";
    assert!(
        said.iter().any(|line| line.ends_with(projector)),
        "{said:#?}"
    );
}

#[test]
fn what_a_checkpoint_lacks_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let base = copy_of_tiny_base(scratch.path());
    fs::remove_file(base.join("preprocessor_config.json")).unwrap();
    let said = lines(&inspect(&[], &[("--base", &base)])).join("\n");
    let note = format!(
        "note: {} has no preprocessor_config.json: pictures are normalised with CLIP's mean and standard deviation",
        base.display()
    );
    assert!(said.contains(&note), "{said}");

    let weights = base.join("model.safetensors");
    let name = "language_model.model.layers.1.self_attn.q_proj.weight";
    replace(&weights, name, &name.replace("q_proj", "q_prox"));
    let said = refused(&inspect(&[], &[("--base", &base)]), 1);
    for line in [
        "1345856 parameters in 113 tensors".to_owned(),
        format!("  missing: {name}\n"),
        format!(
            "  unused: {} in {}\n",
            name.replace("q_proj", "q_prox"),
            weights.display()
        ),
        "Error: 2 tensors do not match".to_owned(),
    ] {
        assert!(said.contains(&line), "{line}: {said}");
    }
}

#[test]
fn what_an_adapter_lacks_is_named() {
    let scratch = tempfile::tempdir().unwrap();
    let folder = scratch.path().join("ad");
    adapter(&folder);
    let weights = folder.join("adapter_model.safetensors");
    replace(&weights, "q_proj.lora_A", "q_prox.lora_A");
    let changed = refused(&inspect(&[], &[("--adapter", &folder)]), 1);
    assert!(changed.contains("adapter_model.safetensors"), "{changed}");
    // Without the list of its files, as adapters from elsewhere come.
    fs::remove_file(folder.join("gallery_gpt.json")).unwrap();
    let said = refused(&inspect(&[], &[("--adapter", &folder)]), 1);
    for words in [
        "; 59 tensors, some of them the projector's\n",
        "  missing: base_model.model.model.language_model.layers.0.self_attn.q_proj.lora_A.weight\n",
        "  unused: base_model.model.model.language_model.layers.0.self_attn.q_prox.lora_A.weight in ",
        "Error: 2 tensors do not match",
    ] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn what_cannot_be_inspected_is_refused_in_words() {
    let scratch = tempfile::tempdir().unwrap();
    let nowhere = scratch.path().join("nowhere");
    for flag in ["--base", "--adapter", "--vision_tower"] {
        let said = refused(&inspect(&[], &[(flag, &nowhere)]), 1);
        let name = nowhere.display().to_string();
        assert!(said.contains("Error: ") && said.contains(&name), "{said}");
    }
    let base = copy_of_tiny_base(scratch.path());
    fs::write(base.join("model.safetensors"), "<!doctype html><html>").unwrap();
    let said = refused(&inspect(&[], &[("--base", &base)]), 1);
    assert!(said.contains("web page"), "{said}");
    let pissa = "crates/gallery-gpt/tests/user_files/fixtures/adapters/pissa";
    let said = refused(&inspect(&[], &[("--adapter", Path::new(pissa))]), 1);
    assert!(said.contains("init_lora_weights is \"pissa\""), "{said}");
}

#[test]
fn a_device_is_described_and_tried() {
    let said = lines(&inspect(&["--device", "cpu"], &[]));
    assert_eq!(said[0], "cpu");
    let line = |start: &str| {
        let found = said.iter().find(|line| line.starts_with(start));
        found.unwrap_or_else(|| panic!("{start}: {said:#?}"))
    };
    let threads = line("  fine         threads");
    let count = std::thread::available_parallelism().unwrap();
    assert!(threads.ends_with(&format!(" {count}")), "{threads}");
    let attention = line("  falls back   attention");
    assert!(attention.contains("when training"), "{attention}");
    let halves = line("  falls back   bf16, f16");
    assert!(halves.contains("slower than f32"), "{halves}");
    // A small computation of each kind and dtype, its error within what the dtype allows.
    for (start, bound) in [
        ("  product [512, 1024] [1024, 768] F32", 1e-5),
        ("  attention [2, 4, 577, 64] F32", 1e-5),
        ("  product [512, 1024] [1024, 768] BF16", 5e-2),
        ("  attention [2, 4, 577, 64] BF16", 5e-2),
    ] {
        let tried = line(start);
        let error = tried.split("error ").nth(1).unwrap();
        let error: f64 = error.split(',').next().unwrap().parse().unwrap();
        assert!(error < bound && tried.ends_with(" s"), "{tried}");
    }
}

#[test]
fn a_device_that_is_not_there_is_refused_by_name() {
    let said = refused(&inspect(&["--device", "abacus"], &[]), 2);
    let words = "device `abacus` is not known, expected cpu, cuda or cuda:N";
    assert!(said.contains(words), "{said}");
    if cfg!(not(feature = "cuda")) {
        let said = refused(&inspect(&["--device", "cuda"], &[]), 2);
        let words = "device `cuda` is not in this build; build with `--features cuda`";
        assert!(said.contains(words), "{said}");
    }
    for flag in ["--adapter", "--vision_tower"] {
        let said = refused(&inspect(&["--device", "cpu", flag, "x"], &[]), 2);
        assert!(said.contains("cannot be used with"), "{said}");
    }
}
