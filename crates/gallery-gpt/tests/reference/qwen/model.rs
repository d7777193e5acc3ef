//! Vision tower, resampler, hidden states and logits.

use burn::tensor::Tensor;
use gallery_gpt::{
    checkpoint::TensorDtype,
    llama::{LongContext, RowPositions, SequenceLayout},
    model::{GalleryModel, SplicePlan},
    projector::{Projector, Resampler},
    vision::{PixelValues, layer_norm, resize_positions},
};
use serde_json::Value;

use super::{load, load_in, pixels, placeholders};
use crate::{
    case::Case,
    fixtures::{Golden, Variant, assert_close, distance, ids, list, rows, say, text, values},
};

const FEATURES: f32 = 5e-5;
const HIDDEN: f32 = 2e-4;
const LOGITS: f32 = 4e-4;
/// Of the logits with the switches of the long context on and off.
const FLAGS: f32 = 1e-3;

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let cases = variant.json("expected/cases.json");
    let names = cases["cases"].as_object().unwrap().keys().cloned();
    let logits = names.map(|name| {
        let case = name.clone();
        Case::new(name, move |variant| check_logits(variant, &case))
    });
    [
        Case::new("vision", check_vision),
        Case::new("switches", check_switches),
        Case::new("bf16", check_bf16),
    ]
    .into_iter()
    .chain(logits)
    .collect()
}

/// Every `step`th row of `[1, rows, width]`.
fn every(x: Tensor<3>, step: usize) -> Tensor<3> {
    let rows: Vec<usize> = (0..x.dims()[1]).step_by(step).collect();
    chosen(x, &rows)
}

fn chosen(x: Tensor<3>, rows: &[usize]) -> Tensor<3> {
    let rows = rows.iter().map(|&row| x.clone().slice_dim(1, row..row + 1));
    Tensor::cat(rows.collect(), 1)
}

fn resampler(model: &GalleryModel) -> &Resampler {
    let Projector::Resampler(resampler) = &model.projector else {
        panic!("Qwen-VL has a resampler")
    };
    resampler
}

fn check_vision(variant: &Variant) {
    let model = load(variant);
    let expected = variant.tensors("expected/expected.safetensors");
    let cases = variant.json("expected/cases.json");
    let size = model.config().vision.image_size;
    let kept = ids(&cases["kept_patch_rows"]);
    let kept: Vec<usize> = kept.iter().map(|&row| row as usize).collect();
    let paths = list(&cases["tapped_pictures"]).iter().map(text);
    let pictures: Vec<PixelValues> = paths.map(|path| pixels(variant, size, path)).collect();
    let close = |key: &str, found: Tensor<3>| {
        let golden = &expected[key];
        let found = match golden.shape.len() {
            2 => values(found.squeeze_dim::<2>(0)),
            _ => values(found),
        };
        let worst = distance(&found, &golden.values);
        say(&format!("{} differs by {worst:.1e}", variant.at(key)));
        assert!(
            worst <= FEATURES,
            "{}: differs by {worst:e}",
            variant.at(key)
        );
    };

    let tower = &model.vision_tower;
    let first = model.pixel_values(&pictures[..1]).unwrap();
    let grid = model.config().vision.grid_size();
    let positions = resize_positions(tower.embeddings.position_embedding.val(), grid);
    close(
        "visual.positional_embedding.resized",
        chosen(positions.unsqueeze(), &kept),
    );
    let embedded = tower.embeddings.forward(first.clone());
    close("visual.embedded", chosen(embedded.clone(), &kept));
    let states = tower.hidden_states(first.clone());
    close("visual.ln_pre", chosen(states[0].clone(), &kept));
    let block = &tower.layers[0];
    let attended = block
        .self_attn
        .forward(layer_norm(&block.layer_norm1, states[0].clone()));
    close("visual.block.0.attn", chosen(attended.clone(), &kept));
    let between = states[0].clone() + attended;
    let widened = block.mlp.forward(layer_norm(&block.layer_norm2, between));
    close("visual.block.0.mlp", chosen(widened, &kept));
    for (number, state) in states[1..].iter().enumerate() {
        close(
            &format!("visual.block.{number}"),
            chosen(state.clone(), &kept),
        );
    }

    let resampler = resampler(&model);
    let features = states[states.len() - 1].clone();
    let positions = resize_positions(resampler.pos_embed.val(), grid);
    close(
        "resampler.pos_embed.resized",
        chosen(positions.unsqueeze(), &kept),
    );
    let keys = layer_norm(
        &resampler.ln_kv,
        resampler.kv_proj.forward(features.clone()),
    );
    close("resampler.ln_kv", chosen(keys, &kept));
    let queries = layer_norm(&resampler.ln_q, resampler.query.val().unsqueeze::<3>());
    close("resampler.ln_q", every(queries, 16));
    let attended = resampler.attend(features);
    close("resampler.out", every(attended.clone(), 8));
    close(
        "visual.ln_post",
        every(layer_norm(&resampler.ln_post, attended), 8),
    );

    // All pictures of a batch at once.
    let all = model.pixel_values(&pictures).unwrap();
    let features = model.project(model.picture_features(all));
    for nth in 0..pictures.len() {
        let of_picture = features.clone().slice_dim(0, nth..nth + 1);
        let step = if nth == 0 { 2 } else { 8 };
        close(&format!("features.{nth}"), every(of_picture, step));
    }
}

