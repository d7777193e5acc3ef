//! The same work here and in PyTorch + transformers + peft, one after the other in one run, with the same weights, ids,
//! pictures and number of threads: a LoRA step on rows of one length and on the sample's mix of lengths, a greedy decode, and the
//! image processor. Prints the ratios.
//!
//! ```sh
//! python3 -m venv .venv && .venv/bin/pip install torch transformers peft pillow
//! cargo bench -p gallery-gpt-benches --bench versus_pytorch -- --python .venv/bin/python
//! ```

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

use gallery_gpt_benches::{medium, memory};
use std::{
    ops::Range,
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context, ensure};
use burn::tensor::Device;
use clap::Parser;
use gallery_gpt::{
    checkpoint::{AdapterLayout, SaveOptions, save_adapter, save_model},
    data::{Batch, Order, PaintingForm, Record, Sampler},
    llama::LoraConfig,
    model::{GalleryModel, GenerationConfig, Generator, Packing, Prompt},
    text::{TemplateKind, Tokenizer, encode_conversation},
    train::{MicroBatches, TrainState, Trainable, TrainableParts, TrainingConfig},
    vision::ImageProcessorConfig,
};
use image::{Rgb, RgbImage};
use memory::resident;
use serde_json::{Value, json};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Compares this project with PyTorch.
#[derive(Parser)]
struct Arguments {
    /// A Python with torch, transformers, peft and pillow.
    #[arg(long, default_value = "python3")]
    python: PathBuf,
    /// Threads of both sides.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Passed by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

const ROWS: usize = 2;
const STEPS: usize = 6;
/// Records of the sample in a step of its mix.
const MIX: usize = 16;
const NEW_TOKENS: usize = 64;
const MANY: usize = 8;
/// Tokens of the answer whose pace and memory are watched.
const LONG: usize = 512;
const PICTURES: usize = 30;

/// The median of some seconds, the first run left out as a warm-up.
fn median(mut run: impl FnMut() -> anyhow::Result<()>, times: usize) -> anyhow::Result<f64> {
    run()?;
    let mut seconds = Vec::with_capacity(times);
    for _ in 0..times {
        let start = Instant::now();
        run()?;
        seconds.push(start.elapsed().as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    Ok(seconds[seconds.len() / 2])
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    rayon::ThreadPoolBuilder::new()
        .num_threads(arguments.threads)
        .build_global()
        .context("the thread pool is set once")?;
    let folder = tempfile::tempdir().context("no room for temporary files")?;
    let device = Device::flex();
    let lora = LoraConfig::new(16, 32.0);
    let model = medium::model(&device);
    save_model(&model, folder.path().join("base"), &SaveOptions::default())?;
    let adapted = model.clone().apply_lora(&lora);
    let path = folder.path().join("adapter");
    save_adapter(&adapted, &"base".into(), path, AdapterLayout::Peft)?;

    let training = TrainingConfig {
        parts: TrainableParts {
            projector: Trainable::Frozen,
            ..TrainableParts::LORA
        },
        warmup_ratio: 0.0,
        max_grad_norm: Some(1.0),
        micro_batches: MicroBatches::InParallel,
        ..TrainingConfig::lora(1e-4)
    };
    let mut state = TrainState::new(adapted.clone(), &training, 1_000_000)?;
    // Both rows are of one length and have as many supervised tokens, so the mean of their means is the mean of all.
    let rows: Vec<Batch> = (0..ROWS).map(medium::row_batch).collect();
    let mut losses = Vec::new();
    let step = median(
        || {
            losses.push(state.step(&rows)?.loss);
            Ok(())
        },
        STEPS,
    )?;

    let mix = sample_mix(MIX)?;
    let mut mix_losses = Vec::new();
    let mut mix_steps = Vec::new();
    for packing in [Packing::Off, Packing::OneRow] {
        let training = TrainingConfig {
            packing,
            ..training.clone()
        };
        let mut state = TrainState::new(adapted.clone(), &training, 1_000_000)?;
        let mut first_loss = None;
        mix_steps.push(median(
            || {
                let loss = state.step(std::slice::from_ref(&mix))?.loss;
                first_loss.get_or_insert(loss);
                Ok(())
            },
            STEPS,
        )?);
        mix_losses.extend(first_loss);
    }

    let prompt = Prompt::with_pictures(medium::row(0), vec![medium::picture(0)]);
    let config = GenerationConfig {
        stop_ids: Vec::new(),
        ..GenerationConfig::greedy(NEW_TOKENS)
    };
    let mut written = Vec::new();
    let decode = median(
        || {
            written =
                Generator::new(&model, config.clone()).generate(std::slice::from_ref(&prompt))?;
            Ok(())
        },
        3,
    )?;
    let prompts: Vec<Prompt> = (0..MANY)
        .map(|row| Prompt::with_pictures(medium::row(row), vec![medium::picture(row)]))
        .collect();
    let mut written_many = Vec::new();
    let decode_many = median(
        || {
            written_many = Generator::new(&model, config.clone()).generate(&prompts)?;
            Ok(())
        },
        3,
    )?;
    let pace = pace(&model)?;

    let picture = RgbImage::from_fn(1024, 768, |x, y| {
        Rgb([(x * 7 + y) as u8, (x + y * 3) as u8, (x ^ y) as u8])
    });
    picture.save(folder.path().join("picture.png"))?;
    let processor = ImageProcessorConfig::new(336).init();
    let process = median(
        || {
            std::hint::black_box(processor.process(&picture));
            Ok(())
        },
        PICTURES,
    )?;

    let batch = medium::batch(MANY);
    let values = |batch: &Batch| -> Vec<Vec<f32>> {
        batch.pictures.iter().map(|p| p.values().to_vec()).collect()
    };
    let request = json!({
        "mix": { "input_ids": mix.input_ids, "labels": mix.labels, "pixel_values": values(&mix) },
        "folder": folder.path(), "threads": arguments.threads, "steps": STEPS, "rows": ROWS,
        "input_ids": batch.input_ids, "labels": batch.labels,
        "pixel_values": values(&batch),
        "image_size": 112, "patches": 64, "image_token": 32000,
        "learning_rate": training.learning_rate, "new_tokens": NEW_TOKENS, "pictures": PICTURES,
    });
    let request_path = folder.path().join("request.json");
    std::fs::write(&request_path, request.to_string())?;
    let script = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("versus_pytorch.py");
    let output = Command::new(&arguments.python)
        .arg(script)
        .arg(&request_path)
        .stderr(Stdio::inherit())
        .output()
        .with_context(|| format!("cannot run {}", arguments.python.display()))?;
    ensure!(output.status.success(), "the Python script failed");
    let peer: Value = serde_json::from_slice(&output.stdout).context("the script's answer")?;
    let number = |key: &str| {
        peer[key]
            .as_f64()
            .context("a number in the script's answer")
    };

    println!(
        "{} threads, f32; peer: {}",
        arguments.threads, peer["versions"]
    );
    println!("median seconds            here      peer     peer/here");
    for (name, ours, theirs) in [
        ("LoRA step 2x600, r 16", step, number("step")?),
        ("sample's mix, padded", mix_steps[0], number("mix_step")?),
        ("sample's mix, packed", mix_steps[1], number("mix_step")?),
        ("greedy 64 after 600", decode, number("decode")?),
        ("the same, batch of 8", decode_many, number("decode_many")?),
        ("image 1024x768 to 336", process, number("process")?),
    ] {
        println!(
            "{name:<22} {ours:>9.4} {theirs:>9.4} {:>9.2}",
            theirs / ours
        );
    }
    println!(
        "first losses {:.6} here, {:.6} there, of the mix {:.6} and {:.6} here, {:.6} there; ids equal: {}, of 8 rows: {}; pixels differ by at most {:.1e}",
        losses[0],
        number("first_loss")?,
        mix_losses[0],
        mix_losses[1],
        number("mix_first_loss")?,
        json!(written[0].ids) == peer["ids"],
        json!(written_many.iter().map(|row| &row.ids).collect::<Vec<_>>()) == peer["ids_many"],
        picture_difference(processor.process(&picture).values(), &peer["pixels"])
    );
    println!(
        "\ntokens      seconds a token   resident MB (here, batch 1, {LONG} tokens after 500)"
    );
    for Pace {
        tokens,
        seconds,
        resident,
    } in pace
    {
        println!(
            "{:>3} to {:<3}  {seconds:>15.4}   {:>11.1}",
            tokens.start + 1,
            tokens.end,
            resident
        );
    }
    Ok(())
}

/// The first records of the sample, in its shuffled order, as the tiny base's tokenizer reads them; with pictures of this shape.
fn sample_mix(records: usize) -> anyhow::Result<Batch> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../datasets");
    let set = PaintingForm::load(root.join("painting-form-mini/train_samples_tuning.json"))?;
    let tokenizer = Tokenizer::from_folder(root.join("tiny-base"))?;
    let template = TemplateKind::default().template();
    let lengths = set.records.iter().map(Record::length).collect();
    let chosen = Sampler::new(lengths, Order::Shuffled, records, 42).epoch(0);
    let mut batch = Batch::default();
    for (nth, &index) in chosen[0].iter().enumerate() {
        let record = &set.records[index];
        let row = encode_conversation(&tokenizer, &template, &record.conversation)?;
        batch.input_ids.push(row.input_ids);
        batch.labels.push(row.labels);
        batch.pictures.push(medium::picture(nth));
        batch.ids.push(record.id.clone());
    }
    Ok(batch)
}

/// How a long answer goes on.
struct Pace {
    tokens: Range<usize>,
    /// Median of a token.
    seconds: f64,
    resident: f64,
}

fn pace(model: &GalleryModel) -> anyhow::Result<Vec<Pace>> {
    let config = GenerationConfig {
        stop_ids: Vec::new(),
        ..GenerationConfig::greedy(LONG)
    };
    let ids = medium::row(0).into_iter().filter(|&id| id >= 0).take(500);
    let mut decoding = Generator::new(model, config).start(&[Prompt::text(ids.collect())])?;
    let mut paces = Vec::new();
    for from in (0..LONG).step_by(64) {
        let tokens = from..from + 64;
        let mut seconds = Vec::with_capacity(tokens.len());
        for _ in tokens.clone() {
            let start = Instant::now();
            decoding.step()?;
            seconds.push(start.elapsed().as_secs_f64());
        }
        seconds.sort_by(f64::total_cmp);
        paces.push(Pace {
            tokens,
            seconds: seconds[seconds.len() / 2],
            resident: resident().map_or(f64::NAN, |bytes| bytes as f64 / 1e6),
        });
    }
    Ok(paces)
}

fn picture_difference(ours: &[f32], theirs: &Value) -> f64 {
    theirs
        .as_array()
        .map(|theirs| {
            ours.iter()
                .step_by(661)
                .zip(theirs)
                .map(|(ours, theirs)| {
                    (f64::from(*ours) - theirs.as_f64().unwrap_or(f64::NAN)).abs()
                })
                .fold(0.0, f64::max)
        })
        .unwrap_or(f64::NAN)
}
