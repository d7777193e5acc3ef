//! Batches, the cache and sampling.

use gallery_gpt_model::{FinishReason, GenerationConfig, Generator, Prompt};
use gallery_gpt_vision::PixelValues;
use proptest::prelude::*;

use crate::{CLOSE, distance, families, logits, model, model_of, picture};

fn row() -> impl Strategy<Value = Vec<i64>> {
    let id = prop_oneof![8 => 3_i64..320, 1 => Just(-200_i64)];
    prop::collection::vec(id, 1..14).prop_map(|mut ids| {
        ids.insert(0, 1);
        ids
    })
}

fn placeholders(rows: &[Vec<i64>]) -> usize {
    rows.iter().flatten().filter(|&&id| id == -200).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A batch of n equals n single runs, and so padding changes no real token's logits.
    #[test]
    fn a_batch_equals_its_rows_alone(
        rows in prop::collection::vec(row(), 1..4),
        seed in 0_u64..50,
        config in families(),
    ) {
        let model = model_of(&config, seed);
        let pictures: Vec<PixelValues> = (0..placeholders(&rows)).map(picture).collect();
        let together = logits(&model, &rows, &pictures);
        let mut left = pictures.as_slice();
        for (ids, found) in rows.iter().zip(&together) {
            let (own, rest) = left.split_at(placeholders(std::slice::from_ref(ids)));
            left = rest;
            let alone = logits(&model, std::slice::from_ref(ids), own);
            prop_assert!(distance(found, &alone[0]) <= CLOSE);
        }
    }

    /// Decoding with the cache equals a full forward pass over everything written so far, whatever the chunks that the prompts
    /// are read in. Where the context is stretched, it is so by the length of the prompt, and the whole text has another.
    #[test]
    fn cached_decode_equals_full_forward(
        rows in prop::collection::vec(row(), 1..4),
        seed in 0_u64..50,
        prefill_chunk_size in 1_usize..20,
        mut config in families(),
    ) {
        if let Some(long) = &mut config.llama.long_context {
            long.seq_length = 256;
        }
        let model = model_of(&config, seed);
        let mut next = 0..;
        let prompts: Vec<Prompt> = rows
            .iter()
            .map(|ids| {
                let pictures = next.by_ref().take(placeholders(std::slice::from_ref(ids))).map(picture).collect();
                Prompt::with_pictures(ids.clone(), pictures)
            })
            .collect();
        let config = GenerationConfig { stop_ids: Vec::new(), ..GenerationConfig::greedy(6) };
        let chunked = GenerationConfig { prefill_chunk_size, ..config.clone() };
        let written = Generator::new(&model, chunked).generate(&prompts).unwrap();
        for (prompt, written) in prompts.iter().zip(&written) {
            let single = Generator::new(&model, config.clone()).generate(std::slice::from_ref(prompt)).unwrap();
            prop_assert_eq!(&single[0], written);
            prop_assert_eq!(written.finish, FinishReason::Length);
            let mut ids = prompt.input_ids.clone();
            for &id in &written.ids {
                let all = &logits(&model, &[ids.clone()], &prompt.pictures)[0];
                let last = &all[all.len() - 320..];
                let best = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                prop_assert!(best - last[id as usize] <= CLOSE);
                ids.push(i64::from(id));
            }
        }
    }
}

#[test]
fn sampling_depends_on_the_seed_and_not_on_the_batch() {
    let model = model(3);
    let prompts: Vec<Prompt> = (0..3)
        .map(|n| Prompt {
            stream: n,
            ..Prompt::text(vec![1, 5 + n as i64, 9, 14])
        })
        .collect();
    let config = |seed| GenerationConfig {
        temperature: 1.0,
        seed,
        stop_ids: Vec::new(),
        ..GenerationConfig::greedy(8)
    };
    let generate = |seed, prompts: &[Prompt]| {
        Generator::new(&model, config(seed))
            .generate(prompts)
            .unwrap()
    };
    let together = generate(1, &prompts);
    for (prompt, written) in prompts.iter().zip(&together) {
        assert_eq!(&generate(1, std::slice::from_ref(prompt))[0], written);
    }
    assert_ne!(together, generate(2, &prompts));
}
