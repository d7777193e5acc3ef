//! Features of pictures, kept for further questions about them.

use std::{
    collections::VecDeque,
    sync::{Mutex, PoisonError},
};

use burn::tensor::Tensor;
use gallery_gpt_projector::Projector;
use gallery_gpt_vision::PixelValues;

use crate::GalleryModel;

/// The projected features of the pictures that a model was asked about last. Computing them is most of the work of a prompt: about 4
/// TFLOP a picture in Qwen-VL-Chat.
///
/// A cache belongs to one model: its features are those of that model's weights, and none of another's.
#[derive(Debug)]
pub struct PictureCache {
    capacity: usize,
    /// The latest last.
    kept: Mutex<VecDeque<Kept>>,
}

#[derive(Debug)]
struct Kept {
    picture: PixelValues,
    /// `[1, tokens, hidden]`
    features: Tensor<3>,
}

impl Default for PictureCache {
    /// A cache of 8 pictures: 36 MB for Qwen-VL-Chat in bf16.
    fn default() -> Self {
        Self::new(8)
    }
}

impl PictureCache {
    /// A cache of `capacity` pictures; with 0 it keeps none.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self {
            capacity,
            kept: Mutex::new(VecDeque::new()),
        }
    }

    /// The projected features of pictures, `[pictures, tokens, hidden]`; `None` if there are no pictures. The pictures that are not in the
    /// cache go through the tower together. LLaVA's are kept and found one at a time only: a batch there always is the original's.
    pub(super) fn features(
        &self,
        model: &GalleryModel,
        pictures: &[&PixelValues],
    ) -> Option<Tensor<3>> {
        if pictures.len() > 1 && matches!(model.projector, Projector::Mlp(_)) {
            let pixel_values = model.pixel_values(pictures)?;
            return Some(model.project(model.picture_features(pixel_values)));
        }
        let mut found: Vec<Option<Tensor<3>>> = pictures.iter().map(|one| self.find(one)).collect();
        let missing = (0..pictures.len()).filter(|&nth| found[nth].is_none());
        let missing: Vec<usize> = missing.collect();
        let new: Vec<&PixelValues> = missing.iter().map(|&nth| pictures[nth]).collect();
        if let Some(pixel_values) = model.pixel_values(&new) {
            let computed = model.project(model.picture_features(pixel_values));
            if new.len() == pictures.len() {
                self.keep(pictures, &computed);
                return Some(computed);
            }
            self.keep(&new, &computed);
            for (row, nth) in missing.into_iter().enumerate() {
                found[nth] = Some(computed.clone().slice_dim(0, row..row + 1));
            }
        }
        let found: Vec<Tensor<3>> = found.into_iter().flatten().collect();
        (!found.is_empty()).then(|| Tensor::cat(found, 0))
    }

    fn find(&self, picture: &PixelValues) -> Option<Tensor<3>> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|kept| kept.picture == *picture)?;
        let found = kept.remove(at)?;
        let features = found.features.clone();
        kept.push_back(found);
        Some(features)
    }

    fn keep(&self, pictures: &[&PixelValues], features: &Tensor<3>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        // The last pictures are those of the latest question.
        let first = pictures.len().saturating_sub(self.capacity);
        for (row, picture) in pictures.iter().enumerate().skip(first) {
            kept.push_back(Kept {
                picture: (*picture).clone(),
                features: features.clone().slice_dim(0, row..row + 1),
            });
        }
        while kept.len() > self.capacity {
            kept.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use burn::tensor::Device;

    use super::*;
    use crate::{GalleryModelConfig, GenerationConfig, Generator, Prompt};

    fn picture(seed: usize) -> PixelValues {
        let values = (0..3 * 28 * 28).map(|at| ((at * (seed + 3)) % 17) as f32 / 9.0 - 0.9);
        PixelValues::from_values(values.collect(), 28)
    }

    #[test]
    fn kept_features_are_those_that_the_tower_gives() {
        let model = GalleryModelConfig::tiny_qwen_vl().init(&Device::flex());
        let cache = PictureCache::new(2);
        let pictures = [picture(0), picture(1), picture(2)];
        let fresh = |chosen: &[&PixelValues]| {
            let pixel_values = model.pixel_values(chosen).unwrap();
            model.project(model.picture_features(pixel_values))
        };
        let [a, b, c] = &pictures;
        for chosen in [&[a][..], &[a, b], &[b, a, c], &[a, b, c], &[c, c]] {
            let found = cache.features(&model, chosen).unwrap();
            let difference = (found - fresh(chosen)).abs().max().into_scalar::<f32>();
            assert!(difference < 1e-5, "{difference}");
            assert!(cache.kept.lock().unwrap().len() <= 2);
        }
        assert!(cache.features(&model, &[]).is_none());
        assert!(cache.find(c).is_some() && cache.find(a).is_none());
    }

    /// A batch of pictures goes through LLaVA's tower whole, whatever was asked before, so that not a bit depends on it.
    #[test]
    fn pictures_of_llava_are_kept_one_at_a_time() {
        let model = GalleryModelConfig::tiny().init(&Device::flex());
        let cache = PictureCache::default();
        let size = model.config().vision.image_size;
        let pictures = [5, 7].map(|seed| {
            let values = (0..3 * size * size).map(|at| ((at * seed) % 17) as f32 / 9.0 - 0.9);
            PixelValues::from_values(values.collect(), size)
        });
        let [a, b] = &pictures;
        let bits = |features: Tensor<3>| features.into_data().try_to_vec::<f32>().unwrap();
        let kept = |chosen: &[&PixelValues]| bits(cache.features(&model, chosen).unwrap());
        let fresh = |chosen: &[&PixelValues]| {
            let pixel_values = model.pixel_values(chosen).unwrap();
            bits(model.project(model.picture_features(pixel_values)))
        };
        for (chosen, number) in [(&[a, b][..], 0), (&[a], 1), (&[a, b], 1), (&[a], 1)] {
            assert_eq!(kept(chosen), fresh(chosen));
            assert_eq!(cache.kept.lock().unwrap().len(), number);
        }
    }

    #[test]
    fn a_second_question_is_answered_as_without_a_cache() {
        let model = GalleryModelConfig::tiny_qwen_vl().init(&Device::flex());
        let cache = PictureCache::default();
        let config = GenerationConfig {
            stop_ids: Vec::new(),
            ..GenerationConfig::greedy(6)
        };
        for question in [5, 9] {
            let ids = vec![1, -200, 7, question];
            let prompt = || Prompt::with_pictures(ids.clone(), vec![picture(4)]);
            let generator = Generator::new(&model, config.clone());
            let expected = generator.generate(&[prompt()]).unwrap();
            let generator = generator.with_picture_cache(&cache);
            assert_eq!(generator.generate(&[prompt()]).unwrap(), expected);
        }
        assert_eq!(cache.kept.lock().unwrap().len(), 1);
    }
}
