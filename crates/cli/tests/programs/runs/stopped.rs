//! Runs that are stopped, resumed and shared.

use std::{
    fs,
    io::{Read, Write},
};

use super::{Site, assert_same_files, piped, refused, signal, succeeded, text, wait_for_steps};
use crate::{program, pseudo_terminal::in_a_terminal};

#[test]
fn a_pipe_that_closes_does_not_end_a_training() {
    let site = Site::new();
    // Both pipes are closed before the first step; the second time the terminal is closed too.
    for (run, hang_up) in [("first", false), ("second", true)] {
        let mut child = piped(site.finetune(run, "--max_steps 4 --logging_steps 1"));
        drop(child.stderr.take());
        let mut byte = [0];
        child.stdout.take().unwrap().read_exact(&mut byte).unwrap();
        if hang_up {
            wait_for_steps(&site, run, 1);
            signal(&child, "HUP");
        }
        assert_eq!(child.wait().unwrap().code(), Some(0));
        wait_for_steps(&site, run, 4);
        assert!(
            site.path(run)
                .join("adapter/adapter_model.safetensors")
                .is_file()
        );
    }
}

#[test]
fn a_signal_saves_and_the_run_resumes_to_the_same_bytes() {
    let site = Site::new();
    let epochs = "--num_train_epochs 5";
    succeeded(&site.finetune("straight", epochs).output().unwrap());
    let expected = site.files("straight");
    for (run, name, steps) in [("int", "INT", 2), ("term", "TERM", 5)] {
        let child = piped(site.finetune(run, epochs));
        wait_for_steps(&site, run, steps);
        signal(&child, name);
        let output = child.wait_with_output().unwrap();
        let said = text(&output.stderr);
        if output.status.code() == Some(130) {
            assert!(
                said.contains("finetune --resume ") && said.contains(run),
                "{said}"
            );
            let stopped = fs::read_dir(site.path(run).join("checkpoints")).unwrap();
            let logged = fs::read_to_string(site.path(run).join("log.jsonl")).unwrap();
            let newest = stopped
                .map(|entry| entry.unwrap().file_name())
                .max()
                .unwrap();
            let steps = format!("step-{:08}", logged.lines().count());
            assert_eq!(newest.to_string_lossy(), steps, "no step is lost");
        } else {
            assert!(output.status.success(), "{said}");
        }
        succeeded(&site.resume(run, "").output().unwrap());
        assert_same_files(&site.files(run), &expected);
    }
    // A second signal ends it at once, and the run can still be resumed.
    let child = piped(site.finetune("twice", epochs));
    wait_for_steps(&site, "twice", 2);
    signal(&child, "INT");
    signal(&child, "INT");
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(130));
    succeeded(&site.resume("twice", "").output().unwrap());
    assert_same_files(&site.files("twice"), &expected);
}

#[test]
fn ctrl_c_in_full_screen_saves_and_says_how_to_resume() {
    let site = Site::new();
    let command = site.finetune("full", "--num_train_epochs 500 --full_screen");
    let Some(mut terminal) = in_a_terminal(&command) else {
        return;
    };
    let mut child = terminal.spawn().unwrap();
    let mut keys = child.stdin.take().unwrap();
    wait_for_steps(&site, "full", 1);
    keys.write_all(b"\x03").unwrap();
    drop(keys);
    let output = child.wait_with_output().unwrap();
    let screen = text(&output.stdout);
    assert_eq!(output.status.code(), Some(130), "{screen}");
    let end = &screen[screen.len().saturating_sub(400)..];
    assert!(end.contains("finetune --resume "), "{end}");
    let logged = fs::read_to_string(site.path("full/log.jsonl")).unwrap();
    let step = format!("full/checkpoints/step-{:08}", logged.lines().count());
    assert!(site.path(&step).is_dir(), "{step}");
}

#[test]
fn zero_turns_validation_and_checkpoints_off() {
    let site = Site::new();
    let flags = "--base base --data data/train.json --images data --eval_data data/eval.json --output_dir off \
                 --lora_r 2 --max_steps 2 --eval_steps 0 --save_steps 0 --logging_steps 1";
    let mut command = program("finetune");
    command.current_dir(site.path(""));
    let said = succeeded(&command.args(flags.split_whitespace()).output().unwrap());
    // At the end alone.
    assert_eq!(said.matches("validation loss").count(), 1, "{said}");
    let log = fs::read_to_string(site.path("off/log.jsonl")).unwrap();
    assert_eq!(log.lines().count(), 2, "{log}");
    let checkpoints = fs::read_dir(site.path("off/checkpoints"));
    assert_eq!(checkpoints.map_or(0, Iterator::count), 0);
    assert!(site.path("off/adapter").is_dir());
}

#[test]
fn a_run_folder_has_one_process_at_a_time() {
    let site = Site::new();
    let mut first = piped(site.finetune("shared", "--num_train_epochs 50"));
    wait_for_steps(&site, "shared", 1);
    let error = refused(&site.resume("shared", "").output().unwrap());
    assert!(
        error.contains("in use") && error.contains(&first.id().to_string()),
        "{error}"
    );
    first.kill().unwrap();
    first.wait().unwrap();
    // The lock of a killed process is free.
    let output = site.resume("shared", "--max_steps 2").output().unwrap();
    succeeded(&output);
}

#[test]
fn a_folder_that_cannot_be_used_says_what_to_do() {
    let site = Site::new();
    succeeded(&site.finetune("kept", "--max_steps 2").output().unwrap());
    let before = site.files("kept");
    let error = refused(&site.finetune("kept", "--max_steps 2").output().unwrap());
    assert!(
        error.contains("holds a run") && error.contains("--resume"),
        "{error}"
    );
    assert_eq!(error.matches("kept").count(), 2, "said once: {error}");
    assert_same_files(&site.files("kept"), &before);
    let done = succeeded(&site.resume("kept", "").output().unwrap());
    assert!(
        done.contains("is done after 2 steps") && done.contains("trains longer"),
        "{done}"
    );
    assert!(!done.contains("test paintings"), "{done}");
    let error = refused(&site.resume("nowhere", "").output().unwrap());
    assert!(
        error.contains("no run in") && error.contains("no such folder"),
        "{error}"
    );
    // A run that was killed before its settings were written begins anew; one with steps but no settings is refused.
    fs::create_dir(site.path("early")).unwrap();
    site.write("early/lock", "{\"pid\": 1, \"since\": 1}");
    site.write("early/bad_records.jsonl", "");
    site.write("early/log.jsonl", "");
    succeeded(&site.finetune("early", "--max_steps 1").output().unwrap());
    fs::remove_file(site.path("kept/config.json")).unwrap();
    for command in [&mut site.finetune("kept", ""), &mut site.resume("kept", "")] {
        let error = refused(&command.output().unwrap());
        assert!(error.contains("config.json"), "{error}");
    }
    // Outside of the repository the error says that the paths are defaults.
    let mut nowhere = program("finetune");
    nowhere.current_dir(site.path("data"));
    let error = refused(&nowhere.output().unwrap());
    assert!(
        error.contains("the default") && error.contains("--base"),
        "{error}"
    );
}
