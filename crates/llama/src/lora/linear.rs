//! A linear that may carry an adapter.

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
use crate::{AdapterDropout, LoraConfig};

/// The low-rank part of one linear.
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
    /// A new adapter: A uniform in `±1/sqrt(input)` (Kaiming with a = sqrt 5, as PEFT), B zero.
    ///
    /// `stream` tells the adapters of one model apart.
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

    /// What it was made with: rank, alpha and dropout of this linear.
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
    /// If dropout numbers more or fewer tokens than `x` has.
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

/// A linear with or without an adapter. It has no bias of its own; only an adapter with one (`lora_bias`) brings it.
#[derive(Module, Debug)]
pub struct LoraLinear {
    /// The base weight, `[input, output]`.
    pub base: Linear,
    /// The adapter.
    pub lora: Option<LoraAdapter>,
    /// Where the weight is in 8 bits, what each output is multiplied by, `[output]`.
    scales: Option<Tensor<1>>,
}

impl LoraLinear {
    pub(crate) fn new(input: usize, output: usize, device: &Device) -> Self {
        Self {
            base: LinearConfig::new(input, output)
                .with_bias(false)
                .init(device),
            lora: None,
            scales: None,
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

    /// The base, its outputs scaled where its weight is in 8 bits.
    fn scaled<const D: usize>(&self, x: Tensor<D>) -> Tensor<D> {
        let y = self.base.forward(x);
        match &self.scales {
            None => y,
            Some(scales) => {
                let scales = scales.clone().cast(y.dtype());
                y * scales.unsqueeze()
            }
        }
    }

    /// Keeps the base weight in 8 bits: each output's weights divided by the largest of them and rounded to 127 steps on either
    /// side (the vector-wise weights of LLM.int8, Dettmers et al. 2022, <https://arxiv.org/abs/2208.07339>; inputs keep their
    /// precision). For writing, not for training or saving. An adapter stays as it is.
    #[must_use]
    pub fn quantize(mut self) -> Self {
        if self.scales.is_some() {
            return self;
        }
        let id = self.base.weight.id;
        let weight = self.base.weight.val().detach().cast(DType::F32);
        let scales = weight.clone().abs().max_dim(0).clamp_min(f32::MIN_POSITIVE);
        self.base.bias = self.base.bias.map(|bias| {
            // It is scaled with the outputs.
            bias.map(|bias| {
                let dtype = bias.dtype();
                (bias.detach().cast(DType::F32) / scales.clone().squeeze_dim(0)).cast(dtype)
            })
        });
        // One scale for the whole of what is left: it lies within 1 on either side.
        let scheme = QuantScheme::default()
            .with_value(QuantValue::Q8S)
            .with_store(QuantStore::Native);
        let whole = (weight / scales.clone()).quantize_dynamic(&scheme);
        self.base.weight = Param::initialized(id, whole).no_grad();
        self.scales = Some(scales.squeeze_dim(0));
        self
    }

    /// Whether its weight is in 8 bits.
    #[must_use]
    pub fn is_quantized(&self) -> bool {
        self.scales.is_some()
    }

    /// Takes its adapter off, without merging it.
    #[must_use]
    pub(crate) fn without_adapter(mut self) -> Self {
        self.lora = None;
        self
    }

    /// Gives it a new adapter, in place of an older one.
    #[must_use]
    pub(crate) fn adapt(mut self, config: &LoraConfig, stream: u64) -> Self {
        let [input, output] = self.base.weight.lazy_shape().dims();
        let device = self.base.weight.lazy_device();
        self.lora = Some(LoraAdapter::new(config, input, output, stream, &device));
        self
    }

    /// Adds the adapter's update to the weight and takes the adapter off; returns both.
    ///
    /// # Panics
    /// If the weight is in 8 bits: a sum would be rounded to them; merge first.
    #[must_use]
    pub fn merge(mut self) -> (Self, Option<LoraAdapter>) {
        assert!(
            self.lora.is_none() || !self.is_quantized(),
            "an adapter cannot be merged into a weight of 8 bits; merge before quantizing"
        );
        let lora = self.lora.take();
        if let Some(lora) = &lora {
            let delta = lora.delta();
            self.base.weight = self.base.weight.map(|weight| {
                let dtype = weight.dtype();
                let tracked = weight.is_require_grad();
                // Summed in f32 whatever the weight's precision, rounded once.
                let wide = weight.detach().cast(DType::F32);
                let sum = (wide + delta.detach().cast(DType::F32)).cast(dtype);
                sum.set_require_grad(tracked)
            });
        }
        (self, lora)
    }

    /// Takes an adapter's update off the weight again and puts the adapter back.
    ///
    /// Equal to the weight before [`LoraLinear::merge`] within a rounding of its precision.
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
