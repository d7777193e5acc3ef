//! CUDA: its requirements, and the settings of Burn's CUDA backend.
//!
//! Kernels are CUDA C++, compiled on first use. Compiled kernels and autotune results are cached in
//! one file in the user's cache folder. A `cubecl.toml` (or `[cubecl]` in a `burn.toml`) in the
//! working directory or above can change this.

use std::{path::Path, sync::OnceLock};

use cubecl::{
    config::{CubeClRuntimeConfig, RuntimeConfig, cache::CacheConfig},
    cuda::install::cuda_path,
    environment,
};
use cubek_std::config::CubekConfig;
use cudarc::driver::{
    result::{self, device},
    sys::{CUdevice_attribute_enum as Attribute, cuDriverGetVersion},
};

use super::Finding;

/// Fixes the settings of the process on the first call; later calls change nothing. Returns whether
/// f32 matmuls may use TF32.
pub(super) fn settle(allow_tf32: bool) -> bool {
    static SETTLED: OnceLock<bool> = OnceLock::new();
    *SETTLED.get_or_init(|| {
        let mut config = CubeClRuntimeConfig::from_current_dir().override_from_env();
        config.compilation.cache = true;
        // The default is in the `target` folder, which `cargo clean` deletes.
        if matches!(config.environment.path, CacheConfig::Target) {
            config.environment.path = CacheConfig::Global;
        }
        let mut kernels = CubekConfig::from_current_dir();
        kernels.matmul.allow_tf32 = allow_tf32;
        CubeClRuntimeConfig::try_set(config);
        if CubekConfig::try_set(kernels) {
            allow_tf32
        } else {
            CubekConfig::get().matmul.allow_tf32
        }
    })
}

/// CUDA headers that kernels include.
const HEADERS: [&str; 3] = ["cuda_fp16.h", "cuda_bf16.h", "mma.h"];

pub(super) fn findings(index: usize) -> Vec<Finding> {
    let mut findings = vec![if cfg!(feature = "cuda") {
        Finding::fine(
            "build",
            "CUDA C++ kernels, fusion, autotune, kept between runs",
        )
    } else {
        Finding::falls_back(
            "build",
            "CUDA C++ kernels, autotune, kept between runs; no fusion (`--features cuda` has it)",
        )
    }];
    let [driver, nvrtc, nccl] = libraries();
    if driver {
        findings.extend(of_driver(index));
    } else {
        findings.push(Finding::missing(
            "driver",
            "libcuda is not found; install NVIDIA's driver, or start the container with its GPUs",
        ));
    }
    findings.push(if nvrtc {
        Finding::fine("NVRTC", nvrtc_version())
    } else {
        Finding::missing(
            "NVRTC",
            "libnvrtc is not found, which compiles the kernels; install the CUDA toolkit, or put its folder on LD_LIBRARY_PATH",
        )
    });
    findings.push(headers(cuda_path().as_deref()));
    findings.push(if nccl {
        Finding::fine("NCCL", nccl_version())
    } else {
        Finding::falls_back(
            "NCCL",
            "libnccl is not found; gradients of several GPUs are added up through the host",
        )
    });
    settle(false);
    findings.push(kernel_cache(&environment::path()));
    findings.push(Finding::fine(
        "attention",
        "fused, forward and backward: f32, f16, bf16, causal or not, without a mask",
    ));
    findings.push(Finding::falls_back(
        "attention",
        "through its scores for rows of unlike lengths that are written together (a mask), one query a row",
    ));
    findings
}

/// Whether the libraries of the driver, the compiler and the collectives can be loaded.
#[allow(
    unsafe_code,
    reason = "loading a library runs its start-up code; these are NVIDIA's, which any use of the device loads"
)]
fn libraries() -> [bool; 3] {
    // SAFETY: the calls only try to load each library by its known names.
    unsafe {
        [
            cudarc::driver::sys::is_culib_present(),
            cudarc::nvrtc::sys::is_culib_present(),
            cudarc::nccl::sys::is_culib_present(),
        ]
    }
}

#[allow(
    unsafe_code,
    reason = "the compiler's question for its version has no other form"
)]
fn nvrtc_version() -> String {
    let (mut major, mut minor) = (0, 0);
    // SAFETY: it writes into both numbers, which outlive the call.
    let status = unsafe { cudarc::nvrtc::sys::nvrtcVersion(&raw mut major, &raw mut minor) };
    match status {
        cudarc::nvrtc::sys::nvrtcResult::NVRTC_SUCCESS => format!("CUDA {major}.{minor}"),
        other => format!("it does not say its version: {other:?}"),
    }
}

