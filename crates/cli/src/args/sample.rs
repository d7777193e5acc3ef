//! The sample in the repository, which commands take when they are told nothing else.

use gallery_gpt_scenes::QUESTIONS;

/// The base model.
pub(crate) const TINY_BASE: &str = "datasets/tiny-base";
/// The folder of the data set.
pub(crate) const SAMPLE: &str = "datasets/painting-form-mini";
/// Its training records.
pub(crate) const TRAINING_RECORDS: &str = "datasets/painting-form-mini/train_samples_tuning.json";
/// Its test records, one file for each of two references.
pub(crate) const TEST_RECORDS: [&str; 2] = [
    "datasets/painting-form-mini/formalanalysis_test_gpt.json",
    "datasets/painting-form-mini/formalanalysis_test_gemini.json",
];
/// The pictures that the test records name.
pub(crate) const PICTURES: &str = "datasets/painting-form-mini/images";
/// One of its test paintings.
pub(crate) const TEST_PAINTING: &str = "datasets/painting-form-mini/images/test_0.jpg";
/// The question that its training records answer with a whole analysis.
pub(crate) const QUESTION: &str = QUESTIONS[3];
