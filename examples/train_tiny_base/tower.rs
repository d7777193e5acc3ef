//! The tower learns to see before it meets a language model, as CLIP's did: from the mean of its projected and normed patch
//! features, which is what an even attention over them would read, linear heads have to say which things are there, in which
//! colours and places, where the light comes from and how the paint lies.

use anyhow::Context;
use burn::{
    module::Module,
    nn::{Linear, LinearConfig, RmsNorm, RmsNormConfig},
    optim::{AdamWConfig, GradientsParams},
    tensor::{Device, Int, Tensor, TensorData, activation::log_softmax},
};
use gallery_gpt::{
    model::GalleryModelConfig,
    projector::Projector,
    train::CosineSchedule,
    vision::{ImageProcessor, PixelValues, VisionTower},
};
use gallery_gpt_scenes::{BASE_SEED, Color, Noun, Place, Scene, paint};
use indicatif::ProgressBar;
use rayon::prelude::*;

#[derive(Module, Debug)]
struct Namer {
    tower: VisionTower,
    projector: Projector,
    norm: RmsNorm,
    /// Per noun: is it there.
    presence: Linear,
    /// Per noun: its colour.
    color: Linear,
    /// Per noun: its place.
    place: Linear,
    /// The side of the light.
    light: Linear,
    /// The brushwork.
    brushwork: Linear,
}

/// What a batch of scenes has to be named as: positions in a head's rows, and the class there.
#[derive(Default)]
struct Targets {
    presence: Vec<i64>,
    color: (Vec<i64>, Vec<i64>),
    place: (Vec<i64>, Vec<i64>),
    light: Vec<i64>,
    brushwork: Vec<i64>,
}

impl Targets {
    fn of(scenes: &[Scene]) -> Self {
        let mut targets = Self::default();
        let nouns = Noun::ALL.len();
        for (row, scene) in scenes.iter().enumerate() {
            let slot = |noun: Noun| (row * nouns + noun as usize) as i64;
            let colors = scene.colors();
            targets.presence.extend(
                Noun::ALL.map(|noun| i64::from(colors.iter().any(|(there, _)| *there == noun))),
            );
            for (noun, color) in colors {
                targets.color.0.push(slot(noun));
                targets.color.1.push(color as i64);
            }
            for thing in scene.things() {
                targets.place.0.push(slot(thing.noun));
                targets.place.1.push(thing.place as i64);
            }
            targets.light.push(scene.light as i64);
            targets.brushwork.push(scene.brushwork as i64);
        }
        targets
    }
}

fn ints(values: &[i64], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(TensorData::new(values.to_vec(), [values.len()]), device)
}

fn cross_entropy(logits: Tensor<2>, classes: &[i64]) -> Tensor<1> {
    let targets = ints(classes, &logits.device()).reshape([classes.len(), 1]);
    log_softmax(logits, 1).gather(1, targets).mean().neg()
}

impl Namer {
    fn loss(&self, config: &GalleryModelConfig, pixels: Tensor<4>, targets: &Targets) -> Tensor<1> {
        let features = self
            .tower
            .forward(pixels, config.select_layer, config.select_feature);
        let tokens = self.norm.forward(self.projector.forward(features));
        let pooled: Tensor<2> = tokens.mean_dim(1).squeeze_dim(1);
        let rows = pooled.dims()[0] * Noun::ALL.len();
        let chosen = |logits: Tensor<2>, classes: usize, slots: &[i64]| {
            let device = logits.device();
            logits
                .reshape([rows, classes])
                .select(0, ints(slots, &device))
        };
        let presence = self.presence.forward(pooled.clone()).reshape([rows, 2]);
        let color = self.color.forward(pooled.clone());
        let place = self.place.forward(pooled.clone());
        cross_entropy(presence, &targets.presence)
            + cross_entropy(
                chosen(color, Color::ALL.len(), &targets.color.0),
                &targets.color.1,
            )
            + cross_entropy(
                chosen(place, Place::ALL.len(), &targets.place.0),
                &targets.place.1,
            )
            + cross_entropy(self.light.forward(pooled.clone()), &targets.light)
            + cross_entropy(self.brushwork.forward(pooled), &targets.brushwork)
    }
}

/// Trains a tower and its projector for some steps on pictures of their own, and returns both.
pub(crate) fn pretrain(
    config: &GalleryModelConfig,
    processor: &ImageProcessor,
    first_scene: u64,
    steps: usize,
    batch_size: u64,
    device: &Device,
) -> anyhow::Result<(VisionTower, Projector)> {
    let hidden = config.llama.hidden_size;
    let nouns = Noun::ALL.len();
    let linear = |classes| LinearConfig::new(hidden, classes).init(device);
    let mut namer = Namer {
        tower: config.vision.init(device),
        projector: config.projector_config().init(device),
        norm: RmsNormConfig::new(hidden).init(device),
        presence: linear(nouns * 2),
        color: linear(nouns * Color::ALL.len()),
        place: linear(nouns * Place::ALL.len()),
        light: linear(2),
        brushwork: linear(3),
    }
    .train();
    let mut optimizer = AdamWConfig::new()
        .with_epsilon(1e-8)
        .with_weight_decay(0.01)
        .init();
    let schedule = CosineSchedule::new(steps, 0.05);
    let progress = ProgressBar::new(steps as u64);
    let mut mean: Option<f32> = None;
    for step in 0..steps {
        let start = first_scene + step as u64 * batch_size;
        let drawn: Vec<(Scene, PixelValues)> = (start..start + batch_size)
            .into_par_iter()
            .map(|number| {
                let scene = Scene::sample(BASE_SEED, number);
                let pixels = processor.process(&paint(&scene));
                (scene, pixels)
            })
            .collect();
        let (scenes, pixels): (Vec<Scene>, Vec<PixelValues>) = drawn.into_iter().unzip();
        // Two halves on two threads: one operation is too small for several.
        let halves = [&pixels[..pixels.len() / 2], &pixels[pixels.len() / 2..]];
        let half_scenes = [&scenes[..scenes.len() / 2], &scenes[scenes.len() / 2..]];
        let parts: Vec<(f32, GradientsParams)> = halves
            .into_par_iter()
            .zip(half_scenes)
            .map(|(pixels, scenes)| {
                let namer = namer.valid().train();
                let pictures: Vec<&PixelValues> = pixels.iter().collect();
                let device = namer.norm.gamma.val().device();
                let pixels = PixelValues::stack(&pictures, &device);
                let loss = namer.loss(config, pixels, &Targets::of(scenes)) / 2.0;
                let grads = GradientsParams::from_grads(loss.backward(), &namer);
                (loss.into_scalar::<f32>(), grads)
            })
            .collect();
        let mut accumulator = burn::optim::GradientsAccumulator::new();
        let mut loss = 0.0;
        for (part, grads) in parts {
            loss += part;
            accumulator.accumulate(&namer, grads);
        }
        namer = optimizer.step(1.5e-3 * schedule.scale(step), namer, accumulator.grads());
        mean = Some(mean.map_or(loss, |mean| 0.98 * mean + 0.02 * loss));
        progress.inc(1);
        if (step + 1) % 250 == 0 {
            let mean = mean.context("a step was done")?;
            progress.suspend(|| eprintln!("tower, step {}: loss {mean:.3}", step + 1));
        }
    }
    progress.finish_and_clear();
    let namer = namer.valid();
    Ok((namer.tower, namer.projector))
}
