//! Makes `datasets/tiny-base`: a base model small enough for a repository, in the llava-hf layout, trained from nothing on drawn
//! paintings and catalogue entries of them. It sees other pictures than the sample has. It reads the prose of formal analyses, but
//! never together with a picture.
//!
//! ```sh
//! cargo run --release --example train_tiny_base
//! ```

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
    checkpoint::{SaveOptions, write_file},
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
    /// Folder to write; an older one there is replaced.
    #[arg(long, default_value = "datasets/tiny-base")]
    output_dir: PathBuf,
    /// Steps of the tower and the projector alone.
    #[arg(long, default_value_t = 2000)]
    tower_steps: usize,
    /// Steps of the whole model.
    #[arg(long, default_value_t = 2200)]
    max_steps: usize,
    /// Pictures of a step.
    #[arg(long, default_value_t = 24)]
    per_device_train_batch_size: usize,
    /// Peak learning rate.
    #[arg(long, default_value_t = 1e-3)]
    learning_rate: f64,
    /// Goes on from a folder of an earlier run, with the last stage only.
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

/// Asks for prose without a picture.
const PROSE: &str = "Recite a passage about a painting.";

/// Share of the steps that are on captions.
const CAPTION_SHARE: (usize, usize) = (2, 3);

/// Scenes from here on are the tower's own.
const TOWER_SCENES: u64 = 1 << 32;

/// Scenes from here on are never trained on.
const HELD_OUT: u64 = 1 << 40;

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    ensure!(
        arguments.max_steps > 0 && arguments.per_device_train_batch_size > 0,
        "--max_steps and --per_device_train_batch_size must be at least 1"
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
            rms_norm_eps: 1e-5,
            rope_theta: 10000.0,
        },
        ..GalleryModelConfig::gallery_gpt_7b()
    }
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let scratch = tempfile::tempdir().context("no room for temporary files")?;
    let tokenizer_path = match &arguments.continue_from {
        Some(folder) => folder.join("tokenizer.json"),
        None => scratch.path().join("tokenizer.json"),
    };
    if arguments.continue_from.is_none() {
        learn_words(&tokenizer_path)?;
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
    let model = match &arguments.continue_from {
        Some(folder) => {
            let options = LoadOptions {
                dtype: Some(TensorDtype::F32),
                ..LoadOptions::default()
            };
            load_model(folder, &device, &options)?.0
        }
        None => {
            let mut model = config.init(&device);
            (model.vision_tower, model.projector) = tower::pretrain(
                &config,
                &processor,
                TOWER_SCENES,
                arguments.tower_steps,
                2 * arguments.per_device_train_batch_size as u64,
                &device,
            )?;
            model
        }
    };
    let mut state = TrainState::new(model, &training, arguments.max_steps)?;
    let progress =
        ProgressBar::new(arguments.max_steps as u64).with_style(ProgressStyle::with_template(
            "{bar:30} {pos}/{len} steps, {per_sec}, {eta} left, loss {msg}",
        )?);
    let batch_size = arguments.per_device_train_batch_size as u64;
    thread::scope(|scope| -> anyhow::Result<()> {
        let captions = match arguments.continue_from {
            Some(_) => 0,
            None => arguments.max_steps * CAPTION_SHARE.0 / CAPTION_SHARE.1,
        };
        let stage_of = move |step: usize| {
            if step < captions {
                Stage::Captions
            } else {
                Stage::Questions
            }
        };
        let (send, receive) = sync_channel(4);
        let (tokenizer, processor) = (&tokenizer, &processor);
        scope.spawn(move || {
            for step in 0..arguments.max_steps {
                let stage = stage_of(step);
                // Pictures of its own for a run that goes on.
                let step = step as u64
                    + if arguments.continue_from.is_some() {
                        1 << 20
                    } else {
                        0
                    };
                let numbers = step * batch_size..(step + 1) * batch_size;
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
        for step in 1..=arguments.max_steps {
            let batches = receive.recv().context("the drawing thread ended early")??;
            let loss = state.step(&batches)?.loss;
            let smooth = mean.map_or(loss, |mean| 0.98 * mean + 0.02 * loss);
            mean = Some(smooth);
            progress.set_message(format!("{smooth:.3}"));
            progress.inc(1);
            if step % 250 == 0 || step == arguments.max_steps {
                let line = examine(state.model(), stage_of(step - 1), tokenizer, processor)?;
                progress.suspend(|| eprintln!("step {step}: loss {smooth:.3}; {line}"));
            }
        }
        drop(receive);
        Ok(())
    })?;
    progress.finish();

    let model = state.into_model();
    let options = SaveOptions {
        dtype: Some(TensorDtype::BF16),
    };
    gallery_gpt::checkpoint::save_model(&model, &arguments.output_dir, &options)?;
    let words = std::fs::read(&tokenizer_path).context("the tokenizer just written")?;
    write_file(&arguments.output_dir.join("tokenizer.json"), &words)?;
    let size = config.vision.image_size;
    let preprocessor = json!({
        "crop_size": { "height": size, "width": size },
        "do_center_crop": true, "do_convert_rgb": true, "do_normalize": true, "do_rescale": true,
        "do_resize": true, "image_processor_type": "CLIPImageProcessor",
        "image_mean": gallery_gpt::vision::CLIP_MEAN, "image_std": gallery_gpt::vision::CLIP_STD,
        "resample": 3, "rescale_factor": 1.0 / 255.0, "size": { "shortest_edge": size },
    });
    write_file(
        &arguments.output_dir.join("preprocessor_config.json"),
        format!("{preprocessor:#}\n").as_bytes(),
    )?;
    let tokenizer_config = json!({
        "add_bos_token": true, "add_eos_token": false, "bos_token": "<s>", "eos_token": "</s>",
        "legacy": false, "model_max_length": 1024, "pad_token": "<unk>", "padding_side": "right",
        "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>",
    });
    write_file(
        &arguments.output_dir.join("tokenizer_config.json"),
        format!("{tokenizer_config:#}\n").as_bytes(),
    )?;
    Ok(())
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
        texts.push(PROSE.to_owned());
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
    /// The template `vicuna_v1`: two questions about a picture, each answered by a terse entry; and, without a picture, prose
    /// about paintings, so that the words of a formal analysis are words it knows.
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
            let talk = Conversation::question(PROSE).answer(analysis(&scene, number));
            (TemplateKind::VicunaV1, talk)
        }
        Stage::Questions => {
            let question = |turn| picture_question((number / 2 + turn) as usize);
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

/// The nth of all questions that are answered by an entry, the formal ones among them.
fn picture_question(nth: usize) -> &'static str {
    let nth = nth % (QUESTIONS_OF_BASE.len() + QUESTIONS.len());
    match nth.checked_sub(QUESTIONS_OF_BASE.len()) {
        Some(nth) => QUESTIONS[nth],
        None => QUESTIONS_OF_BASE[nth],
    }
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
    let (template, question) = match stage {
        Stage::Captions => (TemplateKind::Plain, "<image>".to_owned()),
        Stage::Questions => (
            TemplateKind::VicunaV1,
            format!("<image>\n{}", QUESTIONS_OF_BASE[0]),
        ),
    };
    let text = template
        .template()
        .prompt(&Conversation::question(question));
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
        shown = tokenizer.decode(&written.ids, true);
        claims += Claims::of(&shown, scene);
    }
    Ok(format!(
        "{} of {} claims true; the last entry: {}",
        claims.right,
        claims.right + claims.wrong,
        shown.trim()
    ))
}
