//! Configs of adapters: fields that are supported and refused, and that no input panics.

use gallery_gpt_llama::LoraConfig;
use serde_json::{Value, json};

use super::*;

const V_PROJ: &str = "model.language_model.layers.1.self_attn.v_proj";

/// All fields that PEFT 0.21.2 writes, with their default values.
fn written_by_peft() -> Value {
    json!({
        "alora_invocation_tokens": null,
        "alpha_pattern": {},
        "arrow_config": null,
        "auto_mapping": { "base_model_class": "LlavaForConditionalGeneration" },
        "base_model_name_or_path": "datasets/tiny-base",
        "bias": "none",
        "corda_config": null,
        "ensure_weight_tying": false,
        "eva_config": null,
        "exclude_modules": null,
        "fan_in_fan_out": false,
        "inference_mode": true,
        "init_lora_weights": true,
        "kasa_config": null,
        "layer_replication": null,
        "layers_pattern": null,
        "layers_to_transform": null,
        "loftq_config": {},
        "lora_alpha": 4,
        "lora_bias": false,
        "lora_dropout": 0.0,
        "lora_ga_config": null,
        "megatron_config": null,
        "megatron_core": "megatron.core",
        "modules_to_save": null,
        "monteclora_config": null,
        "peft_type": "LORA",
        "peft_version": "0.21.2",
        "qalora_group_size": 16,
        "r": 2,
        "rank_pattern": {},
        "revision": null,
        "target_modules": [ "q_proj", "v_proj" ],
        "target_parameters": null,
        "task_type": null,
        "trainable_token_indices": null,
        "use_bdlora": null,
        "use_dora": false,
        "use_qalora": false,
        "use_rslora": false,
        "velora_config": null,
    })
}

fn read(changes: &[(&str, Value)]) -> Result<PeftConfig, CheckpointError> {
    let mut json = written_by_peft();
    for (field, value) in changes {
        json[field] = value.clone();
    }
    PeftConfig::from_bytes("adapter_config.json", json.to_string().as_bytes())
}

#[test]
fn unsupported_fields_are_refused_by_name() {
    assert!(read(&[]).is_ok());
    for (field, value, what_to_do) in [
        (
            "init_lora_weights",
            json!("pissa"),
            "path_initial_model_for_weight_conversion",
        ),
        (
            "init_lora_weights",
            json!("pissa_niter_16"),
            "path_initial_model_for_weight_conversion",
        ),
        (
            "init_lora_weights",
            json!("corda"),
            "path_initial_model_for_weight_conversion",
        ),
        (
            "init_lora_weights",
            json!("lora_ga"),
            "path_initial_model_for_weight_conversion",
        ),
        ("init_lora_weights", json!("loftq"), "merge_and_unload"),
        (
            "init_lora_weights",
            json!("PiSSA"),
            "path_initial_model_for_weight_conversion",
        ),
        ("init_lora_weights", json!("newest"), "gaussian"),
        ("init_lora_weights", json!(3), "gaussian"),
        ("alora_invocation_tokens", json!([1, 2]), "merge_and_unload"),
        ("arrow_config", json!({ "top_k": 2 }), "merge_and_unload"),
        ("kasa_config", json!({ "beta": 1 }), "merge_and_unload"),
        ("layer_replication", json!([[0, 4]]), "merge_and_unload"),
        ("megatron_config", json!({ "a": 1 }), "merge_and_unload"),
        (
            "monteclora_config",
            json!({ "num_samples": 8 }),
            "merge_and_unload",
        ),
        (
            "target_parameters",
            json!(["experts.up"]),
            "merge_and_unload",
        ),
        ("use_bdlora", json!({ "nblocks": 2 }), "merge_and_unload"),
        ("use_qalora", json!(true), "merge_and_unload"),
        ("use_newlora", json!(true), "the field is unknown"),
        ("new_config", json!({ "x": null }), "the field is unknown"),
        ("new_number", json!(0), "the field is unknown"),
        ("peft_type", json!("IA3"), "LORA"),
        ("bias", json!("some"), "lora_only"),
        ("bias", json!(1), "lora_only"),
        ("r", json!("8"), "integers"),
        ("r", json!(-1), "integers"),
        ("r", json!(2.5), "integers"),
        ("r", Value::Null, "a number"),
        ("lora_alpha", json!("8"), "numbers"),
        ("lora_dropout", json!([]), "numbers"),
        ("use_rslora", json!("yes"), "true or false"),
        ("use_dora", json!(1), "true or false"),
        ("rank_pattern", json!({ "v_proj": "8" }), "integers"),
        ("rank_pattern", json!(["v_proj"]), "object"),
        ("alpha_pattern", json!({ "(": 8 }), "regular expressions"),
        ("target_modules", json!("("), "regular expressions"),
        ("target_modules", json!({ "a": 1 }), "strings"),
        ("target_modules", json!([1]), "strings"),
        ("layers_to_transform", json!(["1"]), "integers"),
        ("modules_to_save", json!([null]), "strings"),
        ("trainable_token_indices", json!("5"), "token ids"),
        (
            "trainable_token_indices",
            json!({ "embed_tokens": 5 }),
            "token ids",
        ),
    ] {
        let error = read(&[(field, value.clone())]).unwrap_err().to_string();
        let named = error.contains(&format!(": {field} is "));
        assert!(
            named && error.contains(what_to_do),
            "{field} {value}: {error}"
        );
    }
    for (field, value) in [
        ("r", json!(0)),
        ("lora_alpha", json!(-1)),
        ("lora_dropout", json!(1.0)),
        ("rank_pattern", json!({ "v_proj": 0 })),
        ("alpha_pattern", json!({ "v_proj": 0 })),
    ] {
        let error = read(&[(field, value)]).unwrap_err();
        assert!(
            matches!(error, CheckpointError::LoraConfig { .. }),
            "{error}"
        );
    }
}

