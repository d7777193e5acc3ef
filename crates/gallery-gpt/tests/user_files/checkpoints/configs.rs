//! Fields of a config: refused by name, followed, or noted.

use burn::tensor::Device;
use gallery_gpt::{GalleryGpt, vision::AspectRatio};
use gallery_gpt_testkit::copy_of_tiny_base;
use serde_json::{Value, json};

use super::{read, refused, with_field, write};

#[test]
fn fields_that_mean_another_model_are_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of_tiny_base(folder.path());
    for (field, value, expected) in [
        (
            "quantization_config",
            json!({ "quant_method": "bitsandbytes", "load_in_4bit": true }),
            "quantized by bitsandbytes in 4 bits",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "fp8", "activation_scheme": "dynamic" }),
            "quantized by fp8",
        ),
        (
            "quantization_config",
            json!({ "quant_method": "gptq", "bits": 3 }),
            "quantized by gptq in 3 bits",
        ),
        (
            "text_config.quantization_config",
            json!({ "quant_method": "awq", "bits": 4 }),
            "quantized by awq in 4 bits",
        ),
        (
            "quantization",
            json!({ "group_size": 64, "bits": 4 }),
            "4 bits",
        ),
        (
            "vision_feature_layer",
            json!([-2, -5]),
            "vision_feature_layer is [-2,-5]",
        ),
        (
            "vision_feature_layer",
            json!("-2"),
            "vision_feature_layer is",
        ),
        (
            "multimodal_projector_bias",
            json!(false),
            "multimodal_projector_bias is false",
        ),
        (
            "projector_hidden_act",
            json!("relu"),
            "projector_hidden_act is \"relu\"",
        ),
        (
            "tie_word_embeddings",
            json!(true),
            "tie_word_embeddings is true",
        ),
        (
            "text_config.tie_word_embeddings",
            json!(true),
            "text_config.tie_word_embeddings is true",
        ),
        (
            "text_config.attention_bias",
            json!(true),
            "text_config.attention_bias is true",
        ),
        (
            "text_config.mlp_bias",
            json!(true),
            "text_config.mlp_bias is true",
        ),
        (
            "text_config.hidden_act",
            json!("gelu"),
            "text_config.hidden_act is \"gelu\"",
        ),
        (
            "text_config.sliding_window",
            json!(512),
            "text_config.sliding_window is 512",
        ),
        (
            "text_config.model_type",
            json!("mistral"),
            "text_config.model_type is `mistral`",
        ),
        (
            "text_config.rope_scaling",
            json!({ "type": "linear", "factor": 2.0 }),
            "linear",
        ),
        (
            "text_config.rope_parameters",
            json!({ "rope_type": "llama3", "rope_theta": 1e4 }),
            "llama3",
        ),
        (
            "text_config.rope_parameters",
            json!({ "rope_type": "default", "rope_theta": 5e5 }),
            "rope_theta",
        ),
        (
            "text_config.partial_rotary_factor",
            json!(0.5),
            "partial_rotary_factor is 0.5",
        ),
        (
            "vision_config.model_type",
            json!("siglip_vision_model"),
            "vision_config.model_type is `siglip_vision_model`",
        ),
        (
            "vision_config.vision_use_head",
            json!(true),
            "vision_config.vision_use_head is true",
        ),
        (
            "vision_config.hidden_act",
            json!("gelu_pytorch_tanh"),
            "gelu_pytorch_tanh",
        ),
    ] {
        write(&base.join("config.json"), &with_field(field, value));
        let error = refused(&base);
        assert!(
            error.contains(expected) && error.contains("config.json"),
            "{field}: {error}"
        );
    }
}

#[test]
fn fields_that_mean_the_same_model_are_taken() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of_tiny_base(folder.path());
    for (field, value) in [
        ("vision_feature_layer", json!([-2])),
        ("vision_feature_layer", json!(3)),
        ("multimodal_projector_bias", json!(true)),
        ("quantization_config", Value::Null),
        ("text_config.hidden_act", json!("swish")),
        ("text_config.sliding_window", Value::Null),
        (
            "text_config.rope_scaling",
            json!({ "rope_type": "default" }),
        ),
        (
            "text_config.rope_parameters",
            json!({ "rope_type": "default", "rope_theta": 10000.0 }),
        ),
        ("text_config.head_dim", json!(32)),
    ] {
        write(&base.join("config.json"), &with_field(field, value));
        let gallery = GalleryGpt::load(&base, &Device::flex()).unwrap();
        let blocks = gallery.model().config().select_layer.blocks(4).unwrap();
        assert_eq!((blocks, gallery.notes()), (3, Vec::new()), "{field}");
    }
}

#[test]
fn what_is_assumed_or_not_followed_is_said() {
    let folder = tempfile::tempdir().unwrap();
    let base = copy_of_tiny_base(folder.path());
    let note = |field: &str, value: Value| {
        write(&base.join("config.json"), &with_field(field, value));
        let gallery = GalleryGpt::load(&base, &Device::flex()).unwrap();
        (
            gallery.notes().join("\n"),
            gallery.model().config().aspect_ratio,
        )
    };
    let (said, _) = note("text_config.attention_dropout", json!(0.1));
    assert!(
        said.contains("text_config.attention_dropout is 0.1"),
        "{said}"
    );
    let (said, _) = note("vision_config.some_new_field", json!(7));
    assert!(said.contains("vision_config.some_new_field"), "{said}");
    let (said, _) = note("image_seq_length", json!(576));
    assert!(said.contains("576") && said.contains("64 tokens"), "{said}");
    // Who does not say how pictures become square.
    let (said, aspect_ratio) = note("image_aspect_ratio", Value::Null);
    assert!(
        said.contains("image_aspect_ratio") && aspect_ratio == AspectRatio::Pad,
        "{said}"
    );
    let preprocessor = base.join("preprocessor_config.json");
    let whole = read(&preprocessor);
    for (do_pad, expected) in [(true, AspectRatio::Pad), (false, AspectRatio::CenterCrop)] {
        let mut said_here = whole.clone();
        said_here["do_pad"] = json!(do_pad);
        write(&preprocessor, &said_here);
        assert_eq!(
            note("image_aspect_ratio", Value::Null),
            (String::new(), expected)
        );
    }
    // A part of processor_config.json comes before the other file, as in transformers 5.
    let mut nested = whole.clone();
    nested["image_mean"] = json!([0.5, 0.5, 0.5]);
    let processor = base.join("processor_config.json");
    write(
        &processor,
        &json!({ "image_processor": nested, "patch_size": 8, "num_additional_image_tokens": 1, "vision_feature_select_strategy": "default" }),
    );
    let gallery = GalleryGpt::load(&base, &Device::flex()).unwrap();
    assert_eq!(gallery.processor().config().image_mean, [0.5; 3]);
    write(&processor, &json!({ "patch_size": 14 }));
    let error = refused(&base);
    assert!(
        error.contains("patch_size is 14") && error.contains("processor_config.json"),
        "{error}"
    );
    std::fs::remove_file(processor).unwrap();
    std::fs::remove_file(preprocessor).unwrap();
    let (said, _) = note("image_aspect_ratio", json!("pad"));
    assert!(said.contains("no preprocessor_config.json"), "{said}");
}
