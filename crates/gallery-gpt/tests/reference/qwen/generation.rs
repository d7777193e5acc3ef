//! Answers: greedy ids, beams, and the distribution that is sampled from.

use gallery_gpt::{
    llama::{RowPositions, SequenceLayout},
    model::{GalleryModel, GenerationConfig, Generator, LogitsProcessor, Prompt},
};
use serde_json::Value;

use super::{load, pixels, placeholders};
use crate::{
    case::Case,
    fixtures::{Variant, distance, ids, rows, values},
    generation::greedy,
};

/// Largest difference of a hypothesis' score.
const SCORE: f64 = 1e-5;

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let golden = variant.json("expected/generation.json");
    let mut cases = vec![Case::new("distributions", check_top_p)];
    for (name, case) in golden.as_object().unwrap() {
        let case = case.clone();
        let beams = case.get("num_beams").is_some();
        cases.push(Case::new(name.clone(), move |variant| match beams {
            true => check_beams(variant, &case),
            false => check_greedy(variant, &case),
        }));
    }
    cases
}

/// The rows of a case without padding, and the padding before each in the original.
pub(crate) fn prompts(
    variant: &Variant,
    model: &GalleryModel,
    case: &Value,
) -> (Vec<Prompt>, Vec<usize>) {
    let size = model.config().vision.image_size;
    let row = |(nth, row): (usize, &Vec<i64>)| {
        let mask = case["attention_mask"].get(nth).map(ids);
        let mask = mask.unwrap_or_default();
        let padding = mask.iter().take_while(|&&seen| seen == 0).count();
        let (ids, paths) = placeholders(model, &row[padding..]);
        let pictures = paths.iter().map(|path| pixels(variant, size, path));
        (Prompt::with_pictures(ids, pictures.collect()), padding)
    };
    let rows = rows(&case["input_ids"]);
    rows.iter().enumerate().map(row).unzip()
}

/// The ids that end an answer in a case: an id, or several lists of one.
fn stops(case: &Value) -> Vec<u32> {
    let words = case["stop_words_ids"].as_array();
    let words = words.into_iter().flatten().map(|word| {
        let word = ids(word);
        assert_eq!(word.len(), 1, "stop words of one id");
        word[0]
    });
    let stops = words.chain(case["eos_token_id"].as_i64());
    stops.map(|id| u32::try_from(id).unwrap()).collect()
}

fn check_greedy(variant: &Variant, case: &Value) {
    let model = load(variant);
    let (prompts, padding) = prompts(variant, &model, case);
    let expected = rows(&case["new_ids"]);
    let steps = expected[0].len();
    let found = Generator::new(&model, greedy(steps, Vec::new()))
        .generate(&prompts)
        .unwrap();
    for (row, &padding) in padding.iter().enumerate() {
        if padding > 0 {
            // The original stretches the context of every row for the longest one.
            let prompt = case["prompt_length"].as_u64().unwrap() as usize;
            let ids = continued(&model, &prompts[row], &expected[row], |_| RowPositions {
                start: padding,
                prompt,
            });
            assert_eq!(ids, expected[row], "row {row} behind {padding} of padding");
            continue;
        }
        let ids: Vec<i64> = found[row].ids.iter().map(|&id| id.into()).collect();
        assert_eq!(ids, expected[row], "row {row}");
        for kind in ["eos_case", "stop_words_case"] {
            let case = &case[kind];
            let stops = stops(case);
            let generator = Generator::new(&model, greedy(steps, stops.clone()));
            let found = generator.generate(&prompts[row..=row]).unwrap();
            let ids = found[0].ids.iter().chain(&found[0].stop_id);
            let ids: Vec<i64> = ids.map(|&id| id.into()).collect();
            // The original adds the end of text, and padding.
            let expected = &rows(&case["new_ids"])[row];
            let is_stop = |&id: &i64| stops.contains(&(id as u32));
            let end = expected.iter().position(is_stop);
            let end = end.map_or(expected.len(), |end| end + 1);
            assert_eq!(ids, expected[..end], "{kind}, row {row}");
        }
    }
    // What a row is answered does not depend on the others.
    for (row, prompt) in prompts.iter().enumerate() {
        let generator = Generator::new(&model, greedy(steps, Vec::new()));
        let alone = generator.generate(std::slice::from_ref(prompt)).unwrap();
        assert_eq!(alone[0].ids, found[row].ids, "row {row} alone");
    }
    if let Some(uncached) = case.get("without_cache_new_ids") {
        let expected = ids(uncached);
        let found = continued(&model, &prompts[0], &expected, |length| RowPositions {
            start: 0,
            prompt: length,
        });
        assert_eq!(found, expected, "computed anew for each token");
    }
}

