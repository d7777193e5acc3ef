//! The pictures of a record: its own field, and the image parts of its turns.

use serde_json::Value;

use super::fields::{field, schema};
use crate::{RecordError, RecordPicture, json::json_kind};

const PICTURE: &str = "the path of a picture in `image`";

/// The pictures that the value of `image` or `images` names.
pub(super) fn pictures(value: &Value) -> Result<Vec<RecordPicture>, RecordError> {
    match value {
        Value::Array(list) => list.iter().map(picture).collect(),
        one => Ok(vec![picture(one)?]),
    }
}

pub(super) fn picture(value: &Value) -> Result<RecordPicture, RecordError> {
    match value {
        Value::String(path) if !path.trim().is_empty() => Ok(RecordPicture::File(path.clone())),
        Value::Object(object) => match field(object, &["path", "url", "image"])? {
            Some((_, Value::String(path))) => Ok(RecordPicture::File(path.clone())),
            _ => Err(schema(PICTURE, "an object without `path`".to_owned())),
        },
        Value::String(_) => Err(schema(PICTURE, "an empty string".to_owned())),
        other => Err(schema(PICTURE, json_kind(Some(other)))),
    }
}

/// Which picture an image part of a turn is.
pub(super) enum ImagePart {
    /// The one that the part names.
    Named(RecordPicture),
    /// The record's picture at the part's own position among the image parts.
    Next,
    /// The record's picture of this index, from 0.
    Index(usize),
}

/// The pictures in the order of their placeholders, given the image parts of the turns and the
/// pictures of the record's own field.
pub(super) fn in_order(
    parts: &[ImagePart],
    own: Vec<RecordPicture>,
) -> Result<Vec<RecordPicture>, RecordError> {
    if parts.is_empty() {
        return Ok(own);
    }
    let all_named = parts.iter().all(|part| matches!(part, ImagePart::Named(_)));
    let mut used = vec![false; own.len()];
    let mut pictures = Vec::with_capacity(parts.len());
    let wrong_number = RecordError::Placeholders {
        placeholders: parts.len(),
        pictures: own.len(),
    };
    for (position, part) in parts.iter().enumerate() {
        let index = match part {
            ImagePart::Named(picture) if all_named => {
                pictures.push(picture.clone());
                continue;
            }
            ImagePart::Named(_) => {
                let found = "some with a path and some without".to_owned();
                return Err(schema("a path in every image part, or in none", found));
            }
            ImagePart::Next => position,
            ImagePart::Index(index) => *index,
        };
        let Some(picture) = own.get(index) else {
            return Err(wrong_number);
        };
        used[index] = true;
        pictures.push(picture.clone());
    }
    if all_named && !own.is_empty() && own != pictures {
        let found = "different ones".to_owned();
        return Err(schema(
            "the same pictures in `image` as in the parts",
            found,
        ));
    }
    if !all_named && used.contains(&false) {
        return Err(wrong_number);
    }
    Ok(pictures)
}
