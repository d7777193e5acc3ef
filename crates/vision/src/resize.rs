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

/// Rows that the horizontal pass takes at once: their pixels, with a fourth, empty channel, are one vector of eight lanes.
const ROWS: usize = 2;

/// The horizontal pass over the covered rows: `rows x size x 3`.
#[inline(always)]
fn horizontal(
    canvas: &Canvas<'_>,
    covered: &std::ops::Range<usize>,
    taps: Option<&Taps>,
    left: usize,
    size: usize,
) -> Vec<u8> {
    let width = canvas.image.width() as usize;
    let pixels = canvas.image.as_raw();
    let picture_row = |y: usize| &pixels[(y - canvas.top) * width * 3..][..width * 3];
    let mut narrow = vec![0; covered.len() * size * 3];
    let Some(taps) = taps else {
        // As wide as the canvas: only padded and cut.
        let mut row = canvas.fill.repeat(canvas.width);
        for (y, out) in covered.clone().zip(narrow.chunks_exact_mut(size * 3)) {
            row[canvas.left * 3..][..width * 3].copy_from_slice(picture_row(y));
            out.copy_from_slice(&row[left * 3..(left + size) * 3]);
        }
        return narrow;
    };
    let mut lanes = vec![[0_i32; 4 * ROWS]; canvas.width];
    for lane in &mut lanes {
        for pixel in lane.chunks_exact_mut(4) {
            for (level, fill) in pixel.iter_mut().zip(canvas.fill) {
                *level = i32::from(fill);
            }
        }
    }
    for (block, out) in narrow.chunks_mut(ROWS * size * 3).enumerate() {
        let rows = out.len() / (size * 3);
        // A last block of fewer rows repeats its last one; what comes of that is not kept.
        let sources: [&[u8]; ROWS] = std::array::from_fn(|nth| {
            picture_row(covered.start + block * ROWS + nth.min(rows - 1))
        });
        let inside = &mut lanes[canvas.left..canvas.left + width];
        for (x, lane) in inside.iter_mut().enumerate() {
            for (pixel, source) in lane.chunks_exact_mut(4).zip(sources) {
                for channel in 0..3 {
                    pixel[channel] = i32::from(source[3 * x + channel]);
                }
            }
        }
        for (x, (first, range)) in taps.spans.iter().enumerate() {
            let mut sums = [HALF; 4 * ROWS];
            for (lane, &weight) in lanes[*first..].iter().zip(&taps.weights[range.clone()]) {
                sums = std::array::from_fn(|at| sums[at] + lane[at] * weight);
            }
            let levels = sums.map(clip8);
            for nth in 0..rows {
                let at = (nth * size + x) * 3;
                out[at..at + 3].copy_from_slice(&levels[4 * nth..4 * nth + 3]);
            }
        }
    }
    narrow
}
