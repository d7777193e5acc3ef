//! Training records and test sets in other people's forms.

use std::{fs, path::Path, sync::Arc};

use burn::tensor::Device;
use gallery_gpt::{
    data::{Batch, Record, RecordPicture},
    llama::LoraConfig,
    model::Packing,
    prelude::*,
    text::{Conversation, encode_prompt},
    train::{RunFolder, TrainError, TrainState, Trainable, TrainableParts, Trainer, evaluate_loss},
};
use gallery_gpt_testkit::records::RECORDS;

use crate::root;

fn pictures() -> std::path::PathBuf {
    root().join("datasets/painting-form-mini")
}

fn base() -> (GalleryGpt, Batcher) {
    let base = GalleryGpt::load(root().join("datasets/tiny-base"), &Device::flex()).unwrap();
    let batcher = Batcher::new(
        base.tokenizer().clone(),
        TemplateKind::VicunaV1.template(),
        base.processor().clone(),
        pictures(),
        base.model().config().tokens_per_picture(),
        2048,
    );
    (base, batcher)
}

fn read(json: &str) -> Vec<Record> {
    let set = PaintingForm::read(Path::new("set"), json.as_bytes()).unwrap();
    assert!(set.bad.is_empty(), "{:?}", set.bad);
    set.records
}

fn batch(batcher: &Batcher, records: &[Record]) -> Batch {
    batcher.batch(&records.iter().collect::<Vec<_>>()).unwrap()
}

#[test]
fn records_with_and_without_pictures_train_together_in_every_cut() {
    let (base, batcher) = base();
    let records = read(&RECORDS.join("\n"));
    let model = base.model();
    // The loss of a batch is that of its tokens, one record at a time.
    let (mut sum, mut tokens) = (0.0, 0);
    for record in &records {
        let batch = batch(&batcher, std::slice::from_ref(record));
        let supervised = batch.supervised_tokens();
        sum += evaluate_loss(model, &[batch]).unwrap() * supervised as f64;
        tokens += supervised;
    }
    let expected = sum / tokens as f64;
    let step = |cut: usize, packing: Packing, devices: usize| {
        let config = TrainingConfig {
            packing,
            parts: TrainableParts {
                projector: Trainable::Full,
                ..TrainableParts::LORA
            },
            ..TrainingConfig::lora(1e-3)
        };
        let batches: Vec<_> = records
            .chunks(cut)
            .map(|records| batch(&batcher, records))
            .collect();
        let model = model
            .clone()
            .apply_lora(&LoraConfig::new(4, 8.0).with_dropout(0.0));
        let state = TrainState::new(model, &config, 2).unwrap();
        let mut state = state
            .with_devices(&vec![Device::flex(); devices - 1])
            .unwrap();
        let report = state.step(&batches).unwrap();
        (report.loss, report.grad_norm)
    };
    let (_, norm) = step(6, Packing::Off, 1);
    for (cut, packing, devices) in [
        (6, Packing::Off, 1),
        (6, Packing::OneRow, 1),
        (2, Packing::Off, 1),
        // Micro-batches of one record: the second device has a text alone.
        (1, Packing::Off, 2),
        (1, Packing::OneRow, 3),
    ] {
        let (loss, grad_norm) = step(cut, packing, devices);
        assert!(
            (loss - expected).abs() < 1e-5 * expected,
            "{cut}: {loss}, {expected}"
        );
        assert!(
            (grad_norm - norm).abs() < 1e-4 * norm,
            "{cut}: {grad_norm}, {norm}"
        );
    }
}

#[test]
fn several_pictures_are_read_at_their_placeholders() {
    let (base, batcher) = base();
    let loss = |json: &str| {
        let batch = batch(&batcher, &read(json));
        assert_eq!(batch.pictures.len(), 2);
        evaluate_loss(base.model(), &[batch]).unwrap()
    };
    let swapped = RECORDS[2].replace(
        r#"["images/1.jpg","images/2.jpg"]"#,
        r#"["images/2.jpg","images/1.jpg"]"#,
    );
    let parts = r#"{"id":"s0","messages":[{"role":"user","content":[{"type":"text","text":"Compare"},{"type":"image","path":"images/1.jpg"},{"type":"text","text":"with"},{"type":"image","path":"images/2.jpg"}]},{"role":"assistant","content":"The first is red."}]}"#;
    let lines = RECORDS[2].replace(
        "Compare <image> with <image>.",
        r"Compare\n<image>\nwith\n<image>",
    );
    assert_ne!(loss(RECORDS[2]), loss(&swapped));
    assert_eq!(loss(parts), loss(&lines));
}

