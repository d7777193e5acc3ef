//! Adapters beside their weights, merged into them, and on weights in 8 bits.

use burn::tensor::{Device, Tensor};
use gallery_gpt_checkpoint::{SaveOptions, save_model};
use gallery_gpt_llama::{LoraConfig, LoraTarget};

use gallery_gpt_model::GalleryModelConfig;

use crate::{
    CLOSE, EXACT, adapted, distance, logits, model, model_of, picture, values, with_adapter,
};

#[test]
fn an_adapter_with_b_zero_changes_nothing() {
    let rows = [vec![1, 5, -200, 9, 7]];
    let plain = model(4);
    let before = logits(&plain, &rows, &[picture(1)]);
    let with = plain.apply_lora(&LoraConfig::new(4, 8.0));
    assert!(distance(&before[0], &logits(&with, &rows, &[picture(1)])[0]) <= EXACT);
}

#[test]
fn merged_equals_unmerged() {
    let rows = [vec![1, 5, -200, 9, 7]];
    let base = model(5);
    let with = adapted(5);
    let apart = logits(&with, &rows, &[picture(2)]);
    assert!(distance(&apart[0], &logits(&base, &rows, &[picture(2)])[0]) > 1e-2);

    let q_proj = with.language_model.layers[0]
        .linear(LoraTarget::QProj)
        .unwrap();
    let weight = values(q_proj.base.weight.val());
    let (merged, adapter) = q_proj.clone().merge();
    assert!(distance(&values(merged.base.weight.val()), &weight) > 1e-3);
    let again = merged.unmerge(adapter.unwrap());
    assert!(distance(&values(again.base.weight.val()), &weight) <= 1e-6);

    let merged = with.merge_lora();
    assert!(!merged.language_model.has_lora());
    assert!(distance(&apart[0], &logits(&merged, &rows, &[picture(2)])[0]) <= CLOSE);
}

#[test]
fn merged_equals_unmerged_with_one_layer_for_queries_keys_and_values() {
    let rows = [vec![1, 5, -200, 9, 7]];
    let base = model_of(&GalleryModelConfig::tiny_qwen_vl(), 6);
    let before = logits(&base, &rows, &[picture(2)]);
    let with = with_adapter(base);
    let adapters = with.language_model.adapters();
    let targets: Vec<LoraTarget> = adapters.map(|(_, target, _)| target).collect();
    assert!(targets.contains(&LoraTarget::CAttn));
    assert!(!targets.contains(&LoraTarget::QProj));
    let apart = logits(&with, &rows, &[picture(2)]);
    assert!(distance(&apart[0], &before[0]) > 1e-2);
    let merged = logits(&with.merge_lora(), &rows, &[picture(2)]);
    assert!(distance(&apart[0], &merged[0]) <= CLOSE);
}

/// A weight in 8 bits is off by half a step of its output's largest weight at most; the adapter stays as it is.
#[test]
fn eight_bits_round_to_the_nearest_step() {
    let with = adapted(8);
    let linear = &with.language_model.layers[0].mlp.gate_proj;
    let weight = linear.base.weight.val();
    let [input, output] = weight.dims();
    let eye = Tensor::<2>::eye(input, &weight.device());
    let off = gallery_gpt_llama::AdapterDropout::Off;
    let exact = values(linear.forward(eye.clone(), off.clone()));
    let rounded = values(linear.clone().quantize().forward(eye, off));
    let largest = values(weight.abs().max_dim(0));
    let mut different = 0;
    for (at, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        let step = largest[at % output] / 127.0;
        assert!((exact - rounded).abs() <= 0.5 * step + 1e-6);
        different += usize::from(exact != rounded);
    }
    assert!(different > input * output / 2);

    let quantized = with.quantize();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let error = save_model(&quantized, &path, &SaveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("quantized"), "{error}");
    assert!(!path.exists());
}

/// The dense form `x (W + sAB)` that Burn's own LoRA composes, as an oracle.
#[test]
fn an_adapter_equals_the_dense_sum() {
    let model = adapted(6);
    let x = Tensor::<2>::from_data(
        burn::tensor::TensorData::new(
            (0..96).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect(),
            [2, 48],
        ),
        &Device::flex(),
    );
    for (target, linear) in model.language_model.layers[1].linears() {
        if target == LoraTarget::DownProj {
            continue;
        }
        let lora = linear.lora.as_ref().unwrap();
        let dense = linear.base.weight.val() + lora.lora_a.val().matmul(lora.lora_b.val()) * 2.0;
        let found = linear.forward(x.clone(), gallery_gpt_llama::AdapterDropout::Off);
        let expected = x.clone().matmul(dense);
        assert!(
            distance(&values(found), &values(expected)) <= CLOSE,
            "{target:?}"
        );
    }
}
