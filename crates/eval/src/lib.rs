//! Scores of texts against references, each equal to that of its reference library.
//!
//! | score | definition |
//! | --- | --- |
//! | [`SacreBleu`], [`ChrF`] | sacreBLEU 2.6.0 |
//! | [`NltkBleu`], [`Gleu`], [`Meteor`] | nltk 3.10.4 |
//! | [`Rouge`] | rouge-score 0.1.2 |
//!
//! [`SystemScores`] scores a system's [`Predictions`] on a test set, with confidence intervals and
//! comparisons, and [`Report`] is the HTML page of them.
//!
//! [`WordTokenizer`]s are the tokenizers of these libraries; every score has a [`Signature`].
//!
//! ```
//! use gallery_gpt_eval::{Meteor, NoSynonyms, Rouge, RougeKind, SacreBleu, WordTokenizer};
//!
//! let text = "The light falls from the left.";
//! let references = ["A soft light falls from the left.", "Light enters from the right."];
//!
//! let bleu = SacreBleu::default();
//! let score = bleu.corpus(&[(text, references.to_vec())]);
//! assert!(score.score > 50.0);
//! assert_eq!(
//!     bleu.signature(Some(2)).fields(),
//!     "nrefs:2|case:mixed|eff:no|tok:13a|smooth:exp|version:2.6.0"
//! );
//!
//! let rouge = Rouge::new(RougeKind::L).score(text, &references);
//! assert!(rouge.f > 0.7);
//!
//! let words = |text: &str| WordTokenizer::Treebank.tokenize(text);
//! let meteor = Meteor::new(None::<&NoSynonyms>);
//! assert!(meteor.score(&words(text), &references.map(words)) > 0.7);
//! ```

mod chrf;
mod error;
mod evaluation;
mod exclusion;
mod gleu;
mod json_lines;
mod meteor;
mod ngrams;
mod nltk_bleu;
mod notices;
mod porter;
mod predictions;
mod report;
mod rouge;
mod sacre_bleu;
mod signature;
mod tokenize;
mod wordnet;

pub use chrf::{ChrF, ChrFCounts};
pub use error::EvalError;
pub use evaluation::{
    Comparison, Interval, PaintingScores, Score, Scorer, SystemScores, reference_count,
};
pub use exclusion::{Exclusion, ExclusionCause, MAX_PREDICTION_BYTES};
pub use gleu::{Gleu, GleuCounts};
pub use json_lines::{JsonLine, JsonLinesFile};
pub use meteor::Meteor;
pub use nltk_bleu::{NltkBleu, NltkSmoothing};
pub use porter::PorterStemmer;
pub use predictions::{
    NAMES, Naming, OnUnscorable, Predictions, PredictionsFile, TEXTS, painting_name,
};
pub use report::Report;
pub use rouge::{FScore, Rouge, RougeKind, rouge_words};
pub use sacre_bleu::{BleuCounts, SacreBleu, SacreBleuScore, SacreSmoothing};
pub use signature::Signature;
pub use tokenize::WordTokenizer;
pub use wordnet::{NoSynonyms, Synonyms, WordNet};
