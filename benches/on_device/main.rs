//! The whole model on one device, here and in PyTorch + transformers + peft, one after the other in one run: a LoRA step on rows of real
//! lengths at the largest batch that both hold, the first read of a prompt, tokens a second at several batch sizes, attention alone at
//! several lengths, and the tower.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --features cuda --bench on_device -- --device cuda --python .venv/bin/python --peak_tflops 989
//! cargo bench -p gallery-gpt-benches --bench on_device -- --shape medium --python .venv/bin/python
//! ```
//!
//! Weights are random and made on the device, so nothing has to be there but the program and the script beside it. Each side, and each
//! batch size of the step, is a process of its own, whose memory is measured from outside by one instrument: `nvidia-smi` on a GPU, the
//! system on a CPU.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod ours;
mod watch;

use gallery_gpt_benches::{medium, memory};
use std::{
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, ensure};
use clap::{Parser, ValueEnum};
use gallery_gpt::{
    DeviceKind,
    checkpoint::TensorDtype,
    llama::LlamaConfig,
    model::GalleryModelConfig,
    train::{Recompute, Trainable, flops_per_token},
    vision::VisionConfig,
};
use rand::{RngExt, SeedableRng};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use watch::Watched;

/// Compares this project with PyTorch on one device.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// cpu, cuda or cuda:N.
    #[arg(long, default_value = "cpu")]
    device: DeviceKind,
    /// Sizes of the model.
    #[arg(long, value_enum, default_value_t = Shape::SevenB)]
    shape: Shape,
    /// Number type of the base: bf16 on a GPU, f32 on a CPU by default.
    #[arg(long)]
    dtype: Option<TensorDtype>,
    /// A Python with torch, transformers and peft; without, only this side is measured.
    #[arg(long)]
    python: Option<PathBuf>,
    /// The peer's half.
    #[arg(long, default_value = concat!(env!("CARGO_MANIFEST_DIR"), "/on_device.py"))]
    script: PathBuf,
    /// Records in a step, tried one after the other until one does not fit.
    #[arg(long, value_delimiter = ',', default_values_t = [4, 8, 16, 32])]
    batch_sizes: Vec<usize>,
    /// Blocks that this side runs again in the backward pass: off, blocks, or a number (`finetune --plan` says how few fit). The peer
    /// always runs all of them again.
    #[arg(long, default_value = "blocks")]
    gradient_checkpointing: Recompute,
    /// Parts to measure.
    #[arg(long, value_delimiter = ',', value_enum, default_values_t = [Part::Step, Part::Read, Part::Write, Part::Attention, Part::Tower])]
    parts: Vec<Part>,
    /// Most operations a second of the device, in 10^12, for the model FLOPs utilization.
    #[arg(long)]
    peak_tflops: Option<f64>,
    /// Threads, on a CPU.
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Where all numbers are written too, as JSON.
    #[arg(long)]
    output: Option<PathBuf>,
    /// What a child measures.
    #[arg(long, hide = true)]
    child: Option<PathBuf>,
    /// Passed by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

#[derive(Clone, Copy, ValueEnum)]
#[value(rename_all = "snake_case")]
enum Shape {
    /// LLaVA-1.5-7B.
    #[value(name = "7b")]
    SevenB,
    /// 512 wide, 8 blocks: for a CPU.
    Medium,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
enum Part {
    /// A LoRA step.
    Step,
    /// The first read of a prompt.
    Read,
    /// Tokens written, at several batch sizes.
    Write,
    /// Attention alone, forward and backward.
    Attention,
    /// The tower.
    Tower,
}

/// What both sides are told to do.
#[derive(Clone, Serialize, Deserialize)]
struct Request {
    device: String,
    dtype: String,
    threads: usize,
    part: Part,
    vision: VisionConfig,
    llama: LlamaConfig,
    tokens_per_picture: usize,
    /// Rank of the adapters on the seven linears of every block.
    rank: usize,
    gradient_checkpointing: Recompute,
    /// Words beside the picture, of each record of a step.
    words: Vec<usize>,
    /// Tokens of the prompt that is read, picture included.
    prompt: usize,
    /// Rows that are written together.
    rows: Vec<usize>,
    new_tokens: usize,
    /// Lengths of attention, and tokens in all rows together.
    lengths: Vec<usize>,
    attention_tokens: usize,
    pictures: usize,
    warm_up: usize,
    times: usize,
}

impl Shape {
    fn config(self) -> GalleryModelConfig {
        match self {
            Self::SevenB => GalleryModelConfig::gallery_gpt_7b(),
            Self::Medium => medium::config(),
        }
    }

