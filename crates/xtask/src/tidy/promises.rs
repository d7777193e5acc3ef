//! What `docs/src/architecture.md` promises of the libraries: no environment, files and keys only where stated, no flags.

use super::{
    Finding, Repository,
    code::{Source, continues_word},
};

/// A place where a rule does not hold, and why: a file, or a folder with a `/` at its end.
type Exception = (&'static str, &'static str);

/// No libraries for users: programs, which take flags and the environment from theirs, and what tests share.
const NOT_LIBRARIES: [&str; 3] = ["cli", "testkit", "xtask"];

const ENVIRONMENT: &[Exception] = &[(
    "crates/gallery-gpt/src/device/cuda.rs",
    "CubeCL's own variables override what is set for it",
)];

/// Where files are read and written.
const FILES: &[Exception] = &[
    (
        "crates/checkpoint/src/",
        "checkpoints, their configs and folders",
    ),
    ("crates/data/src/json/file.rs", "records"),
    (
        "crates/data/src/picture_folder.rs",
        "the pictures of records",
    ),
    ("crates/data/src/batcher.rs", "the pictures of records"),
    ("crates/eval/src/json_lines.rs", "predictions"),
    ("crates/eval/src/predictions/read.rs", "predictions"),
    ("crates/eval/src/wordnet.rs", "WordNet's dictionary"),
    ("crates/gallery-gpt/src/answers_file.rs", "files of answers"),
    (
        "crates/gallery-gpt/src/device/",
        "headers and the kernel cache of CUDA",
    ),
    (
        "crates/sample-data/src/bin/",
        "programs that write the sample data set and the tiny base",
    ),
    ("crates/text/src/llama_tokenizer.rs", "tokenizer files"),
    ("crates/text/src/tokenizer.rs", "tokenizer files"),
    ("crates/text/src/tokenizer_file.rs", "tokenizer files"),
    ("crates/text/src/tokenizer_folder.rs", "tokenizer files"),
    (
        "crates/text/src/training.rs",
        "texts that a tokenizer is trained on",
    ),
    ("crates/train/src/config/script.rs", "DeepSpeed's configs"),
    (
        "crates/train/src/memory/available.rs",
        "the machine's memory, in /proc and cgroups",
    ),
    (
        "crates/train/src/run/",
        "the folder of a run, and the space left for it",
    ),
    (
        "crates/train/src/step/files.rs",
        "whether a checkpoint of a run holds adapters or all weights",
    ),
    (
        "crates/vision/src/preprocessor_config.rs",
        "the processor's config",
    ),
    ("crates/vision/src/picture/", "pictures"),
];

/// Where names of a checkpoint's tensors and modules are written.
const KEYS: &[Exception] = &[
    ("crates/checkpoint/src/", "the crate that knows them"),
    (
        "crates/llama/src/lora/target.rs",
        "a target of LoRA has the name that PEFT's configs give it",
    ),
];

/// Calls that look at the environment or at the machine's state beside it.
const READS_ENVIRONMENT: [&str; 8] = [
    "env::var(",
    "env::var_os(",
    "env::vars(",
    "env::vars_os(",
    "env::args(",
    "env::args_os(",
    "env::temp_dir(",
    "override_from_env(",
];

const TOUCHES_FILES: [&str; 10] = [
    "fs::",
    "File::",
    "OpenOptions::",
    "Mmap::",
    "tempfile::",
    ".exists()",
    ".is_file()",
    ".is_dir()",
    ".canonicalize()",
    ".read_dir()",
];

/// Parts of tensors' names.
const KEY_PARTS: [&str; 9] = [
    "self_attn",
    "q_proj",
    "gate_proj",
    "embed_tokens",
    "lm_head",
    "model.mm_projector",
    "model.vision_tower",
    "lora_A",
    "lora_B",
];

pub(super) fn check(repository: &Repository, findings: &mut Vec<Finding>) {
    let mut rule =
        |what: &str, exceptions: &[Exception], offsets: &dyn Fn(&Source) -> Vec<usize>| {
            let mut unused: Vec<&Exception> = exceptions.iter().collect();
            for source in &repository.sources {
                let library = source
                    .library()
                    .filter(|library| !NOT_LIBRARIES.contains(library));
                let offsets = match library {
                    Some(_) => offsets(source),
                    None => continue,
                };
                let found: Vec<usize> = offsets
                    .into_iter()
                    .filter(|&offset| !source.is_test(offset))
                    .collect();
                let covers = |place: &str| match place.ends_with('/') {
                    true => source.name.starts_with(place),
                    false => source.name == place,
                };
                if !found.is_empty() && exceptions.iter().any(|(place, _)| covers(place)) {
                    unused.retain(|(place, _)| !covers(place));
                    continue;
                }
                findings.extend(found.into_iter().map(|offset| Finding {
                    file: source.name.clone(),
                    line: source.line(offset),
                    message: what.to_owned(),
                }));
            }
            findings.extend(unused.into_iter().map(|(place, reason)| Finding {
                file: (*place).to_owned(),
                line: 0,
                message: format!("needs no exception any more ({reason}): {what}"),
            }));
        };
    rule(
        "a library reads the environment; take an argument",
        ENVIRONMENT,
        &|source| calls(source, &READS_ENVIRONMENT),
    );
    rule(
        "touches the file system, where the architecture does not state it",
        FILES,
        &|source| calls(source, &TOUCHES_FILES),
    );
    rule(
        "writes a tensor's name, outside of the crate that knows them",
        KEYS,
        &keys,
    );
    flags(repository, findings);
}

fn calls(source: &Source, calls: &[&str]) -> Vec<usize> {
    let mut found = Vec::new();
    for call in calls {
        let hits = source.code.match_indices(call).map(|(offset, _)| offset);
        found.extend(
            hits.filter(|&offset| call.starts_with('.') || !continues_word(&source.code, offset)),
        );
    }
    found.sort_unstable();
    found
}

fn keys(source: &Source) -> Vec<usize> {
    let strings = source.strings.iter();
    let found = strings.filter(|(_, text)| KEY_PARTS.iter().any(|part| text.contains(part)));
    found.map(|(offset, _)| *offset).collect()
}

/// Only programs know flags: no line of a library, comments and tests included, has one.
fn flags(repository: &Repository, findings: &mut Vec<Finding>) {
    for source in &repository.sources {
        if source.library().is_none_or(|library| library == "cli") {
            continue;
        }
        for (number, line) in source.text.lines().enumerate() {
            if has_flag(line) {
                findings.push(Finding {
                    file: source.name.clone(),
                    line: number + 1,
                    message: "names a flag, which only a program knows".to_owned(),
                });
            }
        }
    }
}

/// Whether a line has two hyphens after a blank and three letters after them.
fn has_flag(line: &str) -> bool {
    line.split(" --").skip(1).any(|rest| {
        let name = rest.bytes();
        name.take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_')
            .count()
            >= 3
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_are_known() {
        assert!(has_flag(&format!("use {}dtype f16", "--")));
        assert!(!has_flag("a -- b, c --- d and e --fg"));
    }

    #[test]
    fn calls_are_whole_words_of_code() {
        let text = "fn a() { env::var(x); my_fs::b(); fs::read(y); // fs::c\n p.is_dir() }";
        let source = Source::new("crates/a/src/lib.rs", text.to_owned());
        assert_eq!(calls(&source, &READS_ENVIRONMENT).len(), 1);
        assert_eq!(calls(&source, &TOUCHES_FILES).len(), 2);
    }
}
