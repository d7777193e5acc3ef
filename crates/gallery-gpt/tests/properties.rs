//! What must hold for any weights: properties of the whole model, on a tiny random one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use burn::{
    module::{Module, ModuleVisitor, Param},
    tensor::{Device, Tensor},
};
use gallery_gpt::{
    checkpoint::{
        AdapterLayout, LoadOptions, SaveOptions, VocabRows, load_adapter, load_model, save_adapter,
        save_model,
    },
    data::Batch,
    llama::{LoraConfig, LoraTarget},
    model::{
        FinishReason, GalleryModel, GalleryModelConfig, GenerationConfig, Generator, Packing,
        ParamVisitor, Prompt, visit_params,
    },
    train::{
        Dropout, GradientOptions, MicroBatches, Recompute, StepReport, TrainState, TrainingConfig,
        gradients,
    },
    vision::PixelValues,
};
use proptest::prelude::*;

const EXACT: f32 = 0.0;
const CLOSE: f32 = 2e-5;

/// A tiny model with the weights of a seed. Weights are drawn on the host, so that tests can run side by side.
fn model(seed: u64) -> GalleryModel {
    struct Redraw(rand_chacha::ChaCha8Rng);
    impl burn::module::ModuleMapper for Redraw {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            use rand::RngExt;
            let shape = param.lazy_shape();
            let count = shape.num_elements();
            let scale = if D > 1 {
                1.7 / (shape[0] as f32).sqrt()
            } else {
                1.0
            };
            let values: Vec<f32> = (0..count)
                .map(|_| self.0.random_range(-scale..scale))
                .collect();
            let data = burn::tensor::TensorData::new(values, shape.to_vec());
            let value = Tensor::from_data(data, &param.lazy_device());
            let id = param.id;
            param.transform_for_load(value, id)
        }
    }
    let random = rand::SeedableRng::seed_from_u64(seed);
    GalleryModelConfig::tiny()
        .init(&Device::flex())
        .map(&mut Redraw(random))
}

/// An adapter whose B is not zero.
fn adapted(seed: u64) -> GalleryModel {
    let model = model(seed).apply_lora(&LoraConfig::new(4, 8.0));
    struct Fill(u32);
    impl burn::module::ModuleMapper for Fill {
        fn map_float<const D: usize>(&mut self, param: Param<Tensor<D>>) -> Param<Tensor<D>> {
            let shape = param.lazy_shape();
            self.0 += 1;
            if shape[0] != 4 || D != 2 {
                return param;
            }
            let values: Vec<f32> = (0..shape.num_elements())
                .map(|i| ((i as u32 * 37 + self.0 * 11) % 101) as f32 / 500.0 - 0.1)
                .collect();
            let data = burn::tensor::TensorData::new(values, shape.to_vec());
            param.map(|old| Tensor::from_data(data, &old.device()))
        }
    }
    model.map(&mut Fill(0))
}

fn picture(seed: usize) -> PixelValues {
    let values = (0..3 * 28 * 28)
        .map(|i| ((i * (seed * 2 + 7) + seed) % 255) as f32 / 127.0 - 1.0)
        .collect();
    PixelValues::from_values(values, 28)
}

fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().unwrap()
}

fn distance(a: &[f32], b: &[f32]) -> f32 {
    assert_eq!(a.len(), b.len());
    a.iter()
        .zip(b)
        .map(|(a, b)| (a - b).abs())
        .fold(0.0, f32::max)
}

/// Logits of each row at its real positions.
fn logits(model: &GalleryModel, rows: &[Vec<i64>], pictures: &[PixelValues]) -> Vec<Vec<f32>> {
    let plan = model.plan(rows, pictures).unwrap();
    let logits = values(model.forward(&plan, model.pixel_values(pictures)));
    let vocab = model.config().llama.vocab_size;
    plan.row_lengths()
        .iter()
        .enumerate()
        .map(|(row, &length)| {
            let start = row * plan.seq() * vocab;
            logits[start..start + length * vocab].to_vec()
        })
        .collect()
}

fn row() -> impl Strategy<Value = Vec<i64>> {
    let id = prop_oneof![8 => 3_i64..320, 1 => Just(-200_i64)];
    prop::collection::vec(id, 1..14).prop_map(|mut ids| {
        ids.insert(0, 1);
        ids
    })
}

