//! Models and adapters, saved and loaded.

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use gallery_gpt_checkpoint::{
    AdapterLayout, LoadOptions, SaveOptions, VocabRows, load_adapter, load_model, save_adapter,
    save_model,
};
use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::GalleryModel;

use crate::{adapted, model, values};

#[test]
fn save_then_load_gives_equal_tensors() {
    struct Tensors(Vec<Vec<f32>>);
    impl ModuleVisitor for Tensors {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(values(param.val()));
        }
    }
    let all = |model: &GalleryModel| {
        let mut tensors = Tensors(Vec::new());
        model.visit(&mut tensors);
        tensors.0
    };
    let folder = tempfile::tempdir().unwrap();
    let base = model(9);
    let path = folder.path().join("base");
    save_model(&base, &path, &SaveOptions::default()).unwrap();
    let (again, report) = load_model(&path, &Device::flex(), &LoadOptions::default()).unwrap();
    assert!(all(&base) == all(&again), "{report}");
    let whole = LoadOptions {
        vocab_rows: VocabRows::AsStored,
        ..LoadOptions::default()
    };
    let (whole, _) = load_model(&path, &Device::flex(), &whole).unwrap();
    assert_eq!(whole.config().llama.vocab_size, 384);

    let with = adapted(9);
    let linears = with.config().llama.linears();
    let lora = LoraConfig::new(4, 8.0);
    let targets = lora.targets.among(linears);
    let lora = lora.with_targets(targets);
    let path = folder.path().join("adapter");
    save_adapter(&with, &"base".into(), &path, AdapterLayout::Peft).unwrap();
    let (loaded, adapter) = load_adapter(again, &path, &LoadOptions::default()).unwrap();
    assert_eq!(adapter.lora, lora);
    assert!(all(&with) == all(&loaded));
}
