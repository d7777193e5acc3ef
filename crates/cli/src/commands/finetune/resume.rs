//! Resuming a run with the flags it began with, from any folder.

use std::path::{Path, PathBuf, absolute};

use anyhow::bail;
use gallery_gpt::{
    FinetuneError,
    train::{RunSettings, TrainError},
};

use super::arguments::Arguments;

/// The flags that a run began with, as it recorded them.
pub(crate) fn recorded_flags(run: &Path) -> anyhow::Result<Vec<String>> {
    let settings = RunSettings::read(run)?;
    if settings.flags.is_empty() {
        bail!(
            "{} was begun by a program of its own, not by finetune; resume it with that program (RunFolder::resume)",
            run.display()
        );
    }
    Ok(settings.flags)
}

/// An error of the library in the words of the flags.
pub(crate) fn in_flags(error: impl Into<FinetuneError>) -> anyhow::Error {
    match error.into() {
        FinetuneError::Train(TrainError::HoldsRun { run, whole: true }) => {
            let run = run.display();
            anyhow::anyhow!(
                "{run} holds a run already; resume it with --resume {run}, or give another --output_dir"
            )
        }
        error @ FinetuneError::BadRecords { .. } => {
            anyhow::anyhow!("{error}: --on_bad_record skip does")
        }
        error => error.into(),
    }
}

/// Flags whose values are paths, by all their names.
const PATHS: [&str; 14] = [
    "base",
    "model_name_or_path",
    "data",
    "data_path",
    "images",
    "image_folder",
    "output_dir",
    "vision_tower",
    "deepspeed",
    "lora_path",
    "eval_data",
    "sample_images",
    "resume",
    "resume_from_checkpoint",
];

impl Arguments {
    /// The same with absolute paths, so that a run can be resumed from any folder.
    pub(crate) fn with_absolute_paths(mut self) -> anyhow::Result<Self> {
        let paths = [&mut self.base, &mut self.data, &mut self.images];
        let more = [
            &mut self.output_dir,
            &mut self.vision_tower,
            &mut self.deepspeed,
            &mut self.lora_path,
            &mut self.eval_data,
            &mut self.resume,
        ];
        let more = more.into_iter().flatten();
        for path in paths.into_iter().chain(more).chain(&mut self.sample_images) {
            // A path that does not exist stays as it was given: it may be a model's name on the hub.
            if path.exists() {
                *path = absolute(&path)?;
            }
        }
        Ok(self)
    }

    /// The flags to resume with: those that were given, with absolute paths, and every path that is a default.
    pub(crate) fn recorded(&self, given: &[String]) -> Vec<String> {
        let mut flags = Vec::new();
        let mut is_path = false;
        for argument in given {
            if let Some(flag) = argument.strip_prefix("--") {
                let name = flag.split_once('=').map_or(flag, |(name, _)| name);
                is_path = PATHS.contains(&name);
            }
            if !is_path {
                flags.push(argument.clone());
            }
        }
        let mut add = |flag: &str, path: Option<&PathBuf>| {
            flags.extend(path.map(|path| format!("--{flag}={}", path.display())));
        };
        add("base", Some(&self.base));
        add("data", Some(&self.data));
        add("images", Some(&self.images));
        add("vision_tower", self.vision_tower.as_ref());
        add("deepspeed", self.deepspeed.as_ref());
        add("lora_path", self.lora_path.as_ref());
        add("eval_data", self.eval_data.as_ref());
        if !self.sample_images.is_empty() {
            flags.push("--sample_images".to_owned());
            let paths = self.sample_images.iter();
            flags.extend(paths.map(|path| path.display().to_string()));
        }
        flags
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

    use clap::Parser;

    use super::*;

    #[test]
    fn a_run_is_resumed_by_absolute_paths() {
        std::env::set_current_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../..")).unwrap();
        let given = [
            "--data",
            "datasets/painting-form-mini/train_samples_tuning.json",
            "--sample_images",
            "datasets/painting-form-mini/images/test_0.jpg",
            "datasets/painting-form-mini/images/test_1.jpg",
            "--seed",
            "3",
            "--output_dir=x",
        ];
        let given = given.map(str::to_owned);
        let parse = |flags: &[String]| {
            let name = ["finetune".to_owned()];
            Arguments::parse_from(name.iter().chain(flags))
        };
        let arguments = parse(&given).with_absolute_paths().unwrap();
        let recorded = arguments.recorded(&given);
        let again = parse(&recorded);
        assert_eq!(
            (&again.base, &again.data),
            (&arguments.base, &arguments.data)
        );
        assert!(again.data.is_absolute() && again.data.is_file());
        assert_eq!((again.seed, again.sample_images.len()), (3, 2));
        assert!(again.sample_images.iter().all(|path| path.is_absolute()));
        assert_eq!((again.output_dir, again.resume), (None, None));
    }
}
