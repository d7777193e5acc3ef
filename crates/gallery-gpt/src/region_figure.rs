//! Figures of the regions that an answer points at.

use image::{Rgb, RgbImage};

use crate::{
    lettering::{LETTER, write},
    text::{REGION_SCALE, Region, RegionPoint, RegionShape},
};

/// Colours of the outlines, in turn.
const COLORS: [Rgb<u8>; 6] = [
    Rgb([230, 57, 70]),
    Rgb([42, 120, 214]),
    Rgb([27, 147, 88]),
    Rgb([245, 158, 11]),
    Rgb([155, 81, 224]),
    Rgb([20, 160, 170]),
];

/// The picture with the outlines of regions on it. Each has the region's number in the list, counted from 1, at its first corner.
///
/// ```
/// use gallery_gpt::{draw_regions, text::answer_regions};
/// use image::{Rgb, RgbImage};
///
/// let picture = RgbImage::from_pixel(200, 100, Rgb([255; 3]));
/// let answer = answer_regions("<ref>The boat</ref><box>(100,200),(600,900)</box> lies still.");
/// assert_eq!(answer.text, "The boat lies still.");
/// let drawn = draw_regions(&picture, &answer.regions);
/// assert_ne!(drawn.get_pixel(20, 50), picture.get_pixel(20, 50));
/// assert_eq!(drawn.get_pixel(180, 50), picture.get_pixel(180, 50));
/// ```
#[must_use]
pub fn draw_regions(picture: &RgbImage, regions: &[Region]) -> RgbImage {
    let mut drawn = picture.clone();
    let (width, height) = picture.dimensions();
    let pen = (width.min(height) / 200).max(2);
    let place = |[x, y]: RegionPoint| {
        let along = |at: u16, side: u32| u64::from(at) * u64::from(side) / u64::from(REGION_SCALE);
        [along(x, width) as i64, along(y, height) as i64]
    };
    for ((number, region), color) in (1..).zip(regions).zip(COLORS.iter().cycle()) {
        for shape in &region.shapes {
            let corners: Vec<[i64; 2]> = match *shape {
                RegionShape::Box([[left, top], [right, bottom]]) => {
                    [[left, top], [right, top], [right, bottom], [left, bottom]]
                        .map(place)
                        .to_vec()
                }
                RegionShape::Quad(corners) => corners.map(place).to_vec(),
            };
            for (at, &from) in corners.iter().enumerate() {
                line(
                    &mut drawn,
                    from,
                    corners[(at + 1) % corners.len()],
                    pen,
                    *color,
                );
            }
            label(&mut drawn, corners[0], &number.to_string(), *color);
        }
    }
    drawn
}

/// A line of squares, `pen` wide, cut at the edges.
fn line(drawn: &mut RgbImage, from: [i64; 2], to: [i64; 2], pen: u32, color: Rgb<u8>) {
    let steps = (to[0] - from[0]).abs().max((to[1] - from[1]).abs()).max(1);
    let half = i64::from(pen / 2);
    for step in 0..=steps {
        let at = |axis: usize| from[axis] + (to[axis] - from[axis]) * step / steps;
        for (x, y) in (0..i64::from(pen)).flat_map(|x| (0..i64::from(pen)).map(move |y| (x, y))) {
            let place = (
                u32::try_from(at(0) + x - half),
                u32::try_from(at(1) + y - half),
            );
            if let (Ok(x), Ok(y)) = place
                && let Some(pixel) = drawn.get_pixel_mut_checked(x, y)
            {
                *pixel = color;
            }
        }
    }
}

/// A number in white on the colour of its outline.
fn label(drawn: &mut RgbImage, corner: [i64; 2], text: &str, color: Rgb<u8>) {
    const MARGIN: u32 = 3;
    let (width, height) = drawn.dimensions();
    let (wide, tall) = (text.len() as u32 * LETTER + 2 * MARGIN, LETTER + 2 * MARGIN);
    // Inside the picture.
    let inside = |at: i64, side: u32, length: u32| {
        at.clamp(0, i64::from(side.saturating_sub(length))) as u32
    };
    let (left, top) = (
        inside(corner[0], width, wide),
        inside(corner[1], height, tall),
    );
    for y in top..(top + tall).min(height) {
        for x in left..(left + wide).min(width) {
            drawn.put_pixel(x, y, color);
        }
    }
    write(drawn, left + MARGIN, top + MARGIN, text, Rgb([255; 3]));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_region_can_be_drawn_on_any_picture() {
        let edge = REGION_SCALE - 1;
        let shapes = vec![
            RegionShape::Box([[edge, edge], [0, 0]]),
            RegionShape::Quad([[0, edge], [edge, 0], [5, 5], [edge, edge]]),
        ];
        let region = Region { name: None, shapes };
        for (width, height) in [(1, 1), (3, 400), (640, 2)] {
            let picture = RgbImage::new(width, height);
            let drawn = draw_regions(&picture, &vec![region.clone(); 120]);
            assert_eq!(drawn.dimensions(), (width, height));
            assert_ne!(drawn, picture);
        }
    }
}
