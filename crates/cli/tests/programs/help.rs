//! The help of the program and of each command.

use std::collections::BTreeMap;

use crate::program;

fn written(command: &str, flags: &[&str]) -> String {
    let output = program(command).args(flags).output().unwrap();
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command} {flags:?}: {error}");
    String::from_utf8(output.stdout).unwrap()
}

/// The commands, as the program lists them.
fn commands() -> Vec<String> {
    let help = written("--help", &[]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.strip_prefix("  ")?.split(' ').next());
    let names = names.filter(|name| !name.is_empty() && *name != "help");
    names.map(str::to_owned).collect()
}

/// Heading and text of each flag in a help; the text has no spaces.
fn flags(help: &str) -> BTreeMap<String, (String, String)> {
    let mut flags: BTreeMap<String, (String, String)> = BTreeMap::new();
    let (mut heading, mut current) = (String::new(), None);
    for line in help.lines().take_while(|line| *line != "Examples:") {
        let text = line.trim();
        if let Some(name) = line.strip_suffix(':').filter(|name| !name.starts_with(' ')) {
            (heading, current) = (name.to_owned(), None);
            continue;
        }
        let long = match text.strip_prefix("-h, ").or(text.strip_prefix("-V, ")) {
            Some(long) => long,
            None => text,
        };
        let is_flag = line.starts_with("  -") || line.starts_with("      --");
        if let Some(long) = long.strip_prefix("--").filter(|_| is_flag) {
            let ends = |letter: char| !(letter.is_alphanumeric() || letter == '_');
            let name = long.split(ends).next().unwrap().to_owned();
            flags.insert(name.clone(), (heading.clone(), String::new()));
            current = Some(name);
        }
        if let Some((_, said)) = current.as_ref().and_then(|name| flags.get_mut(name)) {
            said.extend(text.split_whitespace());
        }
    }
    flags
}

#[test]
fn every_command_explains_itself() {
    let commands = commands();
    for name in [
        "finetune",
        "plan",
        "caption",
        "serve",
        "check",
        "completions",
    ] {
        assert!(
            commands.iter().any(|command| command == name),
            "{commands:?}"
        );
    }
    for command in &commands {
        let help = written(command, &["--help"]);
        assert!(help.contains("Usage:"), "{command}");
        for line in help.lines() {
            assert!(line.chars().count() <= 100, "{command}: {line}");
        }
        let flags = flags(&help);
        assert!(flags.contains_key("help"), "{command}: {help}");
        for (flag, (heading, said)) in flags {
            let is_about = ["help", "version"].contains(&flag.as_str());
            assert_eq!(
                heading == "Options",
                is_about,
                "{command} --{flag}: {heading}"
            );
            let name = said.split(['>', ']']).next().unwrap_or_default();
            assert!(
                is_about || said.len() > name.len() + 8,
                "{command} --{flag} is not explained: {said}"
            );
        }
    }
}

#[test]
fn every_help_ends_with_examples_that_are_read() {
    for command in commands() {
        let help = written(&command, &["--help"]);
        let (_, examples) = help
            .split_once("\nExamples:\n")
            .unwrap_or_else(|| panic!("{command}: {help}"));
        let examples = examples.replace(" \\\n", " ");
        let lines: Vec<&str> = examples.lines().map(str::trim).collect();
        assert!((2..=3).contains(&lines.len()), "{command}: {lines:?}");
        for line in lines {
            let words = line.strip_prefix(&format!("gallery-gpt {command}"));
            let words = words.unwrap_or_else(|| panic!("{command}: {line}"));
            let words = words.split(" > ").next().unwrap_or_default();
            // A GPU is not in every build.
            let words = ["cuda:0", "cuda:1", "cuda"]
                .iter()
                .fold(words.to_owned(), |words, gpu| words.replace(gpu, "cpu"));
            let mut words: Vec<&str> = words.split_whitespace().collect();
            if command == "completions" {
                assert!(!written(&command, &words).is_empty(), "{line}");
            } else if !words.contains(&"--resume") {
                words.push("--print-config");
                assert!(!written(&command, &words).is_empty(), "{line}");
            }
        }
    }
}

#[test]
fn the_help_of_a_training_says_the_defaults_of_all_presets() {
    let help = flags(&written("finetune", &["--help"]));
    for flags in [
        &["--print-config"][..],
        &["--preset", "gallery_gpt", "--print-config"],
        &["--preset", "qwen_vl_chat", "--print-config"],
    ] {
        for line in written("finetune", flags).lines() {
            let (name, value) = line.split_once(" = ").unwrap();
            let value: String = value.trim_matches('"').split_whitespace().collect();
            let (_, said) = &help[name];
            // The help of a switch does not mention that it is off.
            if value != "false" && name != "preset" {
                assert!(said.contains(&value), "--{name} is {value}: {said}");
            }
        }
    }
    for (name, default) in [
        (
            "learning_rate",
            "[default:0.004,gallery_gpt:0.00002,qwen_vl_chat:0.00001]",
        ),
        ("mm_projector_lr", "[gallery_gpt:0.00002]"),
        ("lora_r", "[default:16,gallery_gpt:128,qwen_vl_chat:64]"),
        ("weight_decay", "[default:0.0,qwen_vl_chat:0.1]"),
        ("mm_projector_type", "[gallery_gpt:mlp2x_gelu]"),
        ("vision_tower", "thatthebasenames"),
        ("deepspeed", "has`gradient_clipping`"),
    ] {
        // What follows the default, if anything, are other names of the flag.
        let (_, rest) = help[name]
            .1
            .split_once(default)
            .unwrap_or_else(|| panic!("{name}: {}", help[name].1));
        assert!(
            rest.is_empty() || rest.starts_with("[alias"),
            "{name}: {rest}"
        );
    }
}
