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
#[derive(Clone)]
pub(crate) struct Variant {
    pub(crate) name: String,
    pub(crate) folder: PathBuf,
    stage: &'static str,
}

/// A family of models.
pub(crate) enum Family {
    Llava,
    /// Qwen-VL-Chat of 2023.
    Qwen,
    Unknown(String),
}

/// A tensor of a fixture.
#[derive(Clone, Debug)]
pub(crate) struct Golden {
    pub(crate) shape: Vec<usize>,
    pub(crate) values: Vec<f32>,
}

pub(crate) type Goldens = BTreeMap<String, Golden>;

/// The folder of the variants.
pub(crate) fn root() -> PathBuf {
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

/// Layouts of a model that give `model/expected.safetensors`, the one to begin with first.
const LAYOUTS: [&str; 5] = [
    "model/hf",
    "model/hf_sharded",
    "model/hf_v5",
    "model/llava_safetensors",
    "model/llava_bin",
];

/// The variants, in the order of their names.
pub(crate) fn variants() -> Vec<Variant> {
    let root = root();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .unwrap_or_else(|error| panic!("cannot read fixtures {}: {error}", root.display()))
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.join("variant.json").is_file())
        .collect();
    folders.sort();
    assert!(!folders.is_empty(), "no variant in {}", root.display());
    let variant = |folder: PathBuf| Variant {
        name: folder.file_name().unwrap().to_string_lossy().into_owned(),
        folder,
        stage: "fixtures",
    };
    folders.into_iter().map(variant).collect()
}

/// Every file that the variant's `contents.txt` names is there.
pub(crate) fn contents(variant: &Variant) {
    let Ok(contents) = std::fs::read_to_string(variant.path("contents.txt")) else {
        return variant.measured("no contents.txt: any of the fixtures may be there");
    };
    let missing: Vec<&str> = contents.lines().filter(|file| !variant.has(file)).collect();
    assert!(
        missing.is_empty(),
        "{}: missing {missing:?}",
        variant.folder.display()
    );
}

impl Variant {
    /// The same, for a check of some stage.
    pub(crate) fn in_stage(&self, stage: &'static str) -> Self {
        Self {
            stage,
            ..self.clone()
        }
    }

    /// The family of models that the variant is of: what its `variant.json` says, or as its towers are described there.
    pub(crate) fn family(&self) -> Family {
        let description = self.json("variant.json");
        match description.get("family").and_then(Value::as_str) {
            Some("llava") => Family::Llava,
            Some("qwen") => Family::Qwen,
            Some(other) => Family::Unknown(other.to_owned()),
            None if description.get("visual").is_some() => Family::Qwen,
            None if description.get("vision").is_some() || !self.has("model") => Family::Llava,
            None => Family::Unknown(
                "a model without \"vision\" or \"visual\" in its variant.json".to_owned(),
            ),
        }
    }

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
        tensors(&self.path(name))
    }

    /// Says what was measured.
    pub(crate) fn measured(&self, what: &str) {
        say(&format!("{} {}: {what}", self.name, self.stage));
    }

    /// The layout that the model is loaded from.
    pub(crate) fn layout(&self) -> &'static str {
        let found = LAYOUTS.into_iter().find(|layout| self.has(layout));
        found.unwrap_or_else(|| panic!("{}: none of {LAYOUTS:?}", self.folder.display()))
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
        let (model, report) = load_model(self.path(self.layout()), &device(), &options).unwrap();
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

/// The tensors of a file.
pub(crate) fn tensors(path: &Path) -> Goldens {
    let bytes = std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
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

/// The first `words` of every `width` values: llava-hf's rows of logits have more than the tokenizer's words.
pub(crate) fn first_words(values: &[f32], width: usize, words: usize) -> Vec<f32> {
    let rows = values.chunks(width);
    rows.flat_map(|row| row[..words].to_vec()).collect()
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
