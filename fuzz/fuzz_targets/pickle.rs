//! The pickle of a PyTorch file, in an archive with one storage: read or refused, never a panic.
#![no_main]

use std::{cell::RefCell, io::Write};

use gallery_gpt_checkpoint::WeightFiles;
use libfuzzer_sys::fuzz_target;
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

thread_local! {
    static FILE: RefCell<tempfile::NamedTempFile> =
        RefCell::new(tempfile::Builder::new().suffix(".bin").tempfile().expect("a temporary file"));
}

fn archive(pickle: &[u8]) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(CompressionMethod::Stored);
    for (name, bytes) in [
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &[0; 256]),
        ("archive/version", b"3\n"),
    ] {
        zip.start_file(name, options).expect("an entry");
        zip.write_all(bytes).expect("an entry");
    }
    zip.finish().expect("an archive").into_inner()
}

fuzz_target!(|pickle: &[u8]| {
    FILE.with_borrow_mut(|file| {
        std::fs::write(file.path(), archive(pickle)).expect("a file");
        if let Ok(files) = WeightFiles::open_single(file.path()) {
            for (_, tensor) in files.iter() {
                let _ = tensor.bytes();
            }
        }
    });
});
