//! What the program says of itself.

use crate::program;

#[test]
fn every_command_explains_itself() {
    for name in [
        "answer-questions",
        "caption",
        "check",
        "chat",
        "convert",
        "evaluate",
        "finetune",
        "inspect",
        "merge",
        "plan",
        "serve",
    ] {
        let output = program(name).arg("--help").output().unwrap();
        assert!(output.status.success(), "{name}");
        assert!(
            String::from_utf8(output.stdout).unwrap().contains("Usage:"),
            "{name}"
        );
    }
}
