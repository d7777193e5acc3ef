//! What an adapter was trained on, written beside it.

use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::{
    CheckpointError,
    file::json::read_json_as,
    read::fingerprint::{WHOLE, short},
};

/// What an adapter was trained on and with, written beside it as `gallery_gpt.json`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AdapterOrigin {
    /// The base, as it was named to the trainer.
    pub base_model: String,
    /// The base's fingerprint, as of [`crate::LoadReport::fingerprint`].
    pub base_fingerprint: Option<String>,
    /// The vision tower, as the base's config names it.
    pub vision_tower: Option<String>,
    /// Conversation template.
    pub template: Option<String>,
    /// How pictures were made square.
    pub image_aspect_ratio: Option<String>,
    /// Height and width of a picture in pixels.
    pub image_size: Option<usize>,
}

impl From<&str> for AdapterOrigin {
    /// A base of which only the name is known.
    fn from(base_model: &str) -> Self {
        Self {
            base_model: base_model.to_owned(),
            ..Self::default()
        }
    }
}

impl AdapterOrigin {
    /// Reads the file beside an adapter; `None` if there is none.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, CheckpointError> {
        if !path.is_file() {
            return Ok(None);
        }
        read_json_as(path, "record of an adapter's origin").map(Some)
    }

    /// The differences between this training and a use, a sentence each; fields that either does not have are not compared.
    #[must_use]
    pub fn differences(&self, here: &Self) -> Vec<String> {
        let mut differences = Vec::new();
        if let (Some(there), Some(found)) = (&self.base_fingerprint, &here.base_fingerprint)
            && there != found
            // A fingerprint of an earlier version is over other bytes; the two cannot be compared.
            && there.starts_with(WHOLE) == found.starts_with(WHOLE)
        {
            differences.push(format!(
                "the adapter was trained on another base: {} with fingerprint {}, this is {} with {}",
                self.base_model,
                short(Some(there)),
                here.base_model,
                short(Some(found)),
            ));
        }
        let size = |origin: &Self| origin.image_size.map(|size| size.to_string());
        for (what, there, found) in [
            ("template", &self.template, &here.template),
            (
                "image_aspect_ratio",
                &self.image_aspect_ratio,
                &here.image_aspect_ratio,
            ),
            ("image_size", &size(self), &size(here)),
        ] {
            if let (Some(there), Some(found)) = (there, found)
                && there != found
            {
                differences.push(format!(
                    "the adapter was trained with {what} {there}, this is {found}"
                ));
            }
        }
        differences
    }
}
