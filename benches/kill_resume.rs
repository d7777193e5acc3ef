//! Kills a small training a thousand times at random moments, saves included, lets it go on each time, and compares every byte it
//! leaves with a run that was never killed.
//!
//! ```sh
//! cargo bench -p gallery-gpt-benches --bench kill_resume
//! ```

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::time::Instant;

use clap::Parser;
use gallery_gpt_testkit::interrupted;
use indicatif::{ProgressBar, ProgressStyle};

/// Kills a training and lets it go on.
#[derive(Parser)]
struct Arguments {
    /// How often.
    #[arg(long, default_value_t = 1000)]
    kills: usize,
    /// Passed by `cargo bench`; means nothing here.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<()> {
    if interrupted::be_killed()? {
        return Ok(());
    }
    let arguments = Arguments::parse();
    let style =
        ProgressStyle::with_template("{bar:30} {pos}/{len} kills, {elapsed} gone, {eta} left")?;
    let progress = ProgressBar::new(arguments.kills as u64).with_style(style);
    let began = Instant::now();
    let compared = interrupted::kill(arguments.kills, &[], |done| {
        progress.set_position(done as u64);
    })?;
    progress.finish_and_clear();
    println!(
        "{} kills in {:.0} s; {compared} runs went on to their end, every byte of adapter, optimizer and log as in a run never killed",
        arguments.kills,
        began.elapsed().as_secs_f64()
    );
    Ok(())
}
