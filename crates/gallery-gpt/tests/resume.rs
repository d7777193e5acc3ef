//! A training that was killed and went on leaves the same bytes as one that was not.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test that cannot go on has failed, and shows what it measured"
)]

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use gallery_gpt::{
    data::Record,
    model::Packing,
    prelude::*,
    train::{LogLine, MicroBatches, OnBadRecord, TrainError, TrainableParts},
};
use gallery_gpt_testkit::interrupted::{
    self, More, be_killed, ensure_same, kill, records, train, train_with,
};

/// Not a test of its own: what the next one kills.
#[test]
fn victim() {
    be_killed().unwrap();
}

#[test]
#[ignore = "of the whole tier: half a minute and more, `cargo test --release --test resume -- --ignored`"]
fn killed_fifty_times() {
    let compared = kill(50, &["victim", "--exact", "--nocapture"], |_| ()).unwrap();
    assert!(compared > 0);
}

/// The sample's first 50 steps, packed or not, on two threads: the log.
fn first_fifty_steps(packing: Packing) -> Vec<LogLine> {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let config = TrainingConfig {
        per_device_train_batch_size: 4,
        gradient_accumulation_steps: 1,
        micro_batches: MicroBatches::InParallel,
        max_steps: Some(50),
        save_steps: None,
        packing,
        ..interrupted::config()
    };
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2);
    let records = records(400).unwrap();
    threads
        .build()
        .unwrap()
        .install(|| train(&run, &config, &records, 0.0, |_| ()))
        .unwrap();
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    log.lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect()
}

/// Two runs are equal to the last bit. Beside the curve that is kept here, and packed beside padded, sums have another order (another
/// processor has other vectors), and fifty steps of Adam carry that on.
#[test]
fn the_loss_curve_of_the_sample_is_the_one_kept_here() {
    const KEPT: &str = include_str!("goldens/sample_losses.json");
    const ROUNDING: f64 = 2e-3;
    let log = first_fifty_steps(Packing::Off);
    assert_eq!(log, first_fifty_steps(Packing::Off));
    let losses: Vec<f64> = log.iter().map(|line| line.report.loss).collect();
    let packed: Vec<f64> = first_fifty_steps(Packing::OneRow)
        .iter()
        .map(|line| line.report.loss)
        .collect();
    let kept: Vec<f64> = serde_json::from_str(KEPT).unwrap();
    assert_eq!((losses.len(), kept.len()), (50, 50));
    for (name, others) in [("kept", &kept), ("packed", &packed)] {
        let worst = losses.iter().zip(others).map(|(a, b)| (a - b).abs() / b);
        let worst = worst.fold(0.0, f64::max);
        assert!(worst <= ROUNDING, "{name}: {worst:e}, {losses:?}");
        println!("{name}: {worst:e}");
    }
    // It learns.
    let mean = |losses: &[f64]| losses.iter().sum::<f64>() / losses.len() as f64;
    assert!(mean(&losses[40..]) < 0.8 * mean(&losses[..10]));
}

/// Ends a training after a step, as a crash would.
fn crash_after(folder: &Path, config: &TrainingConfig, records: &[Record], last: usize) {
    let crashed = catch_unwind(AssertUnwindSafe(|| {
        train(folder, config, records, 0.0, |event| {
            if let TrainEvent::Step { report, .. } = event {
                assert!(report.step < last, "crash");
            }
        })
    }));
    assert!(crashed.is_err());
}

#[test]
fn whole_parts_go_on_too() {
    let root = tempfile::tempdir().unwrap();
    let records = records(12).unwrap();
    for (name, parts) in [
        ("projector", TrainableParts::PROJECTOR),
        ("full", TrainableParts::FULL),
    ] {
        let config = TrainingConfig {
            parts,
            ..interrupted::config()
        };
        let [straight, crashed] =
            ["straight", "crashed"].map(|kind| root.path().join(kind).join(name));
        train(&straight, &config, &records, 0.0, |_| ()).unwrap();
        crash_after(&crashed, &config, &records, 3);
        let mut resumed = None;
        train(&crashed, &config, &records, 0.0, |event| {
            if let TrainEvent::Resumed { step, .. } = event {
                resumed = Some(*step);
            }
        })
        .unwrap();
        assert_eq!(resumed, Some(2));
        ensure_same(&crashed, &straight).unwrap();
    }
}

