//! Words to ids and labels: one record of the sample.

#![allow(missing_docs, reason = "criterion's macros make undocumented items")]

use std::{hint::black_box, path::Path};

use criterion::{Criterion, criterion_group, criterion_main};
use gallery_gpt::{
    data::PaintingForm,
    text::{TemplateKind, Tokenizer, encode_conversation},
};

fn benches(criterion: &mut Criterion) {
    let datasets = Path::new(env!("CARGO_MANIFEST_DIR")).join("../datasets");
    let tokenizer =
        Tokenizer::from_folder(datasets.join("tiny-base")).expect("the base is in the repository");
    let set = PaintingForm::load(datasets.join("painting-form-mini/train_samples_tuning.json"))
        .expect("the sample is in the repository");
    let template = TemplateKind::VicunaV1.template();
    for turns in [1, 4] {
        let record = set
            .records
            .iter()
            .find(|record| record.conversation.turns.len() == 2 * turns)
            .expect("the sample has such a record");
        criterion.bench_function(&format!("tokenizer_and_mask/{turns}_turns"), |bencher| {
            bencher.iter(|| {
                encode_conversation(&tokenizer, &template, black_box(&record.conversation))
                    .expect("a good record")
            });
        });
    }
}

criterion_group!(group, benches);
criterion_main!(group);
