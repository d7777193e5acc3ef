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

use crate::{program, root};

/// One record of every kind: a picture, none, two, a system text of its own, parts, an instruction.
const RECORDS: [&str; 6] = [
    r#"{"id":"r0","image":"images/0.jpg","conversations":[{"from":"human","value":"Describe the light.\n<image>"},{"from":"gpt","value":"It falls from the left."}]}"#,
    r#"{"id":"t0","image":"","conversations":[{"from":"user","value":"What is a still life?"},{"from":"assistant","value":"A picture of things on a table."},{"from":"user","value":"Where is it?"},{"from":"assistant","value":"In a room."}]}"#,
    r#"{"id":"s0","image":["images/1.jpg","images/2.jpg"],"conversations":[{"from":"human","value":"Compare <image> with <image>."},{"from":"gpt","value":"The first is red."}]}"#,
    r#"{"id":"y0","image":"images/3.jpg","conversations":[{"from":"system","value":"You look at light only."},{"from":"human","value":"<image>\nDescribe the light."},{"from":"gpt","value":"It is warm."}]}"#,
    r#"{"id":"p0","images":["images/4.jpg"],"messages":[{"role":"user","content":[{"type":"image"},{"type":"text","text":"Describe the light."}]},{"role":"assistant","content":[{"type":"text","text":"It is warm."}]}]}"#,
    r#"{"id":"i0","instruction":"What is a landscape?","input":"","output":"A picture of land."}"#,
];

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
fn several_pictures_are_read_at_their_marks() {
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
fn a_record_s_system_text_is_the_one_asked_with() {
    let (base, batcher) = base();
    let record = &read(RECORDS[3])[0];
    let (ids, _) = batcher.encode_text(record).unwrap();
    let asked = Conversation::question("<image>\nDescribe the light.")
        .with_system("You look at light only.");
    let prompt = TemplateKind::VicunaV1.template().prompt(&asked);
    let prompt = encode_prompt(base.tokenizer(), &prompt).unwrap();
    assert_eq!(ids[..prompt.len()], prompt);
    // A template without a system text refuses it, and one that keeps pictures alone a text.
    for (record, said) in [
        (RECORDS[3], "no system text"),
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
            error.contains("the system text") && error.contains(said),
            "{error}"
        );
    }
}

#[test]
fn a_record_without_a_mark_is_found_before_the_first_step() {
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
        message.contains("0 <image> marks for 1 pictures"),
        "{message}"
    );
    assert!(message.contains(r"a\u{1b}[2J"), "{message}");
    assert_eq!(events, 0);
}

/// What a program says about a data set, and whether it was content.
fn run(name: &str, data: &Path, images: &Path, more: &[&str]) -> (bool, String) {
    let output = program(name)
        .args([
            "--data",
            data.to_str().unwrap(),
            "--images",
            images.to_str().unwrap(),
        ])
        .args(more)
        .output()
        .unwrap();
    let said = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8(said).unwrap())
}

#[test]
fn every_form_is_validated_and_trained_and_said() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("set.json");
    let array = format!("[{}]", RECORDS.join(",\n"));
    let utf16: Vec<u8> = format!("\u{FEFF}{array}")
        .encode_utf16()
        .flat_map(u16::to_le_bytes)
        .collect();
    let python = array.replace(r#""id":"r0""#, r#""id":"r0","score":NaN,"loss":-Infinity"#);
    let windows = array.replace("images/0.jpg", r"images\\0.jpg");
    let absolute = pictures().join("images/0.jpg");
    let absolute = array.replace("images/0.jpg", absolute.to_str().unwrap());
    let mut losses = Vec::new();
    for (nth, bytes) in [
        array.clone().into_bytes(),
        RECORDS.join("\n").into_bytes(),
        utf16,
        python.into_bytes(),
        windows.into_bytes(),
        absolute.into_bytes(),
    ]
    .into_iter()
    .enumerate()
    {
        fs::write(&data, bytes).unwrap();
        let (well, said) = run("validate_dataset", &data, &pictures(), &[]);
        assert!(well, "{said}");
        for expected in [
            "3 with one picture",
            "1 with several pictures",
            "2 text only",
            "1 with a system text of their own",
            "(You look at light only.) <image>",
            "1 as `messages` in parts",
            "1 as an instruction and its answer",
            "6 records can be used, 0 cannot",
        ] {
            assert!(said.contains(expected), "{expected}: {said}");
        }
        let output = folder.path().join(format!("run-{nth}"));
        let output = ["--max_steps", "2", "--output_dir", output.to_str().unwrap()];
        let more = [
            "--per_device_train_batch_size",
            "2",
            "--logging_steps",
            "1",
            "--seed",
            "1",
        ];
        let (well, said) = run(
            "finetune",
            &data,
            &pictures(),
            &[output.as_slice(), &more].concat(),
        );
        assert!(well, "{said}");
        assert!(said.contains("2 text only"), "{said}");
        let log = folder.path().join(format!("run-{nth}/log.jsonl"));
        let log = fs::read_to_string(log).unwrap();
        let loss =
            |line: &str| serde_json::from_str::<serde_json::Value>(line).unwrap()["loss"].clone();
        losses.push(log.lines().map(loss).collect::<Vec<_>>());
    }
    assert_eq!(losses[0].len(), 2);
    assert!(losses.iter().all(|other| *other == losses[0]), "{losses:?}");
}

