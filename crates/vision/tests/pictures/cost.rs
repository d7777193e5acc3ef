//! Memory and time of hostile files: at most 64 MB and about a second each, or a typed error at once.

#![allow(
    clippy::print_stdout,
    reason = "what was measured is shown with --nocapture"
)]

use std::{
    io::Write,
    time::{Duration, Instant},
};

use gallery_gpt_vision::{
    AspectRatio, ImageError, ImageLimits, ImageProcessor, PixelValues, list_pictures,
};
use peak_alloc::PeakAlloc;

use crate::{alone, processor};

#[global_allocator]
static MEMORY: PeakAlloc = PeakAlloc;

/// The result of reading a file, after checking its time and peak memory.
fn measured(
    what: &str,
    read: impl FnOnce() -> Result<PixelValues, ImageError>,
) -> Result<PixelValues, ImageError> {
    let before = MEMORY.current_usage();
    MEMORY.reset_peak_usage();
    let began = Instant::now();
    let result = read();
    let (took, peak) = (began.elapsed(), MEMORY.peak_usage() - before);
    println!("{what}: {peak} bytes, {took:?}");
    assert!(peak < 64 << 20, "{what} took {peak} bytes");
    // About a second on an idle machine.
    let most = Duration::from_secs(if cfg!(debug_assertions) { 60 } else { 5 });
    assert!(took < most, "{what} took {took:?}");
    result
}

fn chunk(kind: &[u8; 4], data: &[u8]) -> Vec<u8> {
    let body = [&kind[..], data].concat();
    let mut crc = flate2::Crc::new();
    crc.update(&body);
    let length = (data.len() as u32).to_be_bytes();
    [&length[..], &body, &crc.sum().to_be_bytes()].concat()
}

/// `length` zero bytes, compressed by deflate.
fn zeros(length: u64) -> Vec<u8> {
    let mut encoder = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::new(6));
    let block = [0; 1 << 16];
    let mut left = length;
    while left > 0 {
        let now = left.min(block.len() as u64);
        encoder.write_all(&block[..now as usize]).unwrap();
        left -= now;
    }
    encoder.finish().unwrap()
}

/// A black PNG.
fn png(width: u32, height: u32, bits: u8, color: u8, more: &[Vec<u8>]) -> Vec<u8> {
    let samples = [1, 0, 3, 1, 2, 0, 4][usize::from(color)];
    let row = (u64::from(width) * samples * u64::from(bits)).div_ceil(8) + 1;
    let sides = [width.to_be_bytes(), height.to_be_bytes()].concat();
    let header = [&sides[..], &[bits, color, 0, 0, 0]].concat();
    let data = zeros(row * u64::from(height));
    [
        b"\x89PNG\r\n\x1a\n".to_vec(),
        chunk(b"IHDR", &header),
        more.concat(),
        chunk(b"IDAT", &data),
        chunk(b"IEND", &[]),
    ]
    .concat()
}

/// A GIF of a large screen and a frame of one pixel.
fn gif(width: u16, height: u16) -> Vec<u8> {
    let sides = [width.to_le_bytes(), height.to_le_bytes()].concat();
    let frame = [0x2C, 0, 0, 0, 0, 1, 0, 1, 0, 0, 2, 2, 0x44, 1, 0, 0x3B];
    let colors = [0; 6];
    [b"GIF89a", &sides[..], &[0x80, 0, 0], &colors, &frame].concat()
}

#[test]
fn long_thin_pictures_take_memory_for_their_pixels_only() {
    let _alone = alone();
    for aspect_ratio in [AspectRatio::Pad, AspectRatio::CenterCrop] {
        let mut config = processor().config().clone();
        config.aspect_ratio = aspect_ratio;
        let processor = config.init();
        for (width, height) in [(1, 65_535), (65_535, 1), (3, 20_000), (2000, 65_535)] {
            let what = format!("PNG {width}x{height} {aspect_ratio}");
            let file = png(width, height, 1, 0, &[]);
            measured(&what, || processor.process_bytes(&what, &file)).unwrap();
        }
        for (width, height) in [(1, 65_535), (65_535, 1)] {
            let what = format!("GIF {width}x{height} {aspect_ratio}");
            let file = gif(width, height);
            measured(&what, || processor.process_bytes(&what, &file)).unwrap();
            // A picture that the caller decoded is not subject to the limits.
            let strip =
                image::RgbImage::from_pixel(width.into(), height.into(), image::Rgb([9, 200, 30]));
            measured("strip", || Ok(processor.process(&strip))).unwrap();
        }
    }
}

