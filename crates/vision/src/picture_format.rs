//! The supported formats of picture files.

/// Supported formats.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PictureFormat {
    /// Windows bitmap: 1, 4, 8, 16, 24 and 32 bits, RLE, bit fields.
    Bmp,
    /// GIF, the first frame.
    Gif,
    /// JPEG: baseline, progressive and arithmetic, 8 bits, grey, colour and CMYK.
    Jpeg,
    /// PNG of all kinds; the first picture of an animation.
    Png,
    /// TIFF and `BigTIFF`, the first page: raw, LZW, deflate, `PackBits`, JPEG and fax data in
    /// strips or tiles.
    Tiff,
    /// WebP, lossy and lossless, the first frame.
    WebP,
}

impl std::fmt::Display for PictureFormat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Bmp => "BMP",
            Self::Gif => "GIF",
            Self::Jpeg => "JPEG",
            Self::Png => "PNG",
            Self::Tiff => "TIFF",
            Self::WebP => "WebP",
        })
    }
}
