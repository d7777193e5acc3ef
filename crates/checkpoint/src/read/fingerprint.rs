//! Fingerprints of weights: one digest for all tensors, whatever layout and files they are in.

use std::collections::BTreeMap;

use sha2::{Digest, Sha256};

use crate::file::checksum::hex;

/// How a fingerprint over whole tensors begins. Those without it are of earlier versions, over the first 4 KiB of each tensor.
pub(crate) const WHOLE: &str = "sha256:";

/// The start of a fingerprint, enough to tell two apart by eye.
pub(crate) fn short(fingerprint: Option<&str>) -> &str {
    let digest = fingerprint.map(|all| all.strip_prefix(WHOLE).unwrap_or(all));
    digest.map_or("not read", |all| all.get(..16).unwrap_or(all))
}

/// Digest of all tensors whose hub names start with `prefix`.
pub(super) fn fingerprint(digests: &BTreeMap<&String, [u8; 32]>, prefix: &str) -> String {
    let mut hash = Sha256::new();
    for (hub_key, digest) in digests.iter().filter(|(key, _)| key.starts_with(prefix)) {
        hash.update(hub_key.as_bytes());
        hash.update(digest);
    }
    format!("{WHOLE}{}", hex(hash))
}