#[test]
fn a_frame_without_pixels_is_refused() {
    let _alone = alone();
    for (width, height) in [(0, u16::MAX), (u16::MAX, 0), (0, 0)] {
        for flags in [0, 0x40] {
            let mut file = b"GIF87a\x01\0\x01\0\0\0\0,\0\0\0\0".to_vec();
            file.extend(width.to_le_bytes());
            file.extend(height.to_le_bytes());
            // Interlaced or not, and an empty block of two-bit codes.
            file.extend([flags, 2, 0]);
            let what = format!("a frame of {width} by {height}");
            let error = measured(&what, || processor().process_bytes("frame.gif", &file));
            let error = error.unwrap_err().to_string();
            let size = format!("the frame is {width} by {height} pixels");
            assert!(
                error.contains("frame.gif") && error.contains(&size),
                "{error}"
            );
        }
    }
}

#[test]
fn a_too_long_side_is_rejected_with_a_remedy() {
    let _alone = alone();
    for (width, height) in [(1, 200_000), (1, 1_000_000), (40_000_000, 1)] {
        let name = format!("{width}x{height}.png");
        let file = png(width, height, 1, 0, &[]);
        let error = measured(&name, || processor().process_bytes(&name, &file)).unwrap_err();
        let found = matches!(error, ImageError::TooLong { limit: 65_535, .. });
        assert!(
            found && error.to_string().contains("scale it down"),
            "{error}"
        );
    }
    // A WebP whose header has one flipped bit: 136x1048704.
    let canvas = [
        &[0, 0, 0, 0, 135, 0, 0][..],
        &1_048_703_u32.to_le_bytes()[..3],
    ]
    .concat();
    let body = [
        b"WEBPVP8X",
        &10_u32.to_le_bytes()[..],
        &canvas,
        b"VP8L\x04\0\0\0\0\0\0\0",
    ]
    .concat();
    let file = [b"RIFF", &(body.len() as u32).to_le_bytes()[..], &body].concat();
    let error = measured("WebP", || processor().process_bytes("head.webp", &file)).unwrap_err();
    assert!(error.to_string().contains("head.webp"), "{error}");
}

#[test]
fn large_pictures_are_scaled_row_by_row() {
    let _alone = alone();
    let side = 13_377;
    for (bits, color) in [(1, 0), (8, 2)] {
        let file = png(side, side, bits, color, &[]);
        let what = format!("PNG {side}x{side}, {bits} bits of color type {color}");
        measured(&what, || processor().process_bytes(&what, &file)).unwrap();
        let strangers = processor().with_limits(ImageLimits::small());
        let error = measured(&what, || strangers.process_bytes("big.png", &file)).unwrap_err();
        assert!(matches!(error, ImageError::TooLarge { .. }), "{error}");
    }
    let file = gif(side as u16, side as u16);
    measured("GIF of one pixel", || {
        processor().process_bytes("large.gif", &file)
    })
    .unwrap();
}

#[test]
fn unneeded_chunks_are_not_decompressed() {
    let _alone = alone();
    // A colour profile of 256 MB.
    let profile = [b"p\0\0".to_vec(), zeros(256 << 20)].concat();
    let file = png(8, 8, 8, 2, &[chunk(b"iCCP", &profile)]);
    measured("profile", || {
        processor().process_bytes("profile.png", &file)
    })
    .unwrap();
    let text = [b"p\0\0".to_vec(), zeros(256 << 20)].concat();
    let file = png(8, 8, 8, 2, &[chunk(b"zTXt", &text)]);
    measured("text", || processor().process_bytes("text.png", &file)).unwrap();
}

#[test]
fn memory_is_refused_before_it_is_taken() {
    let _alone = alone();
    let limits = ImageLimits {
        max_alloc: 1 << 20,
        ..ImageLimits::default()
    };
    let strict: ImageProcessor = processor().with_limits(limits);
    let refused = |name: &str, file: &[u8]| {
        let error = strict.decode(name, file).unwrap_err();
        assert!(matches!(error, ImageError::Memory { .. }), "{error}");
        assert!(error.to_string().contains(name), "{error}");
    };
    refused("whole.png", &png(1000, 1000, 8, 2, &[]));
    let padded = [png(8, 8, 8, 2, &[]), vec![0; 2 << 20]].concat();
    refused("padded.png", &padded);
    // Read row by row, the first of them takes little memory.
    strict
        .process_bytes("whole.png", &png(1000, 1000, 8, 2, &[]))
        .unwrap();
}

#[cfg(unix)]
#[test]
fn only_regular_files_are_read() {
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe.png");
    let made = std::process::Command::new("mkfifo").arg(&pipe).status();
    assert!(made.unwrap().success());
    let endless = folder.path().join("endless.jpg");
    std::os::unix::fs::symlink("/dev/zero", &endless).unwrap();
    for (path, kind) in [
        (pipe, "a named pipe"),
        (endless, "a device"),
        (folder.path().to_owned(), "a folder"),
    ] {
        let error = measured(kind, || processor().process_file(&path)).unwrap_err();
        assert!(matches!(error, ImageError::NotAFile { .. }), "{error}");
        let words = error.to_string();
        let named = words.contains(kind) && words.contains(&*path.to_string_lossy());
        assert!(named, "{words}");
    }
    let listing = list_pictures(folder.path()).unwrap();
    assert_eq!(listing.left_out.len(), 2, "{listing:?}");
}
