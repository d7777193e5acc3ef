//! Reports of a device's requirements and whether the machine meets them.

use std::fmt;

use super::{DeviceError, DeviceKind, Finding, Verdict};

/// The report of a device.
///
/// ```
/// use gallery_gpt::{DeviceKind, DeviceReport};
///
/// let report = DeviceReport::of(DeviceKind::Cpu);
/// assert!(report.usable().is_ok());
/// println!("{report}");
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeviceReport {
    /// The device.
    pub device: DeviceKind,
    /// The findings, in the order of the requirements.
    pub findings: Vec<Finding>,
}

impl DeviceReport {
    /// Checks a device's requirements, without computing on it.
    #[must_use]
    pub fn of(device: DeviceKind) -> Self {
        let findings = match device {
            DeviceKind::Cpu => cpu(),
            #[cfg(feature = "cuda-no-fusion")]
            DeviceKind::Cuda(index) => super::cuda::findings(index),
            #[cfg(not(feature = "cuda-no-fusion"))]
            DeviceKind::Cuda(_) => vec![Finding::missing(
                "build",
                "without GPUs; build with `--features cuda`",
            )],
        };
        Self { device, findings }
    }

    /// Checks that no requirement is missing.
    ///
    /// # Errors
    /// The missing requirement.
    pub fn usable(&self) -> Result<(), DeviceError> {
        let missing = self
            .findings
            .iter()
            .filter(|finding| finding.verdict == Verdict::Missing);
        let missing: Vec<String> = missing
            .map(|finding| format!("{}: {}", finding.what, finding.found))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        Err(DeviceError::Missing {
            device: self.device,
            missing: missing.join("; "),
        })
    }
}

impl fmt::Display for DeviceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.device)?;
        for finding in &self.findings {
            write!(f, "\n  {finding}")?;
        }
        Ok(())
    }
}

fn cpu() -> Vec<Finding> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let mut findings = vec![Finding::fine("threads", threads.to_string())];
    #[cfg(target_arch = "x86_64")]
    findings.push(if is_x86_feature_detected!("avx512f") {
        Finding::fine("vectors", "AVX-512")
    } else if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
        Finding::falls_back(
            "vectors",
            "AVX2 and FMA; products are about half as fast as with AVX-512",
        )
    } else {
        Finding::falls_back("vectors", "no AVX2; products are slow")
    });
    findings.push(Finding::falls_back(
        "attention",
        "when training, through the scores of 128 queries at a time, which are kept for the backward pass",
    ));
    findings.push(Finding::falls_back(
        "bf16, f16",
        "stored so, multiplied slower than f32 on most processors",
    ));
    findings
}