/// The likeliest id behind a prompt and each beginning of some ids, every time computed anew.
fn continued(
    model: &GalleryModel,
    prompt: &Prompt,
    ids: &[i64],
    positions: impl Fn(usize) -> RowPositions,
) -> Vec<i64> {
    let decoder = &model.language_model;
    let of_pictures = model.pixel_values(&prompt.pictures);
    let likeliest = |count: usize| {
        let mut row = prompt.input_ids.clone();
        row.extend(&ids[..count]);
        let plan = model.plan(&[row], &prompt.pictures).unwrap();
        let embeds = model.embed(&plan, of_pictures.clone());
        let config = &model.config().llama;
        let rows = [positions(plan.seq())];
        let layout = SequenceLayout::rows(config, &rows, plan.seq(), &embeds.device());
        let states = decoder.forward_with_layout(embeds, &layout);
        let last = states.slice_dim(1, plan.seq() - 1..plan.seq());
        let logits = values(decoder.logits(last));
        let best = logits.iter().enumerate().max_by(|a, b| a.1.total_cmp(b.1));
        best.unwrap().0 as i64
    };
    (0..ids.len()).map(likeliest).collect()
}

fn check_beams(variant: &Variant, case: &Value) {
    let model = load(variant);
    let (prompts, _) = prompts(variant, &model, case);
    let expected = ids(&case["new_ids"][0]);
    let config = GenerationConfig {
        num_beams: case["num_beams"].as_u64().unwrap() as usize,
        length_penalty: case["length_penalty"].as_f64().unwrap() as f32,
        ..greedy(expected.len(), Vec::new())
    };
    let found = Generator::new(&model, config)
        .beam_search(&prompts)
        .unwrap();
    let best = &found[0][0];
    let ids: Vec<i64> = best.generation.ids.iter().map(|&id| id.into()).collect();
    assert_eq!(ids, expected);
    // Transformers 4.32 divides by the tokens of prompt and answer, later ones by those of the answer.
    let penalty = case["length_penalty"].as_f64().unwrap();
    let (prompt, new) = (case["prompt_length"].as_f64().unwrap(), ids.len() as f64);
    let score = f64::from(best.score) * (new / (prompt + new)).powf(penalty);
    let expected = case["sequence_score"][0].as_f64().unwrap();
    assert!(
        (score - expected).abs() <= SCORE,
        "{score}, expected {expected}"
    );
}

/// The distribution behind top-p, which is all that the original's sampling has by default.
fn check_top_p(variant: &Variant) {
    let expected = variant.tensors("expected/expected.safetensors");
    let mut compared = 0;
    for (key, golden) in &expected {
        let top_p = key.strip_prefix("warp.top_p_");
        let Some(top_p) = top_p.and_then(|rest| rest.strip_suffix(".probs")) else {
            continue;
        };
        let config = GenerationConfig {
            temperature: 1.0,
            top_p: top_p.parse().unwrap(),
            ..GenerationConfig::greedy(1)
        };
        let mut logits = expected["warp.logits"].values.clone();
        LogitsProcessor::new(config).apply(&[], &mut logits);
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let shares: Vec<f32> = logits.iter().map(|logit| (logit - most).exp()).collect();
        let total: f32 = shares.iter().sum();
        let found: Vec<f32> = shares.into_iter().map(|share| share / total).collect();
        let kept = |probs: &[f32]| probs.iter().filter(|&&p| p > 0.0).count();
        assert_eq!(kept(&found), kept(&golden.values), "{key}");
        let worst = distance(&found, &golden.values);
        assert!(worst <= 1e-5, "{key}: differs by {worst:e}");
        compared += 1;
    }
    assert!(compared > 0, "no distribution to compare with");
}
