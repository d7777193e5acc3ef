//! What weights in fewer bits cost and save: size, change of the logits, loss and speed, for f32, bf16 and 8 bits.
//!
//! The logits and the loss are those of a real model (by default the tiny base) on the sample's first records, every token given; the
//! speed is that of the medium shape with random weights.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --bench lower_memory -- --adapter runs/finetune-1/adapter
//! ```

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use gallery_gpt_benches::medium;
use std::{path::PathBuf, time::Instant};

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{DType, Device, Tensor},
};
use clap::Parser;
use gallery_gpt::{
    data::Record,
    llama::{BlockFormat, DecoderBlock},
    model::{GalleryModel, GenerationError},
    prelude::*,
    text::TemplateKind,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Measures weights in fewer bits.
#[derive(Parser)]
struct Arguments {
    /// Folder of the base model.
    #[arg(long)]
    base: Option<PathBuf>,
    /// Folder of an adapter; merged before the weights are made smaller.
    #[arg(long)]
    adapter: Option<PathBuf>,
    /// Records of the sample.
    #[arg(long, default_value_t = 60)]
    records: usize,
    /// Passed by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy)]
enum Weights {
    F32,
    Bf16,
    Int8,
    Blocks(BlockFormat),
}

/// Bytes of a model's weights.
#[derive(Default)]
struct Bytes(usize);

impl ModuleVisitor for Bytes {
    fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
        let size = match param.val().dtype() {
            DType::F32 => 4,
            DType::QFloat(_) => 1,
            _ => 2,
        };
        self.0 += param.val().shape().num_elements() * size;
    }
}

fn bytes(model: &GalleryModel) -> usize {
    let mut bytes = Bytes::default();
    model.visit(&mut bytes);
    // In place of a weight in blocks there is a dense one that takes no memory.
    for (_, linear) in model
        .language_model
        .layers
        .iter()
        .flat_map(DecoderBlock::linears)
    {
        if let Some(format) = linear.block_format() {
            let weight = linear.base.weight.val();
            let values = weight.dims().iter().product::<usize>();
            bytes.0 -= values * if weight.dtype() == DType::F32 { 4 } else { 2 };
            bytes.0 += (values as f64 * format.bits() / 8.0) as usize;
        }
    }
    bytes.0
}

/// Logits and labels of the supervised tokens of a record.
struct Scored {
    logits: Vec<Vec<f32>>,
    labels: Vec<usize>,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let datasets = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets");
    let base = arguments.base.clone();
    let base = base.unwrap_or_else(|| datasets.join("tiny-base"));
    let sample = datasets.join("painting-form-mini");
    let data = PaintingForm::load(sample.join("train_samples_tuning.json"))?;
    let records = &data.records[..arguments.records.min(data.records.len())];
    let device = Device::flex();

    println!("model               MB   mean |dlogit|   largest          KL   same choice     loss");
    let mut reference: Option<Vec<Scored>> = None;
    let blocks = BlockFormat::ALL.map(Weights::Blocks);
    for weights in [Weights::F32, Weights::Bf16, Weights::Int8]
        .into_iter()
        .chain(blocks)
    {
        let dtype = match weights {
            Weights::Bf16 => TensorDtype::BF16,
            _ => TensorDtype::F32,
        };
        let options = LoadOptions {
            dtype: Some(dtype),
            ..LoadOptions::default()
        };
        let mut gallery = GalleryGpt::load_with(&base, &device, &options)?;
        if let Some(adapter) = &arguments.adapter {
            gallery = gallery.with_adapter(adapter)?;
            let merged = gallery.model().clone().merge_lora();
            gallery = gallery.with_model(merged);
        }
        gallery = match weights {
            Weights::F32 | Weights::Bf16 => gallery,
            Weights::Int8 => gallery.quantize(),
            Weights::Blocks(format) => gallery.quantize_blocks(format),
        };
        let batcher = Batcher::new(
            gallery.tokenizer().clone(),
            TemplateKind::VicunaV1.template(),
            gallery.processor().clone(),
            &sample,
            gallery.model().config().tokens_per_picture(),
            2048,
        );
        let scored = records
            .iter()
            .map(|record| score(&gallery, &batcher, record))
            .collect::<anyhow::Result<Vec<_>>>()?;
        report(
            weights,
            bytes(gallery.model()),
            &scored,
            reference.as_deref(),
        );
        reference.get_or_insert(scored);
    }

    println!("\nmedium shape        MB   prefill of 600, s   seconds a token");
    let f32_model = medium::model(&device);
    for weights in [Weights::F32, Weights::Int8].into_iter().chain(blocks) {
        let model = match weights {
            Weights::F32 | Weights::Bf16 => f32_model.clone(),
            Weights::Int8 => f32_model.clone().quantize(),
            Weights::Blocks(format) => f32_model.clone().quantize_blocks(format),
        };
        let prompt = Prompt::with_pictures(medium::row(0), vec![medium::picture(0)]);
        let seconds = |tokens| -> Result<f64, GenerationError> {
            let config = GenerationConfig {
                stop_ids: Vec::new(),
                ..GenerationConfig::greedy(tokens)
            };
            let generator = Generator::new(&model, config);
            let began = Instant::now();
            generator.generate(std::slice::from_ref(&prompt))?;
            Ok(began.elapsed().as_secs_f64())
        };
        seconds(2)?;
        let (few, many) = (seconds(1)?, seconds(33)?);
        println!(
            "{:<12} {:>9.1}   {few:>17.3}   {:>15.4}",
            name(weights),
            bytes(&model) as f64 / 1e6,
            (many - few) / 32.0
        );
    }
    Ok(())
}

fn name(weights: Weights) -> &'static str {
    match weights {
        Weights::F32 => "f32",
        Weights::Bf16 => "bf16",
        Weights::Int8 => "8 bits",
        Weights::Blocks(format) => format.name(),
    }
}

