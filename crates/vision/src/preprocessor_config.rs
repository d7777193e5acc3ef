//! `preprocessor_config.json`: every field is followed, rejected by name if it asks for something
//! unsupported, or noted.

use std::path::Path;

use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Map, Value};

use crate::{AspectRatio, CLIP_MEAN, CLIP_STD, ImageError, ImageProcessorConfig};

/// The settings of a `preprocessor_config.json`.
#[derive(Clone, Debug, PartialEq)]
pub struct PreprocessorConfig {
    /// Side of the output in pixels.
    pub image_size: usize,
    /// Subtracted per channel, in 0..1; also the padding colour.
    pub image_mean: [f64; 3],
    /// Divided by per channel.
    pub image_std: [f64; 3],
    /// Whether pictures are padded to a square; `None` if the file does not tell.
    pub do_pad: Option<bool>,
    /// Why pictures that are not square cannot be cropped as the file asks. Padded pictures are not
    /// concerned.
    uncut: Option<String>,
    /// Notes for the user, one sentence each.
    pub notes: Vec<String>,
}

/// Fields that do not change the result: names, the device, and the container of the output.
const NO_MATTER: &[&str] = &[
    "_processor_class",
    "_valid_processor_keys",
    "data_format",
    "default_to_square",
    "device",
    "disable_grouping",
    // Pictures are always RGB here.
    "do_convert_rgb",
    "image_seq_length",
    "input_data_format",
    "pad_size",
    "processor_class",
    "return_tensors",
];

/// A size, as a number or an object.
#[derive(Clone, Copy, Debug, Deserialize, PartialEq)]
#[serde(untagged)]
enum Size {
    Side(usize),
    Edge { shortest_edge: usize },
    Box { height: usize, width: usize },
}

impl Size {
    fn side(self) -> Option<usize> {
        let side = match self {
            Self::Side(side)
            | Self::Edge {
                shortest_edge: side,
            } => side,
            Self::Box { height, width } if height == width => height,
            Self::Box { .. } => return None,
        };
        (1..=1 << 16).contains(&side).then_some(side)
    }
}

impl std::fmt::Display for Size {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Side(side) => write!(f, "{side}"),
            Self::Edge { shortest_edge } => write!(f, "a shortest_edge of {shortest_edge}"),
            Self::Box { height, width } => write!(f, "a height of {height} and a width of {width}"),
        }
    }
}

struct Fields<'a> {
    path: &'a Path,
    map: Map<String, Value>,
}

impl Fields<'_> {
    fn unusable(&self, reason: String) -> ImageError {
        ImageError::Config {
            path: self.path.to_owned(),
            reason,
        }
    }

    /// Takes a field; null counts as absent.
    fn take<T: DeserializeOwned>(
        &mut self,
        name: &str,
        expected: &str,
    ) -> Result<Option<T>, ImageError> {
        match self.map.remove(name) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => match T::deserialize(&value) {
                Ok(field) => Ok(Some(field)),
                Err(_) => {
                    let text: String = value.to_string().chars().take(80).collect();
                    Err(self.unusable(format!("{name} is {text}, expected {expected}")))
                }
            },
        }
    }

    fn flag(&mut self, name: &str) -> Result<Option<bool>, ImageError> {
        self.take(name, "true or false")
    }

    /// Takes the side of a square size, if it is present.
    fn side(&mut self, name: &str) -> Result<Option<(Size, usize)>, ImageError> {
        const SQUARE: &str = "a square: a number, shortest_edge, or an equal height and width";
        match self.take::<Size>(name, SQUARE)? {
            None => Ok(None),
            Some(size) => match size.side() {
                Some(side) => Ok(Some((size, side))),
                None => Err(self.unusable(format!("{name} is {size}, expected {SQUARE}"))),
            },
        }
    }
}

