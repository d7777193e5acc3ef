//! Pillow's bicubic resampling, bit for bit (`src/libImaging/Resample.c` of Pillow): antialiased,
//! in fixed point, horizontal pass first, each pass rounded and clamped to u8.
//!
//! The picture is streamed row by row and never stored. Padded pixels are neither stored nor
//! weighted one by one, and cropped ones are not computed. So time is linear in the picture's
//! pixels, and memory in its width, its height and the output, for any aspect ratio.

use crate::weighted_sum::{HALF, PRECISION_BITS, Portable, Weigh, levels};

/// A picture on a canvas of one colour.
pub(crate) struct Canvas {
    /// Size of the picture.
    pub(crate) picture: [usize; 2],
    pub(crate) width: usize,
    pub(crate) height: usize,
    /// Position of the picture.
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) fill: [u8; 3],
}

/// The part of the scaled canvas that is computed.
pub(crate) struct Window {
    /// Size of the whole scaled canvas.
    pub(crate) scaled_width: usize,
    pub(crate) scaled_height: usize,
    pub(crate) left: usize,
    pub(crate) top: usize,
    pub(crate) size: usize,
}

/// One axis of a canvas: its length, and the part that the picture covers.
#[derive(Clone, Copy)]
struct Axis {
    canvas: usize,
    start: usize,
    picture: usize,
}

/// The inputs of an output pixel along one axis.
struct Tap {
    /// First input pixel.
    start: usize,
    /// Weights of that pixel and the following ones.
    weights: std::ops::Range<usize>,
    /// Sum of the weights of padded pixels.
    outside: i32,
}

/// Taps of the output pixels along one axis.
struct Taps {
    taps: Vec<Tap>,
    weights: Vec<i32>,
}

