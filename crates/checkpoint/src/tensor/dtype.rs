//! The dtypes of weights.

use burn::tensor::DType;
use gallery_gpt_text::UnknownName;
use safetensors::Dtype;

/// Dtypes that a weight can have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum TensorDtype {
    /// 32 bits.
    F32,
    /// 16 bits, 5 of them exponent.
    F16,
    /// 16 bits, 8 of them exponent.
    BF16,
}

impl TensorDtype {
    /// Burn's name.
    #[must_use]
    pub fn burn(self) -> DType {
        match self {
            Self::F32 => DType::F32,
            Self::F16 => DType::F16,
            Self::BF16 => DType::BF16,
        }
    }

    pub(crate) fn from_burn(dtype: DType) -> Option<Self> {
        match dtype {
            DType::F32 | DType::Flex32 => Some(Self::F32),
            DType::F16 => Some(Self::F16),
            DType::BF16 => Some(Self::BF16),
            _ => None,
        }
    }

    pub(crate) fn file(self) -> Dtype {
        match self {
            Self::F32 => Dtype::F32,
            Self::F16 => Dtype::F16,
            Self::BF16 => Dtype::BF16,
        }
    }

    /// Name in a `config.json`.
    #[must_use]
    pub fn torch(self) -> &'static str {
        match self {
            Self::F32 => "float32",
            Self::F16 => "float16",
            Self::BF16 => "bfloat16",
        }
    }

    /// Bytes of a value.
    #[must_use]
    pub fn size(self) -> usize {
        match self {
            Self::F32 => 4,
            Self::F16 | Self::BF16 => 2,
        }
    }
}

impl std::str::FromStr for TensorDtype {
    type Err = UnknownName;

    /// `f32`, `f16`, `bf16`, or PyTorch's names of them.
    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "f32" | "float32" => Ok(Self::F32),
            "f16" | "float16" => Ok(Self::F16),
            "bf16" | "bfloat16" => Ok(Self::BF16),
            _ => Err(UnknownName::new("dtype", name, "f32, f16 or bf16")),
        }
    }
}
