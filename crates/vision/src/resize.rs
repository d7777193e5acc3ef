//! Pillow's resampling, bit for bit (`src/libImaging/Resample.c` of Pillow): antialiased bicubic in fixed point, the
//! horizontal pass first, each pass rounded and clamped to u8.
//!
//! Padding and cropping are windows over the same arithmetic: padded pixels are never stored, and cropped ones never
//! computed, so memory is bounded by the picture and the output whatever the aspect ratio.

use image::RgbImage;

/// Fraction bits of a coefficient: 32 bits less 8 of a pixel and 2 of head room.
const PRECISION_BITS: u32 = 32 - 8 - 2;

/// A picture lying on a canvas of one colour.
pub(crate) struct Canvas<'a> {
    pub(crate) image: &'a RgbImage,
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Where the picture lies.
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) fill: [u8; 3],
}

/// The pixels of the scaled canvas that are wanted.
pub(crate) struct Window {
    /// Size of the whole scaled canvas.
    pub(crate) scaled_width: usize,
    pub(crate) scaled_height: usize,
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) size: usize,
}

/// Taps of the output pixels of one axis.
struct Taps {
    /// Per output pixel: first input pixel and range in `weights`.
    spans: Vec<(usize, std::ops::Range<usize>)>,
    weights: Vec<i32>,
}

/// Keys' cubic with a = -0.5.
fn bicubic(x: f64) -> f64 {
    const A: f64 = -0.5;
    let x = x.abs();
    if x < 1.0 {
        ((A + 2.0) * x - (A + 3.0)) * x * x + 1.0
    } else if x < 2.0 {
        (((x - 5.0) * x + 8.0) * x - 4.0) * A
    } else {
        0.0
    }
}

/// Taps for output pixels `from .. from + count` of an axis scaled from `input` to `output` pixels, or nothing where
/// the size stays and Pillow skips the pass.
fn taps(input: usize, output: usize, from: usize, count: usize) -> Option<Taps> {
    if input == output {
        return None;
    }
    let scale = input as f64 / output as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    let mut spans = Vec::with_capacity(count);
    let mut weights = Vec::new();
    for out in from..from + count {
        let center = (out as f64 + 0.5) * scale;
        // Casts truncate toward zero, as C's do; negative values stop at 0 either way.
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(input);
        let raw: Vec<f64> = (first..last)
            .map(|at| bicubic((at as f64 - center + 0.5) * (1.0 / filter_scale)))
            .collect();
        let total: f64 = raw.iter().sum();
        let start = weights.len();
        weights.extend(raw.into_iter().map(|weight| {
            let weight = if total == 0.0 { weight } else { weight / total };
            let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
            (if scaled < 0.0 {
                scaled - 0.5
            } else {
                scaled + 0.5
            }) as i32
        }));
        spans.push((first, start..weights.len()));
    }
    Some(Taps { spans, weights })
}

#[inline(always)]
fn clip8(sum: i32) -> u8 {
    (sum >> PRECISION_BITS).clamp(0, 255) as u8
}

const HALF: i32 = 1 << (PRECISION_BITS - 1);

/// Scales the canvas and returns the window's pixels, `size x size x 3`, row by row.
pub(crate) fn resize(canvas: &Canvas<'_>, window: &Window) -> Vec<u8> {
    // The same integer arithmetic, compiled for the widest vectors this processor has.
    pulp::Arch::new().dispatch(
        #[inline(always)]
        || scale(canvas, window),
    )
}

#[inline(always)]
fn scale(canvas: &Canvas<'_>, window: &Window) -> Vec<u8> {
    let size = window.size;
    let columns = taps(canvas.width, window.scaled_width, window.left, size);
    let rows = taps(canvas.height, window.scaled_height, window.top, size);

    // Canvas rows that the window needs and the picture covers.
    let needed = match &rows {
        None => window.top..window.top + size,
        Some(taps) => {
            let first = taps.spans[0].0;
            let (last, range) = &taps.spans[size - 1];
            first..last + range.len()
        }
    };
    let picture_rows = canvas.top..canvas.top + canvas.image.height() as usize;
    let covered = needed.start.max(picture_rows.start)..needed.end.min(picture_rows.end);
    let narrow = horizontal(canvas, &covered, columns.as_ref(), window.left, size);

    // Scaling a row of one colour gives that colour: the weights of a pixel sum to one within a rounding.
    let fill_row: Vec<u8> = canvas.fill.repeat(size);
    let row = |y: usize| -> &[u8] {
        if covered.contains(&y) {
            let at = (y - covered.start) * size * 3;
            &narrow[at..at + size * 3]
        } else {
            &fill_row
        }
    };
    let mut output = Vec::with_capacity(size * size * 3);
    match &rows {
        None => (window.top..window.top + size).for_each(|y| output.extend_from_slice(row(y))),
        Some(taps) => {
            let mut sums = vec![0_i32; size * 3];
            for (first, range) in &taps.spans {
                sums.fill(HALF);
                for (offset, &weight) in taps.weights[range.clone()].iter().enumerate() {
                    for (sum, &pixel) in sums.iter_mut().zip(row(first + offset)) {
                        *sum += i32::from(pixel) * weight;
                    }
                }
                output.extend(sums.iter().map(|&sum| clip8(sum)));
            }
        }
    }
    output
}

/// The horizontal pass over the covered rows: `rows x size x 3`.
#[inline(always)]
fn horizontal(
    canvas: &Canvas<'_>,
    covered: &std::ops::Range<usize>,
    taps: Option<&Taps>,
    left: usize,
    size: usize,
) -> Vec<u8> {
    let stride = canvas.image.width() as usize * 3;
    let pixels = canvas.image.as_raw();
    let padded = canvas.width != canvas.image.width() as usize;
    let mut buffer = if padded {
        canvas.fill.repeat(canvas.width)
    } else {
        Vec::new()
    };
    let mut narrow = Vec::with_capacity(covered.len() * size * 3);
    // One row with a fourth, empty channel, so that a pixel is one vector of four lanes.
    let mut lanes: Vec<[i32; 4]> = Vec::with_capacity(canvas.width);
    for y in covered.clone() {
        let at = (y - canvas.top) * stride;
        let picture_row = &pixels[at..at + stride];
        let row = if padded {
            buffer[canvas.left * 3..canvas.left * 3 + stride].copy_from_slice(picture_row);
            &buffer[..]
        } else {
            picture_row
        };
        match taps {
            None => narrow.extend_from_slice(&row[left * 3..(left + size) * 3]),
            Some(taps) => {
                lanes.clear();
                lanes.extend(row.chunks_exact(3).map(|pixel| {
                    [
                        i32::from(pixel[0]),
                        i32::from(pixel[1]),
                        i32::from(pixel[2]),
                        0,
                    ]
                }));
                for (first, range) in &taps.spans {
                    let weights = &taps.weights[range.clone()];
                    let mut sums = [HALF; 4];
                    for (pixel, &weight) in lanes[*first..].iter().zip(weights) {
                        for (sum, &value) in sums.iter_mut().zip(pixel) {
                            *sum += value * weight;
                        }
                    }
                    let [red, green, blue, _] = sums.map(clip8);
                    narrow.extend([red, green, blue]);
                }
            }
        }
    }
    narrow
}
