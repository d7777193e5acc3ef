//! How an adapter was initialised (`init_lora_weights`), and whether that changed the base.

/// The effect of an initialization on the base.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initialization {
    /// The base is as in its folder.
    KeepsBase,
    /// The product of the adapter's initial factors, which come from a QR decomposition of the weight, was subtracted from the base
    /// (OLoRA, Büyükakyüz 2024, <https://arxiv.org/abs/2406.01775>).
    Olora,
}

const CONVERT: &str = "convert it where it was trained: \
    model.save_pretrained(FOLDER, path_initial_model_for_weight_conversion=START), where START is the adapter as it was saved before \
    its first step, and load FOLDER";

impl Initialization {
    /// The initialization of a name, or what to do about one that is not supported.
    pub(super) fn of(name: &str) -> Result<Self, String> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            // These leave the base as it is.
            "gaussian" | "orthogonal" | "eva" | "mica" => Ok(Self::KeepsBase),
            "olora" => Ok(Self::Olora),
            "pissa" => Err(format!(
                "an initialization that keeps the base as it is: PiSSA subtracted the largest singular values from the base's weights, so \
                 this adapter is right only on the base without them; {CONVERT}; or merge it there (merge_and_unload) and load the merged \
                 model"
            )),
            "loftq" => Err(
                "an initialization that keeps the base as it is: LoftQ replaced the base by a quantized one; merge the adapter where it \
                 was trained (merge_and_unload) and load the merged model"
                    .to_owned(),
            ),
            name if name.starts_with("pissa_niter_") => Err(format!(
                "an initialization that keeps the base as it is: PiSSA subtracted random approximations of the largest singular values \
                 from the base's weights, which cannot be recomputed; {CONVERT}"
            )),
            "corda" | "lora_ga" => Err(format!(
                "an initialization that keeps the base as it is: this one subtracted its initial factors from the base's weights, and \
                 they depend on data; {CONVERT}"
            )),
            _ => Err(
                "true, false, \"gaussian\", \"orthogonal\", \"eva\", \"mica\" or \"olora\"; an unknown initialization may have changed \
                 the base's weights"
                    .to_owned(),
            ),
        }
    }
}
