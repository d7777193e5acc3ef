//! Opens a checkpoint of the 7B shape: random bf16 weights in shards on disk, 14 GB of LLaVA or 19 GB of Qwen-VL-Chat, deleted at the end.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --bench open_7b
//! cargo bench -p gallery-gpt-benches --bench open_7b -- --family qwen_vl
//! ```
//!
//! Two children of this program are compared, after each other and twice: one reads the files to nowhere, one opens the checkpoint for the
//! CPU and then touches every page of every weight, as the first forward pass would. Printed: times, their ratio, and the largest memory
//! the second ever held (Linux only).

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    process::Command,
    time::Instant,
};

use anyhow::{Context, ensure};
use burn::{
    module::Param,
    tensor::{Device, Tensor},
};
use clap::Parser;
use gallery_gpt::{
    checkpoint::{Checkpoint, LoadOptions, Placement, checkpoint_key},
    model::{ParamVisitor, visit_params},
};
use gallery_gpt_benches::random_7b::{Family, write};

/// Opens a checkpoint of the 7B shape.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder on the disk to write to; a folder inside it is made, and deleted at the end.
    #[arg(long, default_value = ".")]
    dir: PathBuf,
    /// The shape: `llava` or `qwen_vl`.
    #[arg(long, default_value = "llava")]
    family: Family,
    /// What a child does, and on which folder.
    #[arg(long, num_args = 2, hide = true)]
    child: Option<Vec<String>>,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    match arguments.child.as_deref() {
        Some([job, folder]) if job == "read" => read(Path::new(folder)),
        Some([_, folder]) => open(Path::new(folder)),
        _ => run(&arguments),
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let folder = tempfile::Builder::new()
        .prefix("open-7b-")
        .tempdir_in(&arguments.dir)?;
    let bytes = write(folder.path(), arguments.family)?;
    println!("{:.2} GB of weights", bytes as f64 / 1e9);
    // The other way round the second time: who comes second may find the disk's own cache warm.
    for jobs in [["read", "open"], ["open", "read"]] {
        let mut seconds = [0.0; 2];
        for job in jobs {
            let dropped = std::fs::write("/proc/sys/vm/drop_caches", "1").is_ok();
            let output = Command::new(std::env::current_exe()?)
                .args(["--child", job])
                .arg(folder.path())
                .output()?;
            let said = String::from_utf8_lossy(&output.stdout).trim().to_owned();
            ensure!(
                output.status.success(),
                "{job} failed: {}",
                String::from_utf8_lossy(&output.stderr)
            );
            let first = said.split_whitespace().next().unwrap_or_default();
            seconds[usize::from(job == "open")] =
                first.parse().context("a child prints its seconds first")?;
            let cache = if dropped { ", page cache dropped" } else { "" };
            println!("{job}{cache}: {said}");
        }
        println!("open / read = {:.3}", seconds[1] / seconds[0]);
    }
    folder.close()?;
    println!("the folder is deleted");
    Ok(())
}

fn read(folder: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let mut buffer = vec![0; 8 << 20];
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder)? {
        let mut file = File::open(entry?.path())?;
        loop {
            let count = file.read(&mut buffer)?;
            if count == 0 {
                break;
            }
            bytes += count;
        }
    }
    println!(
        "{:.2} s for {:.2} GB",
        started.elapsed().as_secs_f64(),
        bytes as f64 / 1e9
    );
    Ok(())
}

/// Adds up a byte of every page of every weight.
#[derive(Default)]
struct Toucher {
    sum: u64,
}

impl ParamVisitor for Toucher {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        let mut value = param.val();
        let key = checkpoint_key(path);
        // Linears are views: seen from the other side they lie in memory as they are.
        if key.is_some_and(|key| key.placement == Placement::Transposed) {
            value = value.swap_dims(0, D - 1);
        }
        let data = value.into_data();
        let pages = data.as_bytes().iter().step_by(4096);
        self.sum += pages.map(|byte| u64::from(*byte)).sum::<u64>();
    }
}

fn open(folder: &Path) -> anyhow::Result<()> {
    let started = Instant::now();
    let checkpoint = Checkpoint::open(folder, &LoadOptions::default())?;
    let (model, report) = checkpoint.load(&Device::flex())?;
    let opened = started.elapsed().as_secs_f64();
    let mut toucher = Toucher::default();
    visit_params(&model, &mut toucher);
    let touched = started.elapsed().as_secs_f64();
    let peak = peak_memory()?;
    println!(
        "{touched:.2} s, of them {opened:.2} s to open; {} parameters; largest resident memory {:.2} GB, {:.3} of the weights (sum {})",
        report.parameters,
        peak as f64 / 1e9,
        peak as f64 / report.bytes as f64,
        toucher.sum
    );
    Ok(())
}

/// The largest resident memory of this process so far, in bytes.
fn peak_memory() -> anyhow::Result<u64> {
    let status = std::fs::read_to_string("/proc/self/status").context("only Linux tells")?;
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmHWM:"))
        .context("no VmHWM")?;
    let kib: u64 = line.trim().trim_end_matches("kB").trim().parse()?;
    Ok(kib * 1024)
}