    fn request(self, arguments: &Arguments, part: Part) -> Request {
        let config = self.config();
        let tokens_per_picture = config.tokens_per_picture();
        let small = matches!(self, Self::Medium);
        let dtype = arguments.dtype.unwrap_or(if arguments.device.is_cpu() {
            TensorDtype::F32
        } else {
            TensorDtype::BF16
        });
        Request {
            device: arguments.device.to_string(),
            dtype: dtype.torch().to_owned(),
            threads: arguments.threads,
            part,
            tokens_per_picture,
            vision: config.vision,
            llama: config.llama,
            rank: if small { 16 } else { 128 },
            gradient_checkpointing: arguments.gradient_checkpointing,
            words: Vec::new(),
            prompt: tokens_per_picture + 44,
            rows: if small { vec![1, 4] } else { vec![1, 8, 32] },
            new_tokens: if small { 32 } else { 128 },
            lengths: if small {
                vec![256, 512]
            } else {
                vec![1024, 2048, 4096]
            },
            attention_tokens: if small { 1024 } else { 16384 },
            pictures: if small { 4 } else { 16 },
            warm_up: if small { 1 } else { 3 },
            times: if small { 3 } else { 8 },
        }
    }
}

/// Tokens of the texts of records: with a picture of 576 about 1,000 in the mean.
fn words(records: usize) -> Vec<usize> {
    let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(11);
    (0..records)
        .map(|_| random.random_range(250..=600))
        .collect()
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match &arguments.child {
        Some(request) => {
            let request = serde_json::from_slice(&std::fs::read(request)?)?;
            println!("{}", ours::measure(&request, arguments.device)?);
            Ok(())
        }
        None => compare(&arguments),
    }
}

/// One number of both sides.
struct Line {
    what: String,
    unit: &'static str,
    ours: Option<f64>,
    peer: Option<f64>,
    better: Better,
}

#[derive(Clone, Copy)]
enum Better {
    More,
    Less,
    /// Only shown.
    Neither,
}

fn compare(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("request.json");
    let flops = flops_per_token(&arguments.shape.config(), Trainable::Lora);
    let mut lines = Vec::new();
    let mut all = Vec::new();
    for &part in &arguments.parts {
        let sizes: &[usize] = match part {
            Part::Step => &arguments.batch_sizes,
            _ => &[1],
        };
        for &size in sizes {
            let mut request = arguments.shape.request(arguments, part);
            if part == Part::Step {
                request.words = words(size);
            }
            std::fs::write(&path, serde_json::to_vec(&request)?)?;
            let ours = side(ours_command(arguments, &path)?, arguments.device)?;
            let peer = match &arguments.python {
                Some(python) => {
                    let mut command = Command::new(python);
                    command.arg(&arguments.script).arg(&path);
                    side(command, arguments.device)?
                }
                None => Side::default(),
            };
            if ours.numbers.is_none() && peer.numbers.is_none() {
                eprintln!("{size} records fit neither side");
                break;
            }
            lines.extend(table(&request, &ours, &peer, flops, arguments.peak_tflops));
            all.push(
                serde_json::json!({ "request": request, "ours": ours.json(), "peer": peer.json() }),
            );
        }
    }
    println!(
        "{} {}, {}; peer: {}",
        arguments.device,
        arguments.dtype.map_or("", TensorDtype::torch),
        DeviceName(arguments.device),
        all.iter()
            .find_map(|part| part["peer"]["versions"].as_str())
            .unwrap_or("none")
    );
    println!("{:<40} {:>12} {:>12} {:>9}", "", "here", "peer", "better");
    let told = |line: &Line| line.ours.is_some() || line.peer.is_some();
    for line in lines.into_iter().filter(told) {
        let show = |value: Option<f64>| value.map_or("-".to_owned(), |value| format!("{value:.3}"));
        let better = match (line.better, line.ours.zip(line.peer)) {
            (Better::More, Some((ours, peer))) => Some(ours / peer),
            (Better::Less, Some((ours, peer))) => Some(peer / ours),
            _ => None,
        };
        let what = format!("{}, {}", line.what, line.unit);
        println!(
            "{what:<40} {:>12} {:>12} {:>9}",
            show(line.ours),
            show(line.peer),
            show(better)
        );
    }
    if let Some(output) = &arguments.output {
        std::fs::write(output, serde_json::to_vec_pretty(&all)?)
            .with_context(|| format!("cannot write {}", output.display()))?;
    }
    Ok(())
}

struct DeviceName(DeviceKind);

impl std::fmt::Display for DeviceName {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let report = gallery_gpt::DeviceReport::of(self.0);
        let named = ["GPU", "vectors"];
        let found = report
            .findings
            .iter()
            .find(|finding| named.contains(&finding.what));
        f.write_str(found.map_or("unknown", |finding| &finding.found))
    }
}

