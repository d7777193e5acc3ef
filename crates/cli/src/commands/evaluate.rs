//! Scores systems on a test set: the paper's table with confidence intervals, and a page.
//!
//! Without flags the systems are the tiny base, the adapter of the newest `runs/finetune-N`, and a baseline that gives every painting the
//! same text. Predictions of any other system come from a file.

use std::{
    path::{Path, PathBuf},
    str::FromStr,
};

use anyhow::{Context, bail, ensure};
use clap::{Args, ValueEnum};
use gallery_gpt::{
    checkpoint::{Destination, OwnFolder, write_file},
    data::TestPainting,
    eval::{
        Comparison, Interval, Naming, OnUnscorable, Predictions, PredictionsFile, Report, Score,
        Scorer, SystemScores, WordNet, WordTokenizer, painting_name, reference_count,
    },
    model::CancelToken,
    prelude::*,
    text::{Role, answer_regions},
};
use indicatif::{ProgressBar, ProgressStyle};
use serde_json::{Value, json};

use crate::{
    args::{
        BatchSize, GenerationFlags, ModelFlags,
        sample::{PICTURES, QUESTION, SAMPLE, TEST_RECORDS, TRAINING_RECORDS},
    },
    terminal::{Stopped, interrupt},
};

/// The end of the help.
const EXAMPLES: &str = "\
Examples:
  gallery-gpt evaluate --wordnet /usr/share/wordnet
  gallery-gpt evaluate --base llava-1.5-7b-hf --load_8bit --references test.json --images paintings
  gallery-gpt evaluate --references test.json --predictions one=a.jsonl --predictions two=b.jsonl";

/// Scores systems on a test set, and writes a page about them.
#[derive(Args)]
#[command(
    rename_all = "snake_case", after_help = EXAMPLES,
    mut_arg("adapter", |adapter| {
        let help = adapter.get_help().cloned().unwrap_or_default();
        adapter.help(format!("{help} [default: that of the newest runs/finetune-N]"))
    }),
    mut_arg("temperature", |temperature| temperature.default_value("0").help(
        "Divides the logits before sampling; the default is 0, greedy decoding, so that scores depend on no seed"
    )),
    mut_arg("seed", |seed| seed.help("Seed of the sampling and of the resampled test sets"))
)]
pub(crate) struct Arguments {
    /// Files of test records; each is another reference of the same paintings.
    #[arg(long, num_args = 1.., default_values = TEST_RECORDS)]
    references: Vec<PathBuf>,
    /// Folder of the test pictures.
    #[arg(long, visible_alias = "image_folder", default_value = PICTURES)]
    images: PathBuf,
    /// Predictions of a system, NAME=FILE; may be repeated. Without any, base and adapter are run.
    #[arg(long, value_name = "NAME=FILE")]
    predictions: Vec<NamedFile>,
    /// The questions that the predictions answer, as JSON lines with `question_id` and `image`, if the predictions name no pictures.
    #[arg(long, requires = "predictions")]
    questions: Option<PathBuf>,
    #[command(flatten)]
    model: ModelFlags,
    /// The question about every painting.
    #[arg(long, visible_aliases = ["query", "prompt"], default_value = QUESTION)]
    question: String,
    #[command(flatten)]
    batches: BatchSize,
    #[command(flatten)]
    generation: GenerationFlags,
    /// Tokenizer of all scores, for languages other than English: zh for Chinese, char for any script without spaces, intl for others
    /// (also 13a, none, wordpunct, treebank) [default: each score's own].
    #[arg(long)]
    tokenize: Option<WordTokenizer>,
    /// Folder of WordNet 3.0's database (Debian's package wordnet-base has it in /usr/share/wordnet); without it METEOR knows no
    /// synonyms, and its signature says so.
    #[arg(long)]
    wordnet: Option<PathBuf>,
    /// What to do about predictions that are missing, empty, repeated or unknown.
    #[arg(long, value_enum, default_value_t = OnBadPrediction::Fail)]
    on_bad_prediction: OnBadPrediction,
    /// Resampled test sets for confidence intervals and p-values.
    #[arg(long, default_value_t = 1000)]
    resamples: usize,
    /// Paintings on the page: so many best, worst and most improved ones.
    #[arg(long, default_value_t = 5)]
    shown: usize,
    /// Folder for predictions, scores and page; predictions that are in it are not made again.
    #[arg(long, default_value = "runs/evaluate")]
    output_dir: PathBuf,
    /// Write into the folder whatever it holds; files of other names stay.
    #[arg(long)]
    overwrite: bool,
}