impl Taps {
    /// Taps of output pixels `from .. from + count` of an axis scaled to `output` pixels.
    fn new(axis: Axis, output: usize, from: usize, count: usize) -> Self {
        let mut taps = Vec::with_capacity(count);
        let mut weights = Vec::new();
        let mut raw = Vec::new();
        let picture = axis.start..axis.start + axis.picture;
        for out in from..from + count {
            let first = fixed_weights(axis.canvas, output, out, &mut raw);
            let begun = weights.len();
            let mut start = None;
            let mut outside = 0;
            for (at, &weight) in (first..).zip(&raw) {
                if picture.contains(&at) {
                    start.get_or_insert(at - picture.start);
                    weights.push(weight);
                } else {
                    outside += weight;
                }
            }
            taps.push(Tap {
                start: start.unwrap_or(0),
                weights: begun..weights.len(),
                outside,
            });
        }
        Self { taps, weights }
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

/// Weights of an output pixel in fixed point, and the first input pixel they belong to. If the size
/// does not change, Pillow skips the pass, so the weight is one pixel's.
fn fixed_weights(input: usize, output: usize, out: usize, weights: &mut Vec<i32>) -> usize {
    weights.clear();
    if input == output {
        weights.push(1 << PRECISION_BITS);
        return out;
    }
    let scale = input as f64 / output as f64;
    let filter_scale = scale.max(1.0);
    let support = 2.0 * filter_scale;
    let center = (out as f64 + 0.5) * scale;
    // Casts truncate toward zero as in C; negative values are clamped to 0 either way.
    let first = (center - support + 0.5).max(0.0) as usize;
    let last = ((center + support + 0.5) as usize).min(input);
    let raw = |at: usize| bicubic((at as f64 - center + 0.5) * (1.0 / filter_scale));
    let total: f64 = (first..last).map(raw).sum();
    weights.extend((first..last).map(|at| {
        let weight = raw(at);
        let weight = if total == 0.0 { weight } else { weight / total };
        let scaled = weight * f64::from(1_u32 << PRECISION_BITS);
        (if scaled < 0.0 {
            scaled - 0.5
        } else {
            scaled + 0.5
        }) as i32
    }));
    first
}

/// Rows per horizontal pass: their pixels are interleaved, four bytes each, so that one weight
/// applies to all of them.
const ROWS: usize = 4;

/// Row stride after the horizontal pass: a multiple of sixteen, and larger than the row, because
/// pixels are written as four bytes.
fn row_stride(size: usize) -> usize {
    (size * 3 + 1).next_multiple_of(16)
}

/// Scales a canvas whose picture is streamed row by row, from the top.
pub(crate) struct Scaler {
    columns: Taps,
    rows: Taps,
    size: usize,
    fill: [u8; 3],
    /// Interleaved pixels of up to [`ROWS`] rows.
    lanes: Vec<[u8; 4 * ROWS]>,
    waiting: usize,
    /// Rows that are done with the horizontal pass or were skipped.
    done: usize,
    /// First output row that following rows may still contribute to.
    open: usize,
    narrow: Vec<u8>,
    /// Sums of the output, `size x row_stride(size)`.
    sums: Vec<i32>,
}

impl Scaler {
    pub(crate) fn new(canvas: &Canvas, window: &Window) -> Self {
        let size = window.size;
        let [width, height] = canvas.picture;
        let across = Axis {
            canvas: canvas.width,
            start: canvas.left,
            picture: width,
        };
        let down = Axis {
            canvas: canvas.height,
            start: canvas.top,
            picture: height,
        };
        let columns = Taps::new(across, window.scaled_width, window.left, size);
        let rows = Taps::new(down, window.scaled_height, window.top, size);
        let stride = row_stride(size);
        let mut sums = vec![0; size * stride];
        for (tap, sums) in rows.taps.iter().zip(sums.chunks_exact_mut(stride)) {
            // A scaled row of one colour has that colour: the weights of a pixel sum up to one
            // within rounding.
            for (sum, &level) in sums.iter_mut().zip(canvas.fill.iter().cycle()) {
                *sum = HALF + i32::from(level) * tap.outside;
            }
        }
        Self {
            columns,
            rows,
            size,
            fill: canvas.fill,
            lanes: vec![[0; 4 * ROWS]; width],
            waiting: 0,
            done: 0,
            open: 0,
            narrow: vec![0; ROWS * stride],
            sums,
        }
    }

    /// Pushes the next row of the picture, `width * 3` levels.
    pub(crate) fn push(&mut self, row: &[u8]) {
        let next = self.done + self.waiting;
        let needed = |tap: &Tap| (tap.start..tap.start + tap.weights.len()).contains(&next);
        if self.waiting == 0 && !self.rows.taps.iter().any(needed) {
            self.done += 1;
            return;
        }
        for (lane, &[red, green, blue]) in self.lanes.iter_mut().zip(row.as_chunks().0) {
            lane.as_chunks_mut().0[self.waiting] = [red, green, blue, 0];
        }
        self.waiting += 1;
        if self.waiting == ROWS {
            self.scale_waiting();
        }
    }

    /// The window's pixels, `size x size x 3`, row by row.
    pub(crate) fn finish(mut self) -> Vec<u8> {
        self.scale_waiting();
        let rows = self.sums.chunks_exact(row_stride(self.size));
        rows.flat_map(|row| row[..self.size * 3].iter().map(|&sum| levels(sum)))
            .collect()
    }

    fn scale_waiting(&mut self) {
        #[cfg(target_arch = "x86_64")]
        if let Some(simd) = pulp::x86::V3::try_new() {
            return simd.vectorize(
                #[inline(always)]
                || self.scale(simd),
            );
        }
        self.scale(Portable);
    }

    #[inline(always)]
    fn scale(&mut self, way: impl Weigh) {
        let stride = row_stride(self.size);
        let [red, green, blue] = self.fill.map(i32::from);
        for (x, tap) in self.columns.taps.iter().enumerate() {
            let weights = &self.columns.weights[tap.weights.clone()];
            let beside = [red, green, blue, 0].map(|level| HALF + level * tap.outside);
            let from = std::array::from_fn(|at| beside[at % 4]);
            let inputs = self.lanes[tap.start..].iter().zip(weights);
            let levels = way.weigh(&from, inputs.map(|(lane, &weight)| (lane, weight)));
            let rows = self.narrow.chunks_exact_mut(stride);
            for (row, pixel) in rows.zip(levels.as_chunks::<4>().0) {
                row[x * 3..][..4].copy_from_slice(pixel);
            }
        }
        for (nth, narrow) in self
            .narrow
            .chunks_exact(stride)
            .take(self.waiting)
            .enumerate()
        {
            let y = self.done + nth;
            let outputs = self.rows.taps.iter().enumerate().skip(self.open);
            let near = outputs.take_while(|(_, tap)| tap.start <= y);
            for (out, tap) in near {
                let Some(&weight) = self.rows.weights[tap.weights.clone()].get(y - tap.start)
                else {
                    continue;
                };
                let sums = &mut self.sums[out * stride..][..stride];
                for (sum, &level) in sums.iter_mut().zip(narrow) {
                    *sum += i32::from(level) * weight;
                }
            }
            let passed = |tap: &&Tap| tap.start + tap.weights.len() <= y + 1;
            let rest = self.rows.taps[self.open..].iter();
            self.open += rest.take_while(passed).count();
        }
        self.done += self.waiting;
        self.waiting = 0;
    }
}
