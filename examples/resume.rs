//! Stops a training in the middle, as Ctrl-C would, and resumes it: the result is that of a training which never stopped.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{prelude::*, train::TrainError};

fn main() -> anyhow::Result<()> {
    let folder = std::env::args().nth(1).unwrap_or("runs/resume".into());
    let finetune = || -> anyhow::Result<Finetune> {
        let training = TrainingConfig {
            max_steps: Some(6),
            ..TrainingConfig::lora(4e-3)
        };
        let sample = "datasets/painting-form-mini";
        Ok(GalleryGpt::load("datasets/tiny-base", &Device::flex())?
            .finetune(LoraConfig::new(16, 32.0), training)
            .records(format!("{sample}/train_samples_tuning.json"), sample)?)
    };

    let stop = CancelToken::new();
    let stopped = finetune()?.cancel(stop.clone()).run(&folder, |event| {
        if matches!(event, TrainEvent::Step { report, .. } if report.step == 3) {
            stop.cancel();
        }
    });
    match stopped {
        Err(FinetuneError::Train(error @ TrainError::Interrupted { .. })) => println!("{error}"),
        other => anyhow::bail!("expected a training that stops, found {other:?}"),
    }

    let finetuned = finetune()?.resume(&folder)?.train(|event| {
        if let TrainEvent::Step { report, .. } = event {
            println!("step {}: loss {:.3}", report.step, report.loss);
        }
    })?;
    println!("{}", finetuned.result().display());
    Ok(())
}
