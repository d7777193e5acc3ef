//! Trainings: weighting, command lines; and what becomes of a run, in a file of its own.

use burn::tensor::Device;
use gallery_gpt::{
    data::Record,
    llama::{LoraConfig, LoraTarget},
    model::Packing,
    prelude::*,
    text::Conversation,
    train::{LossMean, MicroBatches, StepReport, TrainState},
};

use crate::root;

/// Four records, two of them answered in a word or two: what a step makes of them shows how it weights tokens.
fn uneven_records() -> Vec<Record> {
    let sample = root().join("datasets/painting-form-mini/train_samples_tuning.json");
    let mut records = PaintingForm::load(sample).unwrap().records;
    records.truncate(4);
    let long = "The composition rests on a triangle in red at the left, answered by a square in orange at the right. \
                The weight lies to one side, and the asymmetrical balance gives the picture movement.";
    for (record, answer) in records.iter_mut().zip(["Red.", long, "Warm light.", long]) {
        record.conversation = Conversation::question("Describe the light.\n<image>").answer(answer);
    }
    records
}

struct Cut {
    batch: usize,
    devices: usize,
    packing: Packing,
    micro_batches: MicroBatches,
}

/// Two steps over the four records, in micro-batches of some size: the reports, and every trained number.
fn two_steps(cut: &Cut, loss_mean: LossMean, dropout: f64) -> (Vec<StepReport>, Vec<f32>) {
    let base = GalleryGpt::load(root().join("datasets/tiny-base"), &Device::flex()).unwrap();
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        TemplateKind::VicunaV1.template(),
        base.processor().clone(),
        root().join("datasets/painting-form-mini"),
        base.model().config().tokens_per_picture(),
        2048,
    );
    let records = uneven_records();
    let batches: Vec<_> = records
        .chunks(cut.batch)
        .map(|records| batcher.batch(&records.iter().collect::<Vec<_>>()).unwrap())
        .collect();
    let lora = LoraConfig::new(4, 8.0).with_dropout(dropout);
    let config = TrainingConfig {
        loss_mean,
        packing: cut.packing,
        micro_batches: cut.micro_batches,
        warmup_ratio: 0.0,
        ..TrainingConfig::lora(1e-3)
    };
    let others = vec![Device::flex(); cut.devices - 1];
    let model = base.model().clone().apply_lora(&lora);
    let state = TrainState::new(model, &config, 4).unwrap();
    let mut state = state.with_devices(&others).unwrap();
    let reports = [(); 2].map(|()| state.step(&batches).unwrap());
    let model = state.into_model();
    let mut trained = Vec::new();
    for layer in &model.language_model.layers {
        for linear in
            [LoraTarget::QProj, LoraTarget::DownProj].map(|target| layer.linear(target).unwrap())
        {
            let lora = linear.lora.as_ref().unwrap();
            for tensor in [lora.lora_a.val(), lora.lora_b.val()] {
                trained.extend(tensor.into_data().try_into_vec::<f32>().unwrap());
            }
        }
    }
    (reports.to_vec(), trained)
}

fn distance(a: &[f32], b: &[f32]) -> f64 {
    let square = |values: &mut dyn Iterator<Item = f32>| {
        values
            .map(|value| f64::from(value) * f64::from(value))
            .sum::<f64>()
    };
    let apart = square(&mut a.iter().zip(b).map(|(a, b)| a - b));
    (apart / square(&mut a.iter().copied())).sqrt()
}

#[test]
fn a_step_does_not_depend_on_how_it_is_cut_into_micro_batches() {
    let cut = |batch, devices| Cut {
        batch,
        devices,
        packing: Packing::Off,
        micro_batches: MicroBatches::OneByOne,
    };
    let cuts = [
        cut(2, 1),
        cut(1, 1),
        cut(2, 2),
        cut(1, 2),
        Cut {
            packing: Packing::OneRow,
            ..cut(4, 1)
        },
        Cut {
            packing: Packing::OneRow,
            ..cut(2, 1)
        },
        Cut {
            micro_batches: MicroBatches::InParallel,
            ..cut(4, 1)
        },
        Cut {
            micro_batches: MicroBatches::InParallel,
            ..cut(1, 1)
        },
    ];
    for dropout in [0.0, 0.1] {
        let (whole, trained) = two_steps(&cut(4, 1), LossMean::Step, dropout);
        for cut in &cuts {
            let at = format!(
                "dropout {dropout}, batch {}, {} devices, {:?}, {:?}",
                cut.batch, cut.devices, cut.packing, cut.micro_batches
            );
            let (reports, found) = two_steps(cut, LossMean::Step, dropout);
            for (whole, report) in whole.iter().zip(&reports) {
                let loss = (whole.loss - report.loss).abs() / whole.loss;
                let norm = (whole.grad_norm - report.grad_norm).abs() / whole.grad_norm;
                assert!(loss <= 1e-5 && norm <= 1e-4, "{at}: {report:?}, {whole:?}");
            }
            assert!(distance(&trained, &found) <= 1e-3, "{at}");
        }
    }
}

#[test]
fn the_originals_rule_is_the_mean_over_micro_batches() {
    let cut = |batch| Cut {
        batch,
        devices: 1,
        packing: Packing::Off,
        micro_batches: MicroBatches::OneByOne,
    };
    assert_eq!(
        TrainingConfig::gallery_gpt().loss_mean,
        LossMean::MicroBatches
    );
    let loss = |batch, mean| two_steps(&cut(batch), mean, 0.0).0[0].loss;
    let by_step = loss(1, LossMean::Step);
    assert!((loss(4, LossMean::MicroBatches) - by_step).abs() < 1e-5);
    // Words that answer alone weigh as much as a whole paragraph.
    assert!(loss(1, LossMean::MicroBatches) > 1.5 * by_step);
}
