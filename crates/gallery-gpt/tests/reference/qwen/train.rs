//! Training with adapters: losses, norms, gradients, final tensors.

use std::collections::BTreeMap;

use gallery_gpt::{
    checkpoint::{AdapterLayout, LoadOptions, load_adapter, save_adapter},
    data::Batch,
    llama::LoraConfig,
    model::{GalleryModel, Packing},
    text::{IGNORE_INDEX, IMAGE_TOKEN_INDEX},
    train::{
        GradientOptions, LossMean, Recompute, SchedulerType, TrainState, TrainingConfig,
        evaluate_loss, gradients,
    },
};
use serde_json::{Value, json};

use super::{adapter_folder, load, pixels, placeholders};
use crate::{
    case::Case,
    fixtures::{Golden, Goldens, Variant, distance, ids, list, norm, rows, tensors, text},
    train::{first_gradients, runs},
};

const LOSS: f64 = 1e-4;
const NORM: f64 = 2e-4;
const FINAL: f32 = 2e-4;
const UPDATE: f64 = 5e-3;
const RATE: f64 = 1e-12;

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let mut cases = vec![Case::of_path(
        variant,
        "train/base_losses.json",
        check_base_losses,
    )];
    for name in runs(variant) {
        for (recompute, of) in [("off", Recompute::Off), ("blocks", Recompute::Blocks)] {
            for (packing, packed) in [("padded", Packing::Off), ("packed", Packing::OneRow)] {
                let case = format!("{name}::recompute_{recompute}::{packing}");
                let name = name.clone();
                cases.push(Case::new(case, move |variant| {
                    check_run(variant, &name, of, packed);
                }));
            }
        }
    }
    cases
}

/// The original's rows without padding, with a placeholder in place of the ids of each picture.
fn batch(variant: &Variant, model: &GalleryModel, case: &Value) -> Batch {
    let size = model.config().vision.image_size;
    let mut batch = Batch::default();
    let masks = rows(&case["attention_mask"]);
    let labels = rows(&case["labels"]);
    for (row, ids) in rows(&case["input_ids"]).iter().enumerate() {
        let length = masks[row].iter().filter(|&&seen| seen == 1).count();
        let (input_ids, paths) = placeholders(model, &ids[..length]);
        let mut of_ids = labels[row].iter();
        let label = |&id: &i64| {
            if id != IMAGE_TOKEN_INDEX {
                return *of_ids.next().unwrap();
            }
            let inner = of_ids.by_ref().take(super::PICTURE_IDS);
            assert!(inner.copied().all(|label| label == IGNORE_INDEX));
            IGNORE_INDEX
        };
        batch.labels.push(input_ids.iter().map(label).collect());
        batch.input_ids.push(input_ids);
        let pictures = paths.iter().map(|path| pixels(variant, size, path));
        batch.pictures.extend(pictures);
        batch.ids.push(row.to_string());
    }
    batch
}

/// The model with the adapter that a run begins with, which travels through a folder.
fn start(variant: &Variant, run: &Goldens, log: &Value) -> GalleryModel {
    let model = load(variant);
    let options = LoadOptions::default();
    let begins_with = text(&log["start"]);
    if variant.has(begins_with) {
        let files = ["adapter_model.safetensors", "adapter_model.bin"];
        let is_there = |name: &&str| variant.has(&format!("{begins_with}/{name}"));
        let weights = files.into_iter().find(is_there).unwrap();
        let folder = adapter_folder(variant, begins_with, weights);
        return load_adapter(model, folder.path(), &options).unwrap().0;
    }
    let lora = &variant.json("variant.json")["lora"];
    let folder = tempfile::tempdir().unwrap();
    let adapter = json!({
        "peft_type": "LORA", "r": lora["r"], "lora_alpha": lora["lora_alpha"], "lora_dropout": 0.0,
    });
    let config = folder.path().join("adapter_config.json");
    std::fs::write(config, adapter.to_string()).unwrap();
    let mut tensors: Vec<(String, Golden)> = Vec::new();
    for (key, golden) in run {
        if let Some(name) = key.strip_prefix("init.") {
            tensors.push((name.to_owned(), golden.clone()));
            let b = name.replace("lora_A", "lora_B");
            let zeros = Golden {
                shape: run[&format!("final.{b}")].shape.clone(),
                values: vec![0.0; run[&format!("final.{b}")].values.len()],
            };
            tensors.push((b, zeros));
        }
    }
    let bytes: Vec<Vec<u8>> = tensors
        .iter()
        .map(|(_, golden)| golden.values.iter().flat_map(|v| v.to_le_bytes()).collect())
        .collect();
    let views = tensors.iter().zip(&bytes).map(|((name, golden), bytes)| {
        let shape = golden.shape.clone();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape, bytes);
        (name.clone(), view.unwrap())
    });
    let path = folder.path().join("adapter_model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    load_adapter(model, folder.path(), &options).unwrap().0
}

fn config(log: &Value) -> TrainingConfig {
    let optimizer = &log["optimizer"];
    let number = |key: &str| optimizer[key].as_f64().unwrap();
    TrainingConfig {
        learning_rate: number("lr"),
        weight_decay: number("weight_decay"),
        adam_beta1: optimizer["betas"][0].as_f64().unwrap(),
        adam_beta2: optimizer["betas"][1].as_f64().unwrap(),
        adam_epsilon: number("eps"),
        warmup_ratio: number("warmup_ratio"),
        max_grad_norm: optimizer["max_grad_norm"].as_f64(),
        lr_scheduler_type: SchedulerType::Cosine,
        loss_mean: LossMean::MicroBatches,
        ..TrainingConfig::qwen_vl_chat()
    }
}