#[test]
fn what_cannot_be_used_is_named_by_every_program() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("set.json");
    let missing = fs::metadata("/no/such/file").unwrap_err().to_string();
    for (json, expected) in [
        (
            RECORDS[0].replace("images/0.jpg", "images/none.jpg"),
            &*missing,
        ),
        (
            RECORDS[0].replace("images/0.jpg", "../x.jpg"),
            "leads out of the picture folder",
        ),
        (
            RECORDS[0].replace("images/0.jpg", "/etc/passwd"),
            "leads out of the picture folder",
        ),
        (
            RECORDS[0].replace("images/0.jpg", "https://example.com/0.jpg"),
            "is an address",
        ),
        (
            RECORDS[0].replace(r"\n<image>", ""),
            "0 <image> marks for 1 pictures",
        ),
        (RECORDS[0].replace("\"gpt\"", "\"owl\""), "`owl` in turn 1"),
        (RECORDS[0].replace("\"r0\",", "\"r0\""), "line 2 column 11"),
    ] {
        fs::write(&data, format!("[{},\n{json}]", RECORDS[1])).unwrap();
        for name in ["validate_dataset", "finetune"] {
            let output = folder.path().join("run");
            let more = ["--output_dir", output.to_str().unwrap()];
            let more = if name == "finetune" { &more[..] } else { &[] };
            let (well, said) = run(name, &data, &pictures(), more);
            assert!(!well, "{name}: {said}");
            assert!(
                said.contains("record 1 (id ") && said.contains(expected),
                "{name}: {said}"
            );
            assert!(!output.exists(), "{name} began");
        }
    }
}

#[cfg(unix)]
#[test]
fn devices_are_refused_and_no_record_steers_the_terminal() {
    let folder = tempfile::tempdir().unwrap();
    let zero = folder.path().join("zero.json");
    std::os::unix::fs::symlink("/dev/zero", &zero).unwrap();
    let (well, said) = run("validate_dataset", &zero, &pictures(), &[]);
    assert!(!well && said.contains("a device or a pipe"), "{said}");

    let data = folder.path().join("set.json");
    let picture = folder.path().join("picture.jpg");
    std::os::unix::fs::symlink("/dev/zero", &picture).unwrap();
    let device = RECORDS[0].replace("images/0.jpg", "picture.jpg");
    let steering = RECORDS[1]
        .replace("\"t0\"", r#""\u001b[2Jt0""#)
        .replace("What is", r"\u001b]0;What is");
    fs::write(&data, format!("[{device},{steering},{steering}]")).unwrap();
    let (well, said) = run("validate_dataset", &data, folder.path(), &["--show", "1"]);
    assert!(!well && said.contains("device or a pipe"), "{said}");
    assert!(!said.contains('\x1b'), "{said:?}");
    assert!(
        said.contains(r"\u{1b}[2Jt0` is the id of 2 records, 1 and 2"),
        "{said}"
    );
}

#[test]
fn questions_find_their_pictures_as_records_do() {
    let folder = tempfile::tempdir().unwrap();
    let absolute = pictures().join("images/0.jpg");
    let images = [
        r"images\\0.jpg",
        absolute.to_str().unwrap(),
        "",
        "../tiny-base/config.json",
        "/etc/passwd",
        "https://example.com/0.jpg",
    ];
    let questions: Vec<String> = images
        .iter()
        .enumerate()
        .map(|(id, image)| format!(r#"{{"question_id":{id},"image":"{image}","text":"Light?"}}"#))
        .collect();
    let file = folder.path().join("questions.jsonl");
    fs::write(&file, questions.join("\n")).unwrap();
    let answers = folder.path().join("answers.jsonl");
    let output = program("answer_questions")
        .args([
            "--max_new_tokens",
            "2",
            "--image_folder",
            pictures().to_str().unwrap(),
        ])
        .args(["--question_file", file.to_str().unwrap()])
        .args(["--answers_file", answers.to_str().unwrap()])
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    assert_eq!(
        said.matches("leads out of the picture folder").count(),
        2,
        "{said}"
    );
    assert_eq!(said.matches("is an address").count(), 1, "{said}");
    assert_eq!(
        fs::read_to_string(answers).unwrap().lines().count(),
        3,
        "{said}"
    );
}
