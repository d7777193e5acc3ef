//! The layout of a checkpoint, from the names of its tensors.

use std::path::Path;

use crate::{CheckpointError, Layout};

impl Layout {
    /// Detects the layout from the names of a checkpoint's tensors.
    ///
    /// # Errors
    /// The names are of no known layout, or of two.
    pub fn detect<'a>(
        folder: &Path,
        keys: impl IntoIterator<Item = &'a str>,
    ) -> Result<Self, CheckpointError> {
        let mut first = None;
        let mut found: Option<(Self, &str)> = None;
        for key in keys {
            first.get_or_insert(key);
            match (Self::of(key), found) {
                (Some(layout), None) => found = Some((layout, key)),
                (Some(layout), Some((other, earlier))) if layout != other => {
                    return Err(CheckpointError::TwoLayouts {
                        folder: folder.to_owned(),
                        keys: [earlier.to_owned(), key.to_owned()],
                    });
                }
                _ => {}
            }
        }
        found
            .map(|(layout, _)| layout)
            .ok_or_else(|| CheckpointError::UnknownLayout {
                folder: folder.to_owned(),
                first: first.unwrap_or("(none)").to_owned(),
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layout_is_known_by_its_names() {
        let hub = [
            "language_model.model.layers.3.mlp.up_proj.weight",
            "language_model.lm_head.weight",
            "multi_modal_projector.linear_2.bias",
            "vision_tower.vision_model.encoder.layers.0.self_attn.q_proj.weight",
        ];
        for layout in [Layout::LlavaHf, Layout::LlavaHfNested, Layout::Llava] {
            let keys = hub.map(|key| layout.key_of(key));
            let found = Layout::detect(Path::new("x"), keys.iter().map(String::as_str));
            assert_eq!(found.unwrap(), layout);
        }
    }

    #[test]
    fn two_layouts_are_refused() {
        let keys = ["model.layers.0.x", "language_model.model.layers.0.x"];
        assert!(matches!(
            Layout::detect(Path::new("x"), keys),
            Err(CheckpointError::TwoLayouts { .. })
        ));
    }
}
