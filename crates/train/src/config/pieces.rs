//! Sizes of the chunks in which a step is computed, used by the step and by the memory plan.

/// Rows of logits in memory at a time, whatever the batch: 1024 rows of 32000 in f32 are 131 MB.
pub(crate) const LOGIT_ROWS: usize = 1024;

/// Tokens that one thread computes at a time, if rows are short enough: its working set then stays in the cache. On two cores a step of
/// 16 records of the sample at width 512 took 6.4 s in 8 or 16 parts, 7.6 s in 4 and 10.3 s in 2.
pub(crate) const PART_TOKENS: usize = 512;

/// Steps whose batches are prefetched.
pub(crate) const PREFETCHED_STEPS: usize = 3;