/// A case as the model's input: the plan, the embeddings, and the padding before each row in the original.
struct Input {
    plan: SplicePlan,
    embeds: Tensor<3>,
    padding: Vec<usize>,
}

fn input(variant: &Variant, model: &GalleryModel, case: &Value) -> Input {
    let size = model.config().vision.image_size;
    let mut padding = Vec::new();
    let (mut input_ids, mut pictures) = (Vec::new(), Vec::new());
    for (nth, ids) in rows(&case["input_ids"]).iter().enumerate() {
        let mask = case["attention_mask"].get(nth).map(crate::fixtures::ids);
        let before = mask.map_or(0, |mask| mask.iter().take_while(|&&seen| seen == 0).count());
        let (row, paths) = placeholders(model, &ids[before..]);
        padding.push(before);
        input_ids.push(row);
        pictures.extend(paths.iter().map(|path| pixels(variant, size, path)));
    }
    let plan = model.plan(&input_ids, &pictures).unwrap();
    let embeds = model.embed(&plan, model.pixel_values(&pictures));
    Input {
        plan,
        embeds,
        padding,
    }
}

/// Logits as the original computes them: all rows of a batch count as one prompt of the batch's length.
fn logits(model: &GalleryModel, case: &Value, input: &Input) -> Tensor<3> {
    let config = match text(&case["mode"]) {
        "train" => model.config().llama.in_training(),
        _ => model.config().llama.clone(),
    };
    let prompt = case["length"].as_u64().unwrap() as usize;
    let row = |&start: &usize| RowPositions { start, prompt };
    let rows: Vec<RowPositions> = input.padding.iter().map(row).collect();
    let device = input.embeds.device();
    let layout = SequenceLayout::rows(&config, &rows, input.plan.seq(), &device);
    let decoder = &model.language_model;
    decoder.logits(decoder.forward_with_layout(input.embeds.clone(), &layout))
}

/// Compares the positions that were kept of each row.
fn compare(
    what: &str,
    found: Tensor<3>,
    golden: &Golden,
    kept: &[Vec<i64>],
    padding: &[usize],
    bound: f32,
) {
    let mut largest = 0.0_f32;
    for (row, position, worst) in differences(found, golden, kept, padding) {
        largest = largest.max(worst);
        assert!(
            worst <= bound,
            "{what}: row {row}, position {position} differs by {worst:e}, allowed is {bound:e}"
        );
    }
    say(&format!("{what} differs by at most {largest:.1e}"));
}

/// Row, position and largest difference of every position that was kept.
fn differences(
    found: Tensor<3>,
    golden: &Golden,
    kept: &[Vec<i64>],
    padding: &[usize],
) -> impl Iterator<Item = (usize, i64, f32)> {
    let [_, seq, width] = found.dims();
    let found = values(found);
    let of_row = golden.shape[1];
    let places = kept.iter().enumerate().flat_map(|(row, positions)| {
        let positions = positions.iter().enumerate();
        positions.map(move |(nth, &position)| (row, nth, position))
    });
    places
        .filter(|&(_, _, position)| position >= 0)
        .map(move |(row, nth, position)| {
            let at = row * seq + position as usize - padding[row];
            let ours = &found[at * width..(at + 1) * width];
            let stored = (row * of_row + nth) * width;
            let worst = distance(ours, &golden.values[stored..stored + width]);
            (row, position, worst)
        })
}

