//! This project's half.

use std::time::Instant;

use anyhow::Context;
use burn::{
    module::{Module, ModuleMapper, Param},
    tensor::{DType, Device, Distribution, Tensor},
};
use gallery_gpt::{
    DeviceKind,
    checkpoint::TensorDtype,
    data::Batch,
    llama::{LoraConfig, causal_attention},
    model::{GalleryModel, GalleryModelConfig, GenerationConfig, Generator, Packing, Prompt},
    train::{MicroBatches, TrainState, TrainingConfig},
    vision::PixelValues,
};
use serde_json::{Map, Value};

use super::{Part, Request};

/// Seconds by name.
pub(crate) fn measure(request: &Request, device: DeviceKind) -> anyhow::Result<Value> {
    let on_host = device.is_cpu();
    let device = device.device()?;
    let dtypes = [TensorDtype::F32, TensorDtype::F16, TensorDtype::BF16];
    let dtype = dtypes
        .into_iter()
        .find(|dtype| dtype.torch() == request.dtype);
    let dtype = dtype.context("a number type")?.burn();
    let mut numbers = Map::new();
    let clock = Clock {
        device: &device,
        request,
    };
    match request.part {
        Part::Step => step(&clock, dtype, on_host, &mut numbers)?,
        Part::Read => {
            let model = model(request, &device, dtype);
            let prompt = prompt(request, 0);
            let one = GenerationConfig::greedy(1);
            let seconds = clock.median(|| {
                Generator::new(&model, one.clone()).generate(std::slice::from_ref(&prompt))?;
                Ok(())
            })?;
            numbers.insert("read".to_owned(), seconds.into());
        }
        Part::Write => {
            let model = model(request, &device, dtype);
            for &rows in &request.rows {
                let prompts: Vec<Prompt> = (0..rows).map(|row| prompt(request, row)).collect();
                let config = GenerationConfig {
                    stop_ids: Vec::new(),
                    ..GenerationConfig::greedy(2 * request.new_tokens)
                };
                let mut writing = Generator::new(&model, config).start(&prompts)?;
                let mut some = || -> anyhow::Result<f64> {
                    let began = Instant::now();
                    for _ in 0..request.new_tokens - 1 {
                        writing.step()?;
                    }
                    Ok(began.elapsed().as_secs_f64() / (request.new_tokens - 1) as f64)
                };
                // The first tokens compile and tune.
                some()?;
                numbers.insert(format!("write_{rows}"), some()?.into());
            }
        }
        Part::Attention => attention(&clock, dtype, &mut numbers)?,
        Part::Tower => {
            let model = model(request, &device, dtype);
            let size = request.vision.image_size;
            let shape = [request.pictures, 3, size, size];
            let pixels = Tensor::random(shape, Distribution::Default, (&device, DType::F32));
            let seconds = clock.median(|| {
                drop(model.picture_features(pixels.clone()));
                Ok(())
            })?;
            numbers.insert("tower".to_owned(), seconds.into());
        }
    }
    Ok(numbers.into())
}

struct Clock<'a> {
    device: &'a Device,
    request: &'a Request,
}

impl Clock<'_> {
    /// The median, after some runs that compile and tune.
    fn median(&self, mut run: impl FnMut() -> anyhow::Result<()>) -> anyhow::Result<f64> {
        let mut seconds = Vec::new();
        for _ in 0..self.request.warm_up + self.request.times {
            let began = Instant::now();
            run()?;
            self.device.sync()?;
            seconds.push(began.elapsed().as_secs_f64());
        }
        let mut seconds = seconds.split_off(self.request.warm_up);
        seconds.sort_by(f64::total_cmp);
        Ok(seconds[seconds.len() / 2])
    }
}

/// Random weights of a number type, made on the device one after the other.
fn model(request: &Request, device: &Device, dtype: DType) -> GalleryModel {
    struct Narrow(DType);
    impl ModuleMapper for Narrow {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            param.map(|value| value.cast(self.0))
        }
    }
    let config = GalleryModelConfig {
        vision: request.vision.clone(),
        llama: request.llama.clone(),
        ..GalleryModelConfig::gallery_gpt_7b()
    };
    config.init(device).map(&mut Narrow(dtype))
}

