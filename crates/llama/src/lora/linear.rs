//! A linear layer with an optional low-rank adapter.

use burn::{
    module::{Module, Param, ParamId},
    nn::{Linear, LinearConfig},
    tensor::{
        DType, Device, Tensor, TensorData,
        module::linear,
        quantization::{QuantScheme, QuantStore, QuantValue},
    },
};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::dropout::mask;
use crate::{AdapterDropout, LoraConfig, linear::linear as product};
#[cfg(feature = "flex")]
use crate::{BlockFormat, block_weight::BlockWeight};

/// The low-rank adapter of one linear layer.
#[derive(Module, Debug)]
pub struct LoraAdapter {
    /// `[input, rank]` (PEFT stores the transpose).
    pub lora_a: Param<Tensor<2>>,
    /// `[rank, output]` (PEFT stores the transpose).
    pub lora_b: Param<Tensor<2>>,
    #[module(skip)]
    config: LoraConfig,
}

impl LoraAdapter {
    /// A new adapter: A is uniform in `±1/sqrt(input)` (Kaiming with a = sqrt 5, as in PEFT), B is
    /// zero.
    ///
    /// The adapters of one model have different random `stream`s.
    #[must_use]
    pub fn new(
        config: &LoraConfig,
        input: usize,
        output: usize,
        stream: u64,
        device: &Device,
    ) -> Self {
        let rank = config.rank;
        let seed = config.seed;
        let make_a = move |device: &Device, tracked: bool| {
            let mut random = ChaCha8Rng::seed_from_u64(seed);
            random.set_stream(stream);
            let bound = 1.0 / (input as f32).sqrt();
            let values: Vec<f32> = (0..input * rank)
                .map(|_| random.random_range(-bound..bound))
                .collect();
            let tensor = Tensor::from_data(TensorData::new(values, [input, rank]), device);
            if tracked {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        let make_b = move |device: &Device, tracked: bool| {
            let tensor = Tensor::zeros([rank, output], device);
            if tracked {
                tensor.require_grad()
            } else {
                tensor
            }
        };
        Self {
            lora_a: Param::uninitialized(
                ParamId::new(),
                make_a,
                device.clone(),
                true,
                [input, rank].into(),
            ),
            lora_b: Param::uninitialized(
                ParamId::new(),
                make_b,
                device.clone(),
                true,
                [rank, output].into(),
            ),
            config: config.clone(),
        }
    }

    /// The settings of this adapter: rank, alpha and dropout.
    #[must_use]
    pub fn config(&self) -> &LoraConfig {
        &self.config
    }

    /// `s (dropout(x) A) B`.
    ///
    /// # Shapes
    /// - `x`: `[..., input]`
    /// - output: `[..., output]`
    ///
    /// # Panics
    /// If the dropout is for more or fewer tokens than `x` has.
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>, dropout: AdapterDropout) -> Tensor<D> {
        let dtype = x.dtype();
        let x = match dropout {
            AdapterDropout::Seeded { seed, tokens } if self.config.dropout > 0.0 => {
                let shape = x.dims();
                let keep = 1.0 - self.config.dropout;
                let mask = mask(&tokens, shape[D - 1], keep, seed, &x.device(), dtype);
                x * mask.reshape(shape)
            }
            AdapterDropout::Seeded { .. } | AdapterDropout::Off => x,
        };
        let low = linear(x, self.lora_a.val().cast(dtype), None) * self.config.scale();
        linear(low, self.lora_b.val().cast(dtype), None)
    }

    /// The dense update `s A B`, `[input, output]`.
    #[must_use]
    pub fn delta(&self) -> Tensor<2> {
        self.lora_a.val().matmul(self.lora_b.val()) * self.config.scale()
    }
}

/// A linear layer with an optional adapter. It has a bias only if an adapter added one
/// (`lora_bias`).
#[derive(Module, Debug)]
pub struct LoraLinear {
    /// The base weight, `[input, output]`.
    pub base: Linear,
    /// The adapter.
    pub lora: Option<LoraAdapter>,
    /// If the weight is quantized, the scale of each output, `[output]`.
    scales: Option<Tensor<1>>,
    /// The weight in blocks. The dense one has its shape then, takes no memory, and is NaN.
    #[cfg(feature = "flex")]
    #[module(skip)]
    blocks: Option<BlockWeight>,
}

impl LoraLinear {
    pub(crate) fn new(input: usize, output: usize, device: &Device) -> Self {
        Self {
            base: LinearConfig::new(input, output)
                .with_bias(false)
                .init(device),
            lora: None,
            scales: None,
            #[cfg(feature = "flex")]
            blocks: None,
        }
    }

    /// As [`LoraLinear::new`], with a bias.
    pub(crate) fn with_bias(input: usize, output: usize, device: &Device) -> Self {
        Self {
            base: LinearConfig::new(input, output).init(device),
            lora: None,
            scales: None,
            #[cfg(feature = "flex")]
            blocks: None,
        }
    }

    /// `xW`, or `xW + s (dropout(x) A) B` with an adapter. The dense sum is never formed.
    ///
    /// # Shapes
    /// - `x`: `[..., input]`
    /// - output: `[..., output]`
    #[must_use]
    pub fn forward<const D: usize>(&self, x: Tensor<D>, dropout: AdapterDropout) -> Tensor<D> {
        match &self.lora {
            None => self.scaled(x),
            Some(lora) => self.scaled(x.clone()) + lora.forward(x, dropout),
        }
    }

