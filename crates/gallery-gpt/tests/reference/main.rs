//! Every stage against the reference Python libraries, on fixtures of random tiny models.
//!
//! Reads every variant folder (those with a `variant.json`) under the folder named by `GALLERY_GPT_GOLDENS`, by default the
//! copy in this project, and takes all sizes from the files. Each case is a test of its own, `stage::variant::case`; what a variant
//! does not have is listed as an ignored test marked `[absent]`, and a file that its `contents.txt` names must be there. The device is the
//! CPU, or what `GALLERY_GPT_DEVICE` names: built with `--features cuda` this is one program to carry to a GPU, with the folder of
//! fixtures beside it. How the fixtures were made, and with which versions, is in `tests/goldens/README.md`.

#![allow(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read is a failed test"
)]

mod attention;
mod case;
mod checkpoint;
mod fixtures;
mod generation;
mod images;
mod lora;
mod metrics;
mod model;
mod qwen;
mod tokenizer;
mod train;

use std::process::ExitCode;

use libtest_mimic::{Arguments, Trial};

use case::{Case, Stage};
use fixtures::{Family, variants};

/// The stages of LLaVA's variants, the folder of a variant that each needs, and its cases.
const STAGES: [Stage; 9] = [
    Stage::new("tokenizer", "tokenizer", tokenizer::cases),
    Stage::new("images", "images", images::cases),
    Stage::new("model", "model", model::cases),
    Stage::new("bf16", "model", model::bf16_cases),
    Stage::new("generation", "model", generation::cases),
    Stage::new("checkpoint", "model", checkpoint::cases),
    Stage::new("lora", "lora", lora::cases),
    Stage::new("metrics", "metrics", metrics::cases),
    Stage::new("train", "train", train::cases),
];

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let attention = Trial::test("attention", || {
        attention::check();
        Ok(())
    });
    let mut trials = vec![attention];
    for variant in variants() {
        trials.push(Case::new("contents", fixtures::contents).trial(&variant, "fixtures"));
        let stages: &[Stage] = match variant.family() {
            Family::Llava => &STAGES,
            Family::Qwen => &qwen::STAGES,
            Family::Unknown(family) => {
                trials.push(Case::absent(&family).trial(&variant, "family"));
                continue;
            }
        };
        trials.extend(stages.iter().flat_map(|stage| stage.trials(&variant)));
    }
    libtest_mimic::run(&arguments, trials).exit_code()
}
