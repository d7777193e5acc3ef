//! Letters in pictures.

use font8x8::{BASIC_FONTS, UnicodeFonts};
use image::{Rgb, RgbImage};

/// Scale of the font.
const SCALE: u32 = 2;
/// Width and height of a letter in pixels.
pub(crate) const LETTER: u32 = 8 * SCALE;

/// Draws a line of ASCII letters, cut at the edge.
pub(crate) fn write(figure: &mut RgbImage, left: u32, top: u32, text: &str, color: Rgb<u8>) {
    for (at, letter) in (0..).zip(text.chars()) {
        let Some(rows) = BASIC_FONTS.get(letter) else {
            continue;
        };
        for (row, bits) in (0..).zip(rows) {
            for column in (0..8).filter(|column| bits >> column & 1 == 1) {
                for (x, y) in (0..SCALE).flat_map(|x| (0..SCALE).map(move |y| (x, y))) {
                    let x = left + at * LETTER + column * SCALE + x;
                    if let Some(pixel) = figure.get_pixel_mut_checked(x, top + row * SCALE + y) {
                        *pixel = color;
                    }
                }
            }
        }
    }
}
