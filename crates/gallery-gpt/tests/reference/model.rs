//! Hidden states, features, embeddings and logits.

use burn::tensor::Tensor;
use gallery_gpt::{
    checkpoint::{TensorDtype, VocabRows},
    llama::{AdapterDropout, LoraTarget},
    model::{GalleryModel, SplicePlan},
};
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{
        Golden, Goldens, HIDDEN, LOGITS, Variant, assert_close, distance, first_words, rows, values,
    },
    train,
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

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let cases = variant.json("model/cases.json");
    let cases = cases["cases"].as_object().unwrap();
    let language = cases.keys().map(|name| {
        let name = name.clone();
        Case::new(name.clone(), move |variant| language(variant, &name))
    });
    [Case::new("vision", vision), Case::new("modules", modules)]
        .into_iter()
        .chain(language)
        .collect()
}

/// Bounds of bf16, stated where they are checked.
pub(crate) fn bf16_cases(variant: &Variant) -> Vec<Case> {
    let mut cases = vec![Case::new("model", check_bf16)];
    match variant.has("train") {
        true => cases.extend(train::bf16_cases(variant)),
        false => cases.push(Case::absent("train")),
    }
    cases
}

/// The model, what the reference gave, and the named case.
fn loaded(variant: &Variant, name: &str) -> (GalleryModel, Goldens, Value) {
    let expected = variant.tensors("model/expected.safetensors");
    let cases = variant.json("model/cases.json");
    let model = variant.model(VocabRows::AsStored);
    assert_eq!(
        model.config().tokens_per_picture() as u64,
        cases["n_patch"].as_u64().unwrap()
    );
    (model, expected, cases["cases"][name].clone())
}

/// Features and logits with everything in bf16, against the reference in f32: the largest difference over the largest value.
fn check_bf16(variant: &Variant) {
    const RELATIVE: f32 = 4e-2;
    let expected = variant.tensors("model/expected.safetensors");
    let cases = variant.json("model/cases.json");
    let model = variant.model_in(VocabRows::AsStored, TensorDtype::BF16);
    let stored = expected["vision.selected"].shape[0];
    let pixels = expected["pixel_values"]
        .tensor::<4>()
        .slice_dim(0, 0..stored);
    let features = model.picture_features(pixels);
    let case = &cases["cases"]["image"];
    let pixels = pictures(&expected, case).unwrap();
    let plan = plan(&model, case, pixels.dims()[0]);
    let logits = our_rows(model.forward(&plan, Some(pixels)), plan.row_lengths()).concat();
    let golden = &expected["image.logits"];
    let words = model.config().llama.vocab_size;
    let golden = &first_words(&golden.values, golden.shape[2], words);
    let logits = &logits[logits.len() - golden.len()..];
    let projected = values(model.project(features.clone()));
    for (what, found, golden) in [
        (
            "vision.selected",
            &values(features)[..],
            &expected["vision.selected"].values,
        ),
        ("projected", &projected[..], &expected["projected"].values),
        ("image.logits", logits, golden),
    ] {
        let size = golden
            .iter()
            .fold(0.0_f32, |most, value| most.max(value.abs()));
        let worst = distance(found, golden) / size;
        variant.measured(&format!("{what} in bf16: {worst:.1e}"));
        assert!(
            worst <= RELATIVE && worst > 0.0,
            "{}: {worst:e}",
            variant.at(what)
        );
    }
}

fn vision(variant: &Variant) {
    let (model, expected, _) = loaded(variant, "image");
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
        model.vision_tower.pooled(last).unwrap(),
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

/// Embeddings, hidden states and logits of a case.
fn language(variant: &Variant, name: &str) {
    let (model, expected, case) = loaded(variant, name);
    let pixel_values = pictures(&expected, &case);
    let count = pixel_values.as_ref().map_or(0, |pixels| pixels.dims()[0]);
    let plan = plan(&model, &case, count);
    let projected = pixel_values.map(|pixels| model.project(model.picture_features(pixels)));
    let embeds = model.splice(&plan, projected);
    let key = format!("{name}.inputs_embeds");
    if let Some(golden) = expected.get(&key) {
        let found = our_rows(embeds.clone(), plan.row_lengths());
        assert_rows(&variant.at(&key), &found, &real_rows(golden, &case), HIDDEN);
    }
    let states = model.language_model.hidden_states(embeds);
    for (layer, state) in states.iter().enumerate().skip(1) {
        let key = format!("{name}.hidden_states.{layer}");
        if let Some(golden) = expected.get(&key) {
            let found = our_rows(state.clone(), plan.row_lengths());
            assert_rows(&variant.at(&key), &found, &real_rows(golden, &case), HIDDEN);
        }
    }
    let logits = model
        .language_model
        .logits(states[states.len() - 1].clone());
    let golden = &expected[&format!("{name}.logits")];
    let found = our_rows(logits, plan.row_lengths());
    let (width, words) = (golden.shape[2], model.config().llama.vocab_size);
    let at = variant.at(&format!("{name}.logits"));
    let stored: Vec<Vec<f32>> = match &case["logits_positions"] {
        Value::Null => real_rows(golden, &case),
        // Only the last positions of each row are stored.
        positions => {
            let tail = rows(positions)[0].len() * width;
            golden.values.chunks(tail).map(<[f32]>::to_vec).collect()
        }
    };
    let words = |row: &Vec<f32>| first_words(row, width, words);
    let stored: Vec<Vec<f32>> = stored.iter().map(words).collect();
    let found: Vec<Vec<f32>> = found
        .into_iter()
        .zip(&stored)
        .map(|(row, stored)| row[row.len() - stored.len()..].to_vec())
        .collect();
    let worst = assert_rows(&at, &found, &stored, LOGITS);
    variant.measured(&format!("{name}: logits differ by at most {worst:e}"));
}

/// Outputs of single modules inside the case `image`.
fn modules(variant: &Variant) {
    let (model, expected, case) = loaded(variant, "image");
    let pixels = pictures(&expected, &case).unwrap();
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

    let plan = plan(&model, &case, pixels.dims()[0]);
    let embeds = model.splice(&plan, Some(model.project(model.picture_features(pixels))));
    let decoder = &model.language_model;
    let layer = &decoder.layers[0];
    let layout = plan.layout(decoder.config(), &embeds.device());
    let off = || AdapterDropout::Off;
    let input = layer.input_layernorm.forward(embeds.clone());
    let mixed = layer.self_attn.forward(input.clone(), &layout, off());
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
            layer
                .linear(LoraTarget::QProj)
                .unwrap()
                .forward(input, off()),
        ),
        ("language_model.layers.0.self_attn", mixed),
        (
            "language_model.layers.0.mlp",
            layer.mlp.forward(after, off()),
        ),
        ("language_model.norm", states[states.len() - 1].clone()),
    ];
    let mut compared = 0;
    for (module, found) in taps {
        let key = format!("image.tap.model.{module}");
        if let Some(golden) = expected.get(&key) {
            assert_close(&variant.at(&key), found, golden, HIDDEN);
            compared += 1;
        }
    }
    assert!(compared > 0, "{}", variant.at("outputs of modules"));
}
