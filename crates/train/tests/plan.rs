//! What a training is said to need, beside what an allocator counts.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and shows what it measured"
)]

use burn::tensor::Device;
use gallery_gpt_data::{Batch, RecordSize};
use gallery_gpt_llama::{LlamaConfig, LoraConfig};
use gallery_gpt_model::{GalleryModelConfig, Packing};
use gallery_gpt_projector::ProjectorKind;
use gallery_gpt_train::{
    AttentionMemory, MicroBatches, PlannedModel, Recompute, TrainState, TrainableParts, Trainer,
    TrainingConfig, flops_per_token,
};
use gallery_gpt_vision::{PixelValues, VisionConfig};
use peak_alloc::PeakAlloc;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// A training whose memory is predicted and measured.
struct Case {
    name: &'static str,
    config: GalleryModelConfig,
    lora: Option<LoraConfig>,
    training: TrainingConfig,
    /// Tokens of each record, the picture expanded, and how many of them are supervised.
    records: Vec<(usize, usize)>,
}

fn llama(hidden: usize, mlp: usize, heads: [usize; 2], layers: usize, vocab: usize) -> LlamaConfig {
    LlamaConfig {
        hidden_size: hidden,
        intermediate_size: mlp,
        num_hidden_layers: layers,
        num_attention_heads: heads[0],
        num_key_value_heads: heads[1],
        vocab_size: vocab,
        max_position_embeddings: 2048,
        ..LlamaConfig::vicuna_7b()
    }
}

fn vision() -> VisionConfig {
    VisionConfig {
        hidden_size: 64,
        intermediate_size: 128,
        num_hidden_layers: 2,
        num_attention_heads: 2,
        image_size: 112,
        patch_size: 14,
        ..VisionConfig::clip_vit_large_patch14_336()
    }
}

fn llava(llama: LlamaConfig) -> GalleryModelConfig {
    GalleryModelConfig {
        vision: vision(),
        llama,
        ..GalleryModelConfig::gallery_gpt_7b()
    }
}

/// A small Qwen-VL whose pictures have `side * side` patches.
fn qwen_vl(side: usize, llama: LlamaConfig) -> GalleryModelConfig {
    GalleryModelConfig {
        vision: VisionConfig {
            hidden_size: 64,
            intermediate_size: 192,
            num_hidden_layers: 2,
            num_attention_heads: 4,
            image_size: 14 * side,
            ..VisionConfig::qwen_vl()
        },
        projector: ProjectorKind::Resampler { queries: 64 },
        llama: LlamaConfig {
            fused_qkv: true,
            long_context: LlamaConfig::qwen_7b().long_context,
            ..llama
        },
        ..GalleryModelConfig::qwen_vl_chat()
    }
}

fn batch(records: &[(usize, usize)], config: &GalleryModelConfig) -> Batch {
    let (patches, size) = (config.tokens_per_picture(), config.vision.image_size);
    let mut batch = Batch::default();
    for (nth, &(tokens, supervised)) in records.iter().enumerate() {
        let mut ids: Vec<i64> = (0..tokens - patches).map(|at| 3 + at as i64 % 50).collect();
        ids.insert(1, -200);
        let first = ids.len() - supervised;
        let label = |(at, &id): (usize, &i64)| if at < first { -100 } else { id };
        batch
            .labels
            .push(ids.iter().enumerate().map(label).collect());
        batch.input_ids.push(ids);
        let pixels = vec![0.1 * nth as f32; 3 * size * size];
        batch.pictures.push(PixelValues::from_values(pixels, size));
        batch.ids.push(nth.to_string());
    }
    batch
}

fn sizes(records: &[(usize, usize)]) -> Vec<RecordSize> {
    let size = |&(tokens, supervised): &(usize, usize)| RecordSize {
        tokens,
        supervised,
        pictures: 1,
        words: tokens,
    };
    records.iter().map(size).collect()
}

/// How far the prediction and the measurement may be apart.
const MARGIN: f64 = 1.1;

