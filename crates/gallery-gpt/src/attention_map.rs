//! Maps of the decoder's attention to a picture.

use std::ops::Range;

use image::{Rgb, RgbImage};

use crate::{
    GalleryError, GalleryGpt,
    model::{GenerationError, Prompt},
    projector::ProjectorKind,
    text::IMAGE_TOKEN_INDEX,
};

/// The decoder's attention to each patch of a picture while it generated a phrase of its answer.
///
/// It is the attention of the positions that predict the phrase's tokens, averaged over these
/// tokens and over all heads of all blocks, divided by the same average for the whole answer. So 1
/// is as much as on average, 2 is twice as much.
///
/// It is not an explanation: the tower has already mixed each patch's features with those of all
/// other patches, and information that decided a word may have reached it through earlier blocks or
/// earlier tokens.
#[derive(Clone, Debug, PartialEq)]
pub struct AttentionMap {
    /// Relative attention per patch, row by row, `side * side`.
    pub patches: Vec<f32>,
    /// Patches per row.
    pub side: usize,
}

impl AttentionMap {
    /// The picture, dark where attention is least and with a warm tone where it is most. Parts that
    /// were cropped are grey.
    #[must_use]
    pub fn overlay(&self, gallery: &GalleryGpt, picture: &RgbImage) -> RgbImage {
        self.toned(gallery, picture).0
    }

    /// The overlay, and its minimum and maximum of attention.
    pub(crate) fn toned(&self, gallery: &GalleryGpt, picture: &RgbImage) -> (RgbImage, [f32; 2]) {
        let (width, height) = picture.dimensions();
        let field = gallery.processor().field_of_view(width, height);
        let seen = |at: f64| (0.0..1.0).contains(&at);
        let place = |x: u32, y: u32| {
            let across = (f64::from(x) + 0.5 - field.left) / field.width;
            let down = (f64::from(y) + 0.5 - field.top) / field.height;
            (seen(across) && seen(down)).then_some((across, down))
        };
        // Scaled to the range on the picture itself, because padding often gets much attention.
        let values: Vec<Option<f32>> = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| place(x, y).map(|(across, down)| self.at(across, down)))
            .collect();
        let known = values.iter().flatten().copied();
        let least = known.clone().fold(f32::INFINITY, f32::min);
        let most = known.fold(f32::NEG_INFINITY, f32::max);
        let range = (most - least).max(f32::EPSILON);
        let toned = RgbImage::from_fn(width, height, |x, y| {
            let pixel = picture.get_pixel(x, y).0;
            match values[(y * width + x) as usize] {
                None => {
                    let grey = pixel.iter().map(|&level| u32::from(level)).sum::<u32>() / 3;
                    Rgb([(grey / 3 + 128) as u8; 3])
                }
                Some(value) => warm(pixel, (value - least) / range),
            }
        });
        (toned, [least, most])
    }

    /// The value at a position of the tower's square, interpolated linearly between the centres of
    /// patches.
    fn at(&self, across: f64, down: f64) -> f32 {
        let last = self.side - 1;
        let cell = |at: f64| {
            let at = (at * self.side as f64 - 0.5).clamp(0.0, last as f64);
            let low = at.floor() as usize;
            (low, (low + 1).min(last), (at - low as f64) as f32)
        };
        let ((left, right, x), (top, bottom, y)) = (cell(across), cell(down));
        let patch = |row: usize, column: usize| self.patches[row * self.side + column];
        let row = |row| patch(row, left) * (1.0 - x) + patch(row, right) * x;
        row(top) * (1.0 - y) + row(bottom) * y
    }
}

/// Tones a pixel by an attention from 0 to 1.
pub(crate) fn warm(pixel: [u8; 3], attention: f32) -> Rgb<u8> {
    const TONE: [f32; 3] = [255.0, 176.0, 46.0];
    let bright = 0.3 + 0.7 * attention;
    let tinted = 0.45 * attention * attention;
    Rgb(std::array::from_fn(|channel| {
        let level = f32::from(pixel[channel]) * bright;
        (level * (1.0 - tinted) + TONE[channel] * tinted).round() as u8
    }))
}