#[derive(Clone, Copy, PartialEq, ValueEnum)]
#[value(rename_all = "snake_case")]
enum OnBadPrediction {
    Fail,
    Exclude,
}

#[derive(Clone)]
struct NamedFile {
    name: String,
    path: PathBuf,
}

impl FromStr for NamedFile {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (name, path) = text
            .split_once('=')
            .filter(|(name, path)| !name.is_empty() && !path.is_empty())
            .ok_or_else(|| format!("`{text}`: expected NAME=FILE"))?;
        Ok(Self {
            name: name.to_owned(),
            path: path.into(),
        })
    }
}

/// Runs the command.
///
/// # Errors
/// Anything that ends it before it is done.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    ensure!(arguments.resamples > 0, "--resamples must be at least 1");
    arguments.generation.check()?;
    arguments.batches.checked()?;
    for references in &arguments.references {
        ensure!(
            !references.starts_with(SAMPLE) || references.exists(),
            "{} is not there: the sample is relative; run in the repository or give --references",
            references.display()
        );
    }
    let test = TestSet::load(&arguments.references)?;
    for bad in &test.bad {
        note!("left out of the test set: {bad}");
    }
    for missing in &test.incomplete {
        note!("a reference is missing: {missing}");
    }
    let paintings = test.paintings;
    let mut scorer = Scorer::paper(arguments.wordnet.as_ref().map(WordNet::open).transpose()?);
    if let Some(words) = arguments.tokenize {
        scorer = scorer.with_tokenizer(words);
    }
    let on_unscorable = match arguments.on_bad_prediction {
        OnBadPrediction::Fail => OnUnscorable::Fail,
        OnBadPrediction::Exclude => OnUnscorable::Exclude,
    };
    let mut folder = output_folder(arguments)?;
    let mut systems = Vec::new();
    for (name, predictions) in predictions(arguments, &paintings, &mut folder)? {
        let system = SystemScores::new(&name, &predictions, &paintings, &scorer, on_unscorable)?;
        for exclusion in &system.exclusions {
            note!("left out of {name}: {exclusion}");
        }
        systems.push(system);
    }
    let (resamples, seed) = (arguments.resamples, arguments.generation.seed());
    let columns = Score::ALL;
    let mut intervals: Vec<Vec<Interval>> = Vec::new();
    let mut comparisons: Vec<Vec<Option<Comparison>>> = Vec::new();
    for (at, system) in systems.iter().enumerate() {
        let each = columns.iter();
        intervals.push(
            each.clone()
                .map(|column| system.interval(*column, &scorer, resamples, seed))
                .collect(),
        );
        comparisons.push(
            each.map(|column| {
                let baseline = systems.first().filter(|_| at > 0)?;
                system.compare(baseline, *column, &scorer, resamples, seed)
            })
            .collect(),
        );
    }
    print_table(&systems, &columns, &intervals, &comparisons);
    let notices = scorer.notices(&paintings, &systems);
    for notice in &notices {
        note!("note: {notice}");
    }

    let references = reference_count(&paintings);
    let signatures: Vec<String> = columns
        .iter()
        .map(|column| scorer.signature(*column, references).to_string())
        .collect();
    say!("\n{}", signatures.join("\n"));
    let scores = json!({
        "paintings": paintings.len(),
        "signatures": signatures,
        "notices": notices,
        "resamples": resamples,
        "seed": seed,
        "systems": systems_json(&systems, &columns, &intervals, &comparisons),
    });
    let path = file_in(&mut folder, "scores.json", arguments)?;
    write_file(&path, format!("{scores:#}\n").as_bytes())?;
    let page = Report {
        title: "Formal analyses, scored",
        paintings: &paintings,
        columns: &columns,
        systems: &systems,
        intervals: &intervals,
        comparisons: &comparisons,
        notices: &notices,
        shown: arguments.shown,
    }
    .html(&scorer, |painting| {
        let picture = picture_of(&arguments.images, painting);
        if let Err(error) = &picture {
            note!("no picture on the page: {error:#}");
        }
        picture.ok()
    });
    let report = file_in(&mut folder, "report.html", arguments)?;
    write_file(&report, page.as_bytes())?;
    say!("\nscores {}, page {}", path.display(), report.display());
    Ok(())
}

