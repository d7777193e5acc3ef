//! Runs of `finetune` that are stopped, resumed, tampered with and shared: nothing is lost, and nothing goes on as another training.

use std::{
    collections::BTreeMap,
    fs,
    io::Read,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use burn::tensor::Device;
use gallery_gpt::{data::Order, llama::LoraTarget, prelude::*, train::TrainError};
use serde_json::{Value, json};

use crate::{program, root};

/// A folder with a base and a data set of its own, which a test may change.
struct Site(tempfile::TempDir);

impl Site {
    fn new() -> Self {
        let site = Self(tempfile::tempdir().unwrap());
        let sample = root().join("datasets/painting-form-mini");
        let text = fs::read_to_string(sample.join("train_samples_tuning.json")).unwrap();
        let records: Vec<Value> = serde_json::from_str(&text).unwrap();
        site.write("data/train.json", &json!(records[..8]).to_string());
        site.write("data/eval.json", &json!(records[8..10]).to_string());
        for record in &records[..10] {
            let image = record["image"].as_str().unwrap();
            site.copy(&sample.join(image), &format!("data/{image}"));
        }
        for entry in fs::read_dir(root().join("datasets/tiny-base")).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_string_lossy();
            site.copy(&path, &format!("base/{name}"));
        }
        site
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::write(self.path(name), text).unwrap();
    }

    fn copy(&self, from: &Path, name: &str) {
        fs::create_dir_all(self.path(name).parent().unwrap()).unwrap();
        fs::copy(from, self.path(name)).unwrap();
    }

    /// `finetune` in this folder, two records a step.
    fn finetune(&self, run: &str, more: &str) -> Command {
        let flags = "--base base --data data/train.json --images data --eval_data data/eval.json \
                     --sample_images data/images/0.jpg --per_device_train_batch_size 1 --lora_r 4 \
                     --lora_dropout 0.1 --save_steps 3 --eval_steps 4";
        let mut command = program("finetune");
        command.current_dir(self.0.path());
        command.args(flags.split_whitespace());
        command.args(["--output_dir", run]);
        command.args(more.split_whitespace());
        command
    }

    fn resume(&self, run: &str, more: &str) -> Command {
        let mut command = program("finetune");
        command.current_dir(self.0.path());
        command.args(["--resume", run]);
        command.args(more.split_whitespace());
        command
    }

    /// Every file of a run but its speeds and its page.
    fn files(&self, run: &str) -> BTreeMap<PathBuf, Vec<u8>> {
        let run = self.path(run);
        let mut found = BTreeMap::new();
        let mut left = vec![run.clone()];
        while let Some(path) = left.pop() {
            if path.is_dir() {
                let entries = fs::read_dir(&path).unwrap();
                left.extend(entries.map(|entry| entry.unwrap().path()));
            } else if !path.ends_with("speed.jsonl") && !path.ends_with("page.html") {
                let name = path.strip_prefix(&run).unwrap().to_owned();
                found.insert(name, fs::read(&path).unwrap());
            }
        }
        found
    }

    fn copy_run(&self, from: &str, to: &str) {
        let _ = fs::remove_dir_all(self.path(to));
        let done = Command::new("cp")
            .arg("-r")
            .arg(self.path(from))
            .arg(self.path(to))
            .status();
        assert!(done.unwrap().success());
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn succeeded(output: &Output) -> String {
    assert!(
        output.status.success(),
        "{}{}",
        text(&output.stdout),
        text(&output.stderr)
    );
    text(&output.stdout)
}

/// What a run that has to fail says, once.
fn refused(output: &Output) -> String {
    let error = text(&output.stderr);
    assert_eq!(
        output.status.code(),
        Some(1),
        "{}{error}",
        text(&output.stdout)
    );
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn assert_same_files(found: &BTreeMap<PathBuf, Vec<u8>>, expected: &BTreeMap<PathBuf, Vec<u8>>) {
    let names = |files: &BTreeMap<PathBuf, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(found), names(expected));
    for (name, bytes) in expected {
        assert!(found[name] == *bytes, "{} differs", name.display());
    }
}

/// Waits until a run has logged so many steps.
fn wait_for_steps(site: &Site, run: &str, steps: usize) {
    let began = Instant::now();
    let log = site.path(run).join("log.jsonl");
    while fs::read_to_string(&log).map_or(0, |text| text.lines().count()) < steps {
        assert!(
            began.elapsed() < Duration::from_secs(300),
            "no {steps} steps"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal(child: &Child, signal: &str) {
    let done = Command::new("kill")
        .args(["-s", signal, &child.id().to_string()])
        .status();
    assert!(done.unwrap().success());
}

fn piped(mut command: Command) -> Child {
    command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

#[test]
fn a_pipe_that_closes_does_not_end_a_training() {
    let site = Site::new();
    // Both pipes are closed before the first step; the second time the terminal goes as well.
    for (run, hang_up) in [("first", false), ("second", true)] {
        let mut child = piped(site.finetune(run, "--max_steps 4 --logging_steps 1"));
        drop(child.stderr.take());
        let mut byte = [0];
        child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
        if hang_up {
            wait_for_steps(&site, run, 1);
            signal(&child, "HUP");
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        wait_for_steps(&site, run, 4);
        assert!(
            site.path(run)
                .join("adapter/adapter_model.safetensors")
                .is_file()
        );
    }
}

#[test]
fn a_signal_saves_and_the_run_goes_on_to_the_same_bytes() {
    let site = Site::new();
    let epochs = "--num_train_epochs 5";
    succeeded(&site.finetune("straight", epochs).output().unwrap());
    let expected = site.files("straight");
    for (run, name, steps) in [("int", "INT", 2), ("term", "TERM", 5)] {
        let child = piped(site.finetune(run, epochs));
        wait_for_steps(&site, run, steps);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        if output.status.code() == Some(130) {
            assert!(
                said.contains("finetune --resume ") && said.contains(run),
                "{said}"
            );
            let stopped = fs::read_dir(site.path(run).join("checkpoints")).unwrap();
            let logged = fs::read_to_string(site.path(run).join("log.jsonl")).unwrap();
            let newest = stopped
                .map(|entry| entry.unwrap().file_name())
                .max()
                .unwrap();
            let steps = format!("step-{:08}", logged.lines().count());
            assert_eq!(newest.to_string_lossy(), steps, "no step is lost");
        } else {
            assert!(output.status.success(), "{said}");
        }
        succeeded(&site.resume(run, "").output().unwrap());
        assert_same_files(&site.files(run), &expected);
    }
    // The second signal leaves at once, and the run goes on all the same.
    let child = piped(site.finetune("twice", epochs));
    wait_for_steps(&site, "twice", 2);
    signal(&child, "INT");
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    succeeded(&site.resume("twice", "").output().unwrap());
    assert_same_files(&site.files("twice"), &expected);
}

#[test]
fn a_resume_refuses_by_name_what_changed_behind_its_back() {
    let site = Site::new();
    succeeded(&site.finetune("kept", "--max_steps 4").output().unwrap());
    let change = |name: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let path = site.path(name);
        let before = fs::read(&path).unwrap();
        let mut bytes = before.clone();
        change(&mut bytes);
        assert!(bytes != before, "{name} is not changed");
        fs::write(&path, bytes).unwrap();
        before
    };
    let replace = |old: &'static str, new: &'static str| {
        move |bytes: &mut Vec<u8>| *bytes = text(bytes).replacen(old, new, 1).into_bytes()
    };
    // A picture of the same size in bytes: one bit deep in its scan.
    let flip = |from_the_end: usize| {
        move |bytes: &mut Vec<u8>| {
            let at = bytes.len() - from_the_end;
            bytes[at] ^= 1;
        }
    };
    let weights = fs::read_dir(site.path("base")).unwrap();
    let weights = weights
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .find(|name| name.ends_with(".safetensors"))
        .unwrap();
    type Change<'a> = Box<dyn Fn(&mut Vec<u8>) + 'a>;
    let changes: [(String, Change<'_>, &str); 8] = [
        ("data/images/0.jpg".into(), Box::new(flip(400)), "pictures"),
        (format!("base/{weights}"), Box::new(flip(5000)), "weights"),
        (
            "base/tokenizer.json".into(),
            Box::new(replace("\"version\"", "\"version\" ")),
            "tokenizer.json",
        ),
        (
            "base/preprocessor_config.json".into(),
            Box::new(replace("\"do_resize\"", "\"do_resize\" ")),
            "preprocessor_config.json",
        ),
        (
            "base/config.json".into(),
            Box::new(replace("{", "{ ")),
            "config.json",
        ),
        (
            "data/train.json".into(),
            Box::new(replace("light", "night")),
            "training records",
        ),
        (
            "data/eval.json".into(),
            Box::new(replace("light", "night")),
            "validation records",
        ),
        (
            "data/images/8.jpg".into(),
            Box::new(flip(400)),
            "validation records",
        ),
    ];
    for (name, how, said) in &changes {
        let before = change(name, how);
        let error = refused(&site.resume("kept", "--max_steps 6").output().unwrap());
        assert!(
            error.contains(said) && error.contains("when the run began"),
            "{name}: {error}"
        );
        fs::write(site.path(name), before).unwrap();
    }
    // A number in a config is named as such.
    let before = change("base/config.json", &|bytes| {
        let mut config: Value = serde_json::from_slice(bytes).unwrap();
        let text = config.get_mut("text_config").unwrap();
        text["rope_theta"] = json!(12345.0);
        *bytes = config.to_string().into_bytes();
    });
    let error = refused(&site.resume("kept", "--max_steps 6").output().unwrap());
    assert!(
        error.contains("rope_theta") && error.contains("12345"),
        "{error}"
    );
    fs::write(site.path("base/config.json"), before).unwrap();
    // Flags that make another training are refused by the setting's name.
    for (flags, said) in [
        ("--learning_rate 0.5", "learning_rate"),
        ("--lora_r 8", "lora.r"),
        ("--lora_alpha 3", "lora.lora_alpha"),
        ("--seed 1", "seed"),
        ("--loss_mean micro_batches", "loss_mean"),
        ("--version llava_v1", "version"),
    ] {
        let error = refused(&site.resume("kept", flags).output().unwrap());
        assert!(error.contains(said), "{flags}: {error}");
    }
    // As it was, and moved elsewhere with everything it reads, it goes on.
    fs::create_dir(site.path("elsewhere")).unwrap();
    let mut moved = site.resume("../kept", "--max_steps 6");
    moved.current_dir(site.path("elsewhere"));
    succeeded(&moved.output().unwrap());
    for name in ["base", "data"] {
        fs::rename(site.path(name), site.path(&format!("elsewhere/{name}"))).unwrap();
    }
    let places = "--max_steps 7 --base elsewhere/base --data elsewhere/data/train.json --images elsewhere/data \
                  --eval_data elsewhere/data/eval.json --sample_images elsewhere/data/images/0.jpg";
    succeeded(&site.resume("kept", places).output().unwrap());
}

#[test]
fn a_flipped_bit_in_a_checkpoint_is_found() {
    let site = Site::new();
    succeeded(&site.finetune("kept", "--max_steps 4").output().unwrap());
    let newest = "checkpoints/step-00000004";
    let files = site.files(&format!("kept/{newest}"));
    assert!(files.len() >= 5, "{:?}", files.keys());
    for (name, bytes) in &files {
        // The list by which the folder is known as ours has no part in the training.
        if name == Path::new("gallery_gpt.json") {
            continue;
        }
        for at in [0, bytes.len() / 3, bytes.len() - 2] {
            site.copy_run("kept", "flipped");
            let mut flipped = bytes.clone();
            flipped[at] ^= 4;
            fs::write(site.path("flipped").join(newest).join(name), flipped).unwrap();
            let error = refused(&site.resume("flipped", "--max_steps 5").output().unwrap());
            let name = name.file_name().unwrap().to_string_lossy();
            assert!(
                error.contains(&*name) && error.contains("damaged"),
                "{name} {at}: {error}"
            );
        }
    }
    // A file that is gone, one too many, and a log that was written over are found as well.
    let gone = |run: &Path| fs::remove_file(run.join(newest).join("adapter/gallery_gpt.json"));
    let extra = |run: &Path| fs::write(run.join(newest).join("adapter/more.bin"), "x");
    let log = |run: &Path| {
        let text = fs::read_to_string(run.join("log.jsonl")).unwrap();
        fs::write(
            run.join("log.jsonl"),
            text.replacen("\"step\":1", "\"step\":9", 1),
        )
    };
    type Harm<'a> = &'a dyn Fn(&Path) -> std::io::Result<()>;
    let harms: [(Harm<'_>, &str); 3] = [
        (&gone, "gallery_gpt.json"),
        (&extra, "more.bin"),
        (&log, "log.jsonl"),
    ];
    for (harm, said) in harms {
        site.copy_run("kept", "flipped");
        harm(&site.path("flipped")).unwrap();
        let error = refused(&site.resume("flipped", "--max_steps 5").output().unwrap());
        assert!(error.contains(said), "{error}");
    }
    site.copy_run("kept", "flipped");
    succeeded(&site.resume("flipped", "--max_steps 5").output().unwrap());
}

#[test]
fn a_run_folder_has_one_process_at_a_time() {
    let site = Site::new();
    let mut first = piped(site.finetune("shared", "--num_train_epochs 50"));
    wait_for_steps(&site, "shared", 1);
    let error = refused(&site.resume("shared", "").output().unwrap());
    assert!(
        error.contains("in use") && error.contains(&first.id().to_string()),
        "{error}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    // What a killed process had is free.
    let output = site.resume("shared", "--max_steps 2").output().unwrap();
    succeeded(&output);
}

#[test]
fn a_folder_that_cannot_be_used_says_what_to_do() {
    let site = Site::new();
    succeeded(&site.finetune("kept", "--max_steps 2").output().unwrap());
    let before = site.files("kept");
    let error = refused(&site.finetune("kept", "--max_steps 2").output().unwrap());
    assert!(
        error.contains("holds a run") && error.contains("--resume"),
        "{error}"
    );
    assert_eq!(error.matches("kept").count(), 2, "said once: {error}");
    assert_same_files(&site.files("kept"), &before);
    let done = succeeded(&site.resume("kept", "").output().unwrap());
    assert!(
        done.contains("is done after 2 steps") && done.contains("trains longer"),
        "{done}"
    );
    assert!(!done.contains("test paintings"), "{done}");
    let error = refused(&site.resume("nowhere", "").output().unwrap());
    assert!(
        error.contains("no run in") && error.contains("no such folder"),
        "{error}"
    );
    // Killed before its settings were there, a run begins anew; without settings but with steps it is named.
    fs::create_dir(site.path("early")).unwrap();
    site.write("early/lock", "{\"pid\": 1, \"since\": 1}");
    site.write("early/bad_records.jsonl", "");
    site.write("early/log.jsonl", "");
    succeeded(&site.finetune("early", "--max_steps 1").output().unwrap());
    fs::remove_file(site.path("kept/config.json")).unwrap();
    for command in [&mut site.finetune("kept", ""), &mut site.resume("kept", "")] {
        let error = refused(&command.output().unwrap());
        assert!(error.contains("config.json"), "{error}");
    }
    // Outside of the repository the defaults are said to be defaults.
    let mut nowhere = program("finetune");
    nowhere.current_dir(site.path("data"));
    let error = refused(&nowhere.output().unwrap());
    assert!(
        error.contains("the default") && error.contains("--base"),
        "{error}"
    );
}

/// Library code that resumes with other adapters: the checkpoint's would be trained on, and saved under the new settings.
#[test]
fn the_library_refuses_to_resume_with_another_rank() {
    let site = Site::new();
    let base = GalleryGpt::load(site.path("base"), &Device::flex()).unwrap();
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        TemplateKind::VicunaV1.template(),
        base.processor().clone(),
        site.path("data"),
        base.model().config().tokens_per_picture(),
        2048,
    );
    let records = PaintingForm::load(site.path("data/train.json"))
        .unwrap()
        .records;
    let train = |lora: LoraConfig, learning_rate: f64, epochs: f64, adapted: bool| {
        let path = site.path("run");
        let mut run = if path.exists() {
            RunFolder::resume(path)
        } else {
            RunFolder::create(path)
        }?;
        let config = TrainingConfig {
            per_device_train_batch_size: 4,
            num_train_epochs: epochs,
            order: Order::Sequential,
            ..TrainingConfig::lora(learning_rate)
        };
        let model = base.model().clone();
        let model = if adapted {
            model.apply_lora(&lora)
        } else {
            model
        };
        let trainer = Trainer::new(config)?.with_origin(base.origin());
        trainer.train(model, &records, &batcher, &mut run, |_| ())?;
        Ok::<_, TrainError>(())
    };
    let lora = LoraConfig::new(4, 8.0);
    let error = train(lora.clone(), 1e-3, 1.0, false).unwrap_err();
    assert!(matches!(error, TrainError::NoAdapter), "{error}");
    fs::remove_dir_all(site.path("run")).unwrap();
    train(lora.clone(), 1e-3, 1.0, true).unwrap();
    for (other, rate, said) in [
        (LoraConfig::new(8, 8.0), 1e-3, "lora.r "),
        (LoraConfig::new(4, 16.0), 1e-3, "lora.lora_alpha"),
        (
            lora.clone()
                .with_targets([LoraTarget::QProj].into_iter().collect()),
            1e-3,
            "target_modules",
        ),
        (lora.clone(), 2e-3, "learning_rate"),
    ] {
        let error = train(other, rate, 2.0, true).unwrap_err();
        assert!(matches!(error, TrainError::Changed { .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
    train(lora, 1e-3, 2.0, true).unwrap();
    // What the config of the result says is what its tensors are.
    let result = site.path("run/adapter");
    let text = fs::read(result.join("adapter_config.json")).unwrap();
    let config: Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(
        (&config["r"], &config["lora_alpha"]),
        (&json!(4), &json!(8.0))
    );
    let bytes = fs::read(result.join("adapter_model.safetensors")).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let tensors = tensors.tensors().into_iter();
    let ranks: Vec<usize> = tensors
        .filter(|(name, _)| name.contains("lora_A"))
        .map(|(_, tensor)| tensor.shape()[0])
        .collect();
    assert!(
        !ranks.is_empty() && ranks.iter().all(|&rank| rank == 4),
        "{ranks:?}"
    );
    // Its settings are there, so that the program can tell who has to go on with it.
    let error = refused(&site.resume("run", "").output().unwrap());
    assert!(error.contains("program of its own"), "{error}");
}
