//! Records for Qwen-VL-Chat: LLaVA's get numbered pictures, its own stand as they are.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;

use gallery_gpt_data::{Batcher, PaintingForm, RecordError};
use gallery_gpt_text::{TemplateKind, Tokenizer};
use gallery_gpt_vision::ImageProcessorConfig;

/// The text of the only record of a file, as it is trained on, and its tokens with pictures of 256.
fn trained(json: &str) -> Result<(String, usize), RecordError> {
    let folder = "../gallery-gpt/tests/goldens/qwen_basic/tokenizer";
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let tokenizer = Tokenizer::from_folder(folder).unwrap();
    let template = TemplateKind::ChatMl.template();
    let processor = ImageProcessorConfig::new(28).init();
    let batcher = Batcher::new(tokenizer.clone(), template, processor, "", 256, 400);
    let set = PaintingForm::read(Path::new("set.json"), json.as_bytes()).unwrap();
    let record = &set.records[0];
    let (ids, _) = batcher.encode_text(record)?;
    let words: Vec<u32> = ids
        .iter()
        .filter_map(|&id| u32::try_from(id).ok())
        .collect();
    let length = batcher.size(record)?.tokens;
    Ok((tokenizer.decode(&words, false), length))
}

#[test]
fn pictures_are_numbered_where_they_were_not_trained_otherwise() {
    let painting_form = r#"[{"image":"0.jpg","conversations":[{"from":"human","value":"Q\n<image>"},{"from":"gpt","value":"A"}]}]"#;
    let (text, length) = trained(painting_form).unwrap();
    assert!(
        text.contains("user\nPicture 1: <img></img>\nQ<|im_end|>"),
        "{text}"
    );
    let own = |user: &str| {
        format!(
            r#"[{{"conversations":[{{"from":"user","value":"{user}"}},{{"from":"assistant","value":"A"}}]}}]"#
        )
    };
    let labelled = own(r"Picture 1: <img>0.jpg</img>\nQ");
    assert_eq!(trained(&labelled).unwrap(), (text, length));
    let (bare, _) = trained(&own(r"<img>0.jpg</img>Q")).unwrap();
    assert!(bare.contains("user\n<img></img>Q<|im_end|>"), "{bare}");
}

#[test]
fn a_record_that_is_too_long_with_its_pictures_is_bad() {
    let two = r#"[{"image":["0.jpg","1.jpg"],"conversations":[{"from":"human","value":"<image><image>"},{"from":"gpt","value":"A"}]}]"#;
    let error = trained(two).unwrap_err();
    assert!(
        matches!(error, RecordError::TooLong { limit: 400, .. }),
        "{error}"
    );
}