fn score(gallery: &GalleryGpt, batcher: &Batcher, record: &Record) -> anyhow::Result<Scored> {
    let example = batcher.encode(record)?;
    let patches = gallery.model().config().tokens_per_picture();
    let prompt = Prompt::with_pictures(
        example.input_ids.clone(),
        example.pictures.into_iter().collect(),
    );
    let logits = gallery.logits(&prompt)?;
    let vocab = logits.dims()[2];
    let logits: Vec<f32> = logits.into_data().try_into_vec().expect("logits are f32");
    let mut scored = Scored {
        logits: Vec::new(),
        labels: Vec::new(),
    };
    let mut slot = 0;
    for (&id, &label) in example.input_ids.iter().zip(&example.labels) {
        if label >= 0 {
            scored
                .logits
                .push(logits[(slot - 1) * vocab..slot * vocab].to_vec());
            scored.labels.push(label as usize);
        }
        slot += if id < 0 { patches } else { 1 };
    }
    Ok(scored)
}

fn report(weights: Weights, bytes: usize, scored: &[Scored], reference: Option<&[Scored]>) {
    let rows = || scored.iter().flat_map(|record| &record.logits);
    let labels = scored.iter().flat_map(|record| &record.labels);
    let loss: f64 = rows()
        .zip(labels)
        .map(|(logits, &label)| {
            let sum: f64 = logits.iter().map(|&logit| f64::from(logit).exp()).sum();
            sum.ln() - f64::from(logits[label])
        })
        .sum::<f64>()
        / rows().count() as f64;
    let (mut total, mut most, mut same, mut count) = (0.0, 0.0_f64, 0, 0);
    let best = |logits: &[f32]| {
        let each = logits.iter().enumerate();
        each.max_by(|a, b| a.1.total_cmp(b.1)).map(|(id, _)| id)
    };
    let references = reference
        .unwrap_or(scored)
        .iter()
        .flat_map(|record| &record.logits);
    let mut divergence = 0.0;
    for (found, expected) in rows().zip(references) {
        divergence += kl_divergence(expected, found);
        for (found, expected) in found.iter().zip(expected) {
            let difference = f64::from((found - expected).abs());
            total += difference;
            most = most.max(difference);
        }
        same += usize::from(best(found) == best(expected));
        count += 1;
    }
    let vocab = rows().next().map_or(1, Vec::len);
    println!(
        "{:<12} {:>9.2}   {:>13.4}   {most:>7.3}   {:>9.6}   {:>9.2} %   {loss:.4}",
        name(weights),
        bytes as f64 / 1e6,
        total / (count * vocab) as f64,
        divergence / count as f64,
        100.0 * same as f64 / count as f64
    );
}

/// The Kullback-Leibler divergence of the probabilities of some logits from those that are expected, in nats.
fn kl_divergence(expected: &[f32], found: &[f32]) -> f64 {
    let log_sum = |logits: &[f32]| {
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let sum: f64 = logits
            .iter()
            .map(|logit| f64::from(logit - most).exp())
            .sum();
        f64::from(most) + sum.ln()
    };
    let (of_expected, of_found) = (log_sum(expected), log_sum(found));
    let pairs = expected.iter().zip(found);
    pairs
        .map(|(expected, found)| {
            let expected = f64::from(*expected) - of_expected;
            expected.exp() * (expected - (f64::from(*found) - of_found))
        })
        .sum()
}