/// The folder for everything that is written, apart from the models.
fn output_folder(arguments: &Arguments) -> anyhow::Result<OwnFolder> {
    let folder = Destination::new(&arguments.output_dir)
        .overwriting(arguments.overwrite)
        .apart_from(arguments.model.paths.given());
    Ok(OwnFolder::open(folder)?)
}

/// A file to write in that folder, other than those that are read.
fn file_in(folder: &mut OwnFolder, name: &str, arguments: &Arguments) -> anyhow::Result<PathBuf> {
    let predictions = arguments.predictions.iter().map(|file| &file.path);
    let read = arguments.references.iter().chain(&arguments.questions);
    Destination::new(folder.path().join(name))
        .apart_from(read.chain(predictions))
        .check_file()?;
    Ok(folder.claim(name)?)
}

/// The systems' predictions: from files, and from models that are run now.
fn predictions(
    arguments: &Arguments,
    paintings: &[TestPainting],
    folder: &mut OwnFolder,
) -> anyhow::Result<Vec<(String, Predictions)>> {
    let mut systems = Vec::new();
    let run_models = arguments.predictions.is_empty();
    let model = &arguments.model;
    if run_models || model.paths.given().next().is_some() {
        let gallery = model.load_base()?;
        let cancel = interrupt::cancel_on_signal()?;
        let describe = |gallery: &GalleryGpt, name: &str, folder: &mut OwnFolder| {
            let texts = describe_all(arguments, gallery, name, paintings, folder, &cancel)?;
            anyhow::Ok((name.to_owned(), texts))
        };
        if run_models && arguments.images.starts_with(SAMPLE) {
            systems.push(("constant".to_owned(), constant(paintings)?));
        }
        systems.push(describe(&gallery, "base", folder)?);
        // A whole model that is given as an adapter has none of its own.
        if model.paths.whole_model().is_none() {
            let adapter = model.paths.adapter().map(Path::to_owned);
            let adapter = adapter.or_else(newest_adapter).context(
                "no runs/finetune-N/adapter yet: run `gallery-gpt finetune` first, or give --adapter",
            )?;
            say!("adapter {}", adapter.display());
            let gallery = model.with_adapter(gallery, &adapter)?;
            systems.push(describe(&gallery, "finetuned", folder)?);
        }
    }
    for file in &arguments.predictions {
        if systems.iter().any(|(name, _)| *name == file.name) {
            bail!("two systems are called {}", file.name);
        }
        let mut predictions = Predictions::load(&file.path)?;
        if let Some(questions) = &arguments.questions {
            predictions = predictions.with_questions(questions)?;
        }
        let name = &file.name;
        predictions = without_tags(predictions, name);
        match predictions.naming(paintings) {
            Naming::Pictures => {}
            Naming::Stems => {
                note!("note: {name} names its paintings by numbers, read as pictures: 7 is 7.png");
            }
            Naming::Indices => note!(
                "note: {name} names its paintings by numbers, read as their places in the test set, from 0; \
                 --questions FILE reads them from the questions instead"
            ),
        }
        systems.push((name.clone(), predictions));
    }
    Ok(systems)
}

/// The first analysis of the training records as the text of every painting.
fn constant(paintings: &[TestPainting]) -> anyhow::Result<Predictions> {
    let records = PaintingForm::load(TRAINING_RECORDS)?.records;
    let record = records.first().context("the sample has records")?;
    let mut turns = record.conversation.turns.iter();
    let answer = turns.find(|turn| turn.role == Role::Assistant);
    let text = &answer.context("a record has an answer")?.text;
    let mut predictions = Predictions::default();
    for painting in paintings {
        predictions.push(painting_name(painting), text.as_str());
    }
    Ok(predictions)
}

/// Texts as they are scored: without the tags of regions that Qwen-VL-Chat writes.
fn without_tags(predictions: Predictions, name: &str) -> Predictions {
    let mut tagged = 0;
    let predictions = predictions.map_texts(|text| {
        let plain = answer_regions(&text).text;
        if plain == text.trim() {
            return text;
        }
        tagged += 1;
        plain
    });
    if tagged > 0 {
        note!("{tagged} texts of {name} have tags of regions, which are taken out before scoring");
    }
    predictions
}

fn newest_adapter() -> Option<PathBuf> {
    let runs = std::fs::read_dir("runs").ok()?;
    runs.filter_map(Result::ok)
        .filter_map(|entry| {
            let name = entry.file_name().to_string_lossy().into_owned();
            let number: u64 = name.strip_prefix("finetune-")?.parse().ok()?;
            let adapter = entry.path().join("adapter");
            adapter.is_dir().then_some((number, adapter))
        })
        .max()
        .map(|(_, adapter)| adapter)
}

