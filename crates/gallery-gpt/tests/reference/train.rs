//! Two trainings step by step, and the final tensors.

use std::collections::BTreeMap;

use burn::{
    module::{ModuleVisitor, Param},
    optim::GradientsParams,
    tensor::Tensor,
};
use gallery_gpt::{
    checkpoint::{AdapterLayout, LoadOptions, TensorDtype, VocabRows, load_adapter, save_adapter},
    data::Batch,
    model::{GalleryModel, Packing, ParamVisitor, visit_params},
    train::{
        GradientOptions, LossMean, Recompute, TrainState, TrainingConfig, evaluate_loss, gradients,
    },
    vision::PixelValues,
};
use serde_json::{Value, json};

use crate::{
    case::Case,
    fixtures::{Golden, Goldens, Variant, distance, ids, list, norm, tensors, text},
};

const LOSS: f64 = 2e-5;
const NORM: f64 = 1e-5;
const GRADIENT: f64 = 1e-4;
const FINAL: f32 = 5e-5;
const UPDATE: f64 = 5e-3;
const RATE: f64 = 1e-12;

fn batches(variant: &Variant, expected: &Goldens) -> Vec<Batch> {
    list(&variant.json("train/batches.json"))
        .iter()
        .map(|batch| Batch {
            input_ids: list(&batch["samples"])
                .iter()
                .map(|sample| ids(&sample["input_ids_llava"]))
                .collect(),
            labels: list(&batch["samples"])
                .iter()
                .map(|sample| ids(&sample["labels_llava"]))
                .collect(),
            pictures: pictures(expected, &batch["pixel_values_index"]),
            ids: list(&batch["samples"])
                .iter()
                .map(|sample| text(&sample["conversation"]).to_owned())
                .collect(),
        })
        .collect()
}

fn pictures(expected: &Goldens, index: &Value) -> Vec<PixelValues> {
    let all = &expected["pixel_values"];
    let size = all.shape[2];
    let count = 3 * size * size;
    ids(index)
        .into_iter()
        .map(|index| {
            let start = index as usize * count;
            PixelValues::from_values(all.values[start..start + count].to_vec(), size)
        })
        .collect()
}

/// The reference's name of one of our adapter tensors.
fn reference_name(ours: &str) -> String {
    ours.replace("base_model.model.model.language_model.", "model.")
        .replace(
            "base_model.model.model.multi_modal_projector.linear_1",
            "model.mm_projector.0",
        )
        .replace(
            "base_model.model.model.multi_modal_projector.linear_2",
            "model.mm_projector.2",
        )
}

/// The model with the run's first adapter and projector, which travel through an adapter folder.
fn start(variant: &Variant, run: &Goldens, config: &Value, dtype: TensorDtype) -> GalleryModel {
    let lora = &variant.json("variant.json")["lora"];
    let folder = tempfile::tempdir().unwrap();
    let adapter = json!({
        "peft_type": "LORA", "r": lora["r"], "lora_alpha": lora["lora_alpha"],
        "lora_dropout": 0.0, "modules_to_save": ["multi_modal_projector"],
    });
    std::fs::write(
        folder.path().join("adapter_config.json"),
        adapter.to_string(),
    )
    .unwrap();
    let bytes: Vec<(String, Vec<usize>, Vec<u8>)> = run
        .iter()
        .filter_map(|(key, golden)| {
            let name = key
                .strip_prefix("init.")?
                .replace(
                    "model.layers.",
                    "base_model.model.model.language_model.layers.",
                )
                .replace(
                    "model.mm_projector.0",
                    "base_model.model.model.multi_modal_projector.linear_1",
                )
                .replace(
                    "model.mm_projector.2",
                    "base_model.model.model.multi_modal_projector.linear_2",
                );
            let bytes = golden.values.iter().flat_map(|v| v.to_le_bytes()).collect();
            Some((name, golden.shape.clone(), bytes))
        })
        .collect();
    let views = bytes.iter().map(|(name, shape, bytes)| {
        let view =
            safetensors::tensor::TensorView::new(safetensors::Dtype::F32, shape.clone(), bytes);
        (name.clone(), view.unwrap())
    });
    let path = folder.path().join("adapter_model.safetensors");
    safetensors::serialize_to_file(views, None, &path).unwrap();
    // The softmax of the reference runs over the tokenizer's rows.
    let base = variant.model_in(VocabRows::Tokenizer, dtype);
    let (model, adapter) = load_adapter(base, folder.path(), &LoadOptions::default()).unwrap();
    assert!(adapter.has_projector && config["steps"].is_u64());
    model
}