    /// The base layer, with its outputs scaled if it is quantized.
    fn scaled<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        #[cfg(feature = "flex")]
        if let Some(blocks) = &self.blocks {
            let product = blocks.product(x);
            return match &self.base.bias {
                Some(bias) => product + bias.val().unsqueeze(),
                None => product,
            };
        }
        let y = product(&self.base, x);
        match &self.scales {
            None => y,
            Some(scales) => {
                let scales = scales.clone().cast(y.dtype());
                y * scales.unsqueeze()
            }
        }
    }

    /// Quantizes the base weight to 8 bits: the weights of each output are divided by their
    /// absolute maximum and rounded to 127 steps on either side (the vector-wise weight
    /// quantization of LLM.int8, Dettmers et al. 2022, <https://arxiv.org/abs/2208.07339>; inputs
    /// keep their precision). For generation, not for training or saving. The adapter is not
    /// changed.
    #[must_use]
    pub fn quantize(mut self) -> Self {
        if self.is_quantized() {
            return self;
        }
        let id = self.base.weight.id;
        let weight = self.base.weight.val().detach().cast(DType::F32);
        let scales = weight.clone().abs().max_dim(0).clamp_min(f32::MIN_POSITIVE);
        self.base.bias = self.base.bias.map(|bias| {
            // The bias is scaled with the outputs.
            bias.map(|bias| {
                let dtype = bias.dtype();
                (bias.detach().cast(DType::F32) / scales.clone().squeeze_dim(0)).cast(dtype)
            })
        });
        // The divided weights lie in -1..=1: one scale for the tensor is enough.
        let scheme = QuantScheme::default()
            .with_value(QuantValue::Q8S)
            .with_store(QuantStore::Native);
        let whole = (weight / scales.clone()).quantize_dynamic(&scheme);
        self.base.weight = Param::initialized(id, whole).no_grad();
        self.scales = Some(scales.squeeze_dim(0));
        self
    }

    /// Quantizes the base weight to a block format of GGUF, or where its blocks are too long to
    /// [`BlockFormat::Q8_0`]; a weight that no block fits stays as it is. For generation on the CPU,
    /// not for training or saving. The adapter is not changed.
    #[cfg(feature = "flex")]
    #[must_use]
    pub fn quantize_blocks(mut self, format: BlockFormat) -> Self {
        let weight = self.base.weight.val().detach();
        let [input, output] = weight.dims();
        let Some(format) = format.for_input(input) else {
            return self;
        };
        if self.is_quantized() {
            return self;
        }
        let (id, device) = (self.base.weight.id, weight.device());
        self.blocks = Some(BlockWeight::new(&weight, format));
        let none = Tensor::<2>::full([1, 1], f32::NAN, &device).expand([input, output]);
        self.base.weight = Param::initialized(id, none).no_grad();
        self
    }

    /// The block format of its weight, if it has one.
    #[cfg(feature = "flex")]
    #[must_use]
    pub fn block_format(&self) -> Option<BlockFormat> {
        self.blocks.as_ref().map(BlockWeight::format)
    }

    /// Whether its weight is quantized.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        #[cfg(feature = "flex")]
        if self.blocks.is_some() {
            return true;
        }
        self.scales.is_some()
    }

    /// Removes its adapter, without merging it.
    #[must_use]
    pub(crate) fn without_adapter(mut self) -> Self {
        self.lora = None;
        self
    }

    /// Adds a new adapter, replacing an older one.
    #[must_use]
    pub(crate) fn adapt(mut self, config: &LoraConfig, stream: u64) -> Self {
        let [input, output] = self.base.weight.lazy_shape().dims();
        let device = self.base.weight.lazy_device();
        self.lora = Some(LoraAdapter::new(config, input, output, stream, &device));
        self
    }

    /// Merges the adapter into the weight; returns the merged layer and the adapter.
    ///
    /// # Panics
    /// If the weight is quantized, which would round the sum to 8 bits. Merge before quantizing.
    #[must_use]
    pub fn merge(mut self) -> (Self, Option<LoraAdapter>) {
        assert!(
            self.lora.is_none() || !self.is_quantized(),
            "an adapter cannot be merged into a quantized weight; merge before quantizing"
        );
        let lora = self.lora.take();
        if let Some(lora) = &lora {
            let delta = lora.delta();
            self.base.weight = self.base.weight.map(|weight| {
                let dtype = weight.dtype();
                let tracked = weight.is_require_grad();
                // Summed in f32 for any dtype, rounded once.
                let wide = weight.detach().cast(DType::F32);
                let sum = (wide + delta.detach().cast(DType::F32)).cast(dtype);
                sum.set_require_grad(tracked)
            });
        }
        (self, lora)
    }

    /// Subtracts a merged adapter's update from the weight and puts the adapter back.
    ///
    /// The weight equals that before [`LoraLinear::merge`] within one rounding of its dtype.
    #[must_use]
    pub fn unmerge(mut self, adapter: LoraAdapter) -> Self {
        let delta = adapter.delta();
        self.base.weight = self.base.weight.map(|weight| {
            let dtype = weight.dtype();
            let tracked = weight.is_require_grad();
            let wide = weight.detach().cast(DType::F32);
            let rest = (wide - delta.detach().cast(DType::F32)).cast(dtype);
            rest.set_require_grad(tracked)
        });
        self.lora = Some(adapter);
        self
    }
}
