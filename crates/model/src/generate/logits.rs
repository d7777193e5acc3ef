//! Logits processors, as in `transformers` and in its order: repetition penalty, no repeated
//! n-grams, temperature, top-k, top-p.

use std::collections::HashSet;

use crate::GenerationConfig;

/// Applies the processors of a config to the logits of one row.
#[derive(Clone, Debug)]
pub struct LogitsProcessor {
    config: GenerationConfig,
}

impl LogitsProcessor {
    /// The processors of a config.
    #[must_use]
    pub fn new(config: GenerationConfig) -> Self {
        Self { config }
    }

    /// Processes the logits of the next token, `[vocab]`, after the generated ids of `history`.
    /// Excluded tokens become minus infinity.
    pub fn apply(&self, history: &[u32], logits: &mut [f32]) {
        let config = &self.config;
        if config.repetition_penalty != 1.0 {
            penalize_repetition(history, config.repetition_penalty, logits);
        }
        if config.no_repeat_ngram_size > 0 {
            forbid_repeated_ngrams(history, config.no_repeat_ngram_size, logits);
        }
        if !config.do_sample() {
            return;
        }
        if config.temperature != 1.0 {
            for logit in &mut *logits {
                *logit /= config.temperature;
            }
        }
        if config.top_k > 0 {
            keep_top_k(config.top_k, logits);
        }
        if config.top_p < 1.0 {
            keep_top_p(config.top_p, logits);
        }
    }
}

fn penalize_repetition(history: &[u32], penalty: f32, logits: &mut [f32]) {
    let seen: HashSet<u32> = history.iter().copied().collect();
    for id in seen {
        if let Some(logit) = logits.get_mut(id as usize) {
            *logit = if *logit < 0.0 {
                *logit * penalty
            } else {
                *logit / penalty
            };
        }
    }
}

fn forbid_repeated_ngrams(history: &[u32], size: usize, logits: &mut [f32]) {
    if history.len() + 1 < size {
        return;
    }
    let ending = &history[history.len() + 1 - size..];
    for run in history.windows(size) {
        let (last, start) = run.split_last().expect("size is at least 1");
        if start == ending
            && let Some(logit) = logits.get_mut(*last as usize)
        {
            *logit = f32::NEG_INFINITY;
        }
    }
}

fn keep_top_k(k: usize, logits: &mut [f32]) {
    if k >= logits.len() {
        return;
    }
    let mut sorted = logits.to_vec();
    // Logits equal to the k-th are kept too, as in the reference.
    let (_, &mut edge, _) = sorted.select_nth_unstable_by(k - 1, |a, b| b.total_cmp(a));
    for logit in logits {
        if *logit < edge {
            *logit = f32::NEG_INFINITY;
        }
    }
}

fn keep_top_p(p: f32, logits: &mut [f32]) {
    let mut order: Vec<usize> = (0..logits.len()).collect();
    order.sort_by(|&a, &b| logits[a].total_cmp(&logits[b]));
    let probabilities = softmax(logits);
    let mut below = 0.0;
    let likeliest = order.len().saturating_sub(1);
    for &id in &order[..likeliest] {
        below += probabilities[id];
        if below > f64::from(1.0 - p) {
            break;
        }
        logits[id] = f32::NEG_INFINITY;
    }
}

/// Softmax, summed in f64.
pub(crate) fn softmax(logits: &[f32]) -> Vec<f64> {
    let max = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let exponentials: Vec<f64> = logits
        .iter()
        .map(|&logit| f64::from(logit - max).exp())
        .collect();
    let total: f64 = exponentials.iter().sum();
    exponentials.into_iter().map(|e| e / total).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_ngram_is_not_finished_twice() {
        let mut logits = vec![0.0; 6];
        forbid_repeated_ngrams(&[1, 2, 3, 1, 2], 3, &mut logits);
        assert_eq!(logits[3], f32::NEG_INFINITY);
        assert!(logits.iter().filter(|logit| logit.is_finite()).count() == 5);
    }

    #[test]
    fn the_likeliest_token_always_stays() {
        let mut logits = vec![0.0, 5.0, 1.0];
        keep_top_p(1e-6, &mut logits);
        assert_eq!(logits, [f32::NEG_INFINITY, 5.0, f32::NEG_INFINITY]);
    }
}
