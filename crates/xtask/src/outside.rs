//! A project outside of this repository that takes `gallery-gpt` from a registry, and runs what the README shows.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::{Instant, SystemTime, UNIX_EPOCH},
};

use crate::{
    command::{Failure, cargo, run},
    registry,
};

/// Makes a registry of the workspace and a project in `folder`, adds `gallery-gpt` to the project from there, builds and runs the
/// README's snippets in their order, and type-checks them with CUDA. What was compiled of other packages is kept for the next time.
///
/// # Errors
/// Anything of that fails.
pub(crate) fn prove(root: &Path, folder: &Path) -> Result<(), Failure> {
    let began = Instant::now();
    let step = |name: &str| println!("\n-- {name} ({} s)", began.elapsed().as_secs());
    fs::create_dir_all(folder).map_err(|error| Failure::at(folder, error))?;
    let folder = folder
        .canonicalize()
        .map_err(|error| Failure::at(folder, error))?;
    if folder.starts_with(root) {
        return Err(Failure::at(
            &folder,
            "is in the repository; name a folder outside",
        ));
    }

    step("a registry of the packages");
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let registry = folder.join(format!("registry-{}", now.unwrap_or_default().as_secs()));
    registry::make(root, &registry)?;

    step("a project that adds gallery-gpt");
    let project = folder.join("project");
    if project.exists() {
        fs::remove_dir_all(&project).map_err(|error| Failure::at(&project, error))?;
    }
    run(cargo(&folder).args([
        "new", "--quiet", "--vcs", "none", "--name", "outside", "project",
    ]))?;
    let config = format!(
        "[registries.here]\nindex = \"file://{}/index\"\n\n[build]\ntarget-dir = \"{}/target\"\n",
        registry.display(),
        folder.display()
    );
    write(&project.join(".cargo/config.toml"), &config)?;
    run(cargo(&project).args(["add", "gallery-gpt", "--registry", "here"]))?;
    let readme = root.join("README.md");
    let text = fs::read_to_string(&readme).map_err(|error| Failure::at(&readme, error))?;
    let snippets = snippets(&text);
    if snippets.is_empty() {
        return Err(Failure::at(&readme, "has no snippet in Rust"));
    }
    for (number, snippet) in snippets.iter().enumerate() {
        write(
            &project.join(format!("src/bin/snippet-{}.rs", number + 1)),
            snippet,
        )?;
    }

    step("the snippets");
    let data = project.join("datasets");
    copy(&root.join("datasets"), &data)?;
    run(cargo(&project).args(["build", "--release", "--bins"]))?;
    for number in 1..=snippets.len() {
        step(&format!("snippet {number}"));
        let program = format!("snippet-{number}");
        run(cargo(&project).args(["run", "--quiet", "--release", "--bin", &program]))?;
    }

    step("the same with CUDA, type-checked");
    // What the README says to add.
    let patch = format!(
        "patch.crates-io.cubecl-llvm.git = \"file://{}\"",
        root.display()
    );
    run(cargo(&project).args([
        "check",
        "--bins",
        "--features",
        "gallery-gpt/cuda",
        "--config",
        &patch,
    ]))?;
    step("done");
    Ok(())
}

/// The programs in a page: blocks of Rust, put in a `main` where they have none.
fn snippets(page: &str) -> Vec<String> {
    let blocks = page.split("```rust").skip(1);
    let codes = blocks.filter_map(|block| block.split_once('\n')?.1.split_once("\n```"));
    codes.map(|(code, _)| program(code)).collect()
}

fn program(code: &str) -> String {
    if code.contains("fn main(") {
        return code.to_owned();
    }
    format!("fn main() -> Result<(), Box<dyn std::error::Error>> {{\n{code}\nOk(())\n}}\n")
}

fn write(path: &PathBuf, text: &str) -> Result<(), Failure> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder).map_err(|error| Failure::at(folder, error))?;
    }
    fs::write(path, text).map_err(|error| Failure::at(path, error))
}

fn copy(from: &Path, to: &Path) -> Result<(), Failure> {
    run(Command::new("cp").arg("-R").arg(from).arg(to))
}

#[cfg(test)]
mod tests {
    use super::snippets;

    #[test]
    fn snippets_become_programs() {
        let page =
            "a\n```sh\nls\n```\n```rust\nlet a = 1;\n```\nb\n```rust,no_run\nfn main() {}\n```\n";
        let found = snippets(page);
        assert_eq!(found.len(), 2);
        assert!(found[0].starts_with("fn main() -> Result") && found[0].contains("let a = 1;"));
        assert_eq!(found[1], "fn main() {}");
    }
}
