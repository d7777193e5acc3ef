//! Written ids: exact.

use gallery_gpt::{
    GalleryGpt,
    checkpoint::VocabRows,
    model::{EarlyStopping, GalleryModel, GenerationConfig, Generator, LogitsProcessor, Prompt},
    text::{TemplateKind, Tokenizer, TokenizerMode, encode_prompt},
    vision::{ImageProcessorConfig, PixelValues},
};
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{Goldens, Variant, distance, ids, list, rows, text},
};

/// The prompts of a case, each with its own pictures.
pub(crate) fn prompts(expected: &Goldens, case: &Value) -> Vec<Prompt> {
    let pixel_values = &expected["pixel_values"];
    let size = pixel_values.shape[2];
    let mut chosen = ids(&case["pixel_values_index"]).into_iter();
    rows(&case["input_ids_llava"])
        .into_iter()
        .map(|row| {
            let marks = row.iter().filter(|&&id| id == -200).count();
            let pictures = chosen
                .by_ref()
                .take(marks)
                .map(|index| {
                    let count = 3 * size * size;
                    let start = index as usize * count;
                    let values = pixel_values.values[start..start + count].to_vec();
                    PixelValues::from_values(values, size)
                })
                .collect();
            Prompt::with_pictures(row, pictures)
        })
        .collect()
}

pub(crate) fn greedy(max_new_tokens: usize, stop_ids: Vec<u32>) -> GenerationConfig {
    GenerationConfig {
        stop_ids,
        ..GenerationConfig::greedy(max_new_tokens)
    }
}

/// What was written, the stop id included and padded with 0, as the reference returns it.
pub(crate) fn padded(
    model: &GalleryModel,
    config: GenerationConfig,
    prompts: &[Prompt],
) -> Vec<Vec<i64>> {
    let written = Generator::new(model, config).generate(prompts).unwrap();
    let rows: Vec<Vec<i64>> = written
        .into_iter()
        .map(|row| {
            row.ids
                .into_iter()
                .chain(row.stop_id)
                .map(i64::from)
                .collect()
        })
        .collect();
    let longest = rows.iter().map(Vec::len).max().unwrap();
    rows.into_iter()
        .map(|mut row| {
            row.resize(longest, 0);
            row
        })
        .collect()
}

pub(crate) fn cases(variant: &Variant) -> Vec<Case> {
    let golden = variant.json("model/generation.json");
    let mut cases = Vec::new();
    for (name, case) in golden["greedy"].as_object().unwrap() {
        let (name, case) = (name.clone(), case.clone());
        let steps = golden["greedy_max_new_tokens"].as_u64().unwrap() as usize;
        cases.push(Case::new(format!("greedy::{name}"), move |variant| {
            greedy_ids(variant, &name, &case, steps);
        }));
    }
    for (number, case) in list(&golden["beam"]).iter().enumerate() {
        let (name, beams) = (text(&case["case"]), &case["num_beams"]);
        let case = case.clone();
        cases.push(Case::new(
            format!("beam_search::{name}_{beams}_beams_{number}"),
            move |variant| beams_of(variant, &case),
        ));
    }
    cases.push(Case::new("distributions", warps));
    match variant.has("model/end_to_end.json") && variant.has("model/hf") {
        true => cases.extend([
            Case::new("end_to_end", end_to_end),
            Case::new("facade", facade),
        ]),
        false => cases.push(Case::absent("model/end_to_end.json")),
    }
    cases
}

/// Greedy ids without a stop, and to a stop id.
fn greedy_ids(variant: &Variant, name: &str, case: &Value, steps: usize) {
    let expected = variant.tensors("model/expected.safetensors");
    let prompts = prompts(&expected, &variant.json("model/cases.json")["cases"][name]);
    let model = variant.model(VocabRows::AsStored);
    let found = padded(&model, greedy(steps, Vec::new()), &prompts);
    assert_eq!(found, rows(&case["new_ids"]), "{}", variant.at(name));
    let stop = case["eos_case"]["eos_token_id"].as_u64().unwrap() as u32;
    let found = padded(&model, greedy(steps, vec![stop]), &prompts);
    let at = variant.at(&format!("{name}, stopping at {stop}"));
    assert_eq!(found, rows(&case["eos_case"]["new_ids"]), "{at}");
}

