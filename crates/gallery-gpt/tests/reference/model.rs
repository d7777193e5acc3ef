//! Hidden states, features, embeddings and logits.

use burn::tensor::{Device, Tensor};
use gallery_gpt::{
    checkpoint::{Layout, LoadOptions, TensorDtype, VocabRows, load_model, load_projector},
    llama::AdapterDropout,
    model::{GalleryModel, SplicePlan},
};
use serde_json::Value;

use crate::fixtures::{
    Golden, Goldens, HIDDEN, LOGITS, Variant, assert_close, distance, rows, values,
};

/// The pictures of a case.
pub(crate) fn pictures(expected: &Goldens, case: &Value) -> Option<Tensor<4>> {
    let chosen = crate::fixtures::ids(&case["pixel_values_index"]);
    (!chosen.is_empty()).then(|| {
        let all = expected["pixel_values"].tensor::<4>();
        Tensor::cat(
            chosen
                .iter()
                .map(|&index| all.clone().slice_dim(0, index as usize..index as usize + 1))
                .collect(),
            0,
        )
    })
}

pub(crate) fn plan(model: &GalleryModel, case: &Value, pictures: usize) -> SplicePlan {
    SplicePlan::new(
        &rows(&case["input_ids_llava"]),
        model.config().tokens_per_picture(),
        pictures,
        model.config().llama.vocab_size,
    )
    .unwrap()
}

/// The real positions of each row of a stored batch, whatever side it is padded on.
fn real_rows(golden: &Golden, case: &Value) -> Vec<Vec<f32>> {
    let [_, seq, width] = golden.shape[..] else {
        panic!()
    };
    rows(&case["attention_mask"])
        .iter()
        .enumerate()
        .map(|(row, mask)| {
            mask.iter()
                .enumerate()
                .filter(|(_, real)| **real == 1)
                .flat_map(|(at, _)| {
                    let start = (row * seq + at) * width;
                    golden.values[start..start + width].to_vec()
                })
                .collect()
        })
        .collect()
}

/// Rows of ours, cut to their real length.
fn our_rows(tensor: Tensor<3>, lengths: &[usize]) -> Vec<Vec<f32>> {
    let [_, seq, width] = tensor.dims();
    let all = values(tensor);
    lengths
        .iter()
        .enumerate()
        .map(|(row, &length)| all[row * seq * width..(row * seq + length) * width].to_vec())
        .collect()
}

fn assert_rows(what: &str, found: &[Vec<f32>], expected: &[Vec<f32>], bound: f32) -> f32 {
    assert_eq!(found.len(), expected.len(), "{what}");
    let worst = found
        .iter()
        .zip(expected)
        .map(|(found, expected)| distance(found, expected))
        .fold(0.0, f32::max);
    assert!(
        worst <= bound,
        "{what}: differs by {worst:e}, allowed is {bound:e}"
    );
    worst
}

pub(crate) fn check(variant: &Variant) {
    let expected = variant.tensors("model/expected.safetensors");
    let cases = variant.json("model/cases.json");
    let model = variant.model(VocabRows::AsStored);
    assert_eq!(
        model.config().tokens_per_picture() as u64,
        cases["n_patch"].as_u64().unwrap()
    );
    vision(variant, &model, &expected);
    let mut worst: f32 = 0.0;
    for (name, case) in cases["cases"].as_object().unwrap() {
        worst = worst.max(language(variant, &model, &expected, name, case));
    }
    variant.measured(&format!("logits differ by at most {worst:e}"));
    taps(variant, &model, &expected, &cases["cases"]["image"]);
    layouts(variant, &model, &expected, &cases["cases"]["image"]);
}

fn vision(variant: &Variant, model: &GalleryModel, expected: &Goldens) {
    let stored = expected["vision.selected"].shape[0];
    let pixel_values = expected["pixel_values"]
        .tensor::<4>()
        .slice_dim(0, 0..stored);
    let states = model.vision_tower.hidden_states(pixel_values.clone());
    for (layer, state) in states.iter().enumerate() {
        let key = format!("vision.hidden_states.{layer}");
        assert_close(&variant.at(&key), state.clone(), &expected[&key], HIDDEN);
    }
    let last = states[states.len() - 1].clone();
    assert_close(
        &variant.at("vision.last_hidden_state"),
        last.clone(),
        &expected["vision.last_hidden_state"],
        HIDDEN,
    );
    assert_close(
        &variant.at("vision.pooler_output"),
        model.vision_tower.pooled(last),
        &expected["vision.pooler_output"],
        HIDDEN,
    );
    let features = model.picture_features(pixel_values);
    assert_close(
        &variant.at("vision.selected"),
        features.clone(),
        &expected["vision.selected"],
        HIDDEN,
    );
    assert_close(
        &variant.at("projected"),
        model.project(features),
        &expected["projected"],
        HIDDEN,
    );
}