#[test]
fn pictures_in_memory_are_those_in_files() {
    let (base, batcher) = base();
    let path = pictures().join("images/0.jpg");
    let bytes: Arc<[u8]> = fs::read(&path).unwrap().into();
    let pixels = Arc::new(base.processor().open(&path).unwrap());
    let talk = Conversation::question("Describe the light.\n<image>").answer("It is warm.");
    let example = |picture| {
        let record = Record::new("mine", vec![picture], talk.clone());
        batcher.encode(&record).unwrap()
    };
    let file = example(RecordPicture::from("images/0.jpg"));
    assert_eq!(example(RecordPicture::Bytes(bytes)), file);
    assert_eq!(example(RecordPicture::Pixels(pixels)), file);
    let broken = Record::new("mine", vec![RecordPicture::Bytes([0; 9].into())], talk);
    let error = batcher.encode(&broken).unwrap_err().to_string();
    assert!(error.contains("9 bytes in memory"), "{error}");
}

#[test]
fn a_record_s_system_prompt_is_the_one_asked_with() {
    let (base, batcher) = base();
    let record = &read(RECORDS[3])[0];
    let (ids, _) = batcher.encode_text(record).unwrap();
    let asked = Conversation::question("<image>\nDescribe the light.")
        .with_system("You look at light only.");
    let prompt = TemplateKind::VicunaV1.template().prompt(&asked);
    let prompt = encode_prompt(base.tokenizer(), &prompt).unwrap();
    assert_eq!(ids[..prompt.len()], prompt);
    // A template without a system prompt rejects one, and one that drops questions rejects a text-only record.
    for (record, said) in [
        (RECORDS[3], "no system prompt"),
        (RECORDS[5], "has no <image>"),
    ] {
        let plain = Batcher::new(
            base.tokenizer().clone(),
            TemplateKind::Plain.template(),
            base.processor().clone(),
            pictures(),
            16,
            2048,
        );
        let error = plain.encode_text(&read(record)[0]).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    for (text, said) in [
        ("ok </s>", "`</s>`"),
        ("<image>", "`<image>`"),
        ("x ASSISTANT: y", "`ASSISTANT:`"),
    ] {
        let mut record = record.clone();
        record.conversation.system = Some(text.to_owned());
        let error = batcher.encode_text(&record).unwrap_err().to_string();
        assert!(
            error.contains("the system prompt") && error.contains(said),
            "{error}"
        );
    }
}

#[test]
fn a_record_without_a_placeholder_is_found_before_the_first_step() {
    let (base, batcher) = base();
    let folder = tempfile::tempdir().unwrap();
    let mut records = read(&RECORDS[..1].join("\n"));
    let talk = Conversation::question("Describe the light.").answer("It is warm.");
    records.push(Record::new(
        "a\x1b[2J",
        vec![RecordPicture::from("images/0.jpg")],
        talk,
    ));
    let trainer = Trainer::new(TrainingConfig::lora(1e-3)).unwrap();
    let mut run = RunFolder::create(folder.path().join("run")).unwrap();
    let model = base.model().clone().apply_lora(&LoraConfig::new(4, 8.0));
    let mut events = 0;
    let error = trainer
        .train(model, &records, &batcher, &mut run, |_| events += 1)
        .unwrap_err();
    let message = error.to_string();
    assert!(matches!(error, TrainError::Record(_)), "{message}");
    assert!(
        message.contains("0 <image> placeholders for 1 pictures"),
        "{message}"
    );
    assert!(message.contains(r"a\u{1b}[2J"), "{message}");
    assert_eq!(events, 0);
}
