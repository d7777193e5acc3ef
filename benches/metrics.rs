//! Scores 4,000 pairs with two references each, here and in nltk, sacreBLEU and rouge-score, in one run.
//!
//! ```sh
//! python3 -m venv .venv && .venv/bin/pip install nltk==3.10.4 sacrebleu==2.6.0 rouge-score==0.1.2
//! cargo bench -p gallery-gpt-benches --bench metrics -- --python .venv/bin/python
//! ```
//!
//! The texts are analyses of the sample's kind. Without `--python` only this side is timed.

#![allow(clippy::print_stdout, reason = "a program talks on the terminal")]

use std::{path::PathBuf, process::Command, time::Instant};

use anyhow::{Context, ensure};
use clap::Parser;
use gallery_gpt::eval::{
    Gleu, Meteor, NltkBleu, NoSynonyms, Rouge, RougeKind, SacreBleu, WordTokenizer,
};
use gallery_gpt_scenes::{Scene, analysis};
use rayon::prelude::*;
use serde_json::{Value, json};

/// Scores pairs here and in Python.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// A Python with nltk, sacreBLEU and rouge-score.
    #[arg(long)]
    python: Option<PathBuf>,
    /// Pairs to score.
    #[arg(long, default_value_t = 4000)]
    pairs: u64,
    /// Given by `cargo bench`.
    #[arg(long, hide = true)]
    bench: bool,
}

type Pairs = [(String, Vec<String>)];

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    // A text, and two about a painting that shares some of its facts.
    let pairs: Vec<(String, Vec<String>)> = (0..arguments.pairs)
        .map(|number| {
            let (scene, other) = (Scene::sample(1, number), Scene::sample(1, number / 3));
            let references = (0..2).map(|voice| analysis(&other, voice)).collect();
            (analysis(&scene, number), references)
        })
        .collect();
    let peer = arguments
        .python
        .as_ref()
        .map(|python| run_peer(python, &pairs))
        .transpose()?;
    println!(
        "{} pairs, two references each, {} threads here, one in Python",
        pairs.len(),
        rayon::current_num_threads()
    );
    println!(
        "{:16} {:>10} {:>10} {:>10} {:>12}",
        "", "here, s", "peer, s", "peer/here", "difference"
    );
    let (mut here, mut there) = (0.0, 0.0);
    for (name, metric) in metrics() {
        let started = Instant::now();
        let score = metric(&pairs);
        let seconds = started.elapsed().as_secs_f64();
        here += seconds;
        let Some(peer) = &peer else {
            println!("{name:16} {seconds:>10.3}");
            continue;
        };
        let theirs = peer[name]["seconds"]
            .as_f64()
            .context("the peer's seconds")?;
        let other = peer[name]["score"].as_f64().context("the peer's score")?;
        there += theirs;
        let difference = (score - other).abs();
        println!(
            "{name:16} {seconds:>10.3} {theirs:>10.3} {:>10.1} {difference:>12.1e}",
            theirs / seconds
        );
        ensure!(difference < 1e-9, "{name}: {score} here, {other} there");
    }
    if peer.is_some() {
        println!(
            "{:16} {here:>10.3} {there:>10.3} {:>10.1}",
            "total",
            there / here
        );
    }
    Ok(())
}

type Metric = fn(&Pairs) -> f64;

fn metrics() -> [(&'static str, Metric); 8] {
    [
        ("BLEU, sacreBLEU", sacre_bleu),
        ("BLEU, nltk", nltk_bleu),
        ("GLEU, nltk", gleu),
        ("METEOR, nltk", meteor),
        ("ROUGE-1", |pairs| rouge(pairs, RougeKind::N(1))),
        ("ROUGE-2", |pairs| rouge(pairs, RougeKind::N(2))),
        ("ROUGE-L", |pairs| rouge(pairs, RougeKind::L)),
        ("ROUGE-Lsum", |pairs| rouge(pairs, RougeKind::Lsum)),
    ]
}

fn nltk_bleu(pairs: &Pairs) -> f64 {
    let spaced = spaced(pairs, WordTokenizer::Mteval13a);
    let cut: Vec<_> = spaced
        .par_iter()
        .map(|(text, references)| {
            let references = references
                .iter()
                .map(|text| WordTokenizer::Mteval13a.split_spaced(text))
                .collect();
            (WordTokenizer::Mteval13a.split_spaced(text), references)
        })
        .collect();
    NltkBleu::default().corpus(&cut).unwrap_or(f64::NAN)
}

fn spaced(pairs: &Pairs, words: WordTokenizer) -> Vec<(String, Vec<String>)> {
    let spaced = |text: &String| words.spaced(text.trim_end());
    pairs
        .par_iter()
        .map(|(text, references)| (spaced(text), references.iter().map(spaced).collect()))
        .collect()
}

fn sacre_bleu(pairs: &Pairs) -> f64 {
    let bleu = SacreBleu::default();
    let counts: Vec<_> = pairs
        .par_iter()
        .map(|(text, references)| bleu.counts(text, references))
        .collect();
    let mut sums = gallery_gpt::eval::BleuCounts::default();
    counts.into_iter().for_each(|counts| sums += counts);
    bleu.score(&sums).score / 100.0
}

fn gleu(pairs: &Pairs) -> f64 {
    let counts: Vec<_> = spaced(pairs, WordTokenizer::Mteval13a)
        .par_iter()
        .map(|(text, references)| {
            let references: Vec<_> = references
                .iter()
                .map(|text| WordTokenizer::Mteval13a.split_spaced(text))
                .collect();
            Gleu::default().counts(&WordTokenizer::Mteval13a.split_spaced(text), &references)
        })
        .collect();
    let mut sums = gallery_gpt::eval::GleuCounts::default();
    counts.into_iter().for_each(|counts| sums += counts);
    sums.score()
}

fn mean(pairs: &Pairs, score: impl Fn(&str, &[String]) -> f64 + Sync) -> f64 {
    let scores: Vec<f64> = pairs
        .par_iter()
        .map(|(text, references)| score(text, references))
        .collect();
    scores.iter().sum::<f64>() / pairs.len() as f64
}

fn meteor(pairs: &Pairs) -> f64 {
    let meteor = Meteor::new(None::<&NoSynonyms>);
    mean(pairs, |text, references| {
        let references: Vec<_> = references
            .iter()
            .map(|text| WordTokenizer::Treebank.tokenize(text))
            .collect();
        meteor.score(&WordTokenizer::Treebank.tokenize(text), &references)
    })
}

fn rouge(pairs: &Pairs, kind: RougeKind) -> f64 {
    mean(pairs, |text, references| {
        Rouge::new(kind).score(text, references).f
    })
}

fn run_peer(python: &PathBuf, pairs: &Pairs) -> anyhow::Result<Value> {
    let records: Vec<Value> = pairs
        .iter()
        .map(|(text, references)| json!({ "text": text, "references": references }))
        .collect();
    let folder = tempfile::tempdir()?;
    let path = folder.path().join("pairs.json");
    std::fs::write(&path, json!(records).to_string())?;
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/metrics.py");
    let output = Command::new(python).arg(script).arg(&path).output()?;
    ensure!(
        output.status.success(),
        "the peer failed: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(serde_json::from_slice(&output.stdout)?)
}
