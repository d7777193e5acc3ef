//! The text of an `adapter_config.json`: read or refused, and what is read can be asked about modules; never a panic.
#![no_main]

use gallery_gpt_checkpoint::PeftConfig;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(config) = PeftConfig::from_bytes("adapter_config.json", bytes) {
        for module in [
            "model.language_model.layers.11.self_attn.v_proj",
            "model.vision_tower.encoder.layers.1.mlp.fc1",
            "lm_head",
        ] {
            let _ = config.is_target(module);
            let _ = config.lora_of(module);
            let _ = config.is_saved_whole(module);
        }
    }
});
