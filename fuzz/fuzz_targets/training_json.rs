//! A training file, whatever is in it: read or refused, never a panic, and what is read fits together.
#![no_main]

use std::path::Path;

use gallery_gpt_data::PaintingForm;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(set) = PaintingForm::read(Path::new("set.json"), bytes) {
        for record in &set.records {
            record.ensure_placeholders().expect("a placeholder for each picture");
        }
        for bad in &set.bad {
            let message = bad.to_string();
            assert!(!message.contains(char::is_control), "{message:?}");
        }
        let _ = set.repeated_ids();
    }
});