#[test]
fn fields_without_effect_pass() {
    for (field, value) in [
        ("init_lora_weights", json!(false)),
        ("init_lora_weights", json!("gaussian")),
        ("init_lora_weights", json!("orthogonal")),
        ("init_lora_weights", json!("eva")),
        ("init_lora_weights", json!("mica")),
        ("init_lora_weights", json!("olora")),
        ("init_lora_weights", Value::Null),
        ("eva_config", json!({ "rho": 2.0 })),
        ("corda_config", json!({ "a": 1 })),
        ("loftq_config", json!({ "loftq_bits": 4 })),
        ("velora_config", json!({ "num_groups": 4 })),
        ("fan_in_fan_out", json!(true)),
        ("task_type", json!("CAUSAL_LM")),
        ("peft_type", Value::Null),
        ("bias", Value::Null),
        ("target_modules", Value::Null),
        ("lorap_emb_lr", json!(1e-6)),
        ("new_config", Value::Null),
        ("new_config", json!({})),
        ("use_newlora", json!(false)),
        ("new_names", json!([])),
        ("new_name", json!("")),
    ] {
        let config = read(&[(field, value.clone())]);
        assert!(config.is_ok(), "{field} {value}: {config:?}");
    }
}

#[test]
fn ranks_and_scales_follow_patterns() {
    let of = |changes: &[(&str, Value)], module: &str| {
        let lora = read(changes).unwrap().lora_of(module).unwrap();
        (lora.rank, lora.scale())
    };
    assert_eq!(of(&[], V_PROJ), (2, 2.0));
    assert_eq!(
        of(&[("use_rslora", json!(true)), ("r", json!(16))], V_PROJ),
        (16, 1.0)
    );
    let patterns = [
        (
            "rank_pattern",
            json!({ "v_proj": 6, "layers.1.self_attn.v_proj": 3 }),
        ),
        ("alpha_pattern", json!({ r"layers\.[12]\..*": 24 })),
    ];
    // The first that matches, in the order of the file.
    assert_eq!(of(&patterns, V_PROJ), (6, 4.0));
    assert_eq!(of(&patterns, &V_PROJ.replace(".1.", ".3.")), (6, 4.0 / 6.0));
    assert_eq!(
        of(&patterns, &V_PROJ.replace("v_proj", "q_proj")),
        (2, 12.0)
    );
}