fn marks(rows: &[Vec<i64>]) -> usize {
    rows.iter().flatten().filter(|&&id| id == -200).count()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    /// A batch of n equals n single runs, and so padding changes no real token's logits.
    #[test]
    fn a_batch_equals_its_rows_alone(rows in prop::collection::vec(row(), 1..4), seed in 0_u64..50) {
        let model = model(seed);
        let pictures: Vec<PixelValues> = (0..marks(&rows)).map(picture).collect();
        let together = logits(&model, &rows, &pictures);
        let mut left = pictures.as_slice();
        for (ids, found) in rows.iter().zip(&together) {
            let (own, rest) = left.split_at(marks(std::slice::from_ref(ids)));
            left = rest;
            let alone = logits(&model, std::slice::from_ref(ids), own);
            prop_assert!(distance(found, &alone[0]) <= CLOSE);
        }
    }

    /// Decoding with the cache equals a full forward pass over everything written so far, whatever the chunks that the prompts
    /// are read in.
    #[test]
    fn cached_decode_equals_full_forward(
        rows in prop::collection::vec(row(), 1..4),
        seed in 0_u64..50,
        prefill_chunk_size in 1_usize..20,
    ) {
        let model = model(seed);
        let mut next = 0..;
        let prompts: Vec<Prompt> = rows
            .iter()
            .map(|ids| {
                let pictures = next.by_ref().take(marks(std::slice::from_ref(ids))).map(picture).collect();
                Prompt::with_pictures(ids.clone(), pictures)
            })
            .collect();
        let config = GenerationConfig { stop_ids: Vec::new(), ..GenerationConfig::greedy(6) };
        let chunked = GenerationConfig { prefill_chunk_size, ..config.clone() };
        let written = Generator::new(&model, chunked).generate(&prompts).unwrap();
        for (prompt, written) in prompts.iter().zip(&written) {
            let single = Generator::new(&model, config.clone()).generate(std::slice::from_ref(prompt)).unwrap();
            prop_assert_eq!(&single[0], written);
            prop_assert_eq!(written.finish, FinishReason::Length);
            let mut ids = prompt.input_ids.clone();
            for &id in &written.ids {
                let all = &logits(&model, &[ids.clone()], &prompt.pictures)[0];
                let last = &all[all.len() - 320..];
                let best = last.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                prop_assert!(best - last[id as usize] <= CLOSE);
                ids.push(i64::from(id));
            }
        }
    }
}

#[test]
fn sampling_depends_on_the_seed_and_not_on_the_batch() {
    let model = model(3);
    let prompts: Vec<Prompt> = (0..3)
        .map(|n| Prompt {
            stream: n,
            ..Prompt::text(vec![1, 5 + n as i64, 9, 14])
        })
        .collect();
    let config = |seed| GenerationConfig {
        temperature: 1.0,
        seed,
        stop_ids: Vec::new(),
        ..GenerationConfig::greedy(8)
    };
    let generate = |seed, prompts: &[Prompt]| {
        Generator::new(&model, config(seed))
            .generate(prompts)
            .unwrap()
    };
    let together = generate(1, &prompts);
    for (prompt, written) in prompts.iter().zip(&together) {
        assert_eq!(&generate(1, std::slice::from_ref(prompt))[0], written);
    }
    assert_ne!(together, generate(2, &prompts));
}

#[test]
fn an_adapter_with_b_zero_changes_nothing() {
    let rows = [vec![1, 5, -200, 9, 7]];
    let plain = model(4);
    let before = logits(&plain, &rows, &[picture(1)]);
    let with = plain.apply_lora(&LoraConfig::new(4, 8.0));
    assert!(distance(&before[0], &logits(&with, &rows, &[picture(1)])[0]) <= EXACT);
}

#[test]
fn merged_equals_unmerged() {
    let rows = [vec![1, 5, -200, 9, 7]];
    let base = model(5);
    let with = adapted(5);
    let apart = logits(&with, &rows, &[picture(2)]);
    assert!(distance(&apart[0], &logits(&base, &rows, &[picture(2)])[0]) > 1e-2);

    let q_proj = &with.language_model.layers[0].self_attn.q_proj;
    let weight = values(q_proj.base.weight.val());
    let (merged, adapter) = q_proj.clone().merge();
    assert!(distance(&values(merged.base.weight.val()), &weight) > 1e-3);
    let again = merged.unmerge(adapter.unwrap());
    assert!(distance(&values(again.base.weight.val()), &weight) <= 1e-6);

    let merged = with.merge_lora();
    assert!(!merged.language_model.has_lora());
    assert!(distance(&apart[0], &logits(&merged, &rows, &[picture(2)])[0]) <= CLOSE);
}

