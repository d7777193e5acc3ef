//! Every stage against the reference Python libraries, on fixtures of random tiny models.
//!
//! Reads every variant folder (those with a `variant.json`) under the folder named by `GALLERY_GPT_GOLDENS`, by default the
//! copy in this project, and takes all sizes from the files. The device is the CPU, or what `GALLERY_GPT_DEVICE` names: built with
//! `--features cuda` this is one program to carry to a GPU, with the folder of fixtures beside it. What a variant lacks is reported as absent on standard error.
//! How the fixtures were made, and with which versions, is in `tests/goldens/README.md`.

#![allow(
    clippy::unwrap_used,
    reason = "a fixture that cannot be read is a failed test"
)]

mod attention;
mod checkpoint;
mod fixtures;
mod generation;
mod images;
mod lora;
mod metrics;
mod model;
mod tokenizer;
mod train;

use fixtures::each_variant;

#[test]
fn tokenizer() {
    each_variant("tokenizer", tokenizer::check);
}

#[test]
fn images() {
    each_variant("images", images::check);
}

#[test]
fn model() {
    each_variant("model", model::check);
}

#[test]
fn attention() {
    attention::check();
}

/// Bounds of bf16, stated where they are checked.
#[test]
fn bf16() {
    each_variant("bf16", |variant| {
        model::check_bf16(variant);
        if variant.has("train") {
            train::check_bf16(variant);
        }
    });
}

#[test]
fn generation() {
    each_variant("generation", generation::check);
}

#[test]
fn checkpoint() {
    each_variant("checkpoint", checkpoint::check);
}

#[test]
fn lora() {
    each_variant("lora", lora::check);
}

#[test]
fn metrics() {
    each_variant("metrics", metrics::check);
}

#[test]
fn train() {
    each_variant("train", train::check);
}
