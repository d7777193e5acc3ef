//! PyTorch files, made byte by byte.

use std::io::Write;

use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

/// A PyTorch file of f32 tensors, all zero, by name and shape.
pub(crate) fn pickled(tensors: &[(String, Vec<usize>)]) -> Vec<u8> {
    let mut pickle = b"\x80\x02}(".to_vec();
    for (key, shape) in tensors {
        pickle.extend(text(key));
        pickle.extend(tensor(shape.iter().map(|&size| size as i64), 0, 1 << 20));
    }
    pickle.extend(b"u.");
    archive(&pickle, CompressionMethod::Stored, 4 << 20)
}

pub(crate) fn text(text: &str) -> Vec<u8> {
    let mut out = b"X".to_vec();
    out.extend((text.len() as u32).to_le_bytes());
    out.extend(text.as_bytes());
    out
}

fn int(value: i64) -> Vec<u8> {
    let mut out = b"\x8a\x08".to_vec();
    out.extend(value.to_le_bytes());
    out
}

/// A tensor over storage `0`, which has `stored` elements.
pub(crate) fn tensor(
    shape: impl Iterator<Item = i64> + Clone,
    offset: i64,
    stored: i64,
) -> Vec<u8> {
    let mut out = b"ctorch._utils\n_rebuild_tensor_v2\n((".to_vec();
    out.extend(text("storage"));
    out.extend(b"ctorch\nFloatStorage\n");
    out.extend(text("0"));
    out.extend(text("cpu"));
    out.extend(int(stored));
    out.extend(b"tQ");
    out.extend(int(offset));
    out.extend(b"(");
    let sizes: Vec<i64> = shape.collect();
    for size in &sizes {
        out.extend(int(*size));
    }
    out.extend(b"t(");
    for at in 0..sizes.len() {
        out.extend(int(sizes[at + 1..]
            .iter()
            .fold(1, |a, b| a.wrapping_mul(*b))));
    }
    out.extend(b"t\x89}tR");
    out
}

pub(crate) fn archive(pickle: &[u8], method: CompressionMethod, stored: usize) -> Vec<u8> {
    let mut zip = ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default().compression_method(method);
    for (name, bytes) in [
        ("archive/data.pkl", pickle),
        ("archive/byteorder", b"little"),
        ("archive/data/0", &vec![0; stored]),
        ("archive/version", b"3\n"),
    ] {
        zip.start_file(name, options).unwrap();
        zip.write_all(bytes).unwrap();
    }
    zip.finish().unwrap().into_inner()
}
