//! Smaller weights for generation.

use crate::GalleryGpt;
#[cfg(feature = "flex")]
use crate::llama::{BlockFormat, DecoderBlock};

impl GalleryGpt {
    /// Quantizes the decoder's blocks to 8 bits with a scale for each output, on any device: half the memory of bf16. A CPU dequantizes
    /// a weight each time it is used; `quantize_blocks` is faster there. For generation; load the adapter first.
    #[must_use]
    pub fn quantize(self) -> Self {
        let model = self.model().clone().quantize();
        self.with_model(model)
    }

    /// Quantizes the decoder's blocks to a block format of GGUF, on the CPU. Products are computed from the blocks. Linear layers whose
    /// width the format's blocks do not divide get 8 bits, or stay as they are ([`GalleryGpt::block_formats`]); embedding, norms,
    /// head and adapters keep their precision. For generation, with or without an adapter loaded; it cannot be merged later.
    ///
    /// ```no_run
    /// use gallery_gpt::{llama::BlockFormat, prelude::*};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let gallery = GalleryGpt::load("llava-1.5-7b-hf", &Device::flex())?;
    /// let gallery = gallery.quantize_blocks(BlockFormat::Q4K);
    /// # Ok(()) }
    /// ```
    ///
    /// # Panics
    /// If the model is not on the CPU.
    #[cfg(feature = "flex")]
    #[must_use]
    pub fn quantize_blocks(self, format: BlockFormat) -> Self {
        assert!(
            crate::pipeline::is_cpu(&self.model().language_model.device()),
            "block formats are for the CPU"
        );
        let model = self.model().clone().quantize_blocks(format);
        self.with_model(model)
    }

    /// The block formats of the linear layers of the decoder's blocks, and how many have each; `None` counts those without.
    #[cfg(feature = "flex")]
    #[must_use]
    pub fn block_formats(&self) -> Vec<(Option<BlockFormat>, usize)> {
        let mut counts: Vec<(Option<BlockFormat>, usize)> = Vec::new();
        let layers = self.model().language_model.layers.iter();
        for (_, linear) in layers.flat_map(DecoderBlock::linears) {
            let format = linear.block_format();
            match counts.iter_mut().find(|(known, _)| *known == format) {
                Some((_, count)) => *count += 1,
                None => counts.push((format, 1)),
            }
        }
        counts
    }
}