/// Beam search: ids exact, scores near.
fn beams_of(variant: &Variant, case: &Value) {
    /// Largest difference of a score.
    const SCORE: f32 = 1e-4;
    let name = text(&case["case"]);
    let expected = variant.tensors("model/expected.safetensors");
    let prompts = prompts(&expected, &variant.json("model/cases.json")["cases"][name]);
    let model = variant.model(VocabRows::AsStored);
    let early_stopping = match &case["early_stopping"] {
        Value::Bool(true) => EarlyStopping::WhenFull,
        Value::String(_) => EarlyStopping::Never,
        _ => EarlyStopping::Heuristic,
    };
    let stop_id = case["eos_token_id"].as_u64();
    let config = GenerationConfig {
        num_beams: case["num_beams"].as_u64().unwrap() as usize,
        length_penalty: case["length_penalty"].as_f64().unwrap_or(1.0) as f32,
        early_stopping,
        ..greedy(
            case["max_new_tokens"].as_u64().unwrap() as usize,
            stop_id.into_iter().map(|id| id as u32).collect(),
        )
    };
    let kept = case["num_return_sequences"].as_u64().unwrap_or(1) as usize;
    let generator = Generator::new(&model, config);
    let found = generator.beam_search(&prompts).unwrap();
    let new_ids = rows(&case["new_ids"]);
    let found = found.iter().flat_map(|found| &found[..kept]);
    let at = variant.at(&case.to_string());
    let mut compared = 0;
    for (number, hypothesis) in found.enumerate() {
        let generation = &hypothesis.generation;
        let mut ids: Vec<i64> = generation.ids.iter().map(|&id| i64::from(id)).collect();
        ids.extend(generation.stop_id.map(i64::from));
        // The library fills up with the padding id, unless that is 0, which it takes for none.
        ids.resize(new_ids[number].len(), stop_id.map_or(0, |id| id as i64));
        assert_eq!(ids, new_ids[number], "{at}");
        // The rows that llava-hf adds behind the words take a share of each probability.
        let same_rows = variant.layout().starts_with("model/hf");
        let score = case["sequences_scores"][number].as_f64().unwrap() as f32;
        assert!(
            !same_rows || (hypothesis.score - score).abs() <= SCORE,
            "{at}: {}",
            hypothesis.score
        );
        compared += 1;
    }
    assert_eq!(compared, new_ids.len(), "{at}");
    if kept == 1 {
        let best = generator.generate(&prompts).unwrap();
        assert_eq!(best.len(), prompts.len());
    }
}

/// The distribution sampling draws from.
fn warps(variant: &Variant) {
    let expected = variant.tensors("model/expected.safetensors");
    let cases = variant.json("model/cases.json");
    let history: Vec<u32> = ids(&cases["warp_history_ids"][0])
        .into_iter()
        .map(|id| id as u32)
        .collect();
    let base = GenerationConfig::greedy(1);
    let sampled = GenerationConfig {
        temperature: 1.0,
        ..base.clone()
    };
    let configs = [
        (
            "temp0.2",
            GenerationConfig {
                temperature: 0.2,
                ..sampled.clone()
            },
        ),
        (
            "temp0.7_top_p0.9",
            GenerationConfig {
                temperature: 0.7,
                top_p: 0.9,
                ..sampled.clone()
            },
        ),
        (
            "temp1.5_top_k20",
            GenerationConfig {
                temperature: 1.5,
                top_k: 20,
                ..sampled.clone()
            },
        ),
        (
            "rep1.2_temp0.8_top_k50_top_p0.8",
            GenerationConfig {
                repetition_penalty: 1.2,
                temperature: 0.8,
                top_k: 50,
                top_p: 0.8,
                ..sampled
            },
        ),
        (
            "ngram3",
            GenerationConfig {
                no_repeat_ngram_size: 3,
                ..base
            },
        ),
    ];
    for (name, config) in configs {
        let mut logits = expected["warp.input_logits"].values.clone();
        LogitsProcessor::new(config).apply(&history, &mut logits);
        let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let exponentials: Vec<f32> = logits.iter().map(|logit| (logit - max).exp()).collect();
        let total: f32 = exponentials.iter().sum();
        let found: Vec<f32> = exponentials.into_iter().map(|e| e / total).collect();
        let golden = &expected[&format!("warp.{name}.probs")];
        let kept = |probs: &[f32]| probs.iter().filter(|p| **p > 0.0).count();
        assert_eq!(kept(&found), kept(&golden.values), "{}", variant.at(name));
        let worst = distance(&found, &golden.values);
        assert!(worst <= 1e-5, "{}: differs by {worst:e}", variant.at(name));
    }
}

