//! Every layout of the same weights gives the expected logits, and what we write comes back bit for bit.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Tensor},
};
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, Layout, LoadOptions, LoadReport, SaveOptions, TensorDtype, VocabRows,
        load_adapter, load_model, load_projector, save_adapter, save_model,
    },
    model::{GalleryModel, SplicePlan},
};
use serde_json::Value;

use crate::{
    fixtures::{Golden, Goldens, LOGITS, Variant, device, distance, rows, values},
    generation::{greedy, padded, prompts},
    model::{pictures, plan},
};

struct Case {
    plan: SplicePlan,
    pixels: Option<Tensor<4>>,
    golden: Golden,
}

impl Case {
    fn logits(&self, model: &GalleryModel) -> Vec<f32> {
        values(model.forward(&self.plan, self.pixels.clone()))
    }

    /// Compares logits over a model's words with stored ones, which may have the rows that llava-hf adds.
    fn assert_logits(&self, what: &str, model: &GalleryModel, golden: &Golden) {
        let found = self.logits(model);
        let words = model.config().llama.vocab_size;
        let stored: Vec<f32> = golden
            .values
            .chunks(golden.shape[2])
            .flat_map(|row| row[..words].to_vec())
            .collect();
        // Only the last positions may be stored.
        let worst = distance(&found[found.len() - stored.len()..], &stored);
        assert!(worst <= LOGITS, "{what}: differs by {worst:e}");
    }
}

fn load(variant: &Variant, name: &str, options: &LoadOptions) -> (GalleryModel, LoadReport) {
    let (model, report) = load_model(variant.path(name), &device(), options).unwrap();
    assert!(
        report.unused.is_empty() && report.missing.is_empty() && report.problems.is_empty(),
        "{report}"
    );
    (model, report)
}

pub(crate) fn check(variant: &Variant) {
    let expected = variant.tensors("model/expected.safetensors");
    let cases = variant.json("model/cases.json");
    let case = &cases["cases"]["image"];
    let base = variant.model(VocabRows::AsStored);
    let image = Case {
        plan: plan(&base, case, 1),
        pixels: pictures(&expected, case),
        golden: expected["image.logits"].clone(),
    };
    image.assert_logits(&variant.at("model/hf"), &base, &image.golden);
    hub(variant, &image, &base);
    original(variant, &image);
    towers(variant, &image);
    bf16(variant, &image);
    projectors(variant, &image, &base);
    adapters(variant, &image, &expected, case);
    round_trips(variant, &base);
}

/// llava-hf in other pieces and other names: bit for bit.
fn hub(variant: &Variant, image: &Case, base: &GalleryModel) {
    let reference = image.logits(base);
    let options = LoadOptions {
        vocab_rows: VocabRows::AsStored,
        ..LoadOptions::default()
    };
    for name in ["model/hf_sharded", "model/hf_v5"] {
        if variant.has(name) {
            let (model, _) = load(variant, name, &options);
            assert_eq!(model.config(), base.config(), "{}", variant.at(name));
            assert!(image.logits(&model) == reference, "{}", variant.at(name));
        } else {
            variant.absent(name);
        }
    }
}

/// The original's names, whose head has no rows but words.
fn original(variant: &Variant, image: &Case) {
    for name in ["model/llava_safetensors", "model/llava_bin"] {
        if variant.has(name) {
            let (model, report) = load(variant, name, &LoadOptions::default());
            image.assert_logits(&variant.at(name), &model, &image.golden);
            assert_eq!(report.layout, Layout::Llava);
            assert_eq!(report.tower.named.as_deref(), Some("vision_tower"));
            assert!(report.tower.fingerprint.is_some());
        } else {
            variant.absent(name);
        }
    }
}

/// Towers in folders of their own, chosen over the checkpoint's.
fn towers(variant: &Variant, image: &Case) {
    let mut fingerprints = Vec::new();
    let models = ["model/llava_bin", "model/llava_safetensors"];
    let Some(model_name) = models.into_iter().find(|name| variant.has(name)) else {
        variant.absent("a model that towers can be chosen for");
        return;
    };
    for name in ["model/vision_tower", "model/vision_tower_clipmodel"] {
        if !variant.has(name) {
            variant.absent(name);
            continue;
        }
        let options = LoadOptions {
            vision_tower: Some(variant.path(name)),
            ..LoadOptions::default()
        };
        let (model, report) = load(variant, model_name, &options);
        image.assert_logits(&variant.at(name), &model, &image.golden);
        assert!(report.tower.chosen && report.tower.folder == variant.path(name));
        // A whole CLIP has a text part.
        assert!(
            !name.ends_with("clipmodel")
                || report
                    .ignored
                    .iter()
                    .any(|key| key.starts_with("text_model."))
        );
        fingerprints.push(report.tower.fingerprint);
    }
    fingerprints.dedup();
    assert!(fingerprints.len() <= 1, "one tower, one fingerprint");
}

