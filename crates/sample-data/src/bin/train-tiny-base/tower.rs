//! The tower learns to see before it meets a language model, as CLIP's did. From every patch's projected and normed feature, linear
//! heads have to say what the patch shows, in which colour and in which place that is; from the mean of the features, where the
//! light comes from and how the paint lies.

use anyhow::Context;
use burn::{
    module::Module,
    nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig},
    optim::{AdamWConfig, GradientsAccumulator, GradientsParams},
    tensor::{Tensor, activation::log_softmax},
};
use gallery_gpt::{
    llama::int_tensor,
    model::{GalleryModel, GalleryModelConfig},
    projector::Projector,
    train::{Schedule, SchedulerType},
    vision::{ImageProcessor, PixelValues, VisionTower},
};
use gallery_gpt_scenes::{BASE_SEED, Color, Noun, Place, Scene, paint_parts};
use indicatif::ProgressBar;
use rayon::prelude::*;

#[derive(Module, Debug)]
struct Namer {
    tower: VisionTower,
    projector: Projector,
    norm: RmsNorm,
    /// What a patch shows.
    noun: Linear,
    /// In which colour.
    color: Linear,
    /// In which place, where it is one of the two things.
    place: Linear,
    /// The side of the light.
    light: Linear,
    /// The brushwork.
    brushwork: Linear,
}

/// What is asked of the tower.
const PARTS: [&str; 6] = [
    "things",
    "grounds",
    "colours",
    "places",
    "light",
    "brushwork",
];

/// Rows of a batch's features, and the class each has to be named as.
#[derive(Default)]
struct Targets {
    rows: Vec<i64>,
    classes: Vec<i64>,
}

impl Targets {
    fn push(&mut self, row: usize, class: i64) {
        self.rows.push(row as i64);
        self.classes.push(class);
    }
}

/// A drawn scene, ready for the tower.
struct Lesson {
    scene: Scene,
    pixels: PixelValues,
    /// What each patch shows in its middle; nothing where the picture was padded.
    patches: Vec<Option<Noun>>,
}

impl Lesson {
    fn draw(number: u64, grid: usize, processor: &ImageProcessor) -> Self {
        let scene = Scene::sample(BASE_SEED, number);
        let (picture, parts) = paint_parts(&scene);
        let (width, height) = (picture.width() as usize, picture.height() as usize);
        let side = width.max(height);
        // The processor pads to a square, the picture in its middle.
        let within = |nth: usize, length: usize| {
            let at = (2 * nth + 1) * side / (2 * grid);
            at.checked_sub((side - length) / 2)
                .filter(|at| *at < length)
        };
        let patches = (0..grid * grid)
            .map(|patch| {
                let (x, y) = (within(patch % grid, width)?, within(patch / grid, height)?);
                Some(parts[y * width + x])
            })
            .collect();
        let pixels = processor.process(&picture);
        Self {
            scene,
            pixels,
            patches,
        }
    }
}

/// Mean cross-entropy of some rows, and the share of them whose likeliest class is the right one.
fn cross_entropy(head: &Linear, features: &Tensor<2>, targets: &Targets) -> (Tensor<1>, Tensor<1>) {
    let device = features.device();
    let logits = head.forward(
        features
            .clone()
            .select(0, int_tensor(&targets.rows, &device)),
    );
    let classes = int_tensor(&targets.classes, &device).unsqueeze_dim::<2>(1);
    let right = logits.clone().argmax(1).equal(classes.clone());
    let loss = log_softmax(logits, 1).gather(1, classes).mean().neg();
    (loss, right.float().mean())
}

