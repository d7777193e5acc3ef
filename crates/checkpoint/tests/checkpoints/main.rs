//! Every layout that is written is read again, and files made to do harm are refused by name.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

mod damaged;
mod hostile;
mod qwen_vl;
mod round_trips;
mod torch_file;
mod writing;

use std::path::Path;

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use gallery_gpt_checkpoint::{CheckpointError, LoadOptions, load_model};
use gallery_gpt_model::{GalleryModel, GalleryModelConfig};

/// Every value of a model, in f32.
fn values(model: &GalleryModel) -> Vec<Vec<f32>> {
    struct Values(Vec<Vec<f32>>);
    impl ModuleVisitor for Values {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            let data = param.val().into_data().convert::<f32>();
            self.0.push(data.try_into_vec().unwrap());
        }
    }
    let mut values = Values(Vec::new());
    model.visit(&mut values);
    values.0
}

/// Some model; the device's random generator is shared by all tests, so another with the same seed may have other weights.
fn tiny(seed: u64) -> GalleryModel {
    let device = Device::flex();
    device.seed(seed);
    let model = GalleryModelConfig::tiny().init(&device);
    // Parameters are made when first used: now, before another model is.
    values(&model);
    model
}

fn load(folder: &Path) -> Result<GalleryModel, CheckpointError> {
    load_model(folder, &Device::flex(), &LoadOptions::default()).map(|(model, _)| model)
}