/// Several devices train as one does on as many micro-batches, go on after a crash to the same bytes, and one goes on for two.
#[test]
fn several_devices_go_on_too() {
    let root = tempfile::tempdir().unwrap();
    let records = records(14).unwrap();
    let go = |name: &str, others: usize, last: usize| {
        let folder = root.path().join(name);
        let config = TrainingConfig {
            gradient_accumulation_steps: 2 / (1 + others),
            ..interrupted::config()
        };
        let more = More {
            dropout: 0.1,
            others,
            ..More::default()
        };
        let whole = catch_unwind(AssertUnwindSafe(|| {
            train_with(&folder, &config, &records, more, |event| {
                if let TrainEvent::Step { report, .. } = event {
                    assert!(report.step < last, "crash");
                }
            })
            .unwrap();
        }));
        assert_eq!(whole.is_ok(), last > 8);
        let log = std::fs::read_to_string(folder.join("log.jsonl")).unwrap();
        let lines = log.lines().map(|line| serde_json::from_str(line).unwrap());
        (folder, lines.collect::<Vec<LogLine>>())
    };
    let (_, alone) = go("alone", 0, 100);
    let (straight, shared) = go("straight", 1, 100);
    go("crashed", 1, 5);
    let (crashed, _) = go("crashed", 1, 100);
    ensure_same(&crashed, &straight).unwrap();
    go("moved", 1, 5);
    let (_, moved) = go("moved", 0, 100);
    assert_eq!(alone.len(), 8);
    for others in [shared, moved] {
        assert_eq!(alone.len(), others.len());
        for (alone, others) in alone.iter().zip(&others) {
            assert_eq!(alone.report.tokens, others.report.tokens);
            // Sums in another order, carried on by eight steps of Adam.
            assert!(
                (alone.report.loss - others.report.loss).abs() <= 2e-5 * alone.report.loss,
                "{alone:?} {others:?}"
            );
        }
    }
}

