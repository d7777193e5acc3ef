//! Adapters on, and merged.

use gallery_gpt::{
    checkpoint::{LoadOptions, VocabRows, load_adapter},
    model::GalleryModel,
};

use crate::{
    case::Case,
    fixtures::{Golden, LOGITS, Variant, distance, first_words, values},
    model::{pictures, plan},
};

/// Merged weights may differ by a rounding of f32.
const MERGED: f32 = 1e-6;

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    vec![Case::of_path(variant, "lora/peft_hf", check)]
}

fn check(variant: &Variant) {
    let expected = variant.tensors("model/expected.safetensors");
    let golden = variant.tensors("lora/expected.safetensors");
    let merged = variant.tensors("lora/merged_weights.safetensors");
    let cases = variant.json("model/cases.json");
    let lora_cases = variant.json("lora/cases.json");
    let case = &cases["cases"]["image"];

    let base = variant.model(VocabRows::AsStored);
    let (model, adapter) =
        load_adapter(base, variant.path("lora/peft_hf"), &LoadOptions::default()).unwrap();
    assert_eq!(
        adapter.lora.scale(),
        lora_cases["scaling"].as_f64().unwrap()
    );
    assert!(!adapter.has_projector);
    let pixels = pictures(&expected, case);
    let plan = plan(&model, case, 1);
    let logits = |model: &GalleryModel| values(model.forward(&plan, pixels.clone()));
    let words = model.config().llama.vocab_size;
    let close = |what: &str, found: &[f32], golden: &Golden| {
        let stored = first_words(&golden.values, golden.shape[2], words);
        // Only the last positions may be stored.
        let worst = distance(&found[found.len() - stored.len()..], &stored);
        assert!(
            worst <= LOGITS,
            "{}: differs by {worst:e}",
            variant.at(what)
        );
    };
    let adapted = &golden["logits_adapter_only_base_projector"];
    close("adapter on", &logits(&model), adapted);

    let model = model.merge_lora();
    assert!(!model.language_model.has_lora());
    close("adapter merged", &logits(&model), adapted);
    let mut compared = 0;
    for (number, layer) in model.language_model.layers.iter().enumerate() {
        for (target, linear) in layer.linears() {
            let (block, name) = (target.block(), target.name());
            let key = format!("model.layers.{number}.{block}.{name}.weight");
            let weight = linear.base.weight.val().transpose();
            let worst = distance(&values(weight), &merged[&key].values);
            assert!(
                worst <= MERGED,
                "{}: differs by {worst:e}",
                variant.at(&key)
            );
            compared += 1;
        }
    }
    assert_eq!(compared, merged.len());
}
