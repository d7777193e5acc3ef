//! Type-only stand-in for cubecl's LLVM compiler: the names `cubecl-cuda` mentions, and a compiler that says
//! it was left out. See the README beside this crate.

use core::fmt;

use cubecl_core::{ir::nvidia::SmArch, prelude::KernelDefinition};
use cubecl_runtime::{
    compiler::{CompilationError, Compiler},
    kernel::BufferIOAttr,
};

/// What the compiler would emit code for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum LlvmTarget {
    /// The host.
    #[default]
    Cpu,
    /// NVIDIA PTX.
    Nvptx,
}

/// NVIDIA-specific names.
pub mod nvptx {
    /// PTX versions.
    pub mod ptx_version {
        /// A PTX version; this stand-in knows none.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub struct PtxVersion(());

        impl PtxVersion {
            /// Always `None`: no PTX is emitted here.
            pub fn for_driver(_driver: i32) -> Option<Self> {
                None
            }
        }

        impl core::fmt::Display for PtxVersion {
            fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
                f.write_str("none")
            }
        }
    }
}

/// Names shared by all targets.
pub mod shared {
    /// Device features that the LLVM path would restrict.
    pub mod lowered_features {
        use cubecl_core::ir::{DeviceProperties, nvidia::SmArch};

        /// The GPU a kernel is lowered for.
        pub enum GpuTarget {
            /// NVIDIA, with its architecture.
            Nvptx {
                /// Streaming multiprocessor architecture.
                arch: SmArch,
            },
        }

        /// Leaves the properties as they are: nothing is lowered here.
        pub fn restrict_features(_properties: &mut DeviceProperties, _target: GpuTarget) {}
    }
}

/// A compiled PTX module.
#[derive(Clone, Debug)]
pub struct NvptxModule {
    /// PTX text, NUL-terminated.
    pub ptx: Vec<core::ffi::c_char>,
    /// Kernel name.
    pub entrypoint: String,
    /// Intermediate representation, for logs.
    pub ir: String,
    /// Bytes of shared memory.
    pub shared_memory_size: usize,
    /// Which buffers are read and written.
    pub io: Vec<BufferIOAttr>,
}

/// What a compilation would yield.
#[derive(Clone)]
pub enum PlironArtifact {
    /// PTX.
    NvptxCode(NvptxModule),
    /// Anything else.
    #[doc(hidden)]
    Unsupported,
}

impl fmt::Display for PlironArtifact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("left out")
    }
}

/// Options of a compilation.
#[derive(Clone, Debug, Default)]
pub struct PlironOptions {
    /// Host architecture.
    pub arch: Option<()>,
    /// GPU architecture.
    pub sm_arch: Option<SmArch>,
    /// PTX version to emit.
    pub ptx_version: Option<nvptx::ptx_version::PtxVersion>,
    /// Whether launch parameters are grid constants.
    pub grid_constants: bool,
    #[doc(hidden)]
    pub others: (),
}

/// The compiler that is not here.
#[derive(Clone, Debug, Default)]
pub struct PlironCompiler {
    /// What it would compile for.
    pub target: LlvmTarget,
}

impl Compiler for PlironCompiler {
    type Representation = PlironArtifact;
    type CompilationOptions = PlironOptions;

    fn compile(
        &mut self,
        _kernel: KernelDefinition,
        _options: &PlironOptions,
    ) -> Result<PlironArtifact, CompilationError> {
        panic!("this build has no LLVM: select the CUDA C++ generator with cubecl's `cuda-cpp` feature")
    }

    fn extension(&self) -> &'static str {
        "ll"
    }

    fn lang_tag(&self) -> &'static str {
        "llvm"
    }
}
