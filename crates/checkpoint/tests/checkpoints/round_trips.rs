//! Models and adapters, written and read again.

use burn::tensor::Device;
use gallery_gpt_checkpoint::{
    AdapterLayout, AdapterOrigin, Checkpoint, Layout, LoadOptions, SaveOptions, TensorDtype,
    WeightFiles, load_adapter, load_model, save_adapter, save_model,
};
use gallery_gpt_llama::LoraConfig;

use crate::{load, tiny, values};

#[test]
fn every_layout_comes_back() {
    let root = tempfile::tempdir().unwrap();
    let model = tiny(1);
    let whole = values(&model);
    let mut fingerprints = Vec::new();
    for layout in [Layout::LlavaHf, Layout::LlavaHfNested, Layout::Llava] {
        for max_shard_size in [u64::MAX, 20_000] {
            let folder = root.path().join(format!("{layout:?}-{max_shard_size}"));
            let options = SaveOptions {
                layout,
                max_shard_size,
                ..SaveOptions::default()
            };
            save_model(&model, &folder, &options).unwrap();
            assert_eq!(
                folder.join("model.safetensors.index.json").is_file(),
                max_shard_size == 20_000
            );
            let options = LoadOptions::default();
            let (again, report) = load_model(&folder, &Device::flex(), &options).unwrap();
            assert_eq!(report.layout, layout);
            assert_eq!(again.config(), model.config());
            assert!(values(&again) == whole, "{layout:?}");
            let parameters: u64 = report.parts().iter().map(|(_, count)| count).sum();
            assert_eq!(parameters, report.parameters);
            assert_eq!(
                parameters as usize,
                whole.iter().map(Vec::len).sum::<usize>()
            );
            let checked = Checkpoint::open(&folder, &options).unwrap();
            let checked = checked.check(&Device::flex());
            assert_eq!(checked.used, report.used);
            assert_eq!(checked.fingerprint, report.fingerprint);
            fingerprints.push(report.fingerprint.unwrap());
        }
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1, "one model, one fingerprint");
    let other = root.path().join("other");
    save_model(&tiny(2), &other, &SaveOptions::default()).unwrap();
    let (_, report) = load_model(&other, &Device::flex(), &LoadOptions::default()).unwrap();
    assert_ne!(report.fingerprint.unwrap(), fingerprints[0]);
}

#[test]
fn dtypes_are_kept_and_changed() {
    let root = tempfile::tempdir().unwrap();
    let model = tiny(1);
    for dtype in [TensorDtype::F32, TensorDtype::F16, TensorDtype::BF16] {
        let folder = root.path().join(format!("{dtype:?}"));
        let options = SaveOptions {
            dtype: Some(dtype),
            layout: Layout::Llava,
            ..SaveOptions::default()
        };
        save_model(&model, &folder, &options).unwrap();
        let again = load(&folder).unwrap();
        assert_eq!(again.dtype(), dtype.burn());
        let relative = match dtype {
            TensorDtype::F32 => 0.0,
            TensorDtype::F16 => 1.0 / 2048.0,
            TensorDtype::BF16 => 1.0 / 256.0,
            other => panic!("{other:?} has no bound here"),
        };
        for (a, b) in values(&model)
            .iter()
            .flatten()
            .zip(values(&again).iter().flatten())
        {
            // Subnormal values of f16 have a constant step.
            assert!((a - b).abs() <= (a.abs() * relative).max(3e-8), "{a} {b}");
        }
    }
}

#[test]
fn adapters_come_back_from_both_layouts() {
    let root = tempfile::tempdir().unwrap();
    let lora = LoraConfig::new(4, 8.0);
    let base = tiny(3);
    let adapted = base.clone().apply_lora(&lora);
    let origin = AdapterOrigin {
        base_model: "tiny".to_owned(),
        base_fingerprint: Some("aa".repeat(32)),
        template: Some("vicuna_v1".to_owned()),
        ..AdapterOrigin::default()
    };
    for layout in [AdapterLayout::Peft, AdapterLayout::LlavaLora] {
        let folder = root.path().join(format!("{layout:?}"));
        save_adapter(&adapted, &origin, &folder, layout).unwrap();
        let options = LoadOptions::default();
        let (again, file) = load_adapter(base.clone(), &folder, &options).unwrap();
        assert!(values(&again) == values(&adapted), "{layout:?}");
        let targets = lora.targets.among(base.config().llama.linears());
        let expected = lora.clone().with_targets(targets);
        assert_eq!((file.layout, file.lora), (layout, expected));
        assert_eq!(file.origin.as_ref(), Some(&origin));
    }
    let folder = root.path().join("LlavaLora");
    let rest = WeightFiles::open_single(folder.join("non_lora_trainables.bin")).unwrap();
    let names: Vec<&str> = rest.iter().map(|(key, _)| key).collect();
    assert_eq!(
        names,
        [
            "base_model.model.model.mm_projector.0.bias",
            "base_model.model.model.mm_projector.0.weight",
            "base_model.model.model.mm_projector.2.bias",
            "base_model.model.model.mm_projector.2.weight"
        ]
    );

    let here = AdapterOrigin {
        base_fingerprint: Some("bb".repeat(32)),
        template: Some("llava_v0".to_owned()),
        ..origin.clone()
    };
    let notes = origin.differences(&here);
    assert_eq!(notes.len(), 2);
    assert!(notes[0].contains("another base") && notes[1].contains("llava_v0"));
    assert!(origin.differences(&"tiny".into()).is_empty());
}

#[test]
fn merged_equals_adapted_after_a_round_through_files() {
    let root = tempfile::tempdir().unwrap();
    let lora = LoraConfig::new(4, 8.0);
    let adapted = tiny(3).apply_lora(&lora);
    let merged = adapted.clone().merge_lora();
    let folder = root.path().join("merged");
    save_model(&merged, &folder, &SaveOptions::default()).unwrap();
    assert!(values(&load(&folder).unwrap()) == values(&merged));
}
