//! Which linear layers are adapted.

use std::str::FromStr;

/// The linear layers of a decoder block. LLaVA's have the first seven; Qwen's have `c_attn` in place
/// of `q_proj`, `k_proj` and `v_proj`. `lm_head` is not adapted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoraTarget {
    /// Query projection.
    QProj,
    /// Key projection.
    KProj,
    /// Value projection.
    VProj,
    /// Output projection of attention.
    OProj,
    /// Gate projection of the MLP.
    GateProj,
    /// Up projection of the MLP.
    UpProj,
    /// Down projection of the MLP.
    DownProj,
    /// Query, key and value projection in one.
    CAttn,
}

impl LoraTarget {
    /// All of them, in the order of a block's forward pass. A block has those that
    /// [`LlamaConfig::linears`](crate::LlamaConfig::linears) lists.
    pub const ALL: [Self; 8] = [
        Self::CAttn,
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// The module of a block that it belongs to: `self_attn` or `mlp`.
    #[must_use]
    pub fn block(self) -> &'static str {
        match self {
            Self::GateProj | Self::UpProj | Self::DownProj => "mlp",
            Self::CAttn | Self::QProj | Self::KProj | Self::VProj | Self::OProj => "self_attn",
        }
    }

    /// Its name in LLaMA, such as `q_proj`.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::QProj => "q_proj",
            Self::KProj => "k_proj",
            Self::VProj => "v_proj",
            Self::OProj => "o_proj",
            Self::GateProj => "gate_proj",
            Self::UpProj => "up_proj",
            Self::DownProj => "down_proj",
            Self::CAttn => "c_attn",
        }
    }
}

/// An unknown target name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown LoRA target `{0}`, expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj, c_attn"
)]
pub struct UnknownTarget(String);

impl FromStr for LoraTarget {
    type Err = UnknownTarget;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|target| target.name() == name)
            .ok_or_else(|| UnknownTarget(name.to_owned()))
    }
}

/// A set of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoraTargets([bool; LoraTarget::ALL.len()]);

impl Default for LoraTargets {
    /// All linear layers of a block, whichever it has.
    fn default() -> Self {
        Self([true; LoraTarget::ALL.len()])
    }
}

impl FromIterator<LoraTarget> for LoraTargets {
    fn from_iter<I: IntoIterator<Item = LoraTarget>>(targets: I) -> Self {
        let mut set = [false; LoraTarget::ALL.len()];
        for target in targets {
            set[target as usize] = true;
        }
        Self(set)
    }
}

impl LoraTargets {
    /// The targets of the set that are among some linear layers, as a decoder's blocks have them
    /// ([`LlamaConfig::linears`](crate::LlamaConfig::linears)).
    #[must_use]
    pub fn among(&self, linears: impl IntoIterator<Item = LoraTarget>) -> Self {
        let linears = linears.into_iter();
        linears.filter(|&target| self.contains(target)).collect()
    }

    /// The first target of the set that is not among some linear layers; `None` for the set of all,
    /// which means whatever there is.
    #[must_use]
    pub fn missing_among(
        &self,
        linears: impl IntoIterator<Item = LoraTarget>,
    ) -> Option<LoraTarget> {
        let found = self.among(linears);
        let mut missing = self.iter().filter(|&target| !found.contains(target));
        missing.next().filter(|_| *self != Self::default())
    }

    /// Whether a target is in the set.
    #[must_use]
    pub fn contains(&self, target: LoraTarget) -> bool {
        self.0[target as usize]
    }

    /// The targets in the set.
    pub fn iter(&self) -> impl Iterator<Item = LoraTarget> + '_ {
        LoraTarget::ALL
            .into_iter()
            .filter(|&target| self.contains(target))
    }
}