impl GalleryGpt {
    /// The attention to each picture of the prompt while a phrase of an answer was generated. This
    /// takes one more forward pass over prompt and answer, which keeps the attention of the
    /// answer's positions only.
    ///
    /// # Errors
    /// The model has a resampler, so that no token is a patch; the phrase is not in the answer, the prompt's placeholders and pictures do not match, or
    /// prompt and answer exceed the context.
    ///
    /// # Panics
    /// Never: attention is read in f32.
    pub fn attention_maps(
        &self,
        prompt: &Prompt,
        answer: &[u32],
        phrase: &str,
    ) -> Result<Vec<AttentionMap>, GalleryError> {
        let words = self.tokens_of(answer, phrase)?;
        let model = self.model();
        let config = model.config();
        let patches = config.tokens_per_picture();
        if let ProjectorKind::Resampler { .. } = config.projector {
            return Err(GalleryError::NoPatches { tokens: patches });
        }
        let mut ids = prompt.input_ids.clone();
        ids.extend(answer.iter().map(|&id| i64::from(id)));
        let plan = model
            .plan(std::slice::from_ref(&ids), &prompt.pictures)
            .map_err(GenerationError::from)?;
        let (length, context) = (plan.seq(), config.llama.max_position_embeddings);
        if length > context {
            return Err(GenerationError::PromptTooLong {
                row: 0,
                length,
                context,
            }
            .into());
        }
        let embeds = model.embed(&plan, model.pixel_values(&prompt.pictures));
        // The position before a token predicts it.
        let first = length - answer.len() - 1;
        let positions: Vec<usize> = (first..length - 1).collect();
        let attention = model.language_model.mean_attention(embeds, &positions);
        let rows: Vec<f32> = attention
            .into_data()
            .try_into_vec()
            .expect("attention is f32");
        let mean = |tokens: Range<usize>, slot: usize| {
            let sum: f32 = tokens
                .clone()
                .map(|token| rows[token * length + slot])
                .sum();
            sum / tokens.len() as f32
        };
        // A class token before the patches has no position in the picture.
        let side = (config.vision.num_patches() as f64).sqrt() as usize;
        let skipped = patches - side * side;
        let mut slot = 0;
        let mut maps = Vec::with_capacity(prompt.pictures.len());
        for id in &prompt.input_ids {
            if *id != IMAGE_TOKEN_INDEX {
                slot += 1;
                continue;
            }
            let relative = (slot + skipped..slot + patches)
                .map(|slot| mean(words.clone(), slot) / mean(0..answer.len(), slot).max(1e-12));
            maps.push(AttentionMap {
                patches: relative.collect(),
                side,
            });
            slot += patches;
        }
        Ok(maps)
    }

    /// The tokens of an answer that contain a phrase.
    fn tokens_of(&self, answer: &[u32], phrase: &str) -> Result<Range<usize>, GalleryError> {
        let missing = || GalleryError::NoPhrase {
            phrase: phrase.to_owned(),
            answer: self.text_of(answer),
        };
        let ends: Vec<usize> = (0..=answer.len())
            .map(|count| self.tokenizer().decode(&answer[..count], true).len())
            .collect();
        let text = self.tokenizer().decode(answer, true);
        // If the exact phrase is not in the answer, case is ignored.
        let folded = || {
            let (text, phrase) = (text.to_lowercase(), phrase.to_lowercase());
            text.find(&phrase).map(|start| start..start + phrase.len())
        };
        let exact = text.find(phrase).map(|start| start..start + phrase.len());
        let Range { start, end } = exact.or_else(folded).ok_or_else(missing)?;
        let tokens =
            (0..answer.len()).filter(|&token| ends[token] < end && ends[token + 1] > start);
        let (first, last) = (tokens.clone().min(), tokens.max());
        first
            .zip(last)
            .map(|(first, last)| first..last + 1)
            .ok_or_else(missing)
    }
}
