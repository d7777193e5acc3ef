//! Weight files made to do harm, or cut anywhere.

use std::path::Path;

use gallery_gpt_checkpoint::{CheckpointError, WeightFiles};
use proptest::prelude::*;
use zip::CompressionMethod;

use crate::torch_file::{archive, tensor, text};

#[test]
fn safetensors_that_lie() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().join("x.safetensors");
    let tensor = |shape: &str, from: u64, to: u64| {
        format!(r#"{{"dtype":"F32","shape":{shape},"data_offsets":[{from},{to}]}}"#)
    };
    let cases = [
        format!(
            r#"{{"a":{},"b":{}}}"#,
            tensor("[2]", 0, 8),
            tensor("[2]", 4, 12)
        ),
        format!(r#"{{"a":{}}}"#, tensor("[2]", 8, 0)),
        format!(r#"{{"a":{}}}"#, tensor("[4611686018427387904,4]", 0, 16)),
        format!(r#"{{"a":{}}}"#, tensor("[18446744073709551615]", 0, 16)),
        format!(r#"{{"a":{}}}"#, tensor("[4]", 0, u64::MAX)),
        format!(r#"{{"a":{}}}"#, tensor("[3]", 0, 16)),
        format!(r#"{{"a":{}}}"#, tensor("[4]", 16, 32)),
        r#"{"a":[]}"#.to_owned(),
        "[".repeat(10_000),
    ];
    for header in cases {
        let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
        bytes.extend(header.as_bytes());
        bytes.extend([0; 16]);
        std::fs::write(&path, bytes).unwrap();
        let error = WeightFiles::open_single(&path).unwrap_err();
        assert!(error.to_string().contains("x.safetensors"), "{error}");
    }
    // An empty tensor is valid.
    let header = format!(r#"{{"a":{}}}"#, tensor("[0,7]", 0, 0));
    let mut bytes = (header.len() as u64).to_le_bytes().to_vec();
    bytes.extend(header.as_bytes());
    std::fs::write(&path, bytes).unwrap();
    let files = WeightFiles::open_single(&path).unwrap();
    assert!(files.get("a").unwrap().bytes().unwrap().is_empty());
}

fn opened(root: &Path, bytes: &[u8]) -> Result<WeightFiles, CheckpointError> {
    let path = root.join("hostile.bin");
    std::fs::write(&path, bytes).unwrap();
    WeightFiles::open_single(&path)
}

#[test]
fn pickles_that_mean_harm() {
    let root = tempfile::tempdir().unwrap();
    let stored = |pickle: &[u8]| archive(pickle, CompressionMethod::Stored, 64);
    let dictionary = |value: &[u8]| {
        let mut pickle = b"\x80\x02}(".to_vec();
        pickle.extend(text("weight"));
        pickle.extend(value);
        pickle.extend(b"u.");
        stored(&pickle)
    };
    let good = dictionary(&tensor([4, 4].into_iter(), 0, 16));
    assert_eq!(opened(root.path(), &good).unwrap().len(), 1);

    let touched = root.path().join("touched");
    let mut run = b"cposix\nsystem\n(".to_vec();
    run.extend(text(&format!("touch {}", touched.display())));
    run.extend(b"tR");
    let mut deep = vec![b'('; 100_000];
    deep.extend(vec![b't'; 100_000]);
    let mut sized = Vec::new();
    for shape in [
        vec![1 << 62, 2],
        vec![i64::MAX],
        vec![-1, 4],
        vec![1 << 32, 1 << 32],
    ] {
        sized.push(dictionary(&tensor(shape.into_iter(), 0, 16)));
    }
    let mut cases = vec![
        dictionary(&run),
        stored(&[b"\x80\x02".to_vec(), run.clone(), b".".to_vec()].concat()),
        dictionary(&deep),
        // Behind its storage, and before it.
        dictionary(&tensor([4, 4].into_iter(), 1, 16)),
        dictionary(&tensor([4].into_iter(), -1, 16)),
        // A storage that the file has not.
        dictionary(&tensor([1 << 20].into_iter(), 0, 1 << 20)),
        // No tensor, no end, no stack, no such memo.
        dictionary(b"K\x01"),
        stored(b"\x80\x02}"),
        stored(b"\x80\x02u."),
        stored(b"\x80\x02h\x05."),
        stored(b""),
        b"PK\x03\x04".to_vec(),
        good[..good.len() - 30].to_vec(),
    ];
    cases.extend(sized);
    for (number, bytes) in cases.iter().enumerate() {
        match opened(root.path(), bytes) {
            Err(error) => assert!(
                error.to_string().contains("hostile.bin"),
                "{number}: {error}"
            ),
            // What the pickle says of a storage is known to be wrong when that is read.
            Ok(files) => {
                let (key, tensor) = files.iter().next().unwrap();
                let error = tensor.bytes().unwrap_err().to_string();
                assert!(
                    error.contains("hostile.bin") && error.contains(key),
                    "{number}: {error}"
                );
            }
        }
    }
    assert!(!touched.exists(), "a pickle was run");
}

#[test]
fn pytorch_files_cut_anywhere() {
    let root = tempfile::tempdir().unwrap();
    let goldens = Path::new(env!("CARGO_MANIFEST_DIR")).join("../gallery-gpt/tests/goldens");
    let whole = std::fs::read(goldens.join("gqa/model/mm_projector.bin")).unwrap();
    let head = 300;
    let step = (whole.len() - head) / 200;
    for cut in (0..head).chain((head..whole.len()).step_by(step)) {
        let error = opened(root.path(), &whole[..cut]).unwrap_err();
        assert!(error.to_string().contains("hostile.bin"), "{cut}: {error}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_pickle_is_read_or_refused(
        pickle in prop::collection::vec(any::<u8>(), 0..60),
        prefix in any::<bool>(),
    ) {
        let root = tempfile::tempdir().unwrap();
        let mut bytes = if prefix { b"\x80\x02}(".to_vec() } else { Vec::new() };
        bytes.extend(&pickle);
        bytes.extend(b"u.");
        let _ = opened(root.path(), &archive(&bytes, CompressionMethod::Stored, 16));
    }
}
