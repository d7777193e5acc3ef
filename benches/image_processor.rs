//! Picture to pixels: an RGB picture of 1024x768 to 336x336, padded and cropped; and decoding a JPEG of the sample.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use gallery_gpt::vision::{AspectRatio, ImageProcessorConfig};
use image::{Rgb, RgbImage};

fn benches(criterion: &mut Criterion) {
    let picture = RgbImage::from_fn(1024, 768, |x, y| {
        Rgb([(x * 7 + y) as u8, (x + y * 3) as u8, (x ^ y) as u8])
    });
    for (name, aspect_ratio) in [
        ("pad", AspectRatio::Pad),
        ("center_crop", AspectRatio::CenterCrop),
    ] {
        let processor = ImageProcessorConfig::new(336)
            .with_aspect_ratio(aspect_ratio)
            .init();
        criterion.bench_function(
            &format!("image_processor/{name}/rgb8/1024x768_to_336"),
            |bencher| bencher.iter(|| processor.process(black_box(&picture))),
        );
    }
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../datasets/painting-form-mini/images/test_0.jpg");
    let bytes = std::fs::read(path).expect("the sample is in the repository");
    let processor = ImageProcessorConfig::new(64).init();
    criterion.bench_function(
        "image_processor/decode_and_pad/jpeg/sample_to_64",
        |bencher| {
            bencher.iter(|| {
                let picture = processor.decode("test_0.jpg", black_box(&bytes));
                processor.process(&picture.expect("a whole picture"))
            });
        },
    );
}

criterion_group!(group, benches);
criterion_main!(group);
