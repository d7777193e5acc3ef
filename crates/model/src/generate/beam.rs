//! Beam search, equal to that of `transformers` 5: several hypotheses are kept, finished ones
//! compete by their length-normalised log-probability, and the search ends when no running one can
//! still win.

use super::{prefill::DecoderState, stop::StopStrings};
use crate::{
    CancelToken, EarlyStopping, FinishReason, Generation, GenerationConfig, GenerationError,
    LogitsProcessor,
};

/// A finished hypothesis.
#[derive(Clone, Debug, PartialEq)]
pub struct Hypothesis {
    /// The generated tokens.
    pub generation: Generation,
    /// Sum of the log-probabilities, divided by the length to the power of `length_penalty`.
    pub score: f32,
}

struct Running {
    ids: Vec<u32>,
    score: f32,
}

struct Candidate {
    beam: usize,
    id: u32,
    score: f32,
    /// How the hypothesis ends with this token, if it does.
    end: Option<End>,
}

/// How a hypothesis ends.
#[derive(Clone)]
enum End {
    StopId(u32),
    StopString(String),
    Length,
}

/// The search for one prompt.
struct Search<'a> {
    config: &'a GenerationConfig,
    processor: LogitsProcessor,
    stops: Option<StopStrings<'a>>,
    max_new_tokens: usize,
    running: Vec<Running>,
    /// Best first, at most `num_beams`.
    finished: Vec<Hypothesis>,
    /// Whether a running hypothesis can still beat the finished ones.
    improvable: bool,
}

/// Searches from the prefilled prompt of one row: the best hypotheses, best first, at most
/// `num_beams` of them.
///
/// # Errors
/// The model's logits are not finite, or the search is cancelled.
pub(super) fn search(
    mut state: DecoderState<'_>,
    config: &GenerationConfig,
    stops: Option<StopStrings<'_>>,
    cancel: &CancelToken,
) -> Result<Vec<Hypothesis>, GenerationError> {
    let room = state.context() - state.row_lengths()[0];
    let mut search = Search {
        config,
        processor: LogitsProcessor::new(config.clone()),
        stops,
        max_new_tokens: config.max_new_tokens.min(room),
        // All beams would start with the same hypothesis.
        running: vec![Running {
            ids: Vec::new(),
            score: 0.0,
        }],
        finished: Vec::new(),
        improvable: true,
    };
    loop {
        if cancel.is_cancelled() {
            return Err(GenerationError::Cancelled);
        }
        let candidates = search.candidates(state.next_logits())?;
        let beams = search.advance(&candidates);
        if search.is_over(&candidates) {
            return Ok(search.finished);
        }
        let ids = search.running.iter().filter_map(|beam| beam.ids.last());
        let ids: Vec<i64> = ids.map(|id| i64::from(*id)).collect();
        state.select_rows(&beams);
        state.decode(&ids);
    }
}

