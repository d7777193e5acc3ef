//! How an adapter was started (`init_lora_weights`), and what that did to the base.

/// What is left of a start when the adapter is trained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Initialization {
    /// The base is the one its folder holds.
    LeavesTheBase,
    /// The base has lost the product of the adapter's first factors, which its QR decomposition gives (OLoRA, Büyükakyüz 2024,
    /// <https://arxiv.org/abs/2406.01775>).
    Olora,
}

const CONVERT: &str = "convert it where it was trained: \
    model.save_pretrained(FOLDER, path_initial_model_for_weight_conversion=START), where START is the adapter as it was saved before \
    its first step, and bring FOLDER";

impl Initialization {
    /// The start of a name, or what to do about one that cannot be followed.
    pub(super) fn of(name: &str) -> Result<Self, String> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            // The factors of these say everything, whatever they began as.
            "gaussian" | "orthogonal" | "eva" | "mica" => Ok(Self::LeavesTheBase),
            "olora" => Ok(Self::Olora),
            "pissa" => Err(format!(
                "a start that leaves the base as it is: PiSSA took the largest singular values off the base's weights, so that this \
                 adapter is right only on the base without them; {CONVERT}; or merge it there (merge_and_unload) and bring the merged \
                 model"
            )),
            "loftq" => Err(
                "a start that leaves the base as it is: LoftQ put a quantized base in place of the one its folder holds; merge the \
                 adapter where it was trained (merge_and_unload) and bring the merged model"
                    .to_owned(),
            ),
            name if name.starts_with("pissa_niter_") => Err(format!(
                "a start that leaves the base as it is: PiSSA took random approximations of the largest singular values off the base's \
                 weights, which nobody can find again; {CONVERT}"
            )),
            "corda" | "lora_ga" => Err(format!(
                "a start that leaves the base as it is: this one took its first factors off the base's weights, and they depend on \
                 data; {CONVERT}"
            )),
            _ => Err(
                "true, false, \"gaussian\", \"orthogonal\", \"eva\", \"mica\" or \"olora\"; a start that is not known may have moved \
                 the base's weights"
                    .to_owned(),
            ),
        }
    }
}
