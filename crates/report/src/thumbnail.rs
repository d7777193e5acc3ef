//! A small JPEG of a picture within a page.

use std::io::Cursor;

use base64::{Engine, engine::general_purpose::STANDARD};
use image::{DynamicImage, RgbImage, codecs::jpeg::JpegEncoder, imageops::FilterType};

/// Longest side of a thumbnail in pixels.
const LONGEST: u32 = 416;

/// A JPEG of the picture, its longer side 416 pixels, as a `data:` URI.
///
/// # Panics
/// Never: a picture so small has a JPEG.
#[must_use]
pub fn thumbnail(picture: &RgbImage) -> String {
    let picture = DynamicImage::ImageRgb8(picture.clone());
    let small = picture.resize(LONGEST, LONGEST, FilterType::CatmullRom);
    let mut jpeg = Cursor::new(Vec::new());
    let encoder = JpegEncoder::new_with_quality(&mut jpeg, 82);
    small
        .to_rgb8()
        .write_with_encoder(encoder)
        .expect("pixels of at most 416 x 416 fit a JPEG in memory");
    format!(
        "data:image/jpeg;base64,{}",
        STANDARD.encode(jpeg.into_inner())
    )
}

#[cfg(test)]
mod tests {
    use image::Rgb;

    use super::*;

    #[test]
    fn a_thumbnail_is_a_jpeg_with_a_longer_side_of_416_pixels() {
        for (width, height, expected) in [(832, 100, (416, 50)), (1, 1, (416, 416))] {
            let address = thumbnail(&RgbImage::from_pixel(width, height, Rgb([200, 10, 10])));
            let data = address.strip_prefix("data:image/jpeg;base64,");
            let jpeg = STANDARD.decode(data.expect("a data URI")).expect("base64");
            let picture = image::load_from_memory(&jpeg).expect("a JPEG");
            assert_eq!((picture.width(), picture.height()), expected);
        }
    }
}
