//! Image processor and vision tower: from pictures to patch features.
//!
//! - [`ImageProcessor`] decodes and preprocesses pictures, bit-equal to Pillow and `transformers`'
//!   `CLIPImageProcessor` on u8.
//! - [`VisionTower`] is CLIP's vision transformer (Radford et al. 2021,
//!   <https://arxiv.org/abs/2103.00020>), with LLaVA's selection of layer ([`SelectLayer`]) and
//!   tokens ([`FeatureSelect`]); or Qwen-VL's (Bai et al. 2023,
//!   <https://arxiv.org/abs/2308.12966>), told by [`VisionConfig`].
//!
//! ```
//! use gallery_gpt_vision::{ImageProcessorConfig, PixelValues};
//!
//! let processor = ImageProcessorConfig::new(28).init();
//! let picture = image::RgbImage::from_pixel(60, 40, image::Rgb([200, 120, 40]));
//! let pixels: PixelValues = processor.process(&picture);
//! assert_eq!(pixels.shape(), [3, 28, 28]);
//! ```

mod attention;
mod config;
mod encoder;
mod error;
mod fault;
mod feature_select;
mod image_processor;
mod image_processor_config;
mod layer_norm;
mod limits;
mod mlp;
mod patch_embedding;
mod picture;
mod picture_format;
mod pixel_values;
mod positions;
mod preprocessor_config;
mod resize;
mod vision_tower;
mod weighted_sum;

pub use attention::{FusedVisionQkv, SeparateVisionQkv, VisionAttention, VisionQkv};
pub use config::{HiddenAct, VisionConfig};
pub use encoder::EncoderBlock;
pub use error::{ImageError, VisionConfigError};
pub use feature_select::{FeatureSelect, SelectLayer};
pub use image_processor::{FieldOfView, ImageProcessor};
pub use image_processor_config::{AspectRatio, CLIP_MEAN, CLIP_STD, ImageProcessorConfig};
pub use layer_norm::layer_norm;
pub use limits::ImageLimits;
pub use mlp::VisionMlp;
pub use patch_embedding::VisionEmbeddings;
pub use picture::{LeftOut, Orientation, PictureInfo, PictureListing, list_pictures};
pub use picture_format::PictureFormat;
pub use pixel_values::PixelValues;
pub use positions::resize_positions;
pub use preprocessor_config::PreprocessorConfig;
pub use vision_tower::VisionTower;