/// A picture file and a question to a text.
fn end_to_end(variant: &Variant) {
    let model = variant.model(VocabRows::AsStored);
    let slow = Tokenizer::from_file(
        variant.path("tokenizer/tokenizer.model"),
        TokenizerMode::Slow,
    )
    .unwrap();
    let fast = Tokenizer::from_file(
        variant.path("tokenizer/metaspace/tokenizer.json"),
        TokenizerMode::Fast,
    )
    .unwrap();
    let processor = ImageProcessorConfig::new(model.config().vision.image_size).init();
    let slow_answers = variant.json("model/end_to_end_slow.json");
    for (case, slow_answer) in list(&variant.json("model/end_to_end.json"))
        .iter()
        .zip(list(&slow_answers))
    {
        let name = text(&case["image"]);
        let at = variant.at(&format!("end to end {name}"));
        let question = format!("<image>\n{}", text(&case["question"]));
        let prompt = TemplateKind::VicunaV1
            .template()
            .prompt(&gallery_gpt::text::Conversation::question(question));
        assert_eq!(prompt, text(&case["prompt"]), "{at}");
        let input_ids = encode_prompt(&slow, &prompt).unwrap();
        assert_eq!(input_ids, ids(&case["input_ids_llava"]), "{at}");
        let picture = processor
            .process_file(variant.path(&format!("images/files/{name}")))
            .unwrap();
        let config = greedy(
            case["max_new_tokens"].as_u64().unwrap() as usize,
            vec![case["eos_token_id"].as_u64().unwrap() as u32],
        );
        let prompt = Prompt::with_pictures(input_ids, vec![picture]);
        let written = &Generator::new(&model, config).generate(&[prompt]).unwrap()[0];
        let found: Vec<i64> = written
            .ids
            .iter()
            .copied()
            .chain(written.stop_id)
            .map(i64::from)
            .collect();
        assert_eq!(found, ids(&case["new_ids"]), "{at}");
        assert_eq!(
            fast.decode(&written.ids, true).trim(),
            text(&case["answer"]),
            "{at}"
        );
        let slow_text = slow.decode(&written.ids, true);
        assert_eq!(
            slow_text.trim(),
            text(&slow_answer["slow_answer"]).trim(),
            "{at}"
        );
    }
}

/// The facade goes the same way: a folder, a picture and a question, whole and streamed.
fn facade(variant: &Variant) {
    let folder = tempfile::tempdir().unwrap();
    for name in ["config.json", "model.safetensors"] {
        std::fs::copy(
            variant.path(&format!("model/hf/{name}")),
            folder.path().join(name),
        )
        .unwrap();
    }
    std::fs::copy(
        variant.path("tokenizer/tokenizer.model"),
        folder.path().join("tokenizer.model"),
    )
    .unwrap();
    let gallery = GalleryGpt::load(folder.path(), &crate::fixtures::device()).unwrap();
    for (case, slow) in list(&variant.json("model/end_to_end.json"))
        .iter()
        .zip(list(&variant.json("model/end_to_end_slow.json")))
    {
        let picture = variant.path(&format!("images/files/{}", text(&case["image"])));
        let config = greedy(case["max_new_tokens"].as_u64().unwrap() as usize, vec![2]);
        let question = text(&case["question"]);
        let answer = gallery.describe(&picture, question, &config).unwrap();
        assert_eq!(answer, text(&slow["slow_answer"]).trim());
        let picture = gallery.processor().open(&picture).unwrap();
        let pieces: Result<Vec<String>, _> = gallery
            .stream(&picture, question, &config)
            .unwrap()
            .collect();
        assert_eq!(pieces.unwrap().concat().trim(), answer);
    }
}
