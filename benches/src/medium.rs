//! The medium shape that the model benches share: 512 wide, 8 blocks, 600 tokens with one picture of 64 patches.

use burn::tensor::Device;
use gallery_gpt::{
    data::Batch,
    llama::LlamaConfig,
    model::{GalleryModel, GalleryModelConfig},
    vision::{PixelValues, VisionConfig},
};

/// Tokens of a row, the picture expanded.
pub const TOKENS: usize = 600;

/// The sizes.
#[must_use]
pub fn config() -> GalleryModelConfig {
    GalleryModelConfig {
        vision: VisionConfig {
            hidden_size: 256,
            intermediate_size: 1024,
            num_hidden_layers: 6,
            num_attention_heads: 4,
            image_size: 112,
            patch_size: 14,
            ..VisionConfig::clip_vit_large_patch14_336()
        },
        llama: LlamaConfig {
            hidden_size: 512,
            intermediate_size: 1376,
            num_hidden_layers: 8,
            num_attention_heads: 8,
            num_key_value_heads: 8,
            vocab_size: 32000,
            max_position_embeddings: 1024,
            ..LlamaConfig::vicuna_7b()
        },
        ..GalleryModelConfig::gallery_gpt_7b()
    }
}

/// The model, with random weights of one seed.
#[must_use]
pub fn model(device: &Device) -> GalleryModel {
    device.seed(7);
    config().init(device)
}

/// The ids of a row: a picture among text.
#[must_use]
pub fn row(seed: usize) -> Vec<i64> {
    let text = TOKENS - 64;
    let mut ids: Vec<i64> = (0..text)
        .map(|i| 3 + ((i * 7919 + seed * 104_729) % 31_000) as i64)
        .collect();
    ids[0] = 1;
    ids.insert(40, -200);
    ids
}

/// A picture.
#[must_use]
pub fn picture(seed: usize) -> PixelValues {
    let values = (0..3 * 112 * 112)
        .map(|i| ((i * (2 * seed + 31) + seed) % 997) as f32 / 400.0 - 1.2)
        .collect();
    PixelValues::from_values(values, 112)
}

/// One row whose second half is supervised.
#[must_use]
pub fn row_batch(seed: usize) -> Batch {
    let ids = row(seed);
    let half = ids.len() / 2;
    let label = |(at, &id)| if at < half { -100 } else { id };
    Batch {
        labels: vec![ids.iter().enumerate().map(label).collect()],
        input_ids: vec![ids],
        pictures: vec![picture(seed)],
        ids: vec![seed.to_string()],
    }
}

/// Rows of 96 words, the first of them with a picture before the words.
#[must_use]
pub fn batch_with_pictures(rows: usize, pictures: usize) -> Batch {
    let mut batch = Batch::default();
    for seed in 0..rows {
        let mut ids: Vec<i64> = row(seed)
            .into_iter()
            .filter(|&id| id >= 0)
            .take(96)
            .collect();
        let mut labels = ids.clone();
        labels[..48].fill(-100);
        if seed < pictures {
            ids.insert(1, -200);
            labels.insert(1, -100);
            batch.pictures.push(picture(seed));
        }
        batch.input_ids.push(ids);
        batch.labels.push(labels);
        batch.ids.push(seed.to_string());
    }
    batch
}

/// Several rows of [`row_batch`].
#[must_use]
pub fn batch(rows: usize) -> Batch {
    let mut batch = Batch::default();
    for row in (0..rows).map(row_batch) {
        batch.input_ids.extend(row.input_ids);
        batch.labels.extend(row.labels);
        batch.pictures.extend(row.pictures);
        batch.ids.extend(row.ids);
    }
    batch
}