/// Weights stored in bf16, some of them as views with an offset or transposed strides: kept as they are, and in f32 they give the
/// stored logits.
fn bf16(variant: &Variant, image: &Case) {
    let name = "model/llava_bin_bf16";
    if !variant.has(name) {
        variant.absent(name);
        return;
    }
    let (kept, report) = load(variant, name, &LoadOptions::default());
    assert!(
        report
            .used
            .iter()
            .any(|used| used.dtype == TensorDtype::BF16)
    );
    assert_eq!(kept.dtype(), DType::BF16);
    let options = LoadOptions {
        dtype: Some(TensorDtype::F32),
        ..LoadOptions::default()
    };
    let (model, _) = load(variant, name, &options);
    let golden = &variant.tensors("model/llava_bin_bf16/expected.safetensors")["image.logits"];
    image.assert_logits(&variant.at(name), &model, golden);
}

/// Projectors in files of their own, in place of a random one.
fn projectors(variant: &Variant, image: &Case, base: &GalleryModel) {
    let reference = image.logits(base);
    let mut found = 0;
    for entry in std::fs::read_dir(variant.path("model")).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        if name.starts_with("mm_projector") && name.ends_with(".bin") {
            let mut other = base.clone();
            other.projector = base.config().projector_config().init(&device());
            let other = load_projector(other, &path, &LoadOptions::default()).unwrap();
            assert!(image.logits(&other) == reference, "{}", variant.at(&name));
            found += 1;
        }
    }
    if found == 0 {
        variant.absent("model/mm_projector*.bin");
    }
}

/// Adapters of either kind on llava-hf's base: with the base's projector where the folder has none, else with its own; on, and
/// merged.
fn adapters(variant: &Variant, image: &Case, expected: &Goldens, case: &Value) {
    if !variant.has("lora") {
        variant.absent("lora");
        return;
    }
    let golden = variant.tensors("lora/expected.safetensors");
    for (name, layout) in [
        ("lora/peft_hf", AdapterLayout::Peft),
        ("lora/llava_style", AdapterLayout::LlavaLora),
    ] {
        if !variant.has(name) {
            variant.absent(name);
            continue;
        }
        let base = variant.model(VocabRows::AsStored);
        let options = LoadOptions::default();
        let (model, adapter) = load_adapter(base, variant.path(name), &options).unwrap();
        assert_eq!(adapter.layout, layout);
        assert!(adapter.problems.is_empty());
        let (on, merged) = if adapter.has_projector {
            ("logits", "logits_merged")
        } else {
            (
                "logits_adapter_only_base_projector",
                "logits_adapter_only_base_projector",
            )
        };
        image.assert_logits(&variant.at(name), &model, &golden[on]);
        let what = format!("{name}, merged");
        image.assert_logits(
            &variant.at(&what),
            &model.clone().merge_lora(),
            &golden[merged],
        );
        if adapter.has_projector {
            written(variant, &model, expected, case);
        }
        adapter_round_trips(variant, &model);
    }
}

/// What the adapter writes, greedily.
fn written(variant: &Variant, model: &GalleryModel, expected: &Goldens, case: &Value) {
    let prompts = prompts(expected, case);
    let golden = &variant.json("lora/cases.json")["greedy"];
    let steps = rows(&golden["new_ids"])[0].len();
    let found = padded(model, greedy(steps, Vec::new()), &prompts);
    assert_eq!(found, rows(&golden["new_ids"]), "{}", variant.at("greedy"));
    let stopped = &golden["eos_case"];
    let stop = stopped["eos_token_id"].as_u64().unwrap() as u32;
    let found = padded(model, greedy(steps, vec![stop]), &prompts);
    assert_eq!(found, rows(&stopped["new_ids"]), "{}", variant.at("stop"));
}

/// All numbers of a model, as bytes.
fn bytes(model: &GalleryModel) -> Vec<Vec<u8>> {
    struct Bytes(Vec<Vec<u8>>);
    impl ModuleVisitor for Bytes {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(param.val().into_data().as_bytes().to_vec());
        }
    }
    let mut bytes = Bytes(Vec::new());
    model.visit(&mut bytes);
    bytes.0
}

fn adapter_round_trips(variant: &Variant, model: &GalleryModel) {
    let folder = tempfile::tempdir().unwrap();
    for layout in [AdapterLayout::Peft, AdapterLayout::LlavaLora] {
        let path = folder.path().join(format!("{layout:?}"));
        save_adapter(model, &"base".into(), &path, layout).unwrap();
        let base = variant.model(VocabRows::AsStored);
        let (again, _) = load_adapter(base, &path, &LoadOptions::default()).unwrap();
        assert!(bytes(&again) == bytes(model), "{layout:?}");
    }
}

/// Every layout, whole and in shards.
fn round_trips(variant: &Variant, base: &GalleryModel) {
    let folder = tempfile::tempdir().unwrap();
    for layout in [Layout::LlavaHf, Layout::LlavaHfNested, Layout::Llava] {
        for max_shard_size in [u64::MAX, 50_000] {
            let path = folder.path().join(format!("{layout:?}-{max_shard_size}"));
            let options = SaveOptions {
                layout,
                max_shard_size,
                ..SaveOptions::default()
            };
            save_model(base, &path, &options).unwrap();
            let options = LoadOptions::default();
            let (again, report) = load_model(&path, &device(), &options).unwrap();
            assert_eq!(report.layout, layout);
            assert_eq!(again.config(), base.config());
            assert!(bytes(&again) == bytes(base), "{}: {layout:?}", variant.name);
        }
    }
}
