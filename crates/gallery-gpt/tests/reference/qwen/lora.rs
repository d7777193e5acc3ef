//! Adapters: applied, merged, and written again.

use std::path::Path;

use burn::tensor::Tensor;
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, AdapterOrigin, CheckpointKey, Layout, LoadOptions, checkpoint_key,
        load_adapter, save_adapter,
    },
    llama::LoraTarget,
    model::{GalleryModel, Generator},
};
use serde_json::Value;

use super::{adapter_folder, generation::prompts, load};
use crate::{
    case::Case,
    fixtures::{Golden, Variant, distance, list, rows, tensors, text, values},
    generation::greedy,
};

const LOGITS: f32 = 4e-4;
/// Merged weights may differ by a rounding of f32.
const MERGED: f32 = 1e-6;
const ADAPTER: &str = "lora/peft";
const FILES: [&str; 2] = ["adapter_model.safetensors", "adapter_model.bin"];

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let mut cases = Vec::new();
    for file in FILES {
        if !variant.has(&format!("{ADAPTER}/{file}")) {
            cases.push(Case::absent(file));
            continue;
        }
        for (name, check) in CHECKS {
            cases.push(Case::new(format!("{file}::{name}"), move |variant| {
                check(variant, file);
            }));
        }
    }
    cases
}

type Check = fn(&Variant, &str);

const CHECKS: [(&str, Check); 4] = [
    ("logits", check_logits),
    ("merged", check_merged),
    ("greedy", check_greedy),
    ("written", check_written),
];

/// The model with the adapter of one of the files on it.
fn adapted(variant: &Variant, file: &str) -> GalleryModel {
    let folder = adapter_folder(variant, ADAPTER, file);
    let options = LoadOptions::default();
    let (model, adapter) = load_adapter(load(variant), folder.path(), &options).unwrap();
    let lora = &variant.json("variant.json")["lora"];
    assert_eq!(lora["r"], adapter.lora.rank);
    let scale = lora["lora_alpha"].as_f64().unwrap() / lora["r"].as_f64().unwrap();
    assert_eq!(adapter.lora.scale(), scale);
    let trained = [
        LoraTarget::CAttn,
        LoraTarget::OProj,
        LoraTarget::GateProj,
        LoraTarget::UpProj,
    ];
    assert_eq!(adapter.lora.targets, trained.into_iter().collect());
    assert!(!adapter.has_projector && adapter.changed_base.is_empty());
    model
}

/// Compares the last logits of every case.
fn compare_logits(variant: &Variant, model: &GalleryModel, suffix: &str) {
    let expected = variant.tensors("lora/expected.safetensors");
    let cases = variant.json("expected/cases.json");
    for name in list(&variant.json("lora/cases.json")["cases"]) {
        let case = &cases["cases"][text(name)];
        let (prompts, _) = prompts(variant, model, case);
        for (row, prompt) in prompts.iter().enumerate() {
            let ids = std::slice::from_ref(&prompt.input_ids);
            let plan = model.plan(ids, &prompt.pictures).unwrap();
            let logits = model.forward(&plan, model.pixel_values(&prompt.pictures));
            let key = format!("{}.{suffix}", text(name));
            let golden = &expected[&key];
            let (seq, tail) = (logits.dims()[1], golden.shape[1]);
            let found = values(logits.slice_dim(1, seq - tail..seq));
            let stored = found.len() * row..found.len() * (row + 1);
            let worst = distance(&found, &golden.values[stored]);
            let at = variant.at(&key);
            assert!(worst <= LOGITS, "{at}: row {row} differs by {worst:e}");
        }
    }
}

fn check_logits(variant: &Variant, file: &str) {
    compare_logits(variant, &adapted(variant, file), "logits");
}

/// A weight by its name in the original, as it is stored there.
fn weight(model: &GalleryModel, name: &str) -> Tensor<2> {
    let mut found = None;
    for (number, layer) in model.language_model.layers.iter().enumerate() {
        for (target, linear) in layer.linears() {
            let (block, module) = (target.block(), target.name());
            let path = format!("language_model.layers.{number}.{block}.{module}.base.weight");
            let CheckpointKey { key, .. } = checkpoint_key(&path).unwrap();
            if Layout::QwenVl.key_of(&key) == name {
                found = Some(linear.base.weight.val().transpose());
            }
        }
    }
    found.unwrap_or_else(|| panic!("no {name}"))
}

