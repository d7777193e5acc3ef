//! Optimizer steps, whatever computes their micro-batches.

use burn::{module::Module, tensor::Device};
use gallery_gpt_data::Batch;
use gallery_gpt_llama::LoraConfig;
use gallery_gpt_train::{MicroBatches, Recompute, StepReport, TrainState, TrainingConfig};

use crate::{CLOSE, EXACT, adapted, batch, distance, logits, model, picture};

#[test]
fn micro_batches_side_by_side_train_as_one_by_one() {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = threads.build().unwrap();
    let trained = |micro_batches: MicroBatches, step: &[Batch]| {
        let config = TrainingConfig {
            micro_batches,
            warmup_ratio: 0.0,
            ..TrainingConfig::lora(1e-2)
        };
        let mut state = TrainState::new(adapted(10), &config, 4).unwrap();
        let reports = pool.install(|| [0; 3].map(|_| state.step(step).unwrap()));
        (reports, state.into_model())
    };
    let mut other = batch();
    other.input_ids.reverse();
    other.labels.reverse();
    // A micro-batch for each thread: the same sums.
    let two = [batch(), other];
    let (reports, model) = trained(MicroBatches::OneByOne, &two);
    let (parallel_reports, parallel_model) = trained(MicroBatches::InParallel, &two);
    assert_eq!(reports, parallel_reports);
    let rows = [vec![1, 5, -200, 9, 7]];
    let found = logits(&parallel_model, &rows, &[picture(2)]);
    assert!(distance(&found[0], &logits(&model, &rows, &[picture(2)])[0]) <= EXACT);

    // One for both: each takes a part, and the parts add up but for rounding.
    let ([whole, ..], _) = trained(MicroBatches::OneByOne, &two[..1]);
    let ([parts, ..], _) = trained(MicroBatches::InParallel, &two[..1]);
    assert!((whole.loss - parts.loss).abs() <= 1e-6 * whole.loss);
    assert!((whole.grad_norm - parts.grad_norm).abs() <= 1e-6 * whole.grad_norm);
    let tokens = |report: &StepReport| (report.tokens, report.supervised_tokens);
    assert_eq!(tokens(&whole), tokens(&parts));
}

/// Data parallelism: as many micro-batches give the same step, whoever computes them, dropout's masks and all.
#[test]
fn devices_share_a_step() {
    let lora = LoraConfig::new(4, 8.0).with_dropout(0.2);
    let batches: Vec<Batch> = (0..5)
        .map(|number| {
            let mut batch = batch();
            batch.input_ids[0].truncate(4 + number);
            batch.labels[0].truncate(4 + number);
            batch
        })
        .collect();
    for recompute in [Recompute::Off, Recompute::Blocks] {
        let config = TrainingConfig {
            gradient_checkpointing: recompute,
            warmup_ratio: 0.0,
            ..TrainingConfig::lora(1e-2)
        };
        let trained = |devices: usize| {
            let others = vec![Device::flex(); devices - 1];
            let state = TrainState::new(model(12).apply_lora(&lora), &config, 8).unwrap();
            let mut state = state.with_devices(&others).unwrap();
            // Fewer micro-batches than devices too, as at the end of an epoch.
            let reports = [5, 4, 1].map(|count| state.step(&batches[..count]).unwrap());
            let rows = [vec![1, 5, -200, 9, 7]];
            (reports, logits(&state.into_model(), &rows, &[picture(2)]))
        };
        let (alone, written) = trained(1);
        for devices in [2, 3] {
            let (shared, found) = trained(devices);
            for (alone, shared) in alone.iter().zip(&shared) {
                assert!((alone.loss - shared.loss).abs() <= 2e-6 * alone.loss);
                assert!((alone.grad_norm - shared.grad_norm).abs() <= 1e-5 * alone.grad_norm);
                assert_eq!(alone.tokens, shared.tokens);
                assert_eq!(alone.supervised_tokens, shared.supervised_tokens);
            }
            assert!(distance(&written[0], &found[0]) <= CLOSE);
        }
    }
}

#[test]
fn a_device_that_fails_ends_the_step_and_changes_nothing() {
    let config = TrainingConfig::lora(1e-2);
    let state = TrainState::new(adapted(13), &config, 4).unwrap();
    let mut state = state.with_devices(&[Device::flex()]).unwrap();
    let rows = [vec![1, 5, -200, 9, 7]];
    let now = |state: &TrainState| logits(&state.model().valid(), &rows, &[picture(2)]);
    let before = now(&state);
    let without_its_picture = Batch {
        pictures: Vec::new(),
        ids: vec!["a record".into(); 2],
        ..batch()
    };
    let error = state.step(&[batch(), without_its_picture]).unwrap_err();
    assert!(error.to_string().contains("a record"), "{error}");
    assert_eq!((before, state.steps_done()), (now(&state), 0));
    assert!(state.step(&[batch(), batch()]).is_ok());
}
