//! Trainings on a real disk that is small: a file system in memory, mounted for one process.

use std::{
    io::Write,
    process::{Command, Output},
};

use super::{Site, refused, succeeded, text};

/// Mounts a file system of so many kilobytes on a folder, which the process and its children alone see, and runs a command.
const MOUNT: &str = "mount -t tmpfs -o size=\"$1\"k tmpfs \"$2\" && shift 2 && exec \"$@\"";

/// A command, run where `folder` is a disk of so many kilobytes.
fn on_a_disk(site: &Site, kilobytes: u64, folder: &str, command: &Command) -> Output {
    std::fs::create_dir_all(site.path(folder)).unwrap();
    let mut mounted = Command::new("unshare");
    mounted
        .args(["--map-root-user", "--mount", "sh", "-c", MOUNT, "sh"])
        .arg(kilobytes.to_string())
        .arg(site.path(folder))
        .arg(command.get_program())
        .args(command.get_args())
        .current_dir(site.path(""));
    mounted.output().unwrap()
}

/// Whether this machine lets the test mount; a line on standard error says so if not, which the test runner does not hold back.
fn can_mount(site: &Site) -> bool {
    let tried = on_a_disk(site, 64, "tried", &Command::new("true"));
    if !tried.status.success() {
        let said = text(&tried.stderr);
        let line = format!("NOT TESTED: a small disk for a training: {said}\n");
        std::io::stderr().write_all(line.as_bytes()).unwrap();
    }
    tried.status.success()
}

/// The megabytes before some words of a message.
fn megabytes(error: &str, words: &str) -> f64 {
    let before = error.split(words).next().unwrap();
    before.rsplit(' ').next().unwrap().parse().unwrap()
}

#[test]
fn a_disk_without_room_for_the_run_is_refused_before_the_first_step() {
    let site = Site::new();
    if !can_mount(&site) {
        return;
    }
    let flags =
        "--num_train_epochs 2 --save_steps 1 --eval_steps 2 --save_total_limit 2 --logging_steps 1";
    let run = site.path("disk/run");
    let command = site.finetune(run.to_str().unwrap(), flags);
    let output = on_a_disk(&site, 2048, "disk", &command);
    let error = refused(&output);
    assert!(
        error.contains(&format!("{} is on a disk with ", run.display())),
        "{error}"
    );
    assert!(error.contains("save_total_limit"), "{error}");
    let free = megabytes(&error, " MB free");
    let needed = megabytes(&error, " MB there");
    assert!((1.9..=2.1).contains(&free) && needed > free, "{error}");
    let said = text(&output.stdout);
    assert!(!said.contains("loss"), "no step was taken: {said}");

    // What it asked for is enough for the whole run, and a tenth less is refused. The message rounds to a tenth of a megabyte.
    let kilobytes = |megabytes: f64| (megabytes * 1e6 / 1024.0) as u64;
    let enough = on_a_disk(&site, kilobytes(needed + 0.2), "disk", &command);
    let said = succeeded(&enough);
    assert!(said.contains("loss"), "{said}");
    let less = on_a_disk(&site, kilobytes(needed * 0.9), "disk", &command);
    let error = refused(&less);
    assert!(error.contains("is on a disk with "), "{error}");
}
