//! Reading fixtures and comparing with them.

use std::{
    collections::BTreeMap,
    io::Write,
    path::{Path, PathBuf},
};

use burn::tensor::{Device, Tensor, TensorData};
use gallery_gpt::{
    DeviceKind,
    checkpoint::{LoadOptions, TensorDtype, VocabRows, load_model},
    model::GalleryModel,
};
use safetensors::SafeTensors;
use serde_json::Value;

/// Largest difference of a hidden state.
pub(crate) const HIDDEN: f32 = 5e-5;
/// Largest difference of a logit.
pub(crate) const LOGITS: f32 = 1e-4;

/// One folder of fixtures.
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    stage: &'static str,
}

/// A tensor of a fixture.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

pub(crate) type Goldens = BTreeMap<String, Golden>;

fn root() -> PathBuf {
    std::env::var_os("GALLERY_GPT_GOLDENS").map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/goldens"),
        PathBuf::from,
    )
}

/// The device that the checks run on: the CPU, or what `GALLERY_GPT_DEVICE` names. Products of f32 are not rounded to TF32 on it.
pub(crate) fn device() -> Device {
    let name = std::env::var_os("GALLERY_GPT_DEVICE").unwrap_or_else(|| "cpu".into());
    let kind: DeviceKind = name.to_str().unwrap().parse().unwrap();
    kind.device().unwrap()
}

/// Says something on standard error, past the test harness.
pub(crate) fn say(what: &str) {
    let _ = writeln!(std::io::stderr(), "{what}");
}

/// Runs the check of a stage on every variant that has the stage.
pub(crate) fn each_variant(stage: &'static str, check: impl Fn(&Variant)) {
    let root = root();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("cannot read fixtures {}: {error}", root.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("variant.json").is_file())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no variant in {}", root.display());
    let needed = match stage {
        "generation" | "checkpoint" | "bf16" => "model",
        other => other,
    };
    let mut checked = 0;
    for folder in folders {
        let name = folder.file_name().unwrap().to_string_lossy().into_owned();
        let variant = Variant {
            name,
            folder,
            stage,
        };
        if variant.folder.join(needed).is_dir() {
            check(&variant);
            checked += 1;
        } else {
            variant.absent(needed);
        }
    }
    assert!(checked > 0, "no variant has fixtures of the stage {stage}");
}

impl Variant {
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).exists()
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        let path = self.path(name);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        serde_json::from_slice(&bytes).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
    }

    pub(crate) fn tensors(&self, name: &str) -> Goldens {
        let path = self.path(name);
        let bytes =
            std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let tensors = SafeTensors::deserialize(&bytes).unwrap();
        tensors
            .iter()
            .map(|(key, view)| {
                let values = match view.dtype() {
                    safetensors::Dtype::F32 => view
                        .data()
                        .chunks_exact(4)
                        .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                        .collect(),
                    safetensors::Dtype::U8 => view.data().iter().map(|&b| f32::from(b)).collect(),
                    other => panic!("{key} is {other:?}"),
                };
                let golden = Golden {
                    shape: view.shape().to_vec(),
                    values,
                };
                (key.to_owned(), golden)
            })
            .collect()
    }

    /// Says that something was not there to compare with.
    pub(crate) fn absent(&self, what: &str) {
        say(&format!("absent: {what} of {} ({})", self.name, self.stage));
    }

    /// Says what was measured.
    pub(crate) fn measured(&self, what: &str) {
        say(&format!("{} {}: {what}", self.name, self.stage));
    }

    pub(crate) fn model(&self, rows: VocabRows) -> GalleryModel {
        self.model_in(rows, TensorDtype::F32)
    }

    pub(crate) fn model_in(&self, rows: VocabRows, dtype: TensorDtype) -> GalleryModel {
        let options = LoadOptions {
            vocab_rows: rows,
            dtype: Some(dtype),
            ..LoadOptions::default()
        };
        let (model, report) = load_model(self.path("model/hf"), &device(), &options).unwrap();
        assert!(
            report.missing.is_empty() && report.unused.is_empty(),
            "{report}"
        );
        model
    }

    pub(crate) fn at(&self, what: &str) -> String {
        format!("{}: {what}", self.name)
    }
}

impl Golden {
    pub(crate) fn tensor<const D: usize>(&self) -> Tensor<D> {
        Tensor::from_data(
            TensorData::new(self.values.clone(), self.shape.clone()),
            &device(),
        )
    }

    pub(crate) fn norm(&self) -> f64 {
        norm(&self.values)
    }
}

pub(crate) fn norm(values: &[f32]) -> f64 {
    values
        .iter()
        .map(|&value| f64::from(value).powi(2))
        .sum::<f64>()
        .sqrt()
}

pub(crate) fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

/// Largest difference between two rows of numbers.
pub(crate) fn distance(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).fold(0.0, |worst, (a, b)| {
        let d = (a - b).abs();
        if d.is_nan() {
            f32::INFINITY
        } else {
            worst.max(d)
        }
    })
}

pub(crate) fn assert_close<const D: usize>(
    what: &str,
    found: Tensor<D>,
    expected: &Golden,
    bound: f32,
) {
    assert_eq!(found.dims().to_vec(), expected.shape, "shape of {what}");
    let worst = distance(&values(found), &expected.values);
    assert!(
        worst <= bound,
        "{what}: differs by {worst:e}, allowed is {bound:e}"
    );
}

pub(crate) fn ids(value: &Value) -> Vec<i64> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|id| id.as_i64().unwrap())
        .collect()
}

pub(crate) fn rows(value: &Value) -> Vec<Vec<i64>> {
    value.as_array().unwrap().iter().map(ids).collect()
}

pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap()
}

pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().unwrap()
}
