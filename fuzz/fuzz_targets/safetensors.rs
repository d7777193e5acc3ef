//! A whole file of weights of whatever kind: read or refused, never a panic.
#![no_main]

use std::cell::RefCell;

use gallery_gpt_checkpoint::WeightFiles;
use libfuzzer_sys::fuzz_target;

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::NamedTempFile::new().expect("a temporary file"));
}

fuzz_target!(|bytes: &[u8]| {
    FILE.with_borrow_mut(|file| {
        std::fs::write(file.path(), bytes).expect("a file");
        if let Ok(files) = WeightFiles::open_single(file.path()) {
            for (_, tensor) in files.iter() {
                let _ = tensor.bytes();
            }
        }
    });
});