impl PreprocessorConfig {
    /// Parses the contents of a file; `path` is used in messages.
    ///
    /// # Errors
    /// It has no size, or asks for something unsupported: a filter other than bicubic, no resizing,
    /// rescaling or normalisation, a size that differs from the crop size, or several tiles per
    /// picture.
    pub fn new(path: &Path, json: Value) -> Result<Self, ImageError> {
        let mut fields = match json {
            Value::Object(map) => Fields { path, map },
            _ => {
                return Err(ImageError::Config {
                    path: path.to_owned(),
                    reason: "not a JSON object".to_owned(),
                });
            }
        };
        for name in ["image_processor_type", "feature_extractor_type"] {
            let kind: Option<String> = fields.take(name, "a name")?;
            let is_known =
                |kind: &str| kind.starts_with("CLIP") || kind.starts_with("LlavaImageProcessor");
            if let Some(kind) = kind.filter(|kind| !is_known(kind)) {
                return Err(fields.unusable(format!(
                    "{name} is {kind}, which is not supported; expected CLIPImageProcessor or LlavaImageProcessor"
                )));
            }
        }
        for name in ["do_resize", "do_rescale", "do_normalize"] {
            if fields.flag(name)? == Some(false) {
                return Err(fields.unusable(format!("{name} is false, which is not supported")));
            }
        }
        if let Some(factor) = fields.take::<f64>("rescale_factor", "a number")?
            && (factor * 255.0 - 1.0).abs() > 1e-6
        {
            return Err(fields.unusable(format!("rescale_factor is {factor}, expected 1/255")));
        }
        if let Some(resample) = fields.take::<u8>("resample", "a number")?
            && resample != 3
        {
            return Err(fields.unusable(format!("resample is {resample}, expected 3 (bicubic)")));
        }
        let cuts = fields.flag("do_center_crop")?.unwrap_or(true);
        let do_pad = fields.flag("do_pad")?;
        let (size, cut) = (fields.side("size")?, fields.side("crop_size")?);
        let (image_size, uncut) = match (size, cut) {
            (Some((_, size)), Some((_, cut))) if cuts && size != cut => {
                return Err(fields.unusable(format!(
                    "size is {size} and crop_size {cut}; only equal ones are supported"
                )));
            }
            (Some((Size::Box { .. }, size)), _) => (
                size,
                Some("size has a height and a width, to which it would be squeezed"),
            ),
            (Some((_, size)), _) if !cuts => (
                size,
                Some("do_center_crop is false, which leaves it as long as it is"),
            ),
            (Some((_, size)), _) | (None, Some((_, size))) => (size, None),
            (None, None) => return Err(fields.unusable("no square crop_size or size".to_owned())),
        };
        const THREE: &str = "three numbers";
        let image_mean = fields.take("image_mean", THREE)?.unwrap_or(CLIP_MEAN);
        let image_std = fields.take("image_std", THREE)?.unwrap_or(CLIP_STD);
        let finite = |values: [f64; 3]| values.iter().all(|value| value.is_finite());
        if !finite(image_mean) || !finite(image_std) || image_std.iter().any(|&std| std <= 0.0) {
            return Err(fields.unusable(format!(
                "image_mean is {image_mean:?} and image_std {image_std:?}, expected three numbers and three positive ones"
            )));
        }
        fields
            .map
            .retain(|name, value| !value.is_null() && !NO_MATTER.contains(&name.as_str()));
        let rest: Vec<String> = fields
            .map
            .keys()
            .take(8)
            .map(|name| name.escape_debug().to_string())
            .collect();
        let notes = if rest.is_empty() {
            Vec::new()
        } else {
            vec![format!(
                "{} has fields that are not known here and not followed: {}",
                path.display(),
                rest.join(", ")
            )]
        };
        Ok(Self {
            image_size,
            image_mean,
            image_std,
            do_pad,
            uncut: uncut.map(str::to_owned),
            notes,
        })
    }

    /// The image processor's config, with the aspect ratio from the model's config.
    ///
    /// # Errors
    /// Pictures are to be cropped, but the file asks for something else for those that are not
    /// square.
    pub fn with_aspect_ratio(
        &self,
        path: &Path,
        aspect_ratio: AspectRatio,
    ) -> Result<ImageProcessorConfig, ImageError> {
        if let (AspectRatio::CenterCrop, Some(uncut)) = (aspect_ratio, &self.uncut) {
            return Err(ImageError::Config {
                path: path.to_owned(),
                reason: format!(
                    "{uncut}: a picture that is not square can only be cut or padded here; set image_aspect_ratio in config.json to pad, if that is how the model was trained"
                ),
            });
        }
        let mut config = ImageProcessorConfig::new(self.image_size).with_aspect_ratio(aspect_ratio);
        config.image_mean = self.image_mean;
        config.image_std = self.image_std;
        Ok(config)
    }
}

