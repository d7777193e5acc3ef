//! Trains a small LLaMA-style vocabulary.

use std::{collections::HashSet, path::Path};

use tokenizers::{
    AddedToken, TokenizerImpl,
    decoders::{
        DecoderWrapper, byte_fallback::ByteFallback, fuse::Fuse, sequence::Sequence, strip::Strip,
    },
    models::bpe::{BPE, BpeTrainer},
    normalizers::{NormalizerWrapper, Prepend, Replace, Sequence as Normalizers},
    pre_tokenizers::{
        PreTokenizerWrapper,
        metaspace::{Metaspace, PrependScheme},
    },
    processors::{PostProcessorWrapper, template::TemplateProcessing},
};

use crate::{SPIECE_UNDERLINE, SpecialTokens, TokenizerError};

/// Trains a byte-pair vocabulary of `vocab_size` pieces and writes it as a `tokenizer.json` that
/// `transformers` reads as a LLaMA tokenizer: ids 0 to 2 are `<unk>`, `<s>` and `</s>`, ids 3 to
/// 258 the bytes.
///
/// # Errors
/// `vocab_size` is below 300, the `tokenizers` library rejects a text, or the file cannot be
/// written.
pub fn train_tokenizer(
    texts: &[&str],
    vocab_size: usize,
    path: &Path,
) -> Result<(), TokenizerError> {
    let failed = |reason: String| TokenizerError::Train { reason };
    if vocab_size < 300 {
        return Err(failed(format!(
            "a vocabulary of {vocab_size} has no room beside 3 special tokens and 256 bytes; ask for 300 or more"
        )));
    }
    // Words are trained with their leading space; merges never cross words, as in LLaMA.
    let alphabet: HashSet<char> = texts
        .iter()
        .flat_map(|text| text.chars())
        .filter(|c| !c.is_control() && *c != ' ')
        .collect();
    let bytes = (0..=255_u8).map(|byte| AddedToken::from(format!("<0x{byte:02X}>"), true));
    let reserved: Vec<AddedToken> = SpecialTokens::TEXTS
        .iter()
        .map(|&token| AddedToken::from(token, true))
        .chain(bytes)
        .collect();
    let mut trainer = BpeTrainer::builder()
        .vocab_size(vocab_size)
        .special_tokens(reserved)
        .initial_alphabet(alphabet)
        .show_progress(false)
        .build();
    let mut learner = TokenizerImpl::<
        BPE,
        NormalizerWrapper,
        PreTokenizerWrapper,
        PostProcessorWrapper,
        DecoderWrapper,
    >::new(BPE::default());
    learner.with_pre_tokenizer(Some(PreTokenizerWrapper::Metaspace(Metaspace::new(
        SPIECE_UNDERLINE,
        PrependScheme::Always,
        true,
    ))));
    learner
        .train(
            &mut trainer,
            texts.iter().flat_map(|text| text.split_whitespace()),
        )
        .map_err(|error| failed(error.to_string()))?;

    let learned = learner.get_model();
    let json = serde_json::to_value(learned).map_err(|error| failed(error.to_string()))?;
    let (mut vocab, merges) =
        read_model(&json).ok_or_else(|| failed("no vocabulary".to_owned()))?;
    vocab.sort_by_key(|(_, id)| *id);
    let bpe = BPE::builder()
        .vocab_and_merges(
            vocab
                .into_iter()
                .collect::<tokenizers::models::bpe::Vocab>(),
            merges,
        )
        .unk_token(SpecialTokens::TEXTS[0].to_owned())
        .fuse_unk(true)
        .byte_fallback(true)
        .build()
        .map_err(|error| failed(error.to_string()))?;

    let underline = SPIECE_UNDERLINE.to_string();
    let replace =
        |from: &str, to: &str| Replace::new(from, to).map_err(|error| failed(error.to_string()));
    let mut tokenizer = tokenizers::Tokenizer::new(bpe);
    tokenizer
        .with_normalizer(Some(Normalizers::new(vec![
            Prepend::new(underline.clone()).into(),
            replace(" ", &underline)?.into(),
        ])))
        .map_err(|error| failed(error.to_string()))?;
    tokenizer.with_decoder(Some(Sequence::new(vec![
        replace(&underline, " ")?.into(),
        ByteFallback::default().into(),
        Fuse::default().into(),
        Strip::new(' ', 1, 0).into(),
    ])));
    let post = TemplateProcessing::builder()
        .try_single("<s> $A")
        .and_then(|builder| builder.try_pair("<s> $A <s> $B:1"))
        .map_err(|error| failed(error.clone()))?
        .special_tokens(vec![("<s>", 1)])
        .build()
        .map_err(|error| failed(error.to_string()))?;
    tokenizer.with_post_processor(Some(post));
    let special: Vec<_> = SpecialTokens::TEXTS
        .iter()
        .map(|&token| AddedToken::from(token, true).normalized(false))
        .collect();
    tokenizer
        .add_special_tokens(special)
        .map_err(|error| failed(error.to_string()))?;
    let text = tokenizer
        .to_string(true)
        .map_err(|error| failed(error.to_string()))?;
    std::fs::write(path, text).map_err(|source| TokenizerError::Write {
        path: path.to_owned(),
        source,
    })
}

type VocabAndMerges = (Vec<(String, u32)>, Vec<(String, String)>);

/// The vocabulary and merges of a serialised BPE model.
fn read_model(json: &serde_json::Value) -> Option<VocabAndMerges> {
    let vocab = json
        .get("vocab")?
        .as_object()?
        .iter()
        .map(|(piece, id)| Some((piece.clone(), u32::try_from(id.as_u64()?).ok()?)))
        .collect::<Option<Vec<_>>>()?;
    let merges = json
        .get("merges")?
        .as_array()?
        .iter()
        .map(|merge| {
            let pair = merge.as_array()?;
            Some((
                pair.first()?.as_str()?.to_owned(),
                pair.get(1)?.as_str()?.to_owned(),
            ))
        })
        .collect::<Option<Vec<_>>>()?;
    Some((vocab, merges))
}
