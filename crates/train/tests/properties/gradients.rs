//! Loss and gradients, whatever the layout of a batch and whatever is recomputed.

use burn::{module::Param, tensor::Tensor};
use gallery_gpt_data::Batch;
use gallery_gpt_llama::LoraConfig;
use gallery_gpt_model::{Packing, ParamVisitor, visit_params};
use gallery_gpt_train::{
    Dropout, GradientOptions, Recompute, TrainState, TrainingConfig, gradients,
};
use proptest::prelude::*;

use crate::{adapted, batch, distance, families, model, model_of, picture, values, with_adapter};

/// All gradients of a model, by path.
struct Reader<'a>(&'a burn::optim::GradientsParams, Vec<(String, Vec<f32>)>);

impl ParamVisitor for Reader<'_> {
    fn visit<const D: usize>(&mut self, path: &str, param: &Param<Tensor<D>>) {
        if let Some(grad) = self.0.get::<D>(param.id) {
            self.1.push((path.to_owned(), values(grad)));
        }
    }
}

/// Loss and gradients, by path, of a batch.
fn read(
    state: &TrainState,
    batch: &Batch,
    options: GradientOptions,
) -> (f32, Vec<(String, Vec<f32>)>) {
    let part = gradients(state.model(), batch, &options).unwrap();
    let mut reader = Reader(&part.grads, Vec::new());
    visit_params(state.model(), &mut reader);
    (part.loss.into_scalar::<f32>(), reader.1)
}

fn assert_equal_gradients(ours: &[(String, Vec<f32>)], others: &[(String, Vec<f32>)]) {
    assert_eq!(ours.len(), others.len());
    for ((path, a), (other, b)) in ours.iter().zip(others) {
        assert_eq!(path, other);
        let size = a.iter().map(|v| v.abs()).fold(1e-3, f32::max);
        assert!(distance(a, b) <= 1e-5 * size.max(1.0), "{path}");
    }
}

/// Batches of conversations of all lengths, with none, one or two pictures.
fn batches() -> impl Strategy<Value = Batch> {
    let conversation = (
        prop::collection::vec(3_i64..60, 2..14),
        0_usize..3,
        any::<u64>(),
    );
    prop::collection::vec(conversation, 1..6).prop_map(|conversations| {
        let mut batch = Batch::default();
        for (number, (mut ids, pictures, seed)) in conversations.into_iter().enumerate() {
            for nth in 0..pictures {
                ids.insert((seed >> (8 * nth)) as usize % ids.len(), -200);
                batch.pictures.push(picture(number + nth));
            }
            let label = |(at, &id): (usize, &i64)| {
                let supervised = id >= 0 && (seed >> (at % 64)) & 1 == 1;
                if supervised || at + 1 == ids.len() {
                    id.max(-100)
                } else {
                    -100
                }
            };
            batch
                .labels
                .push(ids.iter().enumerate().map(label).collect());
            batch.ids.push(number.to_string());
            batch.input_ids.push(ids);
        }
        batch
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn no_layout_changes_loss_or_gradients(batch in batches(), config in families()) {
        let model = with_adapter(model_of(&config, 7));
        let state = TrainState::new(model, &TrainingConfig::lora(1e-3), 4).unwrap();
        let (loss, padded) = read(&state, &batch, GradientOptions::default());
        for (packing, pad_to_multiple_of) in
            [(Packing::OneRow, 1), (Packing::OneRow, 8), (Packing::Off, 8)]
        {
            for recompute in [Recompute::Off, Recompute::Blocks] {
                let options =
                    GradientOptions { packing, pad_to_multiple_of, recompute, ..GradientOptions::default() };
                let (again, laid_out) = read(&state, &batch, options);
                prop_assert!((loss - again).abs() <= 1e-6 * loss);
                assert_equal_gradients(&padded, &laid_out);
            }
        }
    }

    #[test]
    fn packed_conversations_do_not_see_each_other(
        batch in batches(),
        other in 3_i64..60,
        config in families(),
    ) {
        let model = with_adapter(model_of(&config, 7));
        let plan = |rows: &[Vec<i64>]| {
            model.plan(rows, &batch.pictures).unwrap().with_packing(Packing::OneRow)
        };
        let run = |rows: &[Vec<i64>]| {
            values(model.forward(&plan(rows), model.pixel_values(&batch.pictures)))
        };
        let before = run(&batch.input_ids);
        // Another word at the beginning of the first conversation.
        let mut rows = batch.input_ids.clone();
        if let Some(id) = rows[0].iter_mut().find(|id| **id >= 0) {
            *id = other;
        }
        let after = run(&rows);
        let own = plan(&rows).row_lengths()[0] * model.config().llama.vocab_size;
        prop_assert!(before[own..] == after[own..]);
    }
}

#[test]
fn recompute_on_and_off_give_equal_gradients() {
    for parts in [
        gallery_gpt_train::TrainableParts::LORA,
        gallery_gpt_train::TrainableParts::FULL,
        gallery_gpt_train::TrainableParts::PROJECTOR,
    ] {
        let config = TrainingConfig {
            parts,
            ..TrainingConfig::lora(1e-3)
        };
        let state = TrainState::new(adapted(7), &config, 4).unwrap();
        let with = |recompute| {
            let options = GradientOptions {
                recompute,
                ..GradientOptions::default()
            };
            read(&state, &batch(), options)
        };
        let (loss, plain) = with(Recompute::Off);
        for recompute in [Recompute::First(1), Recompute::Blocks] {
            let (again, recomputed) = with(recompute);
            assert!((loss - again).abs() <= 1e-6);
            assert_equal_gradients(&plain, &recomputed);
        }
        // Only what is trained has gradients: a frozen weight stores nothing.
        assert!(!plain.is_empty());
        let trained = state.groups().projector.len() + state.groups().others.len();
        if parts != gallery_gpt_train::TrainableParts::FULL {
            assert_eq!(plain.len(), trained);
        }
    }
}

#[test]
fn dropout_is_drawn_again_alike() {
    let lora = LoraConfig::new(4, 8.0).with_dropout(0.3);
    let state =
        TrainState::new(model(8).apply_lora(&lora), &TrainingConfig::lora(1e-3), 4).unwrap();
    let dropout = Dropout {
        seed: 9,
        step: 2,
        conversations: (0..batch().len()).collect(),
    };
    let with = |recompute, dropout| {
        let options = GradientOptions {
            recompute,
            dropout,
            ..GradientOptions::default()
        };
        read(&state, &batch(), options).1
    };
    let plain = with(Recompute::Off, Some(dropout.clone()));
    let far = |other: &[(String, Vec<f32>)]| {
        let pairs = plain.iter().zip(other);
        let distances = pairs.map(|(a, b)| distance(&a.1, &b.1));
        distances.fold(0.0, f32::max)
    };
    assert!(far(&with(Recompute::Blocks, Some(dropout.clone()))) <= 1e-5);
    assert!(far(&with(Recompute::Off, None)) > 1e-3);
    let conversations = dropout.conversations.iter().map(|number| number + 1);
    let others = Dropout {
        conversations: conversations.collect(),
        ..dropout
    };
    assert!(far(&with(Recompute::Off, Some(others))) > 1e-3);
}