fn check_logits(variant: &Variant, name: &str) {
    let model = load(variant);
    let expected = variant.tensors("expected/expected.safetensors");
    let case = &variant.json("expected/cases.json")["cases"][name];
    let input = input(variant, &model, case);
    let kept = rows(&case["kept_positions"]);
    let check = |key: String, found, bound| {
        compare(
            &variant.at(&key),
            found,
            &expected[&key],
            &kept,
            &input.padding,
            bound,
        );
    };
    check(
        format!("{name}.logits"),
        logits(&model, case, &input),
        LOGITS,
    );
    if expected.contains_key(&format!("{name}.hidden_states.0")) {
        let states = model.language_model.hidden_states(input.embeds.clone());
        for (number, state) in states.into_iter().enumerate() {
            check(format!("{name}.hidden_states.{number}"), state, HIDDEN);
        }
    }
    let is_alone = input.padding == [0] && text(&case["mode"]) == "eval";
    if is_alone {
        // What everybody calls.
        let long = model.config().llama.long_context.unwrap();
        let alpha = long.ntk_alpha(input.plan.seq());
        assert_eq!(alpha, case["ntk_alpha"].as_f64().unwrap());
        let layout = input
            .plan
            .layout(&model.config().llama, &input.embeds.device());
        let decoder = &model.language_model;
        let states = decoder.forward_with_layout(input.embeds.clone(), &layout);
        check(format!("{name}.logits"), decoder.logits(states), LOGITS);
    }
}

/// Logits with everything in bf16, against the original's in f32: not further from them than three times what the original's own bf16 is.
fn check_bf16(variant: &Variant) {
    let model = load_in(variant, TensorDtype::BF16);
    let expected = variant.tensors("expected/expected.safetensors");
    let cases = variant.json("expected/cases.json");
    let mut compared = 0;
    for (name, case) in cases["cases"].as_object().unwrap() {
        let Some(theirs) = case["bf16_compute_max_abs_logit_difference"].as_f64() else {
            continue;
        };
        let input = input(variant, &model, case);
        let kept = rows(&case["kept_positions"]);
        let golden = &expected[&format!("{name}.logits")];
        let found = logits(&model, case, &input);
        let worst = differences(found, golden, &kept, &input.padding)
            .map(|(_, _, worst)| worst)
            .fold(0.0, f32::max);
        variant.measured(&format!(
            "{name} in bf16: {worst:.2}, the original's {theirs:.2}"
        ));
        assert!(
            worst > 0.0 && f64::from(worst) <= 3.0 * theirs,
            "{name}: {worst}"
        );
        compared += 1;
    }
    if compared == 0 {
        variant.measured("no figure of bf16 to compare with");
    }
}

/// The last logits with each switch of the long context on or off.
fn check_switches(variant: &Variant) {
    let name = variant.json("variant.json")["flags_case"].clone();
    let expected = variant.tensors("expected/expected.safetensors");
    let case = &variant.json("expected/cases.json")["cases"][text(&name)];
    let model = load(variant);
    let input = input(variant, &model, case);
    let decoder = &model.language_model;
    for (dynamic_ntk, log_n) in [(false, false), (false, true), (true, false), (true, true)] {
        let mut config = model.config().llama.clone();
        config.long_context = config.long_context.map(|long| LongContext {
            dynamic_ntk,
            log_n,
            ..long
        });
        let layout = input.plan.layout(&config, &input.embeds.device());
        let states = decoder.forward_with_layout(input.embeds.clone(), &layout);
        let key = format!(
            "flags.ntk_{}.logn_{}.logits",
            u8::from(dynamic_ntk),
            u8::from(log_n)
        );
        let golden = &expected[&key];
        let seq = states.dims()[1];
        let last = states.slice_dim(1, seq - golden.shape[1]..seq);
        assert_close(&variant.at(&key), decoder.logits(last), golden, FLAGS);
    }
}
