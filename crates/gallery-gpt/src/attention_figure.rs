//! Figures of attention maps: enlarged overlays with a legend.

use image::{
    Rgb, RgbImage,
    imageops::{FilterType, replace, resize},
};

use crate::{
    AttentionMap, GalleryGpt,
    attention_map::warm,
    lettering::{LETTER, write},
};

/// Minimum length of the shorter side in pixels.
const SIDE: u32 = 512;
/// Maximum length of the longer side of an enlarged picture.
const LONGEST: u32 = 4096;
/// Height of the legend below the picture.
const LEGEND: u32 = 56;
const MARGIN: u32 = 8;
const BLACK: Rgb<u8> = Rgb([0; 3]);

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
        write(&mut figure, MARGIN, top, &least, BLACK);
        write(&mut figure, bar.end + MARGIN, top, &most, BLACK);
        let below = top + LETTER + MARGIN;
        write(
            &mut figure,
            MARGIN,
            below,
            "phrase against whole answer",
            BLACK,
        );
        figure
    }
}
