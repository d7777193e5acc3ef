//! Digests of a training's records, by which a resume with other texts, tokens or pictures is found.

use std::{
    collections::HashMap,
    fs::{File, Metadata},
    io::Read,
    path::{Path, PathBuf},
    time::UNIX_EPOCH,
};

use gallery_gpt_data::{Batcher, Record, RecordPicture};
use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Picture files of up to this size together are hashed, which takes seconds. Of larger sets, which would take minutes, sizes and
/// modification times are compared.
const HASHED_WHOLE: u64 = 4_000_000_000;

/// Digests of some records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordDigest {
    /// Number of records.
    pub count: usize,
    /// SHA-256 of their ids, texts and names of pictures (of pictures in memory, all bytes), in order.
    pub texts: String,
    /// SHA-256 of their tokens and labels with the template and the tokenizer.
    pub tokens: String,
    /// Their pictures.
    pub pictures: PictureDigest,
}

/// Digest of the picture files of some records.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PictureDigest {
    /// Bytes of all files.
    pub bytes: u64,
    /// What was hashed.
    pub of: PictureEvidence,
    /// SHA-256 over all files, in the order of the records.
    pub sha256: String,
}

/// What is hashed of picture files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PictureEvidence {
    /// Every byte: sets of up to 4 GB.
    Contents,
    /// Size and modification time: larger sets.
    SizesAndTimes,
}

/// A digest in hexadecimal.
pub(crate) fn hex(digest: &[u8]) -> String {
    digest.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A hash of a list of values, each with its length, so that different lists of the same bytes differ.
struct ListHash(Sha256);

impl ListHash {
    fn new() -> Self {
        Self(Sha256::new())
    }

    fn add(&mut self, bytes: &[u8]) {
        self.0.update((bytes.len() as u64).to_le_bytes());
        self.0.update(bytes);
    }

    fn finish(self) -> String {
        hex(&self.0.finalize())
    }
}

impl RecordDigest {
    /// The digests of some records now. With `like`, pictures are hashed in the same way as for that digest.
    pub(crate) fn of(records: &[Record], batcher: &Batcher, like: Option<&Self>) -> Self {
        let mut texts = ListHash::new();
        for record in records {
            let conversation = &record.conversation;
            texts.add(record.id.as_bytes());
            for count in [record.pictures.len(), conversation.turns.len()] {
                texts.add(&count.to_le_bytes());
            }
            for picture in &record.pictures {
                texts.add(picture.identity());
            }
            let system = conversation.system.as_deref();
            texts.add(system.unwrap_or_default().as_bytes());
            for turn in &conversation.turns {
                texts.add(turn.role.record_name().as_bytes());
                texts.add(turn.text.as_bytes());
            }
        }
        let encoded: Vec<Vec<u8>> = records
            .par_iter()
            .map(|record| match batcher.encode_text(record) {
                Ok((ids, labels)) => [ids, labels]
                    .iter()
                    .flat_map(|row| {
                        std::iter::once(&(row.len() as i64))
                            .chain(row)
                            .flat_map(|id| id.to_le_bytes())
                            .collect::<Vec<_>>()
                    })
                    .collect(),
                Err(error) => error.to_string().into_bytes(),
            })
            .collect();
        let mut tokens = ListHash::new();
        encoded.iter().for_each(|row| tokens.add(row));
        Self {
            count: records.len(),
            texts: texts.finish(),
            tokens: tokens.finish(),
            pictures: PictureDigest::of(records, batcher, like.map(|like| like.pictures.of)),
        }
    }
}

impl PictureDigest {
    fn of(records: &[Record], batcher: &Batcher, evidence: Option<PictureEvidence>) -> Self {
        let files: Vec<PathBuf> = records
            .iter()
            .flat_map(|record| &record.pictures)
            .filter_map(|picture| match picture {
                RecordPicture::File(name) => {
                    let folder = batcher.picture_folder();
                    Some(folder.find(name).unwrap_or_else(|_| name.into()))
                }
                // Those in memory are hashed with the texts.
                RecordPicture::Bytes(_) | RecordPicture::Pixels(_) => None,
            })
            .collect();
        let mut places: HashMap<&Path, usize> = HashMap::new();
        let mut different: Vec<&Path> = Vec::new();
        for file in &files {
            places.entry(file).or_insert_with(|| {
                different.push(file);
                different.len() - 1
            });
        }
        let found: Vec<Option<Metadata>> = different
            .par_iter()
            .map(|file| std::fs::metadata(file).ok().filter(Metadata::is_file))
            .collect();
        let bytes = found.iter().flatten().map(Metadata::len).sum();
        let of = evidence.unwrap_or(if bytes <= HASHED_WHOLE {
            PictureEvidence::Contents
        } else {
            PictureEvidence::SizesAndTimes
        });
        let evidence: Vec<Vec<u8>> = different
            .par_iter()
            .zip(&found)
            .map(|(file, found)| match (found, of) {
                (None, _) => b"not there".to_vec(),
                (Some(_), PictureEvidence::Contents) => {
                    contents(file).unwrap_or_else(|error| error.kind().to_string().into_bytes())
                }
                (Some(found), PictureEvidence::SizesAndTimes) => {
                    let changed = found.modified().ok();
                    let changed = changed.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
                    format!("{} bytes, {changed:?}", found.len()).into_bytes()
                }
            })
            .collect();
        let mut hash = ListHash::new();
        for file in &files {
            hash.add(&evidence[places[file.as_path()]]);
        }
        Self {
            bytes,
            of,
            sha256: hash.finish(),
        }
    }
}

/// SHA-256 of a file, read piece by piece.
pub(super) fn contents(path: &Path) -> std::io::Result<Vec<u8>> {
    let mut file = File::open(path)?;
    let mut hash = Sha256::new();
    let mut piece = vec![0; 1 << 16];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(hash.finalize().to_vec()),
            read => hash.update(&piece[..read]),
        }
    }
}
