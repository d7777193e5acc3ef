//! `cargo xtask check`: what can be said of the repository without running its tests.

use std::{path::Path, process::Command, time::Instant};

use crate::{
    command::{Failure, cargo, output, run},
    packages, tidy,
};

/// Feature sets of the facade that its users build, beside the default one.
const FEATURES: [&[&str]; 3] = [
    &["--no-default-features"],
    &["--no-default-features", "--features", "cuda-no-fusion"],
    &["--features", "cuda"],
];

/// Checks everything that needs no test.
///
/// # Errors
/// A step fails; those after it are not run.
pub(crate) fn run_all(root: &Path) -> Result<(), Failure> {
    let began = Instant::now();
    let step = |name: &str| println!("\n-- {name} ({} s)", began.elapsed().as_secs());

    step("format");
    run(cargo(root).args(["fmt", "--all", "--check"]))?;
    step("tidy");
    tidy::run(root)?;
    step("lints");
    let warnings = ["--", "-D", "warnings"];
    let whole = ["clippy", "--locked", "--workspace", "--all-targets"];
    run(cargo(root).args(whole).args(warnings))?;
    step("documentation");
    let pages = ["doc", "--locked", "--workspace", "--no-deps"];
    run(cargo(root).args(pages).env("RUSTDOCFLAGS", "-D warnings"))?;
    for features in FEATURES {
        step(&format!("gallery-gpt with {}", features.join(" ")));
        let facade = ["clippy", "--locked", "--package", "gallery-gpt", "--lib"];
        run(cargo(root).args(facade).args(features).args(warnings))?;
    }
    step("the oldest Rust");
    oldest_rust(root)?;
    step("licences, advisories, sources");
    deny(root)?;
    step("packages");
    packages::weigh(root)?;
    println!("\nchecked in {} s", began.elapsed().as_secs());
    Ok(())
}

/// Builds with the Rust that the manifests ask for, where it is not the one that runs already.
fn oldest_rust(root: &Path) -> Result<(), Failure> {
    let manifest = root.join("Cargo.toml");
    let text = std::fs::read_to_string(&manifest).map_err(|error| Failure::at(&manifest, error))?;
    let line = text
        .lines()
        .find_map(|line| line.strip_prefix("rust-version = "));
    let oldest = line.unwrap_or_default().trim_matches('"');
    let own = output(Command::new("rustc").arg("--version").current_dir(root))?;
    if own.starts_with(&format!("rustc {oldest}.")) {
        println!("all of the above was checked with {}", own.trim());
        return Ok(());
    }
    let toolchain = format!("+{oldest}");
    let check = ["check", "--locked", "--workspace", "--lib", "--bins"];
    run(Command::new("cargo")
        .arg(toolchain)
        .args(check)
        .current_dir(root))
}

/// Runs cargo-deny. Its list of advisories is a download of its own: where there is no network, the rest is checked.
fn deny(root: &Path) -> Result<(), Failure> {
    let deny = || {
        let mut command = cargo(root);
        command.args(["deny", "--all-features", "--locked"]);
        command
    };
    if output(cargo(root).args(["deny", "--version"])).is_err() {
        return Err(Failure(
            "there is no cargo-deny; `cargo install cargo-deny` builds it".to_owned(),
        ));
    }
    match output(cargo(root).args(["deny", "fetch", "db"])) {
        Ok(_) => run(deny().args(["check", "advisories", "bans", "licenses", "sources"])),
        Err(Failure(reason)) => {
            println!("the advisories cannot be fetched, and are not checked: {reason}");
            run(deny().args(["check", "bans", "licenses", "sources"]))
        }
    }
}