fn language(
    variant: &Variant,
    model: &GalleryModel,
    expected: &Goldens,
    name: &str,
    case: &Value,
) -> f32 {
    let pixel_values = pictures(expected, case);
    let count = pixel_values.as_ref().map_or(0, |pixels| pixels.dims()[0]);
    let plan = plan(model, case, count);
    let projected = pixel_values.map(|pixels| model.project(model.picture_features(pixels)));
    let embeds = model.splice(&plan, projected);
    let key = format!("{name}.inputs_embeds");
    if let Some(golden) = expected.get(&key) {
        let found = our_rows(embeds.clone(), plan.row_lengths());
        assert_rows(&variant.at(&key), &found, &real_rows(golden, case), HIDDEN);
    } else {
        variant.absent(&key);
    }
    let states = model.language_model.hidden_states(embeds);
    for (layer, state) in states.iter().enumerate().skip(1) {
        let key = format!("{name}.hidden_states.{layer}");
        if let Some(golden) = expected.get(&key) {
            let found = our_rows(state.clone(), plan.row_lengths());
            assert_rows(&variant.at(&key), &found, &real_rows(golden, case), HIDDEN);
        }
    }
    let logits = model
        .language_model
        .logits(states[states.len() - 1].clone());
    let golden = &expected[&format!("{name}.logits")];
    let found = our_rows(logits, plan.row_lengths());
    let width = golden.shape[2];
    let at = variant.at(&format!("{name}.logits"));
    let stored: Vec<Vec<f32>> = match &case["logits_positions"] {
        Value::Null => real_rows(golden, case),
        // Only the last positions of each row are stored.
        positions => {
            let tail = rows(positions)[0].len() * width;
            golden.values.chunks(tail).map(<[f32]>::to_vec).collect()
        }
    };
    let found: Vec<Vec<f32>> = found
        .into_iter()
        .zip(&stored)
        .map(|(row, stored)| row[row.len() - stored.len()..].to_vec())
        .collect();
    assert_rows(&at, &found, &stored, LOGITS)
}

/// Outputs of single modules inside the case `image`.
fn taps(variant: &Variant, model: &GalleryModel, expected: &Goldens, case: &Value) {
    let pixels = pictures(expected, case).unwrap();
    let tower = &model.vision_tower;
    let embedded = tower.embeddings.forward(pixels.clone());
    let normed = tower.pre_layrnorm.forward(embedded.clone());
    let block = &tower.layers[0];
    let attended = block
        .self_attn
        .forward(block.layer_norm1.forward(normed.clone()));
    let widened = block
        .mlp
        .forward(block.layer_norm2.forward(normed.clone() + attended.clone()));

    let plan = plan(model, case, pixels.dims()[0]);
    let embeds = model.splice(&plan, Some(model.project(model.picture_features(pixels))));
    let decoder = &model.language_model;
    let layer = &decoder.layers[0];
    let rotary = decoder.rotary(&embeds);
    let off = AdapterDropout::Off;
    let input = layer.input_layernorm.forward(embeds.clone());
    let mixed = layer
        .self_attn
        .forward(input.clone(), &rotary, None, None, off);
    let after = layer
        .post_attention_layernorm
        .forward(embeds.clone() + mixed.clone());
    let states = decoder.hidden_states(embeds);

    let taps = [
        ("vision_tower.embeddings", embedded),
        ("vision_tower.pre_layrnorm", normed),
        ("vision_tower.encoder.layers.0.self_attn", attended),
        ("vision_tower.encoder.layers.0.mlp", widened),
        ("language_model.layers.0.input_layernorm", input.clone()),
        (
            "language_model.layers.0.self_attn.q_proj",
            layer.self_attn.q_proj.forward(input, off),
        ),
        ("language_model.layers.0.self_attn", mixed),
        ("language_model.layers.0.mlp", layer.mlp.forward(after, off)),
        ("language_model.norm", states[states.len() - 1].clone()),
    ];
    for (module, found) in taps {
        let key = format!("image.tap.model.{module}");
        match expected.get(&key) {
            Some(golden) => assert_close(&variant.at(&key), found, golden, HIDDEN),
            None => variant.absent(&key),
        }
    }
}

