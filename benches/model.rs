//! Tower, prefill, decode with and without the cache, and a LoRA step, at the medium shape, f32, on the CPU.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use gallery_gpt_benches::medium;
use std::{hint::black_box, time::Duration};

use burn::tensor::{Device, Int, Tensor, TensorData};
use criterion::{Criterion, criterion_group, criterion_main};
use gallery_gpt::{
    llama::LoraConfig,
    model::Packing,
    train::{MicroBatches, Recompute, TrainState, TrainingConfig},
    vision::PixelValues,
};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn benches(criterion: &mut Criterion) {
    let device = Device::flex();
    let model = medium::model(&device);
    let mut group = criterion.benchmark_group("cpu_f32");
    group
        .sample_size(10)
        .measurement_time(Duration::from_secs(8));

    let pixels = PixelValues::stack(&[&medium::picture(0)], &device);
    group.bench_function("vision_tower/1x3x112x112_256x6", |bencher| {
        bencher.iter(|| {
            model
                .picture_features(black_box(pixels.clone()))
                .into_data()
        });
    });

    let plan = model
        .plan(&[medium::row(0)], &[medium::picture(0)])
        .expect("one placeholder and one picture");
    let embeds = model.embed(&plan, Some(pixels));
    let decoder = &model.language_model;
    let prefill = || {
        let mut cache = decoder.new_cache(plan.row_lengths(), 100);
        let _ = decoder.prefill(embeds.clone(), &mut cache);
        cache
    };
    group.bench_function("llama_prefill/1x600_512x8", |bencher| {
        bencher.iter(|| decoder.forward(black_box(embeds.clone())).into_data());
    });
    let token = Tensor::<2, Int>::from_data(TensorData::new(vec![5_i64], [1, 1]), &device);
    group.bench_function("llama_decode/cache/1_token_after_600_512x8", |bencher| {
        bencher.iter_batched(
            prefill,
            |mut cache| {
                let hidden = decoder.decode(decoder.embed(token.clone()), &mut cache);
                decoder.logits(hidden).into_data()
            },
            criterion::BatchSize::LargeInput,
        );
    });
    group.bench_function("llama_decode/no_cache/1_token_after_600_512x8", |bencher| {
        bencher.iter(|| {
            let all = Tensor::cat(vec![embeds.clone(), decoder.embed(token.clone())], 1);
            let hidden = decoder.forward(all).slice_dim(1, 600..601);
            decoder.logits(hidden).into_data()
        });
    });

    for (name, recompute) in [
        ("off", Recompute::Off),
        ("first_4", Recompute::First(4)),
        ("blocks", Recompute::Blocks),
    ] {
        let training = TrainingConfig {
            gradient_checkpointing: recompute,
            ..TrainingConfig::lora(1e-4)
        };
        let adapted = model.clone().apply_lora(&LoraConfig::new(16, 32.0));
        let mut state = TrainState::new(adapted, &training, 1000).expect("valid settings");
        let batch = medium::batch(2);
        group.bench_function(
            format!("lora_step/recompute_{name}/2x600_512x8_r16"),
            |bencher| {
                bencher.iter(|| {
                    state
                        .step(std::slice::from_ref(&batch))
                        .expect("a finite loss")
                });
            },
        );
    }
    for pictures in [0, 8, 32] {
        let training = TrainingConfig {
            packing: Packing::OneRow,
            micro_batches: MicroBatches::InParallel,
            ..TrainingConfig::lora(1e-4)
        };
        let adapted = model.clone().apply_lora(&LoraConfig::new(16, 32.0));
        let mut state = TrainState::new(adapted, &training, 1000).expect("valid settings");
        let batch = medium::batch_with_pictures(32, pictures);
        group.bench_function(
            format!("lora_step/{pictures}_pictures/32x96_words_512x8_r16"),
            |bencher| {
                bencher.iter(|| {
                    state
                        .step(std::slice::from_ref(&batch))
                        .expect("a finite loss")
                });
            },
        );
    }
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
