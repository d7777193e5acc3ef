//! A model of the 7B shape, whole: one picture through tower, projector and decoder, then tokens. Its weights are random, in bf16, in
//! shards on disk: 14 GB of LLaVA or 19 GB of Qwen-VL-Chat, deleted at the end.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --bench generate_7b
//! cargo bench -p gallery-gpt-benches --bench generate_7b -- --blocks q4_k
//! ```
//!
//! Printed by a child of this program: the time to open the checkpoint, to the first token and for each later token (their median), the
//! most memory that it had (Linux only), and the time that its threads take to read as many bytes as the decoder has in bf16, which a
//! token in bf16 cannot be faster than.

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::{
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::ensure;
use burn::tensor::Device;
use clap::Parser;
use gallery_gpt::{
    checkpoint::{Checkpoint, LoadOptions},
    llama::BlockFormat,
    model::{GenerationConfig, Generator, Prompt},
    vision::PixelValues,
};
use gallery_gpt_benches::{
    memory,
    random_7b::{Family, write},
};
use rayon::prelude::*;

/// Generates with a model of the 7B shape.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder on the disk to write to; a folder inside it is made, and deleted at the end.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The shape: `llava` or `qwen_vl`.
    #[arg(long, default_value = "llava")]
    family: Family,
    /// Tokens of the prompt beside those of its picture.
    #[arg(long, default_value_t = 44)]
    text: usize,
    /// Quantize the decoder's blocks: `q8_0`, `q6_k`, `q4_k` or `q4_0`.
    #[arg(long, value_parser = block_format)]
    blocks: Option<BlockFormat>,
    /// Tokens of the answer.
    #[arg(long, default_value_t = 32)]
    tokens: usize,
    /// The folder that a child generates with.
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    if let Some(folder) = &arguments.child {
        return generate(folder, &arguments);
    }
    let folder = tempfile::Builder::new()
        .prefix("generate-7b-")
        .tempdir_in(&arguments.dir)?;
    let bytes = write(folder.path(), arguments.family)?;
    println!("{:.2} GB of weights", bytes as f64 / 1e9);
    let (text, tokens) = (arguments.text.to_string(), arguments.tokens.to_string());
    let mut child = Command::new(std::env::current_exe()?);
    child.args(["--text", &text, "--tokens", &tokens]);
    if let Some(format) = arguments.blocks {
        child.args(["--blocks", format.name()]);
    }
    let status = child.arg("--child").arg(folder.path()).status()?;
    ensure!(status.success(), "the child failed: {status}");
    folder.close()?;
    println!("the folder is deleted");
    Ok(())
}

fn block_format(name: &str) -> Result<BlockFormat, String> {
    BlockFormat::by_name(name).ok_or_else(|| format!("no block format {name}"))
}

fn generate(folder: &Path, arguments: &Arguments) -> anyhow::Result<()> {
    let began = Instant::now();
    let checkpoint = Checkpoint::open(folder, &LoadOptions::default())?;
    let (model, _) = checkpoint.load(&Device::flex())?;
    println!("open         {:8.2} s", began.elapsed().as_secs_f64());
    let model = match arguments.blocks {
        None => model,
        Some(format) => {
            let began = Instant::now();
            let model = model.quantize_blocks(format);
            println!("quantize     {:8.2} s", began.elapsed().as_secs_f64());
            model
        }
    };

    let config = model.config();
    let size = config.vision.image_size;
    let values = (0..3 * size * size).map(|at| ((at * 31) % 997) as f32 / 400.0 - 1.2);
    let picture = PixelValues::from_values(values.collect(), size);
    let mut ids: Vec<i64> = (0..arguments.text)
        .map(|at| 3 + ((at * 7919) % 31_000) as i64)
        .collect();
    ids.insert(arguments.text.min(35), -200);
    let prompt = Prompt::with_pictures(ids, vec![picture]);
    let greedy = GenerationConfig {
        stop_ids: Vec::new(),
        ..GenerationConfig::greedy(arguments.tokens)
    };
    let generator = Generator::new(&model, greedy);
    let mut times = vec![Instant::now()];
    let mut decoding = generator.start(&[prompt])?;
    while decoding.step()?.is_some() {
        times.push(Instant::now());
    }
    let mut seconds: Vec<f64> = times
        .windows(2)
        .map(|pair| (pair[1] - pair[0]).as_secs_f64())
        .collect();
    let first = seconds.remove(0);
    println!("first token  {first:8.2} s");
    seconds.sort_by(f64::total_cmp);
    let token = seconds.get(seconds.len() / 2).copied();
    if let Some(token) = token {
        println!("later tokens {token:8.3} s each, {} of them", seconds.len());
    }
    if let Some(peak) = memory::peak() {
        println!("peak memory  {:8.2} GB", peak as f64 / 1e9);
    }
    let bytes = 2.0 * model.config().llama.num_parameters() as f64;
    drop(model);
    let speed = memory_speed();
    println!(
        "memory alone {:8.3} s for {:.2} GB at {speed:.1} GB/s",
        bytes / 1e9 / speed,
        bytes / 1e9
    );
    Ok(())
}

/// Gigabytes that the threads read in a second, the best of five passes over two.
fn memory_speed() -> f64 {
    let words = vec![1u64; 1 << 28];
    let passes = (0..5).map(|_| {
        let began = Instant::now();
        let chunks = words.par_chunks(1 << 20);
        let sum: u64 = chunks
            .map(|chunk| {
                chunk
                    .iter()
                    .fold(0, |sum: u64, word| sum.wrapping_add(*word))
            })
            .sum();
        assert_eq!(sum, words.len() as u64);
        8.0 * words.len() as f64 / 1e9 / began.elapsed().as_secs_f64()
    });
    passes.fold(0.0, f64::max)
}
