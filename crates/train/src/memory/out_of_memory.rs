//! Out of memory: an error with the settings that help.

use std::{
    any::Any,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use gallery_gpt_model::Packing;

use crate::{Recompute, TrainError, TrainingConfig};

/// Runs a step. Burn panics when a device is out of memory; that becomes an error, any other panic is resumed.
pub(crate) fn catch<T>(
    step: usize,
    config: &TrainingConfig,
    run: impl FnOnce() -> Result<T, TrainError>,
) -> Result<T, TrainError> {
    catch_unwind(AssertUnwindSafe(run)).unwrap_or_else(|payload| match message(&*payload) {
        Some(cause) if is_out_of_memory(cause) => Err(TrainError::OutOfMemory {
            step,
            cause: cause.to_owned(),
            advice: memory_saving_options(config).join("; "),
            checkpoint: None,
        }),
        _ => resume_unwind(payload),
    })
}

/// The message of a panic.
pub(crate) fn message(payload: &(dyn Any + Send)) -> Option<&str> {
    let text = payload.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| payload.downcast_ref::<&str>().copied())
}

/// Whether it is a message of `CubeCL` or of the driver about memory.
fn is_out_of_memory(cause: &str) -> bool {
    let words = [
        "outofmemory",
        "out of memory",
        "out_of_memory",
        "buffertoobig",
    ];
    let cause = cause.to_lowercase();
    words.iter().any(|word| cause.contains(word))
}

/// Settings that reduce the memory of a training, the cheapest first, under the names of [`TrainingConfig`].
#[must_use]
pub fn memory_saving_options(config: &TrainingConfig) -> Vec<String> {
    let mut options = Vec::new();
    if config.packing == Packing::Off && config.per_device_train_batch_size > 1 {
        options.push("packing one_row removes the padding".to_owned());
    }
    if config.gradient_checkpointing == Recompute::Off {
        options.push("gradient_checkpointing blocks keeps one hidden state per block".to_owned());
    }
    if config.per_device_train_batch_size > 1 {
        let half = config.per_device_train_batch_size.div_ceil(2);
        options.push(format!(
            "per_device_train_batch_size {half} with gradient_accumulation_steps {} computes half as many records at a time",
            2 * config.gradient_accumulation_steps
        ));
    }
    options.push(
        "a smaller lora_r makes smaller adapters, a smaller model_max_length shorter records"
            .to_owned(),
    );
    options
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_caught_and_says_what_helps() {
        let config = TrainingConfig::lora(1e-4);
        for words in [
            "called `Result::unwrap()` on an `Err` value: OutOfMemory { size: 12 }",
            "CUDA_ERROR_OUT_OF_MEMORY",
        ] {
            let error = catch::<()>(7, &config, || panic!("{words}")).expect_err("a panic");
            let text = error.to_string();
            assert!(text.contains("step 7"), "{text}");
            assert!(text.contains("gradient_checkpointing blocks"), "{text}");
            assert!(
                text.contains("per_device_train_batch_size 8 with gradient_accumulation_steps 2")
            );
        }
        assert!(catch(1, &config, || Ok(3)).is_ok_and(|value| value == 3));
    }

    #[test]
    #[should_panic(expected = "another")]
    fn another_panic_is_resumed() {
        let _ = catch::<()>(1, &TrainingConfig::lora(1e-4), || panic!("another"));
    }
}