/// Other layouts of the same weights give the same logits: llava-hf's bit for bit, the original's, whose head has fewer rows, as
/// near as the reference.
fn layouts(variant: &Variant, model: &GalleryModel, expected: &Goldens, case: &Value) {
    let pixels = pictures(expected, case);
    let plan = plan(model, case, 1);
    let reference = values(model.forward(&plan, pixels.clone()));
    for layout in ["hf_sharded", "hf_v5"] {
        let folder = format!("model/{layout}");
        if !variant.has(&folder) {
            variant.absent(&folder);
            continue;
        }
        let options = LoadOptions {
            vocab_rows: VocabRows::AsStored,
            ..LoadOptions::default()
        };
        let (other, _) = load_model(variant.path(&folder), &Device::flex(), &options).unwrap();
        assert_eq!(other.config(), model.config(), "{}", variant.at(layout));
        let found = values(other.forward(&plan, pixels.clone()));
        assert!(found == reference, "{}", variant.at(layout));
    }
    let golden = &expected["image.logits"];
    let check = |name: &str, options: &LoadOptions| {
        let (other, report) = load_model(variant.path(name), &Device::flex(), options).unwrap();
        assert!(report.unused.is_empty(), "{report}");
        let words = other.config().llama.vocab_size;
        let found = values(other.forward(&plan, pixels.clone()));
        assert_words(&variant.at(name), &found, words, golden);
        report
    };
    for name in ["model/llava_safetensors", "model/llava_bin"] {
        if variant.has(name) {
            let report = check(name, &LoadOptions::default());
            assert_eq!(report.layout, Layout::Llava);
            assert_eq!(report.tower.named.as_deref(), Some("vision_tower"));
        } else {
            variant.absent(name);
        }
    }
    let clip = "model/vision_tower_clipmodel";
    if variant.has(clip) {
        let options = LoadOptions {
            vision_tower: Some(variant.path(clip)),
            ..LoadOptions::default()
        };
        let report = check("model/llava_bin", &options);
        assert!(report.tower.chosen && report.tower.folder == variant.path(clip));
        assert!(!report.ignored.is_empty(), "the text part of a CLIP");
    } else {
        variant.absent(clip);
    }
    bf16(variant, &plan, pixels.clone());

    let mut other = variant.model(VocabRows::AsStored);
    other.projector = model.config().projector_config().init(&Device::flex());
    let path = variant.path("model/mm_projector.bin");
    let other = load_projector(other, path, &LoadOptions::default()).unwrap();
    let found = values(other.forward(&plan, pixels));
    assert!(found == reference, "{}", variant.at("mm_projector.bin"));
}

/// Compares logits over the original's words with stored ones, which have the rows of llava-hf too.
fn assert_words(what: &str, found: &[f32], words: usize, golden: &Golden) {
    let stored_rows = golden.shape[2];
    let rows = golden.values.chunks(stored_rows);
    let stored: Vec<f32> = rows.flat_map(|row| row[..words].to_vec()).collect();
    // Only the last positions may be stored.
    let worst = distance(&found[found.len() - stored.len()..], &stored);
    assert!(worst <= LOGITS, "{what}: differs by {worst:e}");
}

/// Weights stored in bf16, some of them as views with an offset or transposed strides: computed in f32 they give the stored logits.
fn bf16(variant: &Variant, plan: &SplicePlan, pixels: Option<Tensor<4>>) {
    let folder = "model/llava_bin_bf16";
    if !variant.has(folder) {
        variant.absent(folder);
        return;
    }
    let device = Device::flex();
    let (kept, report) =
        load_model(variant.path(folder), &device, &LoadOptions::default()).unwrap();
    assert!(
        report
            .used
            .iter()
            .any(|used| used.dtype == TensorDtype::BF16)
    );
    assert_eq!(kept.dtype(), burn::tensor::DType::BF16);
    let options = LoadOptions {
        dtype: Some(TensorDtype::F32),
        ..LoadOptions::default()
    };
    let (model, _) = load_model(variant.path(folder), &device, &options).unwrap();
    let found = values(model.forward(plan, pixels));
    let golden = &variant.tensors("model/llava_bin_bf16/expected.safetensors")["image.logits"];
    let words = model.config().llama.vocab_size;
    assert_words(&variant.at(folder), &found, words, golden);
}