fn ours_command(arguments: &Arguments, request: &Path) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    command
        .arg("--child")
        .arg(request)
        .arg("--device")
        .arg(arguments.device.to_string())
        .env("RAYON_NUM_THREADS", arguments.threads.to_string());
    Ok(command)
}

/// What one side came to: nothing where it ran out of memory.
#[derive(Default)]
struct Side {
    numbers: Option<Value>,
    memory: Option<u64>,
}

impl Side {
    fn number(&self, key: &str) -> Option<f64> {
        self.numbers.as_ref()?.get(key)?.as_f64()
    }

    fn json(&self) -> Value {
        let mut numbers = self.numbers.clone().unwrap_or(Value::Null);
        if let (Some(numbers), Some(memory)) = (numbers.as_object_mut(), self.memory) {
            numbers.insert("peak_bytes".to_owned(), memory.into());
        }
        numbers
    }
}

fn side(mut command: Command, device: DeviceKind) -> anyhow::Result<Side> {
    let program = command.get_program().to_string_lossy().into_owned();
    let child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot run {program}"))?;
    let Watched {
        output,
        peak: memory,
    } = watch::watch(child, device)?;
    let said = String::from_utf8_lossy(&output.stderr);
    if !output.status.success() {
        let lower = said.to_lowercase();
        let full = ["out of memory", "outofmemory", "out_of_memory"];
        ensure!(
            full.iter().any(|words| lower.contains(words)),
            "{program} failed: {said}"
        );
        return Ok(Side::default());
    }
    let text = String::from_utf8_lossy(&output.stdout);
    let last = text.lines().last().context("a side said nothing")?;
    let numbers = serde_json::from_str(last).with_context(|| format!("{program} said {last}"))?;
    Ok(Side {
        numbers: Some(numbers),
        memory,
    })
}

fn table(request: &Request, ours: &Side, peer: &Side, flops: f64, peak: Option<f64>) -> Vec<Line> {
    let line = |what: String, unit, better, of: &dyn Fn(&Side) -> Option<f64>| Line {
        what,
        unit,
        ours: of(ours),
        peer: of(peer),
        better,
    };
    let gigabytes = |side: &Side| side.memory.map(|bytes| bytes as f64 / 1e9);
    match request.part {
        Part::Step => {
            let records = request.words.len();
            let tokens = request.words.iter().sum::<usize>() + records * request.tokens_per_picture;
            let rate = move |side: &Side| Some(tokens as f64 / side.number("step")?);
            let name = format!("step of {records} records, {tokens} tokens");
            let mut lines = vec![
                line(name.clone(), "tokens/s", Better::More, &rate),
                line(name.clone(), "GB", Better::Less, &gigabytes),
                line(name.clone(), "first loss", Better::Neither, &|side| {
                    side.number("loss")
                }),
            ];
            if let Some(peak) = peak {
                lines.push(line(name, "% MFU", Better::More, &|side| {
                    Some(rate(side)? * flops / (peak * 1e10))
                }));
            }
            lines
        }
        Part::Read => {
            let name = format!("read {} tokens", request.prompt);
            vec![line(name, "ms", Better::Less, &|side| {
                Some(side.number("read")? * 1e3)
            })]
        }
        Part::Write => {
            let of_rows = |&rows: &usize| {
                let name = format!("write, {rows} rows");
                let per_second =
                    |side: &Side| Some(rows as f64 / side.number(&format!("write_{rows}"))?);
                line(name, "tokens/s", Better::More, &per_second)
            };
            request.rows.iter().map(of_rows).collect()
        }
        Part::Attention => {
            let llama = &request.llama;
            let of_length = |&seq: &usize| {
                // Two products of all scores below the diagonal.
                let work = (2 * request.attention_tokens * seq * llama.hidden_size) as f64;
                ["forward", "backward"].map(|way| {
                    // The backward pass makes the scores again, and takes the gradients of both products.
                    let work = if way == "forward" { work } else { 2.5 * work };
                    let name = format!("attention {seq}, {way}");
                    line(name, "TFLOP/s", Better::More, &|side| {
                        Some(work / side.number(&format!("{way}_{seq}"))? / 1e12)
                    })
                })
            };
            let mut lines: Vec<Line> = request.lengths.iter().flat_map(of_length).collect();
            for seq in &request.lengths {
                // As many tokens at every length: what grows with it are scores.
                lines.push(line(
                    format!("attention {seq}, with gradients"),
                    "GB",
                    Better::Less,
                    &|side| Some(side.number(&format!("memory_{seq}"))? / 1e9),
                ));
            }
            lines
        }
        Part::Tower => vec![line(
            format!("tower, {} pictures", request.pictures),
            "pictures/s",
            Better::More,
            &|side| Some(request.pictures as f64 / side.number("tower")?),
        )],
    }
}
