//! Small pictures for pages that stand alone.

use std::{io::Cursor, path::Path};

use anyhow::Context;
use base64::{Engine, engine::general_purpose::STANDARD};
use image::{codecs::jpeg::JpegEncoder, imageops::FilterType};

/// A picture file, small, as an address that holds it.
pub(crate) fn thumbnail(path: &Path) -> anyhow::Result<String> {
    let picture = image::open(path).with_context(|| path.display().to_string())?;
    let small = picture.resize(416, 416, FilterType::CatmullRom).to_rgb8();
    let mut jpeg = Cursor::new(Vec::new());
    JpegEncoder::new_with_quality(&mut jpeg, 82).encode_image(&small)?;
    Ok(format!(
        "data:image/jpeg;base64,{}",
        STANDARD.encode(jpeg.into_inner())
    ))
}
