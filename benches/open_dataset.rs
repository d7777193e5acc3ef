//! Opens a training set of many records: seconds, and memory against the file's size. The records are the sample's, over and over.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --bench open_dataset -- --records 100000
//! ```

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use gallery_gpt_benches::memory;
use std::{io::Write, path::PathBuf, time::Instant};

use anyhow::Context;
use clap::Parser;
use gallery_gpt::prelude::*;
use memory::resident;
use serde_json::Value;

/// Opens a large training set.
#[derive(Parser)]
struct Arguments {
    /// Records in it.
    #[arg(long, default_value_t = 100_000)]
    records: usize,
    /// Passed by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let sample = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("../datasets/painting-form-mini/train_samples_tuning.json");
    let mut file = tempfile::NamedTempFile::new()?;
    {
        let records: Vec<Value> = serde_json::from_slice(&std::fs::read(sample)?)?;
        let mut writer = std::io::BufWriter::new(&mut file);
        for number in 0..arguments.records {
            let mut record = records[number % records.len()].clone();
            record["id"] = format!("identity_{number}").into();
            write!(writer, "{}{record}", if number == 0 { "[" } else { ",\n" })?;
        }
        writeln!(writer, "]")?;
        writer.flush()?;
    }
    let size = file.as_file().metadata()?.len() as f64;
    let before = resident().context("the system does not tell")? as f64;
    let began = Instant::now();
    let set = PaintingForm::load(file.path())?;
    let seconds = began.elapsed().as_secs_f64();
    let after = resident().context("the system does not tell")? as f64;
    let peak = memory::peak().context("the system does not tell")? as f64;
    println!(
        "{} records, {:.1} MB: {seconds:.2} s; {:.2} times the file in memory while it was read, {:.2} after",
        set.records.len(),
        size / 1e6,
        (peak - before) / size,
        (after - before) / size,
    );
    Ok(())
}
