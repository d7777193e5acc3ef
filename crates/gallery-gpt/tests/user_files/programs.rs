//! Pipes, keys and paths of the programs.

mod answers;
mod folders;
mod pipes;

use crate::program;

#[test]
fn every_program_explains_itself() {
    for name in [
        "answer_questions",
        "caption",
        "chat",
        "convert",
        "evaluate",
        "finetune",
        "inspect",
        "merge",
        "serve",
        "validate_dataset",
    ] {
        let output = program(name).arg("--help").output().unwrap();
        assert!(output.status.success(), "{name}");
        assert!(
            String::from_utf8(output.stdout).unwrap().contains("Usage:"),
            "{name}"
        );
    }
}
