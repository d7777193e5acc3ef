//! What the program prints about folders that are no model, and about adapters that cannot be trained further.

use std::path::Path;

use gallery_gpt_testkit::copy_of_tiny_base;

use crate::{program, root};

#[test]
fn programs_say_what_a_folder_is() {
    let folder = tempfile::tempdir().unwrap();
    let adapter = folder.path().join("adapter");
    std::fs::create_dir(&adapter).unwrap();
    std::fs::write(adapter.join("adapter_config.json"), "{}").unwrap();
    std::fs::write(folder.path().join("log.jsonl"), "").unwrap();
    std::fs::write(folder.path().join("config.json"), "{}").unwrap();
    let said = |base: &Path| {
        let mut inspect = program("inspect");
        let inspect = inspect
            .arg("--base")
            .arg(base)
            .env("HF_HUB_CACHE", folder.path());
        let output = inspect.output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(
        said(&adapter).contains("is an adapter"),
        "{}",
        said(&adapter)
    );
    assert!(
        said(folder.path()).contains("training run"),
        "{}",
        said(folder.path())
    );
    let hub = Path::new("llava-hf/llava-1.5-7b-hf");
    assert!(
        said(hub).contains("hf download llava-hf/llava-1.5-7b-hf"),
        "{}",
        said(hub)
    );

    // In the hub's cache it is found.
    let model = folder.path().join("models--llava-hf--llava-1.5-7b-hf");
    let snapshot = model.join("snapshots/0123abc");
    std::fs::create_dir_all(snapshot.parent().unwrap()).unwrap();
    std::fs::rename(copy_of_tiny_base(folder.path()), &snapshot).unwrap();
    std::fs::create_dir(model.join("refs")).unwrap();
    std::fs::write(model.join("refs/main"), "0123abc").unwrap();
    let mut inspect = program("inspect");
    let inspect = inspect
        .arg("--base")
        .arg(hub)
        .env("HF_HUB_CACHE", folder.path());
    let output = inspect.output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success() && text.contains("0123abc"),
        "{text}"
    );
}

/// Commands that train an adapter further refuse what they cannot keep, before they begin.
#[test]
fn only_plain_adapters_are_trained_further() {
    let adapters = root().join("crates/gallery-gpt/tests/user_files/fixtures/adapters");
    let finetune = |name: &str| {
        let folder = tempfile::tempdir().unwrap();
        let output = program("finetune")
            .args(["--lora_path", adapters.join(name).to_str().unwrap()])
            .args(["--max_steps", "1", "--output_dir"])
            .arg(folder.path().join("run"))
            .output()
            .unwrap();
        String::from_utf8(output.stderr).unwrap()
    };
    let text = finetune("pissa");
    assert!(text.contains("init_lora_weights is \"pissa\""), "{text}");
    let text = finetune("dora");
    assert!(text.contains("merge it into the base"), "{text}");
    // The whole decoder would be saved without the adapter that was given.
    let folder = tempfile::tempdir().unwrap();
    let run = folder.path().join("run");
    let output = program("finetune")
        .args(["--lora_path", adapters.join("olora").to_str().unwrap()])
        .args(["--lora_enable", "False", "--max_steps", "1", "--output_dir"])
        .arg(&run)
        .output()
        .unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && !run.exists(), "{text}");
    assert!(text.contains("not among the trained parts"), "{text}");
}
