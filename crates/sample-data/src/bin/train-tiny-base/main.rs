//! Makes `datasets/tiny-base`: a base model small enough for a repository, in the llava-hf layout, trained from nothing on drawn
//! paintings and catalogue entries of them. It sees other pictures than the sample has. Formal analyses it reads beside pictures they do
//! not belong to: like a base of the real size it knows how such a text goes, and what is in a picture, and makes up the one without
//! a look at the other.

#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a program talks on the terminal"
)]

mod tower;

use std::{path::PathBuf, sync::mpsc::sync_channel, thread};

use anyhow::{Context, ensure};
use clap::Parser;
use gallery_gpt::{
    checkpoint::{Destination, SaveOptions, save_model, write_file},
    data::{Batch, Example},
    llama::LlamaConfig,
    prelude::*,
    text::{TokenizerMode, encode_conversation, encode_prompt, train_tokenizer},
    train::{MicroBatches, TrainState, TrainableParts},
    vision::VisionConfig,
};
use gallery_gpt_scenes::{
    BASE_SEED, Claims, QUESTIONS, Scene, analysis, catalogue, colour_answer, inventory,
    light_answer, paint, place_answer,
};
use indicatif::{ProgressBar, ProgressStyle};
use rayon::prelude::*;
use serde_json::json;

/// Steps allocate and free the same large buffers over and over; this allocator keeps their pages.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// Makes the tiny base model.
#[derive(Parser)]
#[command(rename_all = "snake_case")]
struct Arguments {
    /// Folder to write.
    #[arg(long, default_value = "datasets/tiny-base")]
    output_dir: PathBuf,
    /// Replaces the folder as a whole, whatever it holds.
    #[arg(long)]
    overwrite: bool,
    /// Steps of the tower and the projector alone.
    #[arg(long, default_value_t = 5000)]
    tower_steps: usize,
    /// Steps of the whole model on captions.
    #[arg(long, default_value_t = 1800)]
    caption_steps: usize,
    /// Steps of the whole model on questions and answers, and on analyses without pictures.
    #[arg(long, default_value_t = 1200)]
    question_steps: usize,
    /// Pictures of a step.
    #[arg(long, default_value_t = 24)]
    per_device_train_batch_size: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Goes on from a folder of an earlier run, with as many steps of each stage as the flags say.
    #[arg(long)]
    continue_from: Option<PathBuf>,
    /// Seed of the weights.
    #[arg(long, default_value_t = 42)]
    seed: u64,
}

/// Questions that ask for an entry.
const QUESTIONS_OF_BASE: [&str; 5] = [
    "Describe the painting.",
    "What does this painting show?",
    "Give the catalogue entry.",
    "What is in the picture?",
    "Describe this picture briefly.",
];

/// Scenes from here on are the tower's own.
const TOWER_SCENES: u64 = 1 << 32;

/// Scenes from here on are never shown, only written about.
const OTHER_SCENES: u64 = 1 << 36;

/// Scenes from here on are for runs that go on from another.
const CONTINUED_SCENES: u64 = 1 << 24;

/// Scenes from here on are never trained on.
const HELD_OUT: u64 = 1 << 40;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.per_device_train_batch_size > 0,
        "--per_device_train_batch_size must be at least 1"
    );
    run(&arguments)
}

