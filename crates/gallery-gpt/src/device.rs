//! Which device to compute on.

use std::str::FromStr;

use burn::tensor::Device;

/// A device, chosen at run time among those compiled in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU by number.
    Cuda(usize),
}

/// A device nobody knows, or that was not compiled in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("device `{found}` is {why}")]
pub struct UnknownDevice {
    found: String,
    why: &'static str,
}

impl FromStr for DeviceKind {
    type Err = UnknownDevice;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = |why| UnknownDevice {
            found: name.to_owned(),
            why,
        };
        let kind = match name {
            "cpu" | "flex" => Self::Cpu,
            "cuda" => Self::Cuda(0),
            _ => name
                .strip_prefix("cuda:")
                .and_then(|index| index.parse().ok())
                .map(Self::Cuda)
                .ok_or_else(|| unknown("not known, expected cpu, cuda or cuda:N"))?,
        };
        if matches!(kind, Self::Cuda(_)) && !cfg!(feature = "cuda") {
            return Err(unknown("not in this build; build with `--features cuda`"));
        }
        if kind == Self::Cpu && !cfg!(feature = "flex") {
            return Err(unknown("not in this build; build with `--features flex`"));
        }
        Ok(kind)
    }
}

impl std::fmt::Display for DeviceKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Cpu => f.write_str("cpu"),
            Self::Cuda(index) => write!(f, "cuda:{index}"),
        }
    }
}

impl DeviceKind {
    /// The device.
    ///
    /// # Panics
    /// If it was not compiled in, which parsing its name would have said.
    #[must_use]
    pub fn device(self) -> Device {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => Device::flex(),
            #[cfg(feature = "cuda")]
            Self::Cuda(index) => Device::cuda(index),
            #[allow(unreachable_patterns, reason = "reached when a feature is off")]
            other => panic!("device {other} is not in this build"),
        }
    }
}
