//! Writing tensors as PyTorch does, for the files of the original that have no other format.
//!
//! An archive of stored entries: `data.pkl`, a pickle of protocol 2 that rebuilds an ordered dictionary of tensors, and one entry
//! with the values of each.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::Path,
};

use safetensors::{Dtype, View};
use zip::{CompressionMethod, ZipWriter, write::SimpleFileOptions};

use crate::{CheckpointError, LazyTensor, error::write_error};

/// Folder inside the archive; PyTorch accepts any name.
const ROOT: &str = "archive";

/// Writes tensors by name; `torch.load` and `torch.load(weights_only=True)` read them.
pub(crate) fn write_pickle(
    path: &Path,
    tensors: &[(String, LazyTensor)],
) -> Result<(), CheckpointError> {
    write(path, tensors).map_err(write_error(path))
}

fn write(path: &Path, tensors: &[(String, LazyTensor)]) -> std::io::Result<()> {
    let mut archive = ZipWriter::new(BufWriter::new(File::create(path)?));
    // PyTorch maps storages that start at a multiple of 64.
    let options = SimpleFileOptions::default()
        .compression_method(CompressionMethod::Stored)
        .with_alignment(64)
        .large_file(true);
    let mut entry = |name: &str, bytes: &[u8]| -> std::io::Result<()> {
        archive.start_file(format!("{ROOT}/{name}"), options)?;
        archive.write_all(bytes)
    };
    entry("data.pkl", &pickle(tensors))?;
    entry("byteorder", b"little")?;
    for (number, (_, tensor)) in tensors.iter().enumerate() {
        entry(&format!("data/{number}"), &tensor.data())?;
    }
    entry("version", b"3\n")?;
    archive.finish()?.into_inner()?.sync_all()
}

/// The pickle that rebuilds the dictionary. Opcodes are named as in Python's `pickletools`.
fn pickle(tensors: &[(String, LazyTensor)]) -> Vec<u8> {
    let mut out = Pickle(vec![0x80, 2]); // PROTO
    out.call("collections", "OrderedDict", |out| out.op(b")")); // EMPTY_TUPLE
    out.op(b"("); // MARK
    for (number, (name, tensor)) in tensors.iter().enumerate() {
        out.text(name);
        let shape = tensor.shape();
        let count: usize = shape.iter().product();
        let strides: Vec<usize> = (0..shape.len())
            .map(|at| shape[at + 1..].iter().product())
            .collect();
        out.call("torch._utils", "_rebuild_tensor_v2", |out| {
            out.op(b"((");
            out.text("storage");
            out.global("torch", storage(tensor.dtype()));
            out.text(&number.to_string());
            out.text("cpu");
            out.int(count);
            out.op(b"tQ"); // TUPLE, BINPERSID
            out.int(0);
            out.ints(shape);
            out.ints(&strides);
            out.op(&[0x89]); // NEWFALSE: needs no gradient
            out.call("collections", "OrderedDict", |out| out.op(b")")); // no hooks
            out.op(b"t");
        });
    }
    out.op(b"u."); // SETITEMS, STOP
    out.0
}

fn storage(dtype: Dtype) -> &'static str {
    match dtype {
        Dtype::F16 => "HalfStorage",
        Dtype::BF16 => "BFloat16Storage",
        _ => "FloatStorage",
    }
}

struct Pickle(Vec<u8>);

impl Pickle {
    fn op(&mut self, codes: &[u8]) {
        self.0.extend_from_slice(codes);
    }

    fn global(&mut self, module: &str, name: &str) {
        self.op(format!("c{module}\n{name}\n").as_bytes()); // GLOBAL
    }

    /// A call with the tuple of arguments that `arguments` pushes.
    fn call(&mut self, module: &str, name: &str, arguments: impl FnOnce(&mut Self)) {
        self.global(module, name);
        arguments(self);
        self.op(b"R"); // REDUCE
    }

    fn text(&mut self, text: &str) {
        self.op(b"X"); // BINUNICODE
        self.op(&(text.len() as u32).to_le_bytes());
        self.op(text.as_bytes());
    }

    fn int(&mut self, value: usize) {
        match i32::try_from(value) {
            Ok(value) => {
                self.op(b"J"); // BININT
                self.op(&value.to_le_bytes());
            }
            Err(_) => {
                self.op(&[0x8a, 9]); // LONG1 of nine bytes, so that it is never negative
                self.op(&(value as u64).to_le_bytes());
                self.op(&[0]);
            }
        }
    }

    fn ints(&mut self, values: &[usize]) {
        self.op(b"(");
        for value in values {
            self.int(*value);
        }
        self.op(b"t");
    }
}