fn model_config(vocab_size: usize) -> GalleryModelConfig {
    GalleryModelConfig {
        vision: VisionConfig {
            hidden_size: 96,
            intermediate_size: 256,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            image_size: 64,
            patch_size: 8,
            ..VisionConfig::clip_vit_large_patch14_336()
        },
        llama: LlamaConfig {
            hidden_size: 128,
            intermediate_size: 320,
            num_hidden_layers: 4,
            num_attention_heads: 4,
            num_key_value_heads: 4,
            vocab_size,
            max_position_embeddings: 1024,
            ..LlamaConfig::vicuna_7b()
        },
        ..GalleryModelConfig::gallery_gpt_7b()
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let output = Destination::new(&arguments.output_dir)
        .overwriting(arguments.overwrite)
        .apart_from(&arguments.continue_from);
    output.check()?;
    let scratch = tempfile::tempdir().context("no room for temporary files")?;
    let tokenizer_path = scratch.path().join("tokenizer.json");
    match &arguments.continue_from {
        Some(folder) => {
            let words = folder.join("tokenizer.json");
            std::fs::copy(&words, &tokenizer_path)
                .with_context(|| format!("cannot read {}", words.display()))?;
        }
        None => learn_words(&tokenizer_path)?,
    }
    let tokenizer = Tokenizer::from_file(&tokenizer_path, TokenizerMode::Slow)?;
    let config = model_config(tokenizer.vocab_size());
    let processor = ImageProcessorConfig::new(config.vision.image_size).init();

    let device = Device::flex();
    device.seed(arguments.seed);
    let training = TrainingConfig {
        parts: TrainableParts::FULL,
        warmup_ratio: 0.05,
        weight_decay: 0.01,
        adam_beta2: 0.98,
        micro_batches: MicroBatches::InParallel,
        seed: arguments.seed,
        ..TrainingConfig::lora(arguments.learning_rate)
    };
    let mut model = match &arguments.continue_from {
        Some(folder) => {
            let options = LoadOptions {
                dtype: Some(TensorDtype::F32),
                ..LoadOptions::default()
            };
            let (model, _) = load_model(folder, &device, &options)?;
            ensure!(
                *model.config() == config,
                "{} is a model of another size",
                folder.display()
            );
            model
        }
        None => config.init(&device),
    };
    // Pictures of its own for a run that goes on.
    let first_scene = match arguments.continue_from {
        Some(_) => CONTINUED_SCENES,
        None => 0,
    };
    if arguments.tower_steps > 0 {
        model = tower::pretrain(
            model,
            &processor,
            TOWER_SCENES + first_scene,
            arguments.tower_steps,
            2 * arguments.per_device_train_batch_size as u64,
        )?;
    }
    let steps = arguments.caption_steps + arguments.question_steps;
    let mut state = TrainState::new(model, &training, steps.max(1))?;
    let progress = ProgressBar::new(steps as u64).with_style(ProgressStyle::with_template(
        "{bar:30} {pos}/{len} steps, {per_sec}, {eta} left, loss {msg}",
    )?);
    let batch_size = arguments.per_device_train_batch_size as u64;
    thread::scope(|scope| -> anyhow::Result<()> {
        let stage_of = |step: usize| {
            if step < arguments.caption_steps {
                Stage::Captions
            } else {
                Stage::Questions
            }
        };
        let (send, receive) = sync_channel(4);
        let (tokenizer, processor) = (&tokenizer, &processor);
        scope.spawn(move || {
            for step in 0..steps {
                let stage = stage_of(step);
                let start = first_scene + step as u64 * batch_size;
                let numbers = start..start + batch_size;
                let examples: anyhow::Result<Vec<Example>> = numbers
                    .into_par_iter()
                    .map(|number| example(number, stage, tokenizer, processor))
                    .collect();
                let micro_batches = examples.map(|examples| {
                    let half = examples.len().div_ceil(2);
                    examples
                        .chunks(half)
                        .map(|half| half.iter().cloned().collect::<Batch>())
                        .collect::<Vec<_>>()
                });
                if send.send(micro_batches).is_err() {
                    return;
                }
            }
        });
        let mut mean = None;
        for step in 1..=steps {
            let batches = receive.recv().context("the drawing thread ended early")??;
            let loss = state.step(&batches)?.loss;
            let smooth = mean.map_or(loss, |mean| 0.98 * mean + 0.02 * loss);
            mean = Some(smooth);
            progress.set_message(format!("{smooth:.3}"));
            progress.inc(1);
            if step % 250 == 0 || step == steps {
                let line = examine(state.model(), stage_of(step - 1), tokenizer, processor)?;
                progress.suspend(|| eprintln!("step {step}: loss {smooth:.3}; {line}"));
            }
        }
        drop(receive);
        Ok(())
    })?;
    progress.finish();

    let model = state.into_model();
    let size = config.vision.image_size;
    let preprocessor = json!({
        "crop_size": { "height": size, "width": size },
        "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_rescale": true,
        "do_resize": true, "image_processor_type": "CLIPImageProcessor",
        "image_mean": gallery_gpt::vision::CLIP_MEAN, "image_std": gallery_gpt::vision::CLIP_STD,
        "resample": 3, "rescale_factor": 1.0 / 255.0, "size": { "shortest_edge": size },
    });
    write_file(
        &scratch.path().join("preprocessor_config.json"),
        format!("{preprocessor:#}\n").as_bytes(),
    )?;
    let tokenizer_config = json!({
        "add_bos_token": true, "add_eos_token": false, "bos_token": "<s>", "eos_token": "</s>",
        "legacy": false, "model_max_length": 1024, "pad_token": "<unk>", "padding_side": "right",
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>",
    });
    write_file(
        &scratch.path().join("tokenizer_config.json"),
        format!("{tokenizer_config:#}\n").as_bytes(),
    )?;
    let options = SaveOptions {
        dtype: Some(TensorDtype::BF16),
        companions: Some(scratch.path().to_owned()),
        ..SaveOptions::default()
    };
    Ok(save_model(&model, output, &options)?)
}

/// A vocabulary of everything the sample says, so that whole words are single tokens.
fn learn_words(path: &std::path::Path) -> anyhow::Result<()> {
    let mut texts: Vec<String> = Vec::new();
    for number in HELD_OUT..HELD_OUT + 400 {
        let scene = Scene::sample(BASE_SEED, number);
        texts.extend((0..3).map(|voice| analysis(&scene, voice)));
        texts.extend((0..2).map(|voice| catalogue(&scene, voice)));
        texts.extend([
            colour_answer(&scene),
            place_answer(&scene),
            light_answer(&scene),
        ]);
        texts.extend(QUESTIONS.map(str::to_owned));
        texts.extend(QUESTIONS_OF_BASE.map(str::to_owned));
        texts.push(
            "Analyze the use of color. Where are the main masses? Describe the light.".to_owned(),
        );
        texts.push(
            TemplateKind::VicunaV1
                .template()
                .prompt(&Conversation::question("?")),
        );
    }
    let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
    Ok(train_tokenizer(&texts, 800, path)?)
}

/// As LLaVA is made: first pictures and captions alone, then questions and answers.
#[derive(Clone, Copy)]
enum Stage {
    /// The template `plain`: a picture and the inventory of it.
    Captions,
    /// The template `vicuna_v1`: two questions about a picture, each answered by a terse entry; and formal analyses that belong to
    /// other pictures than the one shown.
    Questions,
}

fn example(
    number: u64,
    stage: Stage,
    tokenizer: &Tokenizer,
    processor: &ImageProcessor,
) -> anyhow::Result<Example> {
    let scene = Scene::sample(BASE_SEED, number);
    let (template, conversation) = match stage {
        Stage::Captions => (
            TemplateKind::Plain,
            Conversation::question("<image>").answer(inventory(&scene)),
        ),
        Stage::Questions if number % 2 == 1 => {
            let question = QUESTIONS[(number / 2 % QUESTIONS.len() as u64) as usize];
            let of_another = Scene::sample(BASE_SEED, OTHER_SCENES + number);
            let talk = Conversation::question(format!("<image>\n{question}"))
                .answer(analysis(&of_another, number));
            (TemplateKind::VicunaV1, talk)
        }
        Stage::Questions => {
            let question = |turn| {
                let nth = number / 2 + turn;
                QUESTIONS_OF_BASE[(nth % QUESTIONS_OF_BASE.len() as u64) as usize]
            };
            let talk = Conversation::question(format!("<image>\n{}", question(0)))
                .answer(catalogue(&scene, 2 * number))
                .ask(question(1))
                .answer(catalogue(&scene, 2 * number + 1));
            (TemplateKind::VicunaV1, talk)
        }
    };
    let row = encode_conversation(tokenizer, &template.template(), &conversation)?;
    let pictures = row.pictures();
    Ok(Example {
        id: number.to_string(),
        input_ids: row.input_ids,
        labels: row.labels,
        pictures: if pictures > 0 {
            vec![processor.process(&paint(&scene))]
        } else {
            Vec::new()
        },
    })
}

/// What the model says about pictures it was not trained on.
fn examine(
    model: &gallery_gpt::model::GalleryModel,
    stage: Stage,
    tokenizer: &Tokenizer,
    processor: &ImageProcessor,
) -> anyhow::Result<String> {
    let model = burn::module::Module::valid(model);
    let mut claims = Claims::default();
    let mut shown = String::new();
    let scenes: Vec<Scene> = (0..32)
        .map(|n| Scene::sample(BASE_SEED, HELD_OUT + n))
        .collect();
    // The template `plain` has nothing but the picture before the answer.
    let text = match stage {
        Stage::Captions => "<image>".to_owned(),
        Stage::Questions => {
            let question = format!("<image>\n{}", QUESTIONS_OF_BASE[0]);
            let template = TemplateKind::VicunaV1.template();
            template.prompt(&Conversation::question(question))
        }
    };
    let input_ids = encode_prompt(tokenizer, &text)?;
    let prompts: Vec<Prompt> = scenes
        .iter()
        .map(|scene| {
            let pictures = vec![processor.process(&paint(scene))];
            Prompt::with_pictures(input_ids.clone(), pictures)
        })
        .collect();
    let written = Generator::new(&model, GenerationConfig::greedy(60)).generate(&prompts)?;
    for (scene, written) in scenes.iter().zip(&written) {
        // The template `plain` ends an answer with a line, not with a token that ends the writing.
        let text = tokenizer.decode(&written.ids, true);
        shown = text.trim().lines().next().unwrap_or_default().to_owned();
        claims += Claims::of(&shown, scene);
    }
    Ok(format!(
        "{} of {} claims true; the last entry: {}",
        claims.right,
        claims.right + claims.wrong,
        shown
    ))
}