fn check_merged(variant: &Variant, file: &str) {
    let model = adapted(variant, file).merge_lora();
    assert!(!model.language_model.has_lora());
    compare_logits(variant, &model, "logits_merged");
    let expected = variant.tensors("lora/expected.safetensors");
    let mut compared = 0;
    for (key, golden) in &expected {
        let Some((name, kept)) = key
            .strip_prefix("merged.")
            .and_then(|rest| rest.split_once(".rows_"))
        else {
            continue;
        };
        let found = kept_rows(weight(&model, name), kept);
        assert_eq!(found.dims(), golden.shape[..], "{key}");
        let worst = distance(&values(found), &golden.values);
        let at = variant.at(key);
        assert!(worst <= MERGED, "{at}: differs by {worst:e}");
        compared += 1;
    }
    assert!(compared > 0);
}

/// The rows that a fixture keeps of a weight: `0_16`, or `0_16_and_last_16`.
fn kept_rows(weight: Tensor<2>, kept: &str) -> Tensor<2> {
    let rows = weight.dims()[0];
    let parts = kept.split("_and_").map(|part| {
        let (from, count) = part.split_once('_').unwrap();
        let count: usize = count.parse().unwrap();
        match from {
            "last" => weight.clone().slice_dim(0, rows - count..rows),
            from => weight.clone().slice_dim(0, from.parse().unwrap()..count),
        }
    });
    Tensor::cat(parts.collect(), 0)
}

fn check_greedy(variant: &Variant, file: &str) {
    let model = adapted(variant, file);
    let golden = &variant.json("lora/cases.json")["greedy"];
    let cases = variant.json("expected/cases.json");
    let (prompts, _) = prompts(variant, &model, &cases["cases"][text(&golden["case"])]);
    let expected = rows(&golden["new_ids"]);
    let generator = Generator::new(&model, greedy(expected[0].len(), Vec::new()));
    let found = generator.generate(&prompts).unwrap();
    let found: Vec<Vec<i64>> = found
        .iter()
        .map(|row| row.ids.iter().map(|&id| id.into()).collect())
        .collect();
    assert_eq!(found, expected);
}

/// What is written has the names, the values and the settings of what was read.
fn check_written(variant: &Variant, file: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter");
    let origin = AdapterOrigin::from("./");
    let model = adapted(variant, file);
    save_adapter(&model, &origin, &path, AdapterLayout::Peft).unwrap();
    let written = tensors(&path.join(FILES[0]));
    let names: Vec<&str> = written.keys().map(String::as_str).collect();
    let trained = &variant.json("lora/cases.json")["trained_tensors"];
    let mut trained: Vec<&str> = list(trained).iter().map(text).collect();
    trained.sort_unstable();
    assert_eq!(names, trained);
    if variant.has(&format!("{ADAPTER}/{}", FILES[0])) {
        let read = tensors(&variant.path(&format!("{ADAPTER}/{}", FILES[0])));
        for (name, Golden { shape, values }) in &read {
            let again = &written[name];
            assert_eq!((&again.shape, &again.values), (shape, values), "{name}");
        }
    }
    let config = |folder: &Path| -> Value {
        let bytes = std::fs::read(folder.join("adapter_config.json")).unwrap();
        serde_json::from_slice(&bytes).unwrap()
    };
    let (ours, theirs) = (config(&path), config(&variant.path(ADAPTER)));
    let targets = |config: &Value| {
        let mut names: Vec<String> = list(&config["target_modules"])
            .iter()
            .map(|name| text(name).to_owned())
            .collect();
        names.sort();
        names
    };
    assert_eq!(targets(&ours), targets(&theirs));
    for field in [
        "base_model_name_or_path",
        "bias",
        "fan_in_fan_out",
        "lora_alpha",
        "lora_dropout",
        "modules_to_save",
        "peft_type",
        "r",
        "task_type",
    ] {
        let number = |config: &Value| config[field].as_f64();
        assert!(
            ours[field] == theirs[field] || number(&ours) == number(&theirs),
            "{field}: {} and {}",
            ours[field],
            theirs[field]
        );
    }
    let (again, _) = load_adapter(load(variant), &path, &LoadOptions::default()).unwrap();
    compare_logits(variant, &again, "logits");
}
