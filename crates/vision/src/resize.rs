//! Pillow's resampling, bit for bit (`src/libImaging/Resample.c` of Pillow): antialiased bicubic in fixed point, the
//! horizontal pass first, each pass rounded and clamped to u8.
//!
//! Padding and cropping are windows over the same arithmetic: padded pixels are never stored, and cropped ones never
//! computed, so memory is bounded by the picture and the output whatever the aspect ratio.

use image::RgbImage;

use crate::weighted_sum::{PRECISION_BITS, Portable, Weigh};

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

/// Taps of the output pixels of one axis: as many for each, zeros behind the last that counts, so that the loop over
/// them is as long for every pixel.
struct Taps {
    /// First input pixel of each output pixel.
    starts: Vec<usize>,
    /// Input pixels of an output pixel.
    count: usize,
    /// `count` of each output pixel.
    weights: Vec<i32>,
}

impl Taps {
    /// First input pixel and weights of an output pixel.
    #[inline(always)]
    fn of(&self, out: usize) -> (usize, &[i32]) {
        (
            self.starts[out],
            &self.weights[out * self.count..][..self.count],
        )
    }
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
    let range = |out: usize| {
        let center = (out as f64 + 0.5) * scale;
        // Casts truncate toward zero, as C's do; negative values stop at 0 either way.
        let first = (center - support + 0.5).max(0.0) as usize;
        let last = ((center + support + 0.5) as usize).min(input);
        (center, first..last)
    };
    let outputs = from..from + count;
    let longest = outputs.clone().map(|out| range(out).1.len()).max()?;
    let mut starts = Vec::with_capacity(count);
    let mut weights = Vec::with_capacity(count * longest);
    for out in outputs {
        let (center, inputs) = range(out);
        starts.push(inputs.start);
        let raw: Vec<f64> = inputs
            .map(|at| bicubic((at as f64 - center + 0.5) * (1.0 / filter_scale)))
            .collect();
        let total: f64 = raw.iter().sum();
        weights.extend(raw.into_iter().map(|weight| {
            let weight = if total == 0.0 { weight } else { weight / total };
            let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
            (if scaled < 0.0 {
                scaled - 0.5
            } else {
                scaled + 0.5
            }) as i32
        }));
        weights.resize(starts.len() * longest, 0);
    }
    Some(Taps {
        starts,
        count: longest,
        weights,
    })
}

/// Scales the canvas and returns the window's pixels, `size x size x 3`, row by row.
pub(crate) fn resize(canvas: &Canvas<'_>, window: &Window) -> Vec<u8> {
    #[cfg(target_arch = "x86_64")]
    if let Some(simd) = pulp::x86::V3::try_new() {
        return simd.vectorize(
            #[inline(always)]
            || scale(simd, canvas, window),
        );
    }
    scale(Portable, canvas, window)
}

#[inline(always)]
fn scale(way: impl Weigh, canvas: &Canvas<'_>, window: &Window) -> Vec<u8> {
    let size = window.size;
    let columns = taps(canvas.width, window.scaled_width, window.left, size);
    let rows = taps(canvas.height, window.scaled_height, window.top, size);

    // Canvas rows that the window needs and the picture covers.
    let needed = match &rows {
        None => window.top..window.top + size,
        Some(taps) => taps.starts[0]..taps.starts[size - 1] + taps.count,
    };
    let picture_rows = canvas.top..canvas.top + canvas.image.height() as usize;
    let covered = needed.start.max(picture_rows.start)..needed.end.min(picture_rows.end);
    let narrow = horizontal(way, canvas, &covered, columns.as_ref(), window.left, size);

    // Scaling a row of one colour gives that colour: the weights of a pixel sum to one within a rounding.
    let mut fill_row = canvas.fill.repeat(size);
    fill_row.resize(row_stride(size), 0);
    let row = |y: usize| -> &[[u8; 16]] {
        let row = if covered.contains(&y) {
            &narrow[(y - covered.start) * row_stride(size)..][..row_stride(size)]
        } else {
            &fill_row
        };
        row.as_chunks().0
    };
    let Some(taps) = rows else {
        let wanted = (window.top..window.top + size).map(row);
        return wanted
            .flat_map(|row| &row.as_flattened()[..size * 3])
            .copied()
            .collect();
    };
    let mut output = vec![0; size * size * 3];
    for (y, out) in output.chunks_exact_mut(size * 3).enumerate() {
        let (start, weights) = taps.of(y);
        let inputs: Vec<(&[[u8; 16]], i32)> = (start..)
            .map(row)
            .zip(weights.iter().copied())
            .filter(|&(_, weight)| weight != 0)
            .collect();
        for (nth, out) in out.chunks_mut(16).enumerate() {
            let levels = way.weigh(inputs.iter().map(|&(row, weight)| (&row[nth], weight)));
            out.copy_from_slice(&levels[..out.len()]);
        }
    }
    output
}

/// Rows that the horizontal pass takes at once: their pixels lie side by side, four bytes each, so that one weight
/// goes to all of them.
const ROWS: usize = 4;

/// Bytes from one row to the next after the horizontal pass: whole groups of sixteen, and at least one more than the
/// pixels have, for they are written four bytes at a time.
fn row_stride(size: usize) -> usize {
    (size * 3 + 1).next_multiple_of(16)
}

/// The horizontal pass over the covered rows: `rows x row_stride(size)`.
#[inline(always)]
fn horizontal(
    way: impl Weigh,
    canvas: &Canvas<'_>,
    covered: &std::ops::Range<usize>,
    taps: Option<&Taps>,
    left: usize,
    size: usize,
) -> Vec<u8> {
    let width = canvas.image.width() as usize;
    let pixels = canvas.image.as_raw();
    let picture_row = |y: usize| &pixels[(y - canvas.top) * width * 3..][..width * 3];
    let stride = row_stride(size);
    let mut narrow = vec![0; covered.len() * stride];
    let Some(taps) = taps else {
        // As wide as the canvas: only padded and cut.
        let mut row = canvas.fill.repeat(canvas.width);
        for (y, out) in covered.clone().zip(narrow.chunks_exact_mut(stride)) {
            row[canvas.left * 3..][..width * 3].copy_from_slice(picture_row(y));
            out[..size * 3].copy_from_slice(&row[left * 3..(left + size) * 3]);
        }
        return narrow;
    };
    let [red, green, blue] = canvas.fill;
    let fill = std::array::from_fn(|at| [red, green, blue, 0][at % 4]);
    let mut lanes: Vec<[u8; 4 * ROWS]> = vec![fill; canvas.width + taps.count];
    for (block, out) in narrow.chunks_mut(ROWS * stride).enumerate() {
        let rows = out.len() / stride;
        for nth in 0..rows {
            let source = picture_row(covered.start + block * ROWS + nth)
                .as_chunks()
                .0;
            for (lane, &[red, green, blue]) in lanes[canvas.left..].iter_mut().zip(source) {
                lane.as_chunks_mut().0[nth] = [red, green, blue, 0];
            }
        }
        for x in 0..size {
            let (start, weights) = taps.of(x);
            let inputs = lanes[start..][..taps.count].iter().zip(weights);
            let levels = way.weigh(inputs.map(|(lane, &weight)| (lane, weight)));
            for (row, pixel) in out.chunks_exact_mut(stride).zip(levels.as_chunks::<4>().0) {
                row[x * 3..][..4].copy_from_slice(pixel);
            }
        }
    }
    narrow
}