/// A weight in 8 bits is off by half a step of its output's largest weight at most; the adapter stays as it is.
#[test]
fn eight_bits_round_to_the_nearest_step() {
    let with = adapted(8);
    let linear = &with.language_model.layers[0].mlp.gate_proj;
    let weight = linear.base.weight.val();
    let [input, output] = weight.dims();
    let eye = Tensor::<2>::eye(input, &weight.device());
    let off = gallery_gpt::llama::AdapterDropout::Off;
    let exact = values(linear.forward(eye.clone(), off.clone()));
    let rounded = values(linear.clone().quantize().forward(eye, off));
    let largest = values(weight.abs().max_dim(0));
    let mut different = 0;
    for (at, (exact, rounded)) in exact.iter().zip(&rounded).enumerate() {
        let step = largest[at % output] / 127.0;
        assert!((exact - rounded).abs() <= 0.5 * step + 1e-6);
        different += usize::from(exact != rounded);
    }
    assert!(different > input * output / 2);

    let quantized = with.quantize();
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model");
    let error = save_model(&quantized, &path, &SaveOptions::default()).unwrap_err();
    assert!(error.to_string().contains("8 bits"), "{error}");
    assert!(!path.exists());
}

/// The dense form `x (W + sAB)` that Burn's own LoRA composes, as an oracle.
#[test]
fn an_adapter_equals_the_dense_sum() {
    let model = adapted(6);
    let x = Tensor::<2>::from_data(
        burn::tensor::TensorData::new(
            (0..96).map(|i| (i % 13) as f32 / 6.0 - 1.0).collect(),
            [2, 48],
        ),
        &Device::flex(),
    );
    for target in LoraTarget::ALL {
        if target == LoraTarget::DownProj {
            continue;
        }
        let linear = model.language_model.layers[1].linear(target);
        let lora = linear.lora.as_ref().unwrap();
        let dense = linear.base.weight.val() + lora.lora_a.val().matmul(lora.lora_b.val()) * 2.0;
        let found = linear.forward(x.clone(), gallery_gpt::llama::AdapterDropout::Off);
        let expected = x.clone().matmul(dense);
        assert!(
            distance(&values(found), &values(expected)) <= CLOSE,
            "{target:?}"
        );
    }
}

fn batch() -> Batch {
    Batch {
        input_ids: vec![vec![1, 5, -200, 9, 7, 8, 2], vec![1, 30, 31, 2]],
        labels: vec![
            vec![-100, -100, -100, -100, 7, 8, 2],
            vec![-100, -100, 31, 2],
        ],
        pictures: vec![picture(3)],
        ids: vec!["a".to_owned(), "b".to_owned()],
    }
}

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
    fn no_layout_changes_loss_or_gradients(batch in batches()) {
        let state = TrainState::new(adapted(7), &TrainingConfig::lora(1e-3), 4).unwrap();
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
    fn packed_conversations_do_not_see_each_other(batch in batches(), other in 3_i64..60) {
        let model = adapted(7);
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
        gallery_gpt::train::TrainableParts::LORA,
        gallery_gpt::train::TrainableParts::FULL,
        gallery_gpt::train::TrainableParts::PROJECTOR,
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
        if parts != gallery_gpt::train::TrainableParts::FULL {
            assert_eq!(plain.len(), trained);
        }
    }
}

#[test]
fn micro_batches_side_by_side_train_as_one_by_one() {
    let threads = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = threads.build().unwrap();
    let trained = |micro_batches: MicroBatches, step: &[Batch]| {
        let config = TrainingConfig {
            micro_batches,
            warmup_ratio: 0.0,
            ..TrainingConfig::lora(1e-2)
        };
        let mut state = TrainState::new(adapted(10), &config, 4).unwrap();
        let reports = pool.install(|| [0; 3].map(|_| state.step(step).unwrap()));
        (reports, state.into_model())
    };
    let mut other = batch();
    other.input_ids.reverse();
    other.labels.reverse();
    // A micro-batch for each thread: the same sums.
    let two = [batch(), other];
    let (reports, model) = trained(MicroBatches::OneByOne, &two);
    let (parallel_reports, parallel_model) = trained(MicroBatches::InParallel, &two);
    assert_eq!(reports, parallel_reports);
    let rows = [vec![1, 5, -200, 9, 7]];
    let found = logits(&parallel_model, &rows, &[picture(2)]);
    assert!(distance(&found[0], &logits(&model, &rows, &[picture(2)])[0]) <= EXACT);

    // One for both: each takes a part, and the parts add up but for rounding.
    let ([whole, ..], _) = trained(MicroBatches::OneByOne, &two[..1]);
    let ([parts, ..], _) = trained(MicroBatches::InParallel, &two[..1]);
    assert!((whole.loss - parts.loss).abs() <= 1e-6 * whole.loss);
    assert!((whole.grad_norm - parts.grad_norm).abs() <= 1e-6 * whole.grad_norm);
    let tokens = |report: &StepReport| (report.tokens, report.supervised_tokens);
    assert_eq!(tokens(&whole), tokens(&parts));
}

