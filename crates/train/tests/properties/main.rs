//! What must hold for any weights: properties of the whole model, on a tiny random one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod adapters;
mod generation;
mod gradients;
mod saving;
mod steps;

use burn::{
    module::{Module, Param},
    tensor::{Device, Tensor},
};
use gallery_gpt_data::Batch;
use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::{GalleryModel, GalleryModelConfig};
use gallery_gpt_vision::PixelValues;
use proptest::prelude::*;

const EXACT: f32 = 0.0;
const CLOSE: f32 = 2e-5;

/// A tiny model with the weights of a seed.
fn model(seed: u64) -> GalleryModel {
    model_of(&GalleryModelConfig::tiny(), seed)
}

/// The shapes of both families, with the same vocabulary and pictures of the same size.
fn families() -> impl Strategy<Value = GalleryModelConfig> {
    let families = [
        GalleryModelConfig::tiny(),
        GalleryModelConfig::tiny_qwen_vl(),
    ];
    prop::sample::select(families.to_vec())
}

/// A model with the weights of a seed. Weights are drawn on the host, so that tests can run side by side.
fn model_of(config: &GalleryModelConfig, seed: u64) -> GalleryModel {
    struct Redraw(rand_chacha::ChaCha8Rng);
    impl burn::module::ModuleMapper for Redraw {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            use rand::RngExt;
            let shape = param.lazy_shape();
            let count = shape.num_elements();
            let scale = if D > 1 {
                1.7 / (shape[0] as f32).sqrt()
            } else {
                1.0
            };
            let values: Vec<f32> = (0..count)
                .map(|_| self.0.random_range(-scale..scale))
                .collect();
            let data = burn::tensor::TensorData::new(values, shape.to_vec());
            let value = Tensor::from_data(data, &param.lazy_device());
            let id = param.id;
            param.transform_for_load(value, id)
        }
    }
    let random = rand::SeedableRng::seed_from_u64(seed);
    config.init(&Device::flex()).map(&mut Redraw(random))
}

/// An adapter whose B is not zero.
fn adapted(seed: u64) -> GalleryModel {
    with_adapter(model(seed))
}

/// A model with an adapter whose B is not zero.
fn with_adapter(model: GalleryModel) -> GalleryModel {
    let model = model.apply_lora(&LoraConfig::new(4, 8.0));
    struct Fill(u32);
    impl burn::module::ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.lazy_shape();
            self.0 += 1;
            if shape[0] != 4 || D != 2 {
                return param;
            }
            let values: Vec<f32> = (0..shape.num_elements())
                .map(|i| ((i as u32 * 37 + self.0 * 11) % 101) as f32 / 500.0 - 0.1)
                .collect();
            let data = burn::tensor::TensorData::new(values, shape.to_vec());
            param.map(|old| Tensor::from_data(data, &old.device()))
        }
    }
    model.map(&mut Fill(0))
}

fn picture(seed: usize) -> PixelValues {
    let values = (0..3 * 28 * 28)
        .map(|i| ((i * (seed * 2 + 7) + seed) % 255) as f32 / 127.0 - 1.0)
        .collect();
    PixelValues::from_values(values, 28)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Logits of each row at its real positions.
fn logits(model: &GalleryModel, rows: &[Vec<i64>], pictures: &[PixelValues]) -> Vec<Vec<f32>> {
    let plan = model.plan(rows, pictures).unwrap();
    let logits = values(model.forward(&plan, model.pixel_values(pictures)));
    let vocab = model.config().llama.vocab_size;
    plan.row_lengths()
        .iter()
        .enumerate()
        .map(|(row, &length)| {
            let start = row * plan.seq() * vocab;
            logits[start..start + length * vocab].to_vec()
        })
        .collect()
}

fn batch() -> Batch {
    Batch {
        input_ids: vec![vec![1, 5, -200, 9, 7, 8, 2], vec![1, 30, 31, 2]],
        labels: vec![
            vec![-100, -100, -100, -100, 7, 8, 2],
            vec![-100, -100, 31, 2],
        ],
        pictures: vec![picture(3)],
        ids: vec!["a".to_owned(), "b".to_owned()],
    }
}