impl Namer {
    /// The loss, and the shares of right answers in the order of [`PARTS`].
    fn forward(&self, config: &GalleryModelConfig, lessons: &[Lesson]) -> (Tensor<1>, Tensor<1>) {
        let mut parts: [Targets; PARTS.len()] = Default::default();
        let patches = config.tokens_per_picture();
        for (nth, lesson) in lessons.iter().enumerate() {
            let scene = &lesson.scene;
            for (patch, noun) in lesson.patches.iter().enumerate() {
                let Some(noun) = *noun else { continue };
                let row = nth * patches + patch;
                let color = scene.colors().into_iter().find(|(there, _)| *there == noun);
                let thing = scene.things().into_iter().find(|thing| thing.noun == noun);
                // Things apart: they fill fewer patches, and their shapes are what is hard to learn.
                parts[usize::from(thing.is_none())].push(row, noun as i64);
                if let Some((_, color)) = color {
                    parts[2].push(row, color as i64);
                }
                if let Some(thing) = thing {
                    parts[3].push(row, thing.place as i64);
                }
            }
            parts[4].push(nth, scene.light as i64);
            parts[5].push(nth, scene.brushwork as i64);
        }
        let pixels: Vec<&PixelValues> = lessons.iter().map(|lesson| &lesson.pixels).collect();
        let pixels = PixelValues::stack(&pixels, &self.norm.gamma.val().device());
        let features = self
            .tower
            .forward(pixels, config.select_layer, config.select_feature);
        let tokens = self.norm.forward(self.projector.forward(features));
        let whole: Tensor<2> = tokens.clone().mean_dim(1).squeeze_dim(1);
        let tokens: Tensor<2> = tokens.flatten(0, 1);
        let heads = [
            (&self.noun, &tokens),
            (&self.noun, &tokens),
            (&self.color, &tokens),
            (&self.place, &tokens),
            (&self.light, &whole),
            (&self.brushwork, &whole),
        ];
        let (losses, shares): (Vec<_>, Vec<_>) = heads
            .into_iter()
            .zip(&parts)
            .map(|((head, features), targets)| cross_entropy(head, features, targets))
            .unzip();
        (Tensor::cat(losses, 0).sum(), Tensor::cat(shares, 0))
    }
}

/// Trains the tower and the projector of a model for some steps on pictures of their own.
pub(crate) fn pretrain(
    model: GalleryModel,
    processor: &ImageProcessor,
    first_scene: u64,
    steps: usize,
    batch_size: u64,
) -> anyhow::Result<GalleryModel> {
    let config = model.config().clone();
    let hidden = config.llama.hidden_size;
    let device = &model.language_model.norm.gamma.val().device();
    let linear = |classes| LinearConfig::new(hidden, classes).init(device);
    let mut namer = Namer {
        tower: model.vision_tower.clone(),
        projector: model.projector.clone(),
        norm: RmsNormConfig::new(hidden).init(device),
        noun: linear(Noun::ALL.len()),
        color: linear(Color::ALL.len()),
        place: linear(Place::ALL.len()),
        light: linear(2),
        brushwork: linear(3),
    }
    .train();
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .init();
    let schedule = Schedule::new(SchedulerType::Cosine, steps, 0.05);
    let progress = ProgressBar::new(steps as u64);
    let mut mean: Option<f32> = None;
    let mut right = [0.0_f32; PARTS.len()];
    let grid = config.vision.image_size / config.vision.patch_size;
    for step in 0..steps {
        let start = first_scene + step as u64 * batch_size;
        let lessons: Vec<Lesson> = (start..start + batch_size)
            .into_par_iter()
            .map(|number| Lesson::draw(number, grid, processor))
            .collect();
        // Two halves on two threads: one operation is too small for several.
        let halves: Vec<(f32, Vec<f32>, GradientsParams)> = lessons
            .par_chunks(lessons.len().div_ceil(2))
            .map(|lessons| {
                let namer = namer.valid().train();
                let (loss, shares) = namer.forward(&config, lessons);
                let loss = loss / 2.0;
                let grads = GradientsParams::from_grads(loss.backward(), &namer);
                let shares = shares.into_data().try_into_vec();
                (loss.into_scalar::<f32>(), shares.unwrap_or_default(), grads)
            })
            .collect();
        let mut accumulator = GradientsAccumulator::new();
        let mut loss = 0.0;
        for (part, shares, grads) in halves {
            loss += part;
            for (mean, share) in right.iter_mut().zip(shares) {
                *mean += 0.01 * (share - *mean);
            }
            accumulator.accumulate(&namer, grads);
        }
        namer = optimizer.step(1.5e-3 * schedule.scale(step), namer, accumulator.grads());
        mean = Some(mean.map_or(loss, |mean| 0.98 * mean + 0.02 * loss));
        progress.inc(1);
        if (step + 1) % 250 == 0 {
            let mean = mean.context("a step was done")?;
            let parts: Vec<String> = PARTS
                .iter()
                .zip(right)
                .map(|(part, share)| format!("{part} {:.1} %", 100.0 * share))
                .collect();
            progress.suspend(|| {
                eprintln!(
                    "tower, step {}: loss {mean:.3}; right: {}",
                    step + 1,
                    parts.join(", ")
                );
            });
        }
    }
    progress.finish_and_clear();
    let namer = namer.valid();
    let mut model = model;
    model.vision_tower = namer.tower;
    model.projector = namer.projector;
    Ok(model)
}
