//! Bounds of a config's sizes: far above every model, and such that no product of them overflows.

pub(super) const WIDTH: u64 = 1 << 20;
pub(super) const HEADS: u64 = 1 << 16;
pub(super) const LAYERS: u64 = 1 << 16;
pub(super) const ROWS: u64 = 1 << 26;
pub(super) const CONTEXT: u64 = 1 << 30;
pub(super) const PIXELS: u64 = 1 << 16;
/// Patches on a side of a picture, where no tensor of positions bounds them. Qwen-VL-Chat has 32.
pub(super) const GRID: usize = 64;
