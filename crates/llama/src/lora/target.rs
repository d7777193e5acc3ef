//! Which linears are adapted.

use std::str::FromStr;

/// The linears of a decoder block. `lm_head` is none of them: LLaVA leaves it alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum LoraTarget {
    /// Queries.
    QProj,
    /// Keys.
    KProj,
    /// Values.
    VProj,
    /// Attention output.
    OProj,
    /// MLP gate.
    GateProj,
    /// MLP up.
    UpProj,
    /// MLP down.
    DownProj,
}

impl LoraTarget {
    /// All seven, in the order of a block's forward pass.
    pub const ALL: [Self; 7] = [
        Self::QProj,
        Self::KProj,
        Self::VProj,
        Self::OProj,
        Self::GateProj,
        Self::UpProj,
        Self::DownProj,
    ];

    /// The name in checkpoints of the part of a block that it is in.
    #[must_use]
    pub fn block(self) -> &'static str {
        match self {
            Self::GateProj | Self::UpProj | Self::DownProj => "mlp",
            Self::QProj | Self::KProj | Self::VProj | Self::OProj => "self_attn",
        }
    }

    /// Its name in checkpoints.
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
        }
    }
}

/// A target nobody knows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown LoRA target `{0}`, expected one of q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"
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
pub struct LoraTargets([bool; 7]);

impl Default for LoraTargets {
    /// All seven.
    fn default() -> Self {
        Self([true; 7])
    }
}

impl FromIterator<LoraTarget> for LoraTargets {
    fn from_iter<I: IntoIterator<Item = LoraTarget>>(targets: I) -> Self {
        let mut set = [false; 7];
        for target in targets {
            set[target as usize] = true;
        }
        Self(set)
    }
}

impl LoraTargets {
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
