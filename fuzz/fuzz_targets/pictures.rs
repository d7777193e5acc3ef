//! Pictures of all formats: whatever the bytes are, there is a picture or a typed error, within the limits of a server.

#![no_main]

use gallery_gpt_vision::{AspectRatio, ImageLimits, ImageProcessor, ImageProcessorConfig};
use libfuzzer_sys::fuzz_target;
use std::sync::LazyLock;

static PROCESSORS: LazyLock<[ImageProcessor; 2]> = LazyLock::new(|| {
    let limits = ImageLimits {
        max_pixels: 1 << 14,
        ..ImageLimits::small()
    };
    let config = ImageProcessorConfig::new(14).with_limits(limits);
    let cropped = config.clone().with_aspect_ratio(AspectRatio::CenterCrop);
    [
        config.init(),
        cropped.with_apply_orientation(true).init(),
    ]
});

fuzz_target!(
    init: {
        // A decoder's panic is to become an error: only one that comes out of the library ends the run.
        std::panic::set_hook(Box::new(|_| {}));
    },
    |bytes: &[u8]| {
        let [padded, cropped] = &*PROCESSORS;
        let by_rows = padded.process_bytes("fuzz", bytes);
        let whole = padded.decode("fuzz", bytes);
        match (by_rows, whole) {
            (Ok(by_rows), Ok(whole)) => assert!(by_rows == padded.process(&whole)),
            (Err(by_rows), Err(whole)) => assert_eq!(by_rows.to_string(), whole.to_string()),
            // The whole picture may be more than the limit where its rows are not.
            (Ok(_), Err(whole)) => assert!(whole.to_string().contains("bytes of memory")),
            (Err(by_rows), Ok(_)) => panic!("{by_rows}"),
        }
        let _ = cropped.process_bytes("fuzz", bytes);
        let _ = padded.info_of("fuzz", bytes);
    }
);