/// Data parallelism: as many micro-batches give the same step, whoever computes them, dropout's masks and all.
#[test]
fn devices_share_a_step() {
    let lora = LoraConfig::new(4, 8.0).with_dropout(0.2);
    let batches: Vec<Batch> = (0..5)
        .map(|number| {
            let mut batch = batch();
            batch.input_ids[0].truncate(4 + number);
            batch.labels[0].truncate(4 + number);
            batch
        })
        .collect();
    for recompute in [Recompute::Off, Recompute::Blocks] {
        let config = TrainingConfig {
            gradient_checkpointing: recompute,
            warmup_ratio: 0.0,
            ..TrainingConfig::lora(1e-2)
        };
        let trained = |devices: usize| {
            let others = vec![Device::flex(); devices - 1];
            let state = TrainState::new(model(12).apply_lora(&lora), &config, 8).unwrap();
            let mut state = state.with_devices(&others).unwrap();
            // Fewer micro-batches than devices too, as at the end of an epoch.
            let reports = [5, 4, 1].map(|count| state.step(&batches[..count]).unwrap());
            let rows = [vec![1, 5, -200, 9, 7]];
            (reports, logits(&state.into_model(), &rows, &[picture(2)]))
        };
        let (alone, written) = trained(1);
        for devices in [2, 3] {
            let (shared, found) = trained(devices);
            for (alone, shared) in alone.iter().zip(&shared) {
                assert!((alone.loss - shared.loss).abs() <= 2e-6 * alone.loss);
                assert!((alone.grad_norm - shared.grad_norm).abs() <= 1e-5 * alone.grad_norm);
                assert_eq!(alone.tokens, shared.tokens);
                assert_eq!(alone.supervised_tokens, shared.supervised_tokens);
            }
            assert!(distance(&written[0], &found[0]) <= CLOSE);
        }
    }
}

#[test]
fn a_device_that_cannot_go_on_ends_the_step_and_changes_nothing() {
    let config = TrainingConfig::lora(1e-2);
    let state = TrainState::new(adapted(13), &config, 4).unwrap();
    let mut state = state.with_devices(&[Device::flex()]).unwrap();
    let rows = [vec![1, 5, -200, 9, 7]];
    let now = |state: &TrainState| logits(&state.model().valid(), &rows, &[picture(2)]);
    let before = now(&state);
    let without_its_picture = Batch {
        pictures: Vec::new(),
        ids: vec!["a record".into(); 2],
        ..batch()
    };
    let error = state.step(&[batch(), without_its_picture]).unwrap_err();
    assert!(error.to_string().contains("a record"), "{error}");
    assert_eq!((before, state.steps_done()), (now(&state), 0));
    assert!(state.step(&[batch(), batch()]).is_ok());
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

#[test]
fn save_then_load_gives_equal_tensors() {
    struct Tensors(Vec<Vec<f32>>);
    impl ModuleVisitor for Tensors {
        fn visit_float<const D: usize>(&mut self, param: &Param<Tensor<D>>) {
            self.0.push(values(param.val()));
        }
    }
    let all = |model: &GalleryModel| {
        let mut tensors = Tensors(Vec::new());
        model.visit(&mut tensors);
        tensors.0
    };
    let folder = tempfile::tempdir().unwrap();
    let base = model(9);
    let path = folder.path().join("base");
    save_model(&base, &path, &SaveOptions::default()).unwrap();
    let (again, report) = load_model(&path, &Device::flex(), &LoadOptions::default()).unwrap();
    assert!(all(&base) == all(&again), "{report}");
    let whole = LoadOptions {
        vocab_rows: VocabRows::AsStored,
        ..LoadOptions::default()
    };
    let (whole, _) = load_model(&path, &Device::flex(), &whole).unwrap();
    assert_eq!(whole.config().llama.vocab_size, 384);

    let with = adapted(9);
    let lora = LoraConfig::new(4, 8.0);
    let path = folder.path().join("adapter");
    save_adapter(&with, &"base".into(), &path, AdapterLayout::Peft).unwrap();
    let (loaded, adapter) = load_adapter(again, &path, &LoadOptions::default()).unwrap();
    assert_eq!(adapter.lora, lora);
    assert!(all(&with) == all(&loaded));
}