/// Asks a model about every painting that its file of predictions lacks.
fn describe_all(
    arguments: &Arguments,
    gallery: &GalleryGpt,
    name: &str,
    paintings: &[TestPainting],
    folder: &mut OwnFolder,
    cancel: &CancelToken,
) -> anyhow::Result<Predictions> {
    // A file belongs to one model, question and set of settings: others get another file.
    let config = arguments.generation.config(gallery)?;
    let written_by = gallery.written_by(&config)?;
    let key = written_by.with_question(&arguments.question).fingerprint();
    let path = file_in(folder, &format!("{name}-{}.jsonl", &key[..8]), arguments)?;
    let mut file = PredictionsFile::resume(&path)?;
    let progress = ProgressBar::new(0).with_style(ProgressStyle::with_template(&format!(
        "{name} {{bar:30}} {{pos}}/{{len}} paintings, {{per_sec}}, {{eta}} left"
    ))?);
    let predictions = Evaluator::new(gallery, &arguments.images)
        .with_question(&arguments.question)
        .with_generation(config)
        .with_batch_size(arguments.batches.checked()?)
        .with_cancel(cancel.clone())
        .predict(paintings, &mut file, |done, total| {
            progress.set_length(total as u64);
            progress.set_position(done as u64);
        });
    progress.finish_and_clear();
    match predictions {
        Err(GalleryError::Cancelled) => bail!(Stopped(format!(
            "stopped: {} of {} paintings are in {}; the same command resumes it",
            file.done().iter().count(),
            paintings.len(),
            path.display()
        ))),
        predictions => Ok(predictions?),
    }
}

/// Prints the table, in fewer than 80 columns for names of up to 30 letters.
fn print_table(
    systems: &[SystemScores],
    columns: &[Score],
    intervals: &[Vec<Interval>],
    comparisons: &[Vec<Option<Comparison>>],
) {
    let names = systems.iter().map(|system| system.name.chars().count());
    let width = names.max().unwrap_or(0).max(8);
    let heading = format!("{:width$}   score   95 % interval   ", "");
    let difference = match systems {
        // A long name would make the line longer than a terminal.
        [first, _, ..] if heading.len() + 14 + first.name.chars().count() > 80 => {
            "difference to the first".to_owned()
        }
        [first, _, ..] => format!("difference to {}", first.name),
        _ => String::new(),
    };
    say!("{}", format!("{heading}{difference}").trim_end());
    for (at, column) in columns.iter().enumerate() {
        say!("{}", column.name());
        for (system, (intervals, comparisons)) in
            systems.iter().zip(intervals.iter().zip(comparisons))
        {
            let Interval { score, low, high } = intervals[at];
            let compared = comparisons[at].map_or_else(String::new, |comparison| {
                format!("{:+.2}, {}", comparison.difference, comparison.p_text())
            });
            let line = format!(
                "  {:width$} {score:6.2}   {low:5.2} to {high:5.2}   {compared}",
                system.name
            );
            say!("{}", line.trim_end());
        }
    }
}

fn systems_json(
    systems: &[SystemScores],
    columns: &[Score],
    intervals: &[Vec<Interval>],
    comparisons: &[Vec<Option<Comparison>>],
) -> Vec<Value> {
    let each = systems.iter().enumerate();
    each.map(|(at, system)| {
        let scores: serde_json::Map<String, Value> = columns
            .iter()
            .zip(intervals[at].iter().zip(&comparisons[at]))
            .map(|(column, (interval, comparison))| {
                let value = json!({
                    "score": interval.score, "low": interval.low, "high": interval.high,
                    "difference": comparison.map(|c| c.difference),
                    "p_value": comparison.map(|c| c.p_value),
                });
                (column.name().to_owned(), value)
            })
            .collect();
        let excluded: Vec<String> = system.exclusions.iter().map(ToString::to_string).collect();
        json!({ "name": system.name, "scores": scores, "excluded": excluded })
    })
    .collect()
}

/// A thumbnail of a painting as a data URI.
fn picture_of(images: &Path, painting: &TestPainting) -> anyhow::Result<String> {
    let image = painting.image.as_ref();
    let image = image.with_context(|| format!("record {} names none", painting.index))?;
    let path = PictureFolder::new(images).find(image)?;
    let processor = ImageProcessorConfig::new(224).init();
    Ok(Picture::from(&path).thumbnail(&processor)?)
}