impl ImageProcessorConfig {
    /// Reads a `preprocessor_config.json`, for padded pictures: the aspect ratio belongs to the
    /// model's config.
    ///
    /// # Errors
    /// The file cannot be read, or as in [`PreprocessorConfig::new`].
    pub fn from_file(path: impl AsRef<Path>) -> Result<Self, ImageError> {
        let path = path.as_ref();
        let bytes = std::fs::read(path).map_err(|source| ImageError::Read {
            path: path.to_owned(),
            source,
        })?;
        let json = serde_json::from_slice(&bytes).map_err(|error| ImageError::Config {
            path: path.to_owned(),
            reason: error.to_string(),
        })?;
        PreprocessorConfig::new(path, json)?.with_aspect_ratio(path, AspectRatio::Pad)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn read(json: Value) -> Result<PreprocessorConfig, ImageError> {
        PreprocessorConfig::new(Path::new("preprocessor_config.json"), json)
    }

    #[test]
    fn every_form_of_a_size_is_taken() {
        for json in [
            json!({ "crop_size": 32, "size": 32 }),
            json!({ "crop_size": { "height": 32, "width": 32 }, "size": { "shortest_edge": 32 } }),
            json!({ "size": { "height": 32, "width": 32 } }),
            json!({ "size": { "shortest_edge": 32 }, "crop_size": null, "processor_class": "LlavaProcessor" }),
            json!({ "size": 32, "crop_size": 28, "do_center_crop": false }),
        ] {
            let config = read(json.clone()).unwrap();
            assert_eq!(
                (config.image_size, &config.notes[..]),
                (32, &[][..]),
                "{json}"
            );
        }
    }

    #[test]
    fn unsupported_settings_are_named() {
        for (json, expected) in [
            (
                json!({ "crop_size": 32, "do_normalize": false }),
                "do_normalize is false",
            ),
            (
                json!({ "crop_size": 32, "do_rescale": false }),
                "do_rescale is false",
            ),
            (
                json!({ "crop_size": 32, "do_resize": false }),
                "do_resize is false",
            ),
            (
                json!({ "crop_size": 32, "rescale_factor": 1.0 }),
                "rescale_factor is 1",
            ),
            (json!({ "crop_size": 32, "resample": 2 }), "resample is 2"),
            (
                json!({ "crop_size": 32, "size": 40 }),
                "size is 40 and crop_size 32",
            ),
            (
                json!({ "crop_size": { "height": 32, "width": 40 } }),
                "crop_size is",
            ),
            (json!({ "crop_size": 0 }), "crop_size is"),
            (json!({ "crop_size": "x" }), "crop_size is \"x\""),
            (
                json!({ "crop_size": 32, "image_mean": [0.5] }),
                "image_mean is [0.5]",
            ),
            (
                json!({ "crop_size": 32, "image_std": [0.5, 0.0, 0.5] }),
                "image_std",
            ),
            (json!({ "crop_size": 32, "do_pad": "yes" }), "do_pad"),
            (
                json!({ "crop_size": 32, "image_processor_type": "LlavaNextImageProcessor" }),
                "LlavaNext",
            ),
            (json!({}), "no square"),
            (json!([]), "object"),
        ] {
            let error = read(json.clone()).unwrap_err().to_string();
            assert!(error.contains(expected), "{json}: {error}");
        }
        let config = read(json!({ "crop_size": 32, "sharpen": 2 })).unwrap();
        assert!(config.notes[0].contains("sharpen"), "{:?}", config.notes);
    }

    #[test]
    fn configs_without_a_crop_need_padding() {
        let path = Path::new("preprocessor_config.json");
        let config = read(json!({ "size": 32, "do_center_crop": false, "do_pad": true, "image_mean": [0.5, 0.5, 0.5] })).unwrap();
        assert_eq!(config.do_pad, Some(true));
        let settings = config.with_aspect_ratio(path, AspectRatio::Pad).unwrap();
        assert_eq!(settings.image_mean, [0.5; 3]);
        let error = config
            .with_aspect_ratio(path, AspectRatio::CenterCrop)
            .unwrap_err();
        assert!(error.to_string().contains("do_center_crop"), "{error}");
    }
}