/// Predicted and measured bytes, without the pictures that a trainer decodes ahead.
fn predicted_and_measured(case: &Case) -> (u64, u64) {
    let config = case.config.clone();
    let threads = 2;
    let planned = PlannedModel {
        config: &config,
        lora: case.lora.as_ref(),
        bytes: 4,
        attention: AttentionMemory::Scores,
        threads,
    };
    let trainer = Trainer::new(case.training.clone()).unwrap();
    let plan = trainer.plan(&planned, &sizes(&case.records));
    let memory = plan.memory;

    let pool = rayon::ThreadPoolBuilder::new().num_threads(threads);
    let pool = pool.build().unwrap();
    let size = case.training.per_device_train_batch_size;
    let micro_batches: Vec<Batch> = case
        .records
        .chunks(size)
        .map(|records| batch(records, &config))
        .collect();
    let before = ALLOCATOR.current_usage();
    let mut model = config.init(&Device::flex());
    if let Some(lora) = &case.lora {
        model = model.apply_lora(lora);
    }
    let mut state = TrainState::new(model, &case.training, 100).unwrap();
    assert_eq!(
        plan.trainable_parameters,
        state.groups().parameters as u64,
        "{}",
        case.name
    );
    // The moments exist after the first step.
    pool.install(|| state.step(&micro_batches)).unwrap();
    ALLOCATOR.reset_peak_usage();
    // The plan is for threads that are at their peaks at the same moment. On a busy machine that takes some steps to happen.
    let steps = match case.training.micro_batches {
        MicroBatches::InParallel => 60,
        MicroBatches::OneByOne => 1,
    };
    let predicted = memory.peak - memory.pictures;
    let mut measured = 0;
    for _ in 0..steps {
        pool.install(|| state.step(&micro_batches)).unwrap();
        measured = (ALLOCATOR.peak_usage() - before) as u64;
        if measured as f64 * MARGIN >= predicted as f64 {
            break;
        }
    }
    (predicted, measured)
}

