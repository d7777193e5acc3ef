//! Figures of attention maps: enlarged overlays with a legend.

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{
    Rgb, RgbImage,
    imageops::{FilterType, replace, resize},
};

use crate::{AttentionMap, GalleryGpt, attention_map::warm};

/// Minimum length of the shorter side in pixels.
const SIDE: u32 = 512;
/// Maximum length of the longer side of an enlarged picture.
const LONGEST: u32 = 4096;
/// Height of the legend below the picture.
const LEGEND: u32 = 56;
const MARGIN: u32 = 8;
/// Scale of the font.
const SCALE: u32 = 2;
const LETTER: u32 = 8 * SCALE;

impl AttentionMap {
    /// The overlay, enlarged to at least 512 pixels on the shorter side, above a scale of its
    /// tones. 1.0 is the average attention of the whole answer to the same place.
    #[must_use]
    pub fn figure(&self, gallery: &GalleryGpt, picture: &RgbImage) -> RgbImage {
        let (width, height) = picture.dimensions();
        let wanted = f64::from(SIDE) / f64::from(width.min(height));
        let most = f64::from(LONGEST) / f64::from(width.max(height));
        let factor = wanted.min(most).max(1.0);
        let enlarged = |side: u32| (f64::from(side) * factor).round() as u32;
        let picture = resize(
            picture,
            enlarged(width),
            enlarged(height),
            FilterType::CatmullRom,
        );
        let (toned, range) = self.toned(gallery, &picture);
        let width = toned.width().max(SIDE);
        let mut figure = RgbImage::from_pixel(width, toned.height() + LEGEND, Rgb([255; 3]));
        replace(&mut figure, &toned, 0, 0);
        let top = toned.height() + MARGIN;
        let [least, most] = range.map(|attention| format!("{attention:.1}x"));
        let columns = |text: &str| text.len() as u32 * LETTER;
        let bar = MARGIN + columns(&least) + MARGIN..width - columns(&most) - 2 * MARGIN;
        for x in bar.clone() {
            let attention = (x - bar.start) as f32 / (bar.end - bar.start) as f32;
            for y in top..top + LETTER {
                figure.put_pixel(x, y, warm([224; 3], attention));
            }
        }
        write(&mut figure, MARGIN, top, &least);
        write(&mut figure, bar.end + MARGIN, top, &most);
        let below = top + LETTER + MARGIN;
        write(&mut figure, MARGIN, below, "phrase against whole answer");
        figure
    }
}

/// Draws a line of ASCII letters, cut at the edge.
fn write(figure: &mut RgbImage, left: u32, top: u32, text: &str) {
    for (at, letter) in (0..).zip(text.chars()) {
        let Some(rows) = BASIC_FONTS.get(letter) else {
            continue;
        };
        for (row, bits) in (0..).zip(rows) {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                for (x, y) in (0..SCALE).flat_map(|x| (0..SCALE).map(move |y| (x, y))) {
                    let x = left + at * LETTER + column * SCALE + x;
                    if let Some(pixel) = figure.get_pixel_mut_checked(x, top + row * SCALE + y) {
                        *pixel = Rgb([0; 3]);
                    }
                }
            }
        }
    }
}