#[test]
fn epochs_can_be_added_and_records_cannot_change() {
    let root = tempfile::tempdir().unwrap();
    let run = root.path().join("run");
    let twelve = records(12).unwrap();
    let epochs = |num_train_epochs| TrainingConfig {
        num_train_epochs,
        ..interrupted::config()
    };
    train(&run, &epochs(1.0), &twelve, 0.0, |_| ()).unwrap();
    // What a kill in the middle of writing leaves behind.
    for (folder, name) in [(&run, ".partial-a"), (&run.join("checkpoints"), ".old-b")] {
        std::fs::create_dir(folder.join(name)).unwrap();
    }
    std::fs::write(run.join(".partial-c"), "").unwrap();
    let mut steps = Vec::new();
    train(&run, &epochs(3.0), &twelve, 0.0, |event| {
        if let TrainEvent::Step { report, .. } = event {
            steps.push(report.step);
        }
    })
    .unwrap();
    assert_eq!(steps, [4, 5, 6, 7, 8, 9]);
    let log = std::fs::read_to_string(run.join("log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 9);
    // Two are kept, and no more is left behind.
    let left = std::fs::read_dir(&run).unwrap().filter_map(Result::ok);
    assert!(
        left.map(|entry| entry.file_name())
            .all(|name| !name.to_string_lossy().starts_with('.'))
    );
    assert_eq!(
        std::fs::read_dir(run.join("checkpoints")).unwrap().count(),
        2
    );

    let error = train(&run, &epochs(4.0), &records(11).unwrap(), 0.0, |_| ()).unwrap_err();
    assert!(matches!(error, TrainError::Changed { .. }), "{error}");

    // A damaged checkpoint is named.
    let newest = run.join("checkpoints/step-00000009");
    for file in [
        "optimizer.safetensors",
        "state.json",
        "adapter/adapter_model.safetensors",
    ] {
        let path = newest.join(file);
        let bytes = std::fs::read(&path).unwrap();
        std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
        let error = train(&run, &epochs(4.0), &twelve, 0.0, |_| ()).unwrap_err();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        assert!(error.to_string().contains(&name), "{error}");
        std::fs::write(&path, bytes).unwrap();
    }
    std::fs::write(run.join("log.jsonl"), "").unwrap();
    let error = train(&run, &epochs(4.0), &twelve, 0.0, |_| ()).unwrap_err();
    assert!(error.to_string().contains("log.jsonl"), "{error}");
}

#[test]
fn broken_pictures_are_left_out_up_to_a_bound() {
    let root = tempfile::tempdir().unwrap();
    let mut records = records(12).unwrap();
    records[3].pictures = vec!["images/missing.jpg".into()];
    records[7].pictures = vec!["train_samples_tuning.json".into()];
    let policy = |on_bad_record| TrainingConfig {
        on_bad_record,
        num_train_epochs: 2.0,
        ..interrupted::config()
    };
    let error = train(
        &root.path().join("fail"),
        &policy(OnBadRecord::Fail),
        &records,
        0.0,
        |_| (),
    );
    assert!(matches!(error, Err(TrainError::Record(_))), "{error:?}");
    let skip = |max| policy(OnBadRecord::Skip { max });
    let error = train(&root.path().join("bound"), &skip(1), &records, 0.0, |_| ()).unwrap_err();
    assert!(
        matches!(error, TrainError::TooManyBadRecords { count: 2, .. }),
        "{error}"
    );

    // Left out in both epochs, told and listed once; and again the same bytes after a crash.
    let [straight, crashed] = ["straight", "crashed"].map(|name| root.path().join(name));
    let mut told = 0;
    train(&straight, &skip(2), &records, 0.0, |event| {
        told += usize::from(matches!(event, TrainEvent::Skipped { .. }));
    })
    .unwrap();
    assert_eq!(told, 2);
    let list = std::fs::read_to_string(straight.join("bad_records.jsonl")).unwrap();
    assert_eq!(list.lines().count(), 2);
    assert!(list.contains("missing.jpg") && list.contains("train_samples_tuning.json"));
    crash_after(&crashed, &skip(2), &records, 5);
    train(&crashed, &skip(2), &records, 0.0, |_| ()).unwrap();
    ensure_same(&crashed, &straight).unwrap();
}

#[test]
fn the_best_adapter_is_verified_when_a_run_resumes() {
    let root = tempfile::tempdir().unwrap();
    let config = TrainingConfig {
        eval_steps: 1,
        ..interrupted::config()
    };
    let all = records(14).unwrap();
    let (validation, records) = all.split_at(2);
    let go = |last: usize| {
        let more = More {
            validation,
            ..More::default()
        };
        train_with(root.path(), &config, records, more, |event| {
            if let TrainEvent::Step { report, .. } = event {
                assert!(report.step < last, "crash");
            }
        })
    };
    assert!(catch_unwind(AssertUnwindSafe(|| go(5))).is_err());

    let best = root.path().join("best");
    let weights = best.join("adapter_model.safetensors");
    let written = std::fs::read(&weights).unwrap();
    let mut changed = written.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&weights, changed).unwrap();
    let error = go(100).unwrap_err().to_string();
    assert!(
        error.contains("adapter_model.safetensors has changed since it was written"),
        "{error}"
    );

    std::fs::write(&weights, written).unwrap();
    let aside = root.path().join("aside");
    std::fs::rename(&best, &aside).unwrap();
    let error = go(100).unwrap_err().to_string();
    assert!(
        error.contains("best is missing") && error.contains("step"),
        "{error}"
    );

    std::fs::rename(&aside, &best).unwrap();
    go(100).unwrap();
}

#[test]
fn a_training_stops_early_and_stays_stopped() {
    let root = tempfile::tempdir().unwrap();
    let config = TrainingConfig {
        // So fast that it forgets: the validation loss rises.
        learning_rate: 0.05,
        num_train_epochs: 6.0,
        eval_steps: 1,
        early_stopping_patience: Some(2),
        ..interrupted::config()
    };
    let all = records(14).unwrap();
    let (validation, records) = all.split_at(2);
    let go = |folder: &Path, most: usize| {
        let (mut looks, mut stopped) = (Vec::new(), None);
        let done = catch_unwind(AssertUnwindSafe(|| {
            train_with(
                folder,
                &config,
                records,
                More {
                    validation,
                    ..More::default()
                },
                |event| match event {
                    TrainEvent::Evaluated { step, loss } => looks.push((*step, *loss)),
                    TrainEvent::StoppedEarly { step, .. } => stopped = Some(*step),
                    TrainEvent::Step { report, .. } => assert!(report.step <= most, "crash"),
                    _ => {}
                },
            )
            .unwrap();
        }));
        (done.is_ok(), looks, stopped)
    };
    let straight = root.path().join("straight");
    let (_, looks, stopped) = go(&straight, 100);
    let stopped = stopped.expect("it got worse");
    assert!(stopped < 18 && looks.len() == stopped, "{looks:?}");
    let best = looks.iter().min_by(|a, b| a.1.total_cmp(&b.1)).unwrap();
    assert_eq!(best.0 + 2, stopped);
    assert!(
        straight
            .join(format!("checkpoints/step-{stopped:08}"))
            .is_dir()
    );

    // A line before the first step and one at every look.
    let weights =
        |name| std::fs::read(straight.join(name).join("adapter_model.safetensors")).unwrap();
    assert!(weights("best") != weights("adapter"));
    let samples = std::fs::read_to_string(straight.join("samples.jsonl")).unwrap();
    assert_eq!(samples.lines().count(), stopped + 1);
    let page = std::fs::read_to_string(straight.join("page.html")).unwrap();
    assert!(page.contains("<svg") && page.contains(&format!("step {stopped}")));

    let crashed = root.path().join("crashed");
    assert!(!go(&crashed, stopped - 1).0);
    assert!(go(&crashed, 100).0);
    ensure_same(&crashed, &straight).unwrap();
    // Once more: nothing is left to do.
    assert_eq!(go(&crashed, 100), (true, Vec::new(), None));
    ensure_same(&crashed, &straight).unwrap();
}