fn config(json: &Value) -> TrainingConfig {
    let number = |key: &str| json[key].as_f64().unwrap();
    TrainingConfig {
        mm_projector_lr: json["projector_lr"].as_f64(),
        weight_decay: number("weight_decay"),
        adam_beta1: json["betas"][0].as_f64().unwrap(),
        adam_beta2: json["betas"][1].as_f64().unwrap(),
        adam_epsilon: number("eps"),
        warmup_ratio: number("warmup_ratio"),
        max_grad_norm: json["max_grad_norm"].as_f64(),
        gradient_accumulation_steps: json["grad_accum"].as_u64().unwrap() as usize,
        loss_mean: LossMean::MicroBatches,
        ..TrainingConfig::lora(number("lr"))
    }
}

/// The tensors an adapter folder would hold, by the reference's names.
fn trained(model: &GalleryModel) -> BTreeMap<String, Golden> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("adapter");
    save_adapter(model, &"base".into(), &path, AdapterLayout::Peft).unwrap();
    let tensors = tensors(&path.join("adapter_model.safetensors"));
    let named = tensors.into_iter();
    named
        .map(|(key, golden)| (reference_name(&key), golden))
        .collect()
}

/// The runs that the variant has, whatever their names: those with steps and with tensors.
pub(crate) fn runs(variant: &Variant) -> Vec<String> {
    let files = std::fs::read_dir(variant.path("train")).unwrap();
    let names = files.filter_map(|file| {
        let name = file.unwrap().file_name().into_string().unwrap();
        let name = name.strip_suffix(".safetensors")?.to_owned();
        let log = format!("train/{name}.json");
        (variant.has(&log) && variant.json(&log)["log"].is_array()).then_some(name)
    });
    let mut names: Vec<String> = names.collect();
    names.sort();
    names
}

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let mut cases = vec![Case::new("base_losses", base_losses)];
    for name in runs(variant) {
        for (recompute, of) in [
            ("off", Recompute::Off),
            ("first_1", Recompute::First(1)),
            ("blocks", Recompute::Blocks),
        ] {
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

pub(crate) fn bf16_cases(variant: &Variant) -> Vec<Case> {
    let mut cases = Vec::new();
    // From adapters that are not zero.
    for name in runs(variant)
        .into_iter()
        .filter(|name| name.contains("warm"))
    {
        for (recompute, of) in [("off", Recompute::Off), ("blocks", Recompute::Blocks)] {
            let case = format!("{name}::recompute_{recompute}");
            let name = name.clone();
            cases.push(Case::new(case, move |variant| {
                check_bf16(variant, &name, of);
            }));
        }
    }
    cases
}

fn check_run(variant: &Variant, name: &str, recompute: Recompute, packing: Packing) {
    let at = &variant.at(&format!(
        "{name}, recompute {recompute:?}, packing {packing:?}"
    ));
    let expected = variant.tensors("model/expected.safetensors");
    let batches = batches(variant, &expected);
    let log = variant.json(&format!("train/{name}.json"));
    let run = &variant.tensors(&format!("train/{name}.safetensors"));
    let config = TrainingConfig {
        gradient_checkpointing: recompute,
        packing,
        ..config(&log["config"])
    };
    let steps = list(&log["log"]);
    let model = start(variant, run, &log["config"], TensorDtype::F32);
    let micro = config.gradient_accumulation_steps;
    let mut state = TrainState::new(model, &config, steps.len()).unwrap();
    assert_eq!(
        state.groups().parameters as u64,
        log["n_trainable"].as_u64().unwrap(),
        "{at}"
    );

    first_gradients(
        at,
        run,
        &state,
        &batches
            .iter()
            .cycle()
            .take(micro)
            .cloned()
            .collect::<Vec<_>>(),
        GradientOptions {
            recompute,
            packing,
            weight: 1.0 / micro as f64,
            ..GradientOptions::default()
        },
        name_of_path,
    );

    let mut endless = batches.iter().cycle();
    let (mut worst_loss, mut worst_norm) = (0.0_f64, 0.0_f64);
    for step in steps {
        let micro_batches: Vec<Batch> = endless.by_ref().take(micro).cloned().collect();
        let report = state.step(&micro_batches).unwrap();
        let number = |key: &str| step[key].as_f64().unwrap();
        assert_eq!(report.step as u64, step["step"].as_u64().unwrap(), "{at}");
        let rate = (report.learning_rate - number("lr_lora")).abs();
        let projector_rate = (report.mm_projector_lr - number("lr_projector")).abs();
        assert!(rate <= RATE && projector_rate <= RATE, "{at}: {report:?}");
        worst_loss = worst_loss.max((report.loss - number("loss")).abs());
        let expected = number("grad_norm_before_clip");
        worst_norm = worst_norm.max((report.grad_norm - expected).abs() / expected);
        assert!(
            worst_loss <= LOSS,
            "{at}: step {}, loss {report:?}",
            report.step
        );
        assert!(
            worst_norm <= NORM,
            "{at}: step {}, norm {report:?}",
            report.step
        );
    }

    let (mut worst_final, mut worst_update) = (0.0_f32, 0.0_f64);
    let found = trained(&state.into_model());
    let mut compared = 0;
    for (key, golden) in run.iter().filter(|(key, _)| key.starts_with("final.")) {
        let name = &key["final.".len()..];
        let found = found.get(name).unwrap_or_else(|| panic!("{at}: no {name}"));
        assert_eq!(found.shape, golden.shape, "{at}: {name}");
        let init = &run[&format!("init.{name}")];
        let update = |values: &[f32]| -> Vec<f32> {
            values
                .iter()
                .zip(&init.values)
                .map(|(a, b)| a - b)
                .collect()
        };
        let (ours, theirs) = (update(&found.values), update(&golden.values));
        let error: Vec<f32> = ours.iter().zip(&theirs).map(|(a, b)| a - b).collect();
        worst_final = worst_final.max(distance(&found.values, &golden.values));
        worst_update = worst_update.max(norm(&error) / norm(&theirs).max(1e-12));
        compared += 1;
    }
    assert_eq!(compared, found.len(), "{at}");
    assert!(
        worst_final <= FINAL,
        "{at}: final tensors differ by {worst_final:e}"
    );
    assert!(
        worst_update <= UPDATE,
        "{at}: updates differ by {worst_update:e}"
    );
    variant.measured(&format!(
        "{at}: loss {worst_loss:.1e}, norm {worst_norm:.1e}, final {worst_final:.1e}, update {worst_update:.1e}"
    ));
}

/// Loss and norm with the base in bf16, adapters and optimizer in f32, against the reference's f32 run: what rounding the weights and
/// everything that goes between them to 8 bits may cost. Sums, norms' variances, softmax and loss are f32 here.
fn check_bf16(variant: &Variant, name: &str, recompute: Recompute) {
    const LOSS: f64 = 5e-3;
    const NORM: f64 = 2e-2;
    let expected = variant.tensors("model/expected.safetensors");
    let batches = batches(variant, &expected);
    let log = variant.json(&format!("train/{name}.json"));
    let run = variant.tensors(&format!("train/{name}.safetensors"));
    let config = TrainingConfig {
        gradient_checkpointing: recompute,
        ..config(&log["config"])
    };
    let steps = list(&log["log"]);
    let model = start(variant, &run, &log["config"], TensorDtype::BF16);
    let mut state = TrainState::new(model, &config, steps.len()).unwrap();
    let mut endless = batches.iter().cycle();
    let (mut worst_loss, mut worst_norm) = (0.0_f64, 0.0_f64);
    for step in steps {
        let micro = config.gradient_accumulation_steps;
        let micro_batches: Vec<Batch> = endless.by_ref().take(micro).cloned().collect();
        let report = state.step(&micro_batches).unwrap();
        let apart = |found: f64, key: &str| {
            let expected = step[key].as_f64().unwrap();
            (found - expected).abs() / expected
        };
        worst_loss = worst_loss.max(apart(report.loss, "loss"));
        worst_norm = worst_norm.max(apart(report.grad_norm, "grad_norm_before_clip"));
    }
    let at = variant.at(&format!("bf16, recompute {recompute:?}"));
    variant.measured(&format!(
        "{at}: loss {worst_loss:.1e}, norm {worst_norm:.1e}"
    ));
    assert!(worst_loss <= LOSS && worst_norm <= NORM, "{at}");
    // What is trained stays in f32, bit for bit what it was read as.
    struct Trained(usize);
    impl ModuleVisitor for Trained {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            if param.is_require_grad() {
                assert_eq!(param.val().dtype(), burn::tensor::DType::F32);
                self.0 += 1;
            }
        }
    }
    let mut trained = Trained(0);
    burn::module::Module::visit(state.model(), &mut trained);
    assert!(trained.0 > 0);
}

/// Gradients of the first step, before clipping.
pub(crate) fn first_gradients(
    at: &str,
    run: &Goldens,
    state: &TrainState,
    micro_batches: &[Batch],
    options: GradientOptions,
    name: fn(&str) -> String,
) {
    let model = state.model();
    let mut sums: BTreeMap<String, Vec<f32>> = BTreeMap::new();
    for batch in micro_batches {
        let part = gradients(model, batch, &options).unwrap();
        let mut reader = GradientReader {
            grads: &part.grads,
            name,
            found: BTreeMap::new(),
        };
        visit_params(model, &mut reader);
        for (key, values) in reader.found {
            match sums.get_mut(&key) {
                Some(sum) => sum.iter_mut().zip(&values).for_each(|(sum, v)| *sum += v),
                None => {
                    sums.insert(key, values);
                }
            }
        }
    }
    let mut compared = 0;
    for (key, golden) in run.iter().filter(|(key, _)| key.starts_with("grad.")) {
        let name = &key["grad.".len()..];
        let found = sums
            .get(name)
            .unwrap_or_else(|| panic!("{at}: no gradient of {name}"));
        let error: Vec<f32> = found
            .iter()
            .zip(&golden.values)
            .map(|(a, b)| a - b)
            .collect();
        let size = golden.norm();
        let worst = if size == 0.0 {
            norm(&error)
        } else {
            norm(&error) / size
        };
        assert!(
            worst <= GRADIENT,
            "{at}: gradient of {name} differs by {worst:e}"
        );
        compared += 1;
    }
    assert_eq!(
        compared,
        sums.len(),
        "{at}: every trained tensor has a gradient, no other has"
    );
}

/// The reference's name of a parameter, by its path.
fn name_of_path(path: &str) -> String {
    path.replace("language_model.layers.", "model.layers.")
        .replace(".lora.lora_a", ".lora_A.weight")
        .replace(".lora.lora_b", ".lora_B.weight")
        .replace("projector.layers.0", "model.mm_projector.0")
        .replace("projector.layers.1", "model.mm_projector.2")
}

/// Gradients by the reference's names, laid out as PyTorch lays them out.
struct GradientReader<'a> {
    grads: &'a GradientsParams,
    /// The reference's name of a parameter.
    name: fn(&str) -> String,
    found: BTreeMap<String, Vec<f32>>,
}

