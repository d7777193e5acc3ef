//! Finds the painting of a test set for the name of a prediction.

use std::collections::BTreeMap;

use gallery_gpt_data::TestPainting;

/// How the names of predictions are interpreted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Naming {
    /// Names of pictures.
    Pictures,
    /// Numbers that are names of pictures without the extension: 7 is `7.png`.
    Stems,
    /// Numbers that are indices in the test set, from 0.
    Indices,
}

/// The name of a painting in predictions.
#[must_use]
pub fn painting_name(painting: &TestPainting) -> String {
    painting
        .image
        .clone()
        .unwrap_or_else(|| painting.index.to_string())
}

/// Indices of the paintings of a test set, by their possible names.
pub(super) struct Indices {
    pub(super) names: BTreeMap<String, usize>,
    /// Names without folder and extension; `None` if two paintings share one.
    stems: BTreeMap<String, Option<usize>>,
    numbers: Option<usize>,
}

impl Indices {
    pub(super) fn new(paintings: &[TestPainting], numbers_are_indices: bool) -> Self {
        let mut indices = Self {
            names: BTreeMap::new(),
            stems: BTreeMap::new(),
            numbers: numbers_are_indices.then_some(paintings.len()),
        };
        for (at, painting) in paintings.iter().enumerate() {
            let name = painting_name(painting);
            if painting.image.is_some() {
                let shared = indices.stems.entry(stem(&name).to_owned());
                shared.and_modify(|at| *at = None).or_insert(Some(at));
            }
            indices.names.insert(name, at);
        }
        indices
    }

    pub(super) fn get(&self, name: &str) -> Option<usize> {
        if let Some(count) = self.numbers {
            return name.parse().ok().filter(|at| *at < count);
        }
        // `images/7.png` and `7.png` are the same picture.
        let short = file_name(name);
        let named = self.names.get(name).or_else(|| self.names.get(short));
        let stem = || self.stems.get(stem(name)).copied().flatten();
        named.copied().or_else(stem)
    }
}

fn file_name(name: &str) -> &str {
    name.rsplit(['/', '\\']).next().unwrap_or(name)
}

fn stem(name: &str) -> &str {
    let name = file_name(name);
    name.rsplit_once('.').map_or(name, |(stem, _)| stem)
}