impl Search<'_> {
    /// The likeliest continuations of all running hypotheses, best first, given the logits of each.
    fn candidates(&self, logits: Vec<Vec<f32>>) -> Result<Vec<Candidate>, GenerationError> {
        let config = self.config;
        let keep = config.num_beams * (1 + config.stop_ids.len()).max(2);
        let length = self.running[0].ids.len();
        let mut candidates = Vec::new();
        for (beam, (running, mut logits)) in self.running.iter().zip(logits).enumerate() {
            if logits.iter().any(|logit| logit.is_nan()) {
                return Err(GenerationError::NotFinite {
                    row: beam,
                    token: length,
                });
            }
            log_softmax(&mut logits);
            self.processor.apply(&running.ids, &mut logits);
            let each = logits.into_iter().enumerate();
            candidates.extend(each.map(|(id, log_probability)| Candidate {
                beam,
                id: id as u32,
                score: log_probability + running.score,
                end: None,
            }));
        }
        let better = |a: &Candidate, b: &Candidate| b.score.total_cmp(&a.score);
        if candidates.len() > keep {
            candidates.select_nth_unstable_by(keep - 1, better);
            candidates.truncate(keep);
        }
        candidates.sort_by(|a, b| better(a, b).then((a.beam, a.id).cmp(&(b.beam, b.id))));
        for candidate in &mut candidates {
            candidate.end = if config.stop_ids.contains(&candidate.id) {
                Some(End::StopId(candidate.id))
            } else if let Some(stop) = self.stop_string(candidate) {
                Some(End::StopString(stop))
            } else {
                (length + 1 >= self.max_new_tokens).then_some(End::Length)
            };
        }
        Ok(candidates)
    }

    /// Moves candidates that end to the finished hypotheses, and keeps the best of the others
    /// running. Returns the beam that each of the running ones continues.
    fn advance(&mut self, candidates: &[Candidate]) -> Vec<usize> {
        let config = self.config;
        let length = self.running[0].ids.len() + 1;
        let full = self.finished.len() == config.num_beams;
        let closed = full && config.early_stopping == EarlyStopping::WhenFull;
        if self.improvable && !closed {
            // Only the best candidates may finish: a poor ending does not end the search.
            for candidate in candidates.iter().take(config.num_beams) {
                if let Some(end) = &candidate.end {
                    self.finished.push(self.finish(candidate, end, length));
                }
            }
            self.finished.sort_by(|a, b| b.score.total_cmp(&a.score));
            self.finished.truncate(config.num_beams);
        }
        let unfinished = candidates
            .iter()
            .filter(|candidate| candidate.end.is_none());
        let best: Vec<&Candidate> = unfinished.take(config.num_beams).collect();
        let beams = best.iter().map(|candidate| candidate.beam).collect();
        if !best.is_empty() {
            let running = best.into_iter().map(|candidate| {
                let mut ids = self.running[candidate.beam].ids.clone();
                ids.push(candidate.id);
                Running {
                    ids,
                    score: candidate.score,
                }
            });
            self.running = running.collect();
        }
        beams
    }

    /// The stop string that a candidate completes.
    fn stop_string(&self, candidate: &Candidate) -> Option<String> {
        let stops = self.stops.as_ref()?;
        let mut ids = self.running[candidate.beam].ids.clone();
        ids.push(candidate.id);
        stops.find(&ids).cloned()
    }

    fn finish(&self, candidate: &Candidate, end: &End, length: usize) -> Hypothesis {
        let mut generation = Generation {
            ids: self.running[candidate.beam].ids.clone(),
            stop_id: None,
            stop_string: None,
            finish: FinishReason::Stop,
        };
        match end {
            End::StopId(id) => generation.stop_id = Some(*id),
            End::StopString(stop) => {
                generation.ids.push(candidate.id);
                generation.stop_string = Some(stop.clone());
            }
            End::Length => {
                generation.ids.push(candidate.id);
                generation.finish = FinishReason::Length;
            }
        }
        Hypothesis {
            score: candidate.score / self.penalty(length),
            generation,
        }
    }

    fn penalty(&self, length: usize) -> f32 {
        (length as f32).powf(self.config.length_penalty)
    }

    fn is_over(&mut self, candidates: &[Candidate]) -> bool {
        let config = self.config;
        let full = self.finished.len() == config.num_beams;
        if candidates.iter().all(|candidate| candidate.end.is_some()) {
            return true;
        }
        let length = match config.early_stopping {
            EarlyStopping::Never if config.length_penalty > 0.0 => self.max_new_tokens,
            _ => self.running[0].ids.len(),
        };
        let possible = self.running[0].score / self.penalty(length);
        let worst = self.finished.last().map(|hypothesis| hypothesis.score);
        self.improvable &= !full || worst.is_none_or(|worst| possible > worst);
        !self.improvable || (full && config.early_stopping == EarlyStopping::WhenFull)
    }
}

fn log_softmax(logits: &mut [f32]) {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits
        .iter()
        .map(|logit| f64::from(logit - most).exp())
        .sum();
    let log = sum.ln() as f32;
    for logit in logits {
        *logit = *logit - most - log;
    }
}