impl ParamVisitor for GradientReader<'_> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let Some(grad) = self.grads.get::<D>(param.id) else {
            return;
        };
        let name = (self.name)(path);
        let grad = if D == 2 {
            grad.swap_dims(0, D - 1)
        } else {
            grad
        };
        self.found.insert(name, crate::fixtures::values(grad));
    }
}

/// Loss of every conversation alone, without an adapter.
fn base_losses(variant: &Variant) {
    let expected = &variant.tensors("model/expected.safetensors");
    let model = variant.model(VocabRows::Tokenizer);
    let conversations: BTreeMap<String, (Vec<i64>, Vec<i64>)> =
        list(&variant.json("train/batches.json"))
            .iter()
            .flat_map(|batch| list(&batch["samples"]).to_vec())
            .map(|sample| {
                (
                    text(&sample["conversation"]).to_owned(),
                    (
                        ids(&sample["input_ids_llava"]),
                        ids(&sample["labels_llava"]),
                    ),
                )
            })
            .collect();
    for case in list(&variant.json("train/base_losses.json")) {
        let name = text(&case["conversation"]);
        let Some((input_ids, labels)) = conversations.get(name) else {
            variant.measured(&format!("no ids of {name} in train/batches.json"));
            continue;
        };
        let batch = Batch {
            input_ids: vec![input_ids.clone()],
            labels: vec![labels.clone()],
            pictures: pictures(expected, &case["pixel_values_index"]),
            ids: vec![name.to_owned()],
        };
        let loss = evaluate_loss(&model, &[batch]).unwrap();
        let difference = (loss - case["loss"].as_f64().unwrap()).abs();
        assert!(
            difference <= LOSS,
            "{}: differs by {difference:e}",
            variant.at(name)
        );
    }
}
