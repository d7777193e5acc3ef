//! Tensor names of Qwen-VL-Chat, from and to hub names.

use gallery_gpt_llama::LoraTarget;

/// Names in pairs: the hub name, and the model's own.
type Names = &'static [(&'static str, &'static str)];

/// Parameters that are no module's weight or bias.
const PARAMETERS: Names = &[
    (
        "vision_tower.vision_model.embeddings.position_embedding.weight",
        "transformer.visual.positional_embedding",
    ),
    (
        "multi_modal_projector.query",
        "transformer.visual.attn_pool.query",
    ),
    (
        "multi_modal_projector.pos_embed",
        "transformer.visual.attn_pool.pos_embed",
    ),
    (
        "multi_modal_projector.in_proj_weight",
        "transformer.visual.attn_pool.attn.in_proj_weight",
    ),
    (
        "multi_modal_projector.in_proj_bias",
        "transformer.visual.attn_pool.attn.in_proj_bias",
    ),
    ("multi_modal_projector.proj", "transformer.visual.proj"),
];

/// Modules outside of blocks.
const MODULES: Names = &[
    ("language_model.model.embed_tokens", "transformer.wte"),
    ("language_model.model.norm", "transformer.ln_f"),
    ("language_model.lm_head", "lm_head"),
    (
        "vision_tower.vision_model.embeddings.patch_embedding",
        "transformer.visual.conv1",
    ),
    (
        "vision_tower.vision_model.pre_layrnorm",
        "transformer.visual.ln_pre",
    ),
    (
        "multi_modal_projector.kv_proj",
        "transformer.visual.attn_pool.kv_proj",
    ),
    (
        "multi_modal_projector.ln_q",
        "transformer.visual.attn_pool.ln_q",
    ),
    (
        "multi_modal_projector.ln_kv",
        "transformer.visual.attn_pool.ln_kv",
    ),
    (
        "multi_modal_projector.out_proj",
        "transformer.visual.attn_pool.attn.out_proj",
    ),
    (
        "multi_modal_projector.ln_post",
        "transformer.visual.ln_post",
    ),
];

/// The blocks of the decoder and of the tower: their names up to the number, and their modules.
const BLOCKS: [(&str, &str, Names); 2] = [
    (
        "language_model.model.layers.",
        "transformer.h.",
        &[
            ("input_layernorm", "ln_1"),
            ("post_attention_layernorm", "ln_2"),
            ("self_attn.c_attn", "attn.c_attn"),
            ("self_attn.o_proj", "attn.c_proj"),
            ("mlp.gate_proj", "mlp.w2"),
            ("mlp.up_proj", "mlp.w1"),
            ("mlp.down_proj", "mlp.c_proj"),
        ],
    ),
    (
        "vision_tower.vision_model.encoder.layers.",
        "transformer.visual.transformer.resblocks.",
        &[
            ("layer_norm1", "ln_1"),
            ("layer_norm2", "ln_2"),
            ("self_attn.in_proj", "attn.in_proj"),
            ("self_attn.out_proj", "attn.out_proj"),
            ("mlp.fc1", "mlp.c_fc"),
            ("mlp.fc2", "mlp.c_proj"),
        ],
    ),
];

/// A linear of the decoder's blocks, as the model's finetune.py names it.
pub(super) fn target_name(target: LoraTarget) -> &'static str {
    match target {
        LoraTarget::OProj => "attn.c_proj",
        LoraTarget::UpProj => "w1",
        LoraTarget::GateProj => "w2",
        LoraTarget::DownProj => "mlp.c_proj",
        other => other.name(),
    }
}

/// The hub name of a tensor; `None` if the model has no such tensor.
pub(super) fn hub_key(key: &str) -> Option<String> {
    translated(
        key,
        |&(hub, own)| (own, hub),
        |&(hub, own, names)| (own, hub, names),
    )
}

/// The model's own name of a tensor, by its hub name; `None` if it has no such tensor.
pub(super) fn own_key(hub_key: &str) -> Option<String> {
    translated(hub_key, |&pair| pair, |&block| block)
}

/// A name, from the first of each pair to the second.
fn translated(
    key: &str,
    pair: impl Fn(&(&'static str, &'static str)) -> (&'static str, &'static str),
    block: impl Fn(&(&'static str, &'static str, Names)) -> (&'static str, &'static str, Names),
) -> Option<String> {
    let find = |names: Names, name: &str| {
        let mut pairs = names.iter().map(&pair);
        pairs.find_map(|(from, to)| (from == name).then_some(to))
    };
    if let Some(to) = find(PARAMETERS, key) {
        return Some(to.to_owned());
    }
    let (module, leaf) = key.rsplit_once('.')?;
    if let Some(to) = find(MODULES, module) {
        return Some(format!("{to}.{leaf}"));
    }
    BLOCKS.iter().map(block).find_map(|(from, to, names)| {
        let (number, module) = module.strip_prefix(from)?.split_once('.')?;
        let _: usize = number.parse().ok()?;
        let module = find(names, module)?;
        Some(format!("{to}{number}.{module}.{leaf}"))
    })
}
