//! Scores of answers.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::program;

fn write(folder: &Path, name: &str, text: &str) -> PathBuf {
    let path = folder.join(name);
    std::fs::write(&path, text).unwrap();
    path
}

/// Runs `evaluate` on one set of predictions; returns BLEU, ROUGE-L and standard error.
fn evaluate(folder: &Path, references: &Path, answers: &Path, more: &[&str]) -> (f64, f64, String) {
    let output = program("evaluate")
        .arg("--references")
        .arg(references)
        .arg("--predictions")
        .arg(format!("system={}", answers.display()))
        .arg("--output_dir")
        .arg(folder.join("out"))
        .args(["--resamples", "10"])
        .args(more)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.success(), "{said}");
    let scores = std::fs::read(folder.join("out/scores.json")).unwrap();
    let scores: Value = serde_json::from_slice(&scores).unwrap();
    let score = |name: &str| scores["systems"][0]["scores"][name]["score"].as_f64();
    (score("BLEU").unwrap(), score("ROUGE-L").unwrap(), said)
}

#[test]
fn a_text_that_has_no_words_for_a_score_is_said() {
    let folder = tempfile::tempdir().unwrap();
    for (text, bleu, rouge, words) in [
        (
            "画面以左侧的白色瓶子为中心，右侧有一个橙色苹果。",
            0.0,
            0.0,
            "zh",
        ),
        (
            "Свет падает справа и лепит форму мягкой тенью.",
            100.0,
            0.0,
            "intl",
        ),
        (
            "Το φως πέφτει από δεξιά και πλάθει τη μορφή.",
            100.0,
            0.0,
            "intl",
        ),
        ("光は右から差し、形をやわらかな影で包む。", 0.0, 0.0, "char"),
    ] {
        let record = |field: &str| format!(r#"[{{"image": "a.jpg", "{field}": "{text}"}}]"#);
        let references = write(folder.path(), "references.json", &record("formal_analysis"));
        let answers = write(folder.path(), "answers.json", &record("text"));
        let found = evaluate(folder.path(), &references, &answers, &[]);
        assert!(
            (found.0 - bleu).abs() < 1e-9 && (found.1 - rouge).abs() < 1e-9,
            "{found:?}"
        );
        assert!(found.2.contains("note: ROUGE: 2 of 2 texts"), "{}", found.2);
        assert_eq!(
            found.2.contains("BLEU and GLEU: 2 of 2"),
            bleu == 0.0,
            "{}",
            found.2
        );
        let found = evaluate(folder.path(), &references, &answers, &["--tokenize", words]);
        assert!(
            (found.0 - 100.0).abs() < 1e-9 && (found.1 - 100.0).abs() < 1e-9,
            "{found:?}"
        );
        assert!(!found.2.contains("ROUGE"), "{}", found.2);
    }
}

#[test]
fn the_table_fits_80_columns_and_says_what_its_differences_are() {
    let folder = tempfile::tempdir().unwrap();
    let records = |text: &dyn Fn(usize) -> String| -> String {
        let lines = (0..12).map(|at| {
            format!(
                "{{\"image\": \"{at}.jpg\", \"formal_analysis\": \"{0}\", \"text\": \"{0}\"}}\n",
                text(at)
            )
        });
        lines.collect()
    };
    let right = |at: usize| format!("A bottle in white stands beside {at} apples in red.");
    let references = write(folder.path(), "references.jsonl", &records(&right));
    let good = write(folder.path(), "good.jsonl", &records(&right));
    let poor = |at: usize| format!("A dog runs past {at} trees on a hill.");
    let poor = write(folder.path(), "poor.jsonl", &records(&poor));
    let output = program("evaluate")
        .args(["--resamples", "100", "--references"])
        .arg(references)
        .arg("--predictions")
        .arg(format!("a_system_with_a_name={}", poor.display()))
        .arg("--predictions")
        .arg(format!("another_with_such_a_name={}", good.display()))
        .arg("--output_dir")
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{said}");
    let table: Vec<&str> = said
        .lines()
        .take_while(|line| !line.starts_with("BLEU|"))
        .collect();
    assert!(table.len() > 20, "{said}");
    for line in &table {
        assert!(line.chars().count() <= 80, "{line}");
    }
    let heading = "difference to the first";
    assert!(table[0].ends_with(heading), "{said}");
    // The smallest that so many resamples can show.
    assert!(
        table.iter().any(|line| line.ends_with("p <= 0.020")),
        "{said}"
    );
}

#[test]
fn predictions_that_fit_no_painting_say_which_names_were_compared() {
    let folder = tempfile::tempdir().unwrap();
    let record =
        |image: &str, field: &str| format!(r#"[{{"image": "{image}", "{field}": "Light."}}]"#);
    let references = record("test_0.jpg", "formal_analysis");
    let references = write(folder.path(), "references.json", &references);
    let answers = write(folder.path(), "answers.json", &record("monet.jpg", "text"));
    let output = program("evaluate")
        .arg("--references")
        .arg(references)
        .arg("--predictions")
        .arg(format!("mine={}", answers.display()))
        .arg("--output_dir")
        .arg(folder.path().join("out"))
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success(), "{said}");
    for words in ["mine", "monet.jpg: the test set has no such", "test_0.jpg"] {
        assert!(said.contains(words), "{words}: {said}");
    }
}

#[test]
fn english_is_scored_without_a_notice() {
    let folder = tempfile::tempdir().unwrap();
    let text = "A warm light comes from the right; Cézanne's café is naïve.";
    let record = |field: &str| format!(r#"[{{"image": "a.jpg", "{field}": "{text}"}}]"#);
    let references = write(folder.path(), "references.json", &record("formal_analysis"));
    let answers = write(folder.path(), "answers.json", &record("text"));
    let (bleu, _, said) = evaluate(folder.path(), &references, &answers, &[]);
    assert!((bleu - 100.0).abs() < 1e-9);
    assert!(!said.contains("note:"), "{said}");
}

#[test]
fn answers_to_numbered_questions_meet_the_test_set() {
    let folder = tempfile::tempdir().unwrap();
    let texts = [
        "A bottle in white stands at the left of the table.",
        "The jug in violet holds the centre of the picture.",
        "A warm light comes from the right.",
    ];
    let lines = |order: [usize; 3], line: &dyn Fn(usize) -> String| {
        order.map(|at| format!("{}\n", line(at))).concat()
    };
    let records = lines([0, 1, 2], &|at| {
        format!(
            r#"{{"image": "{at}_x.jpg", "formal_analysis": "{}"}}"#,
            texts[at]
        )
    });
    let references = write(folder.path(), "references.jsonl", &records);
    // The questions are in another order than the test set, so their numbers alone would mean other paintings.
    let questions = lines([2, 0, 1], &|at| {
        let number = (at + 1) % 3;
        format!(r#"{{"question_id": {number}, "image": "{at}_x.jpg", "text": "Describe."}}"#)
    });
    let questions = write(folder.path(), "questions.jsonl", &questions);
    let numbered = lines([0, 1, 2], &|at| {
        format!(
            r#"{{"question_id": {}, "text": "{}"}}"#,
            (at + 1) % 3,
            texts[at]
        )
    });
    let numbered = write(folder.path(), "numbered.jsonl", &numbered);
    let more = ["--questions", questions.to_str().unwrap()];
    let (bleu, ..) = evaluate(folder.path(), &references, &numbered, &more);
    assert!((bleu - 100.0).abs() < 1e-9, "{bleu}");
    let (bleu, _, said) = evaluate(folder.path(), &references, &numbered, &[]);
    assert!(bleu < 50.0, "{bleu}");
    assert!(said.contains("their places in the test set"), "{said}");
}