/// The tensors of the adapter's folder, by PEFT's names.
fn adapter(model: &GalleryModel) -> BTreeMap<String, Golden> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter");
    save_adapter(model, &"base".into(), &path, AdapterLayout::Peft).unwrap();
    tensors(&path.join("adapter_model.safetensors"))
}

fn check_run(variant: &Variant, name: &str, recompute: Recompute, packing: Packing) {
    let log = variant.json(&format!("train/{name}.json"));
    let run = variant.tensors(&format!("train/{name}.safetensors"));
    let model = start(variant, &run, &log);
    let before = adapter(&model);
    let steps: Vec<Vec<Batch>> = list(&variant.json("train/batches.json"))
        .iter()
        .map(|step| {
            list(step)
                .iter()
                .map(|case| batch(variant, &model, case))
                .collect()
        })
        .collect();
    let config = TrainingConfig {
        gradient_checkpointing: recompute,
        packing,
        gradient_accumulation_steps: steps[0].len(),
        ..config(&log)
    };
    let logged = list(&log["log"]);
    let mut state = TrainState::new(model, &config, logged.len()).unwrap();
    let options = GradientOptions {
        recompute,
        packing,
        weight: 1.0 / steps[0].len() as f64,
        ..GradientOptions::default()
    };
    first_gradients(
        &variant.at(name),
        &run,
        &state,
        &steps[0],
        options,
        peft_name,
    );

    let (mut worst_loss, mut worst_norm) = (0.0_f64, 0.0_f64);
    for (step, batches) in logged.iter().zip(&steps) {
        let report = state.step(batches).unwrap();
        let number = |key: &str| step[key].as_f64().unwrap();
        assert!(
            (report.learning_rate - number("lr")).abs() <= RATE,
            "{report:?}"
        );
        worst_loss = worst_loss.max((report.loss - number("loss")).abs());
        let expected = number("grad_norm");
        worst_norm = worst_norm.max((report.grad_norm - expected).abs() / expected);
        assert!(
            worst_loss <= LOSS && worst_norm <= NORM,
            "{report:?}, expected {step}"
        );
    }
    assert_eq!(logged.len(), steps.len());

    let found = adapter(&state.into_model());
    let (mut worst_final, mut worst_update, mut compared) = (0.0_f32, 0.0_f64, 0);
    for (key, golden) in run.iter().filter(|(key, _)| key.starts_with("final.")) {
        let name = &key["final.".len()..];
        let (found, before) = (&found[name], &before[name]);
        worst_final = worst_final.max(distance(&found.values, &golden.values));
        let update = |values: &[f32]| -> Vec<f32> {
            let pairs = values.iter().zip(&before.values);
            pairs.map(|(after, before)| after - before).collect()
        };
        let (ours, theirs) = (update(&found.values), update(&golden.values));
        let error: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        worst_update = worst_update.max(norm(&error) / norm(&theirs));
        compared += 1;
    }
    assert_eq!(compared, found.len());
    variant.measured(&format!(
        "{name}, recompute {recompute:?}, packing {packing:?}: loss {worst_loss:.1e}, norm {worst_norm:.1e}, final {worst_final:.1e}, update {worst_update:.1e}"
    ));
    assert!(worst_final <= FINAL && worst_update <= UPDATE);
}

/// PEFT's name of an adapter's parameter, by its path.
fn peft_name(path: &str) -> String {
    path.replace("language_model.layers.", "base_model.model.transformer.h.")
        .replace("self_attn.c_attn", "attn.c_attn")
        .replace("self_attn.o_proj", "attn.c_proj")
        .replace("mlp.up_proj", "mlp.w1")
        .replace("mlp.gate_proj", "mlp.w2")
        .replace(".lora.lora_a", ".lora_A.weight")
        .replace(".lora.lora_b", ".lora_B.weight")
}

/// The loss of every conversation alone without an adapter: in training, and in evaluation, where the context is stretched.
fn check_base_losses(variant: &Variant) {
    let base = load(variant);
    // An adapter that changes nothing, since training needs parameters.
    let trained = base.clone().apply_lora(&LoraConfig::qwen_vl_chat());
    let config = TrainingConfig::qwen_vl_chat();
    let state = TrainState::new(trained, &config, 1).unwrap();
    let labelled = variant.json("tokenizer/labels.json");
    let losses = variant.json("train/base_losses.json");
    let mut compared = 0;
    for case in list(&labelled) {
        let Some(expected) = losses.get(text(&case["name"])) else {
            continue;
        };
        let row = |key: &str| json!([case[key]]);
        let case_of_one = json!({
            "input_ids": row("input_ids"), "labels": row("labels"), "attention_mask": row("attention_mask"),
        });
        let batch = batch(variant, &base, &case_of_one);
        let length = ids(&case["attention_mask"]).iter().sum::<i64>();
        assert_eq!(length, expected["length"].as_i64().unwrap());
        let part = gradients(state.model(), &batch, &GradientOptions::default()).unwrap();
        let evaluated = evaluate_loss(&base, &[batch]).unwrap();
        let trained = f64::from(part.loss.into_scalar::<f32>());
        for (mode, found) in [("train", trained), ("eval", evaluated)] {
            let expected = expected[format!("loss_{mode}_mode")].as_f64().unwrap();
            let name = text(&case["name"]);
            assert!(
                (found - expected).abs() <= LOSS,
                "{name}, {mode}: {found}, expected {expected}"
            );
        }
        compared += 1;
    }
    assert_eq!(compared, losses.as_object().unwrap().len());
}