#[test]
fn targets_are_found_as_peft_finds_them() {
    let q_proj = V_PROJ.replace("v_proj", "q_proj");
    let tower = "model.vision_tower.encoder.layers.1.self_attn.v_proj";
    let head = "lm_head";
    for (changes, expected) in [
        (vec![], [true, true, true, false]),
        (
            vec![("target_modules", json!("all-linear"))],
            [true, true, true, false],
        ),
        (
            vec![("target_modules", json!(r"^(?!.*vision).*\.(?:v_proj)$"))],
            [true, false, false, false],
        ),
        (
            vec![("exclude_modules", json!(r".*vision_tower.*"))],
            [true, true, false, false],
        ),
        (
            vec![("exclude_modules", json!(["q_proj"]))],
            [true, false, true, false],
        ),
        (
            vec![("layers_to_transform", json!(1))],
            [true, true, true, false],
        ),
        (
            vec![("layers_to_transform", json!([0, 2]))],
            [false, false, false, false],
        ),
        (
            vec![
                ("layers_to_transform", json!([1])),
                ("layers_pattern", json!("language_model.layers")),
            ],
            [true, true, false, false],
        ),
        (
            vec![("modules_to_save", json!(["vision_tower"]))],
            [true, true, false, false],
        ),
        (
            vec![("target_modules", json!(["lm_head"]))],
            [false, false, false, true],
        ),
    ] {
        let config = read(&changes).unwrap();
        let modules = [V_PROJ, &q_proj, tower, head];
        let found = modules.map(|module| config.is_target(module).unwrap());
        assert_eq!(found, expected, "{changes:?}");
    }
}

#[test]
fn modules_and_rows_that_are_saved() {
    let config = read(&[
        ("modules_to_save", json!(["norm", "embed_tokens"])),
        ("trainable_token_indices", json!([3, 5])),
    ])
    .unwrap();
    assert!(config.is_saved_whole("model.language_model.layers.0.input_layernorm"));
    assert!(config.is_saved_whole("model.language_model.embed_tokens"));
    assert!(!config.is_saved_whole("model.vision_tower.encoder.layers.0.layer_norm1"));
    assert_eq!(
        config.saved_rows(),
        [("embed_tokens".to_owned(), vec![3, 5])]
    );
    let rows = json!({ "lm_head": [1] });
    let config = read(&[("trainable_token_indices", rows)]).unwrap();
    assert_eq!(config.saved_rows(), [("lm_head".to_owned(), vec![1])]);
}

/// A thousand damaged configs, always the same ones.
#[test]
fn damaged_configs_never_panic() {
    let whole = written_by_peft().to_string().into_bytes();
    let pieces: [&[u8]; 12] = [
        b"{",
        b"}",
        b"[",
        b"null",
        b"true",
        b"-1",
        b"1e999",
        b"18446744073709551616",
        b"\"(?=(a+)+$)b\"",
        b"\"all-linear\"",
        b"\\",
        b"\xff",
    ];
    let mut state = 0x9E37_79B9_7F4A_7C15_u64;
    let mut random = |below: usize| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state % below as u64) as usize
    };
    let mut read = 0;
    for _ in 0..1000 {
        let mut bytes = whole.clone();
        for _ in 0..=random(3) {
            let at = random(bytes.len());
            match random(4) {
                0 => bytes[at] = random(256) as u8,
                1 => bytes.truncate(at.max(1)),
                2 => drop(bytes.drain(at..(at + random(20)).min(bytes.len()))),
                _ => {
                    let value = bytes[at..].iter().position(|&byte| byte == b':');
                    let start = value.map_or(at, |value| at + value + 1);
                    let end = bytes[start..].iter().position(|&byte| byte == b',');
                    let end = end.map_or(start, |end| start + end);
                    bytes.splice(start..end, pieces[random(pieces.len())].iter().copied());
                }
            }
        }
        if let Ok(config) = PeftConfig::from_bytes("adapter_config.json", &bytes) {
            read += 1;
            let _ = config.lora_of(V_PROJ).as_ref().map(LoraConfig::scale);
            let _ = config.is_target(V_PROJ);
            let _ = config.is_saved_whole(V_PROJ);
        }
    }
    assert!((50..950).contains(&read), "{read}");
}