#[test]
fn predicted_memory_is_within_a_tenth_of_the_measured_peak() {
    let mix = vec![(340, 170), (250, 90), (390, 200), (310, 150)];
    let lora = |packing, recompute, micro_batches| TrainingConfig {
        packing,
        gradient_checkpointing: recompute,
        micro_batches,
        per_device_train_batch_size: 4,
        ..TrainingConfig::lora(1e-4)
    };
    let (off, blocks) = (Recompute::Off, Recompute::Blocks);
    let one_by_one = MicroBatches::OneByOne;
    let cases = [
        Case {
            name: "LoRA, padded, all kept",
            config: llava(llama(256, 688, [4, 4], 6, 2000)),
            lora: Some(LoraConfig::new(16, 32.0)),
            training: lora(Packing::Off, off, one_by_one),
            records: mix.clone(),
        },
        Case {
            name: "LoRA, packed, recomputed, shared keys, a large vocabulary",
            config: llava(llama(192, 512, [6, 2], 10, 16_000)),
            lora: Some(LoraConfig::new(8, 16.0)),
            training: lora(Packing::OneRow, blocks, one_by_one),
            records: mix.clone(),
        },
        Case {
            name: "LoRA with dropout, padded, all kept",
            config: llava(llama(256, 688, [4, 4], 6, 2000)),
            lora: Some(LoraConfig::new(16, 32.0).with_dropout(0.05)),
            training: lora(Packing::Off, off, one_by_one),
            records: mix.clone(),
        },
        Case {
            name: "LoRA, packed, all kept, on two threads",
            config: llava(llama(256, 688, [8, 8], 4, 4000)),
            lora: Some(LoraConfig::new(32, 64.0)),
            training: lora(Packing::OneRow, off, MicroBatches::InParallel),
            records: mix.clone(),
        },
        Case {
            name: "LoRA, packed, half of the blocks recomputed",
            config: llava(llama(256, 688, [4, 4], 8, 2000)),
            lora: Some(LoraConfig::new(16, 32.0)),
            training: lora(Packing::OneRow, Recompute::First(4), one_by_one),
            records: mix.clone(),
        },
        Case {
            name: "LoRA, two micro-batches, recomputed",
            config: llava(llama(320, 860, [5, 5], 6, 1000)),
            lora: Some(LoraConfig::new(64, 128.0)),
            training: TrainingConfig {
                gradient_accumulation_steps: 2,
                per_device_train_batch_size: 2,
                ..lora(Packing::Off, blocks, one_by_one)
            },
            records: mix.clone(),
        },
        Case {
            name: "decoder and projector in full",
            config: llava(llama(256, 512, [4, 4], 6, 1000)),
            lora: None,
            training: TrainingConfig {
                parts: TrainableParts::FULL_FINETUNE,
                ..lora(Packing::Off, off, one_by_one)
            },
            records: mix.clone(),
        },
        Case {
            name: "the projector alone",
            config: llava(llama(256, 688, [4, 4], 6, 1000)),
            lora: None,
            training: TrainingConfig {
                parts: TrainableParts::PROJECTOR,
                ..lora(Packing::OneRow, off, one_by_one)
            },
            records: mix.clone(),
        },
        Case {
            name: "Qwen-VL, LoRA, padded, all kept",
            config: qwen_vl(16, llama(256, 688, [4, 4], 6, 2000)),
            lora: Some(LoraConfig::qwen_vl_chat()),
            training: TrainingConfig {
                parts: TrainableParts::ADAPTERS,
                ..lora(Packing::Off, off, one_by_one)
            },
            records: mix.clone(),
        },
        Case {
            name: "Qwen-VL, LoRA, packed, recomputed, pictures of 1024 patches",
            config: qwen_vl(32, llama(256, 512, [2, 2], 4, 4000)),
            lora: Some(LoraConfig::qwen_vl_chat()),
            training: TrainingConfig {
                parts: TrainableParts::ADAPTERS,
                ..lora(Packing::OneRow, blocks, one_by_one)
            },
            records: mix.clone(),
        },
        Case {
            name: "Qwen-VL, decoder and resampler in full",
            config: qwen_vl(16, llama(256, 512, [4, 4], 6, 1000)),
            lora: None,
            training: TrainingConfig {
                parts: TrainableParts::FULL_FINETUNE,
                ..lora(Packing::Off, off, one_by_one)
            },
            records: mix,
        },
    ];
    let mut wrong = Vec::new();
    for case in cases {
        let (predicted, measured) = predicted_and_measured(&case);
        let ratio = predicted as f64 / measured as f64;
        println!(
            "{}: {:.1} MB predicted, {:.1} MB measured, {ratio:.3}",
            case.name,
            predicted as f64 / 1e6,
            measured as f64 / 1e6
        );
        if !(1.0 / MARGIN..=MARGIN).contains(&ratio) {
            wrong.push((case.name, ratio));
        }
    }
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn the_original_has_its_known_counts() {
    let config = GalleryModelConfig::gallery_gpt_7b();
    let lora = LoraConfig::gallery_gpt();
    let planned = PlannedModel {
        config: &config,
        lora: Some(&lora),
        bytes: 2,
        attention: AttentionMemory::Fused,
        threads: 1,
    };
    let records = sizes(&[(1000, 400); 32]);
    let plan = Trainer::new(TrainingConfig::gallery_gpt())
        .unwrap()
        .plan(&planned, &records);
    assert_eq!(config.vision.num_parameters(), 303_507_456);
    assert_eq!(plan.trainable_parameters, 340_795_392);
    assert_eq!(plan.frozen_parameters, 303_507_456 + 6_738_415_616);
    assert_eq!((plan.steps, plan.tokens), (4, 32_000));
    assert_eq!(plan.recomputed_blocks, 32);
    // Recompute keeps a hidden state a block, and one block.
    assert!(plan.with_recompute.peak < plan.without_recompute.peak);
    let n = 6_738_415_616.0 - 32_000.0 * 4096.0;
    assert_eq!(
        flops_per_token(&config, TrainingConfig::gallery_gpt().parts.language_model),
        4.0 * n
    );
}
