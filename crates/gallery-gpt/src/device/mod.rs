//! Selects devices and describes them.

#[cfg(feature = "cuda-no-fusion")]
mod cuda;
mod finding;
mod probe;
mod report;

use std::str::FromStr;

use burn::tensor::Device;

pub use finding::{Finding, Verdict};
pub use probe::{Check, check_device};
pub use report::DeviceReport;

/// A device, chosen at run time among those of this build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DeviceKind {
    /// The CPU.
    Cpu,
    /// An NVIDIA GPU by number.
    Cuda(usize),
}

/// A device that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DeviceError {
    /// The device is unknown, or not in this build.
    #[error("device `{found}` is {why}")]
    Unknown {
        /// Its name.
        found: String,
        /// Why.
        why: &'static str,
    },
    /// A GPU is named twice.
    #[error("device {0} is named twice; a GPU takes part once")]
    Twice(DeviceKind),
    /// The machine does not meet a requirement.
    #[error("device {device} cannot be used: {missing}")]
    Missing {
        /// The device.
        device: DeviceKind,
        /// What is missing, and what to do.
        missing: String,
    },
}

impl FromStr for DeviceKind {
    type Err = DeviceError;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        let unknown = |why| DeviceError::Unknown {
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
        if matches!(kind, Self::Cuda(_)) && !cfg!(feature = "cuda-no-fusion") {
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
    /// Whether it is the CPU.
    #[must_use]
    pub fn is_cpu(self) -> bool {
        self == Self::Cpu
    }

    /// Opens the device. The requirements of a GPU are checked first ([`DeviceReport`]), because
    /// Burn would panic.
    ///
    /// # Errors
    /// The device is not in this build, or the machine does not meet a requirement.
    pub fn device(self) -> Result<Device, DeviceError> {
        match self {
            #[cfg(feature = "flex")]
            Self::Cpu => Ok(Device::flex()),
            #[cfg(feature = "cuda-no-fusion")]
            Self::Cuda(index) => {
                DeviceReport::of(self).usable()?;
                cuda::settle(false);
                Ok(Device::cuda(index))
            }
            #[allow(unreachable_patterns, reason = "reached when a feature is off")]
            other => Err(DeviceError::Unknown {
                found: other.to_string(),
                why: "not in this build",
            }),
        }
    }

    /// Sets whether f32 matmuls on GPUs may use TF32, which is faster and has a 10-bit mantissa.
    /// Off by default. The setting is process-wide.
    ///
    /// Returns `false` if it is too late, because a GPU was opened before.
    #[must_use]
    pub fn allow_tf32(allowed: bool) -> bool {
        #[cfg(feature = "cuda-no-fusion")]
        {
            cuda::settle(allowed) == allowed
        }
        #[cfg(not(feature = "cuda-no-fusion"))]
        {
            let _ = allowed;
            true
        }
    }
}

/// One device, or several for data-parallel training.
///
/// ```
/// use gallery_gpt::{DeviceKind, Devices};
///
/// let devices: Devices = "cpu,cpu".parse()?;
/// assert_eq!(devices.first(), DeviceKind::Cpu);
/// assert_eq!(devices.others(), [DeviceKind::Cpu]);
/// # Ok::<(), gallery_gpt::DeviceError>(())
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Devices(Vec<DeviceKind>);

impl Devices {
    /// The first device, which loads, validates and saves.
    #[must_use]
    pub fn first(&self) -> DeviceKind {
        self.0[0]
    }

    /// The other devices.
    #[must_use]
    pub fn others(&self) -> &[DeviceKind] {
        &self.0[1..]
    }

    /// Number of devices.
    #[must_use]
    pub fn count(&self) -> usize {
        self.0.len()
    }
}

impl FromStr for Devices {
    type Err = DeviceError;

    /// Parses names separated by commas; the CPU may be named several times.
    fn from_str(names: &str) -> Result<Self, Self::Err> {
        let kinds = names.split(',').map(|name| name.trim().parse());
        let kinds: Vec<DeviceKind> = kinds.collect::<Result<_, _>>()?;
        for (at, kind) in kinds.iter().enumerate() {
            if matches!(kind, DeviceKind::Cuda(_)) && kinds[..at].contains(kind) {
                return Err(DeviceError::Twice(*kind));
            }
            if kind.is_cpu() != kinds[0].is_cpu() {
                return Err(DeviceError::Unknown {
                    found: names.to_owned(),
                    why: "a mix of CPU and GPUs, whose parts of a step would take unlike times",
                });
            }
        }
        Ok(Self(kinds))
    }
}

impl std::fmt::Display for Devices {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names: Vec<String> = self.0.iter().map(ToString::to_string).collect();
        f.write_str(&names.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_devices_or_errors_that_name_them() {
        assert_eq!(
            "cpu,cpu".parse::<Devices>().map(|found| found.count()),
            Ok(2)
        );
        for name in ["abacus", "", "cpu,", "cuda:x", "cpu,abacus"] {
            let error = name.parse::<Devices>().expect_err(name).to_string();
            assert!(error.contains('`'), "{error}");
        }
        if cfg!(feature = "cuda-no-fusion") {
            assert!("cuda:1,cuda:1".parse::<Devices>().is_err());
            assert!("cpu,cuda".parse::<Devices>().is_err());
        } else {
            let error = "cuda".parse::<DeviceKind>().expect_err("not built");
            assert!(error.to_string().contains("--features cuda"), "{error}");
        }
    }
}