fn ids(words: usize, seed: usize, vocabulary: usize) -> Vec<i64> {
    let mut ids: Vec<i64> = (0..words)
        .map(|at| 3 + ((at * 7919 + seed * 104_729) % (vocabulary - 100)) as i64)
        .collect();
    ids[0] = 1;
    ids.insert(30.min(words), -200);
    ids
}

fn picture(request: &Request, seed: usize) -> PixelValues {
    let size = request.vision.image_size;
    let value = |at: usize| ((at * (2 * seed + 31) + seed) % 997) as f32 / 400.0 - 1.2;
    PixelValues::from_values((0..3 * size * size).map(value).collect(), size)
}

fn prompt(request: &Request, seed: usize) -> Prompt {
    let words = request.prompt - request.tokens_per_picture;
    let ids = ids(words, seed, request.llama.vocab_size);
    Prompt::with_pictures(ids, vec![picture(request, seed)])
}

fn step(
    clock: &Clock<'_>,
    dtype: DType,
    on_host: bool,
    numbers: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let request = clock.request;
    let lora = LoraConfig::new(request.rank, 2.0 * request.rank as f64);
    let model = model(request, clock.device, dtype).apply_lora(&lora);
    let config = TrainingConfig {
        packing: Packing::OneRow,
        pad_to_multiple_of: (!on_host).then_some(64),
        gradient_checkpointing: request.gradient_checkpointing,
        micro_batches: if on_host {
            MicroBatches::InParallel
        } else {
            MicroBatches::OneByOne
        },
        warmup_ratio: 0.0,
        ..TrainingConfig::lora(1e-4)
    };
    let mut state = TrainState::new(model, &config, 1_000_000)?;
    let mut batch = Batch::default();
    for (seed, &words) in request.words.iter().enumerate() {
        let row = ids(words, seed, request.llama.vocab_size);
        // All but the question is supervised.
        let label = |(at, &id): (usize, &i64)| if at < 60 || id < 0 { -100 } else { id };
        batch
            .labels
            .push(row.iter().enumerate().map(label).collect());
        batch.input_ids.push(row);
        batch.pictures.push(picture(request, seed));
        batch.ids.push(seed.to_string());
    }
    let mut first = None;
    let seconds = clock.median(|| {
        let report = state.step(std::slice::from_ref(&batch))?;
        first.get_or_insert(report.loss);
        Ok(())
    })?;
    numbers.insert("step".to_owned(), seconds.into());
    numbers.insert("loss".to_owned(), first.into());
    Ok(())
}

fn attention(
    clock: &Clock<'_>,
    dtype: DType,
    numbers: &mut Map<String, Value>,
) -> anyhow::Result<()> {
    let Clock { device, request } = clock;
    let (heads, dim) = (request.llama.num_attention_heads, request.llama.head_dim());
    for &seq in &request.lengths {
        let shape = [request.attention_tokens / seq, heads, seq, dim];
        let random =
            || Tensor::<4>::random(shape, Distribution::Normal(0.0, 1.0), (*device, DType::F32));
        let inputs = [0; 3].map(|_| random().cast(dtype));
        let weights = random().cast(dtype);
        let forward = clock.median(|| {
            let [q, k, v] = inputs.clone();
            drop(causal_attention(q, k, v, None));
            Ok(())
        })?;
        let reserved = || device.memory_pool_usage().map(|usage| usage.bytes_reserved);
        device.memory_cleanup();
        let before = reserved();
        let both = clock.median(|| {
            let leaves = inputs.clone().map(|x| x.autodiff().require_grad());
            let [q, k, v] = leaves.clone();
            let output = causal_attention(q, k, v, None);
            let grads = (output * weights.clone().autodiff()).sum().backward();
            drop(leaves.map(|leaf| leaf.grad(&grads)));
            Ok(())
        })?;
        if let (Some(before), Some(after)) = (before, reserved()) {
            let grown = after.saturating_sub(before);
            numbers.insert(format!("memory_{seq}"), grown.into());
        }
        numbers.insert(format!("forward_{seq}"), forward.into());
        numbers.insert(format!("backward_{seq}"), (both - forward).max(0.0).into());
    }
    Ok(())
}
