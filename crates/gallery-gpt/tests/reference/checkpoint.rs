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

use crate::{
    case::Case,
    fixtures::{Golden, LOGITS, Variant, device, distance, first_words, rows, values},
    generation::{greedy, padded, prompts},
    model::{pictures, plan},
};

/// The case `image`: what goes in, and the reference's logits.
struct Image {
    plan: SplicePlan,
    pixels: Option<Tensor<4>>,
    golden: Golden,
}

impl Image {
    fn new(variant: &Variant, model: &GalleryModel) -> Self {
        let expected = variant.tensors("model/expected.safetensors");
        let case = &variant.json("model/cases.json")["cases"]["image"];
        Self {
            plan: plan(model, case, 1),
            pixels: pictures(&expected, case),
            golden: expected["image.logits"].clone(),
        }
    }

    fn logits(&self, model: &GalleryModel) -> Vec<f32> {
        values(model.forward(&self.plan, self.pixels.clone()))
    }

    /// Compares logits over a model's words with stored ones, which may have the rows that llava-hf adds.
    fn assert_logits(&self, what: &str, model: &GalleryModel, golden: &Golden) {
        let found = self.logits(model);
        let words = model.config().llama.vocab_size;
        let stored = first_words(&golden.values, golden.shape[2], words);
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

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, check) in [
        ("model/hf", hub as fn(&Variant, &str)),
        ("model/hf_sharded", hub),
        ("model/hf_v5", hub),
        ("model/llava_safetensors", original),
        ("model/llava_bin", original),
        ("model/llava_bin_bf16", bf16),
        ("model/vision_tower", tower),
        ("model/vision_tower_clipmodel", tower),
        ("model/mm_projector.bin", projector),
        ("lora/peft_hf", adapter),
        ("lora/llava_style", adapter),
    ] {
        cases.push(Case::of_path(variant, name, move |variant| {
            check(variant, name);
        }));
    }
    cases.push(Case::new("round_trips", round_trips));
    cases
}

/// llava-hf in other pieces and other names: bit for bit.
fn hub(variant: &Variant, name: &str) {
    let options = LoadOptions {
        vocab_rows: VocabRows::AsStored,
        ..LoadOptions::default()
    };
    let (model, _) = load(variant, name, &options);
    let image = Image::new(variant, &model);
    image.assert_logits(&variant.at(name), &model, &image.golden);
    if variant.has("model/hf") {
        let base = variant.model(VocabRows::AsStored);
        assert_eq!(model.config(), base.config(), "{}", variant.at(name));
        assert!(
            image.logits(&model) == image.logits(&base),
            "{}",
            variant.at(name)
        );
    }
}

/// The original's names, whose head has no rows but words.
fn original(variant: &Variant, name: &str) {
    let (model, report) = load(variant, name, &LoadOptions::default());
    let image = Image::new(variant, &model);
    image.assert_logits(&variant.at(name), &model, &image.golden);
    assert_eq!(report.layout, Layout::Llava);
    assert_eq!(report.tower.named.as_deref(), Some("vision_tower"));
    assert!(report.tower.fingerprint.is_some());
}

/// A tower in a folder of its own, chosen over the checkpoint's, with the fingerprint that the checkpoint's own has.
fn tower(variant: &Variant, name: &str) {
    let models = ["model/llava_bin", "model/llava_safetensors"];
    let model_name = models.into_iter().find(|name| variant.has(name));
    let model_name = model_name.expect("a model that towers can be chosen for");
    let options = LoadOptions {
        vision_tower: Some(variant.path(name)),
        ..LoadOptions::default()
    };
    let (model, report) = load(variant, model_name, &options);
    let image = Image::new(variant, &model);
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
    let (_, own) = load(variant, model_name, &LoadOptions::default());
    assert_eq!(report.tower.fingerprint, own.tower.fingerprint);
}

/// Weights stored in bf16, some of them as views with an offset or transposed strides: kept as they are, and in f32 they give the
/// stored logits.
fn bf16(variant: &Variant, name: &str) {
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
    let golden = &variant.tensors(&format!("{name}/expected.safetensors"))["image.logits"];
    let image = Image::new(variant, &model);
    image.assert_logits(&variant.at(name), &model, golden);
}

/// A projector in a file of its own, in place of a random one.
fn projector(variant: &Variant, name: &str) {
    let base = variant.model(VocabRows::AsStored);
    let image = Image::new(variant, &base);
    let mut other = base.clone();
    other.projector = base.config().projector_config().init(&device());
    let other = load_projector(other, variant.path(name), &LoadOptions::default()).unwrap();
    assert!(
        image.logits(&other) == image.logits(&base),
        "{}",
        variant.at(name)
    );
}

/// An adapter on the base: with the base's projector where the folder has none, else with its own; on, merged, and written.
fn adapter(variant: &Variant, name: &str) {
    let golden = variant.tensors("lora/expected.safetensors");
    let base = variant.model(VocabRows::AsStored);
    let image = Image::new(variant, &base);
    let (model, adapter) = load_adapter(base, variant.path(name), &LoadOptions::default()).unwrap();
    let layout = match name {
        "lora/peft_hf" => AdapterLayout::Peft,
        _ => AdapterLayout::LlavaLora,
    };
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
    let what = variant.at(&format!("{name}, merged"));
    image.assert_logits(&what, &model.clone().merge_lora(), &golden[merged]);
    if adapter.has_projector {
        written(variant, &model);
    }
    adapter_round_trips(variant, &model);
}

/// What the adapter writes, greedily.
fn written(variant: &Variant, model: &GalleryModel) {
    let expected = variant.tensors("model/expected.safetensors");
    let case = &variant.json("model/cases.json")["cases"]["image"];
    let prompts = prompts(&expected, case);
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
fn round_trips(variant: &Variant) {
    let base = &variant.model(VocabRows::AsStored);
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