fn nccl_version() -> String {
    match cudarc::nccl::result::get_nccl_version() {
        // Five digits since 2.9: 2.29.2 is 22902.
        Ok(version) => format!(
            "{}.{}.{}",
            version / 10_000,
            version / 100 % 100,
            version % 100
        ),
        Err(error) => format!("it does not say its version: {error:?}"),
    }
}

fn of_driver(index: usize) -> Vec<Finding> {
    let missing = |why: String| vec![Finding::missing("driver", why)];
    if let Err(error) = result::init() {
        return missing(format!("it does not start: {error:?}"));
    }
    let mut findings = vec![driver_version()];
    let count = match device::get_count() {
        Ok(count) => usize::try_from(count).unwrap_or(0),
        Err(error) => return missing(format!("it names no GPU: {error:?}")),
    };
    if index >= count {
        findings.push(Finding::missing(
            "GPU",
            format!("there is no cuda:{index}; there are {count}, from cuda:0 on (CUDA_VISIBLE_DEVICES hides some)"),
        ));
        return findings;
    }
    match gpu(index) {
        Ok(gpu) => findings.extend(gpu),
        Err(error) => findings.push(Finding::missing(
            "GPU",
            format!("it does not answer: {error:?}"),
        )),
    }
    findings
}

#[allow(
    unsafe_code,
    reason = "the driver's own question for its version has no other form"
)]
fn driver_version() -> Finding {
    /// CUDA version of the bindings (`CUDARC_CUDA_VERSION`).
    const BINDINGS: i32 = 13000;
    let mut version = 0;
    // SAFETY: it writes the version into `version`, which outlives the call.
    let known = unsafe { cuDriverGetVersion(&raw mut version) }.result();
    let name = |version: i32| format!("CUDA {}.{}", version / 1000, version % 1000 / 10);
    match known {
        Ok(()) if version >= BINDINGS => Finding::fine("driver", name(version)),
        Ok(()) => Finding::falls_back(
            "driver",
            format!(
                "{}, older than the {} of this build: what came after it is not there; build with CUDARC_CUDA_VERSION={version}",
                name(version),
                name(BINDINGS)
            ),
        ),
        Err(error) => Finding::missing("driver", format!("it does not say its version: {error:?}")),
    }
}

#[allow(
    unsafe_code,
    reason = "the driver's questions for a GPU's properties have no other form"
)]
fn gpu(index: usize) -> Result<Vec<Finding>, cudarc::driver::DriverError> {
    let gpu = device::get(index as i32)?;
    let name = device::get_name(gpu)?;
    // SAFETY: `gpu` is a device that the driver gave.
    let (bytes, major, minor) = unsafe {
        (
            device::total_mem(gpu)?,
            device::get_attribute(gpu, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR)?,
            device::get_attribute(gpu, Attribute::CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MINOR)?,
        )
    };
    let memory = bytes as f64 / 1e9;
    let capability = format!("compute capability {major}.{minor}");
    Ok(vec![
        Finding::fine("GPU", format!("{name}, {memory:.1} GB")),
        if major >= 8 {
            Finding::fine("bf16", format!("{capability}: on tensor cores"))
        } else {
            Finding::falls_back(
                "bf16",
                format!(
                    "{capability}: not on tensor cores before 8.0; use dtype f16 for generation"
                ),
            )
        },
    ])
}

fn headers(toolkit: Option<&Path>) -> Finding {
    let Some(toolkit) = toolkit else {
        return Finding::missing(
            "headers",
            "no CUDA toolkit at CUDA_PATH, /usr/local/cuda, /opt/cuda or /usr; kernels include its headers",
        );
    };
    let include = toolkit.join("include");
    let absent = HEADERS.iter().find(|name| !include.join(name).is_file());
    match absent {
        None => Finding::fine("headers", include.display().to_string()),
        Some(name) => Finding::missing(
            "headers",
            format!(
                "{name} is not in {}; set CUDA_PATH to the folder above it",
                include.display()
            ),
        ),
    }
}

fn kernel_cache(file: &Path) -> Finding {
    let place = file.display();
    match std::fs::metadata(file) {
        Ok(known) => Finding::fine(
            "kernel cache",
            format!("{place}, {:.1} MB", known.len() as f64 / 1e6),
        ),
        Err(_) => {
            let folder = file.ancestors().find(|folder| folder.is_dir());
            let writable = folder.is_some_and(|folder| {
                std::fs::metadata(folder).is_ok_and(|known| !known.permissions().readonly())
            });
            if writable {
                Finding::fine(
                    "kernel cache",
                    format!("{place}, empty: the first run compiles and tunes"),
                )
            } else {
                Finding::falls_back(
                    "kernel cache",
                    format!("{place} cannot be written: every run compiles and tunes anew"),
                )
            }
        }
    }
}
