//! Properties of the scores of any texts, and the handling of predictions that cannot be scored.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::PathBuf;

use gallery_gpt_data::TestPainting;
use gallery_gpt_eval::{
    ChrF, EvalError, ExclusionCause, Gleu, Meteor, NltkBleu, NltkSmoothing, NoSynonyms,
    OnUnscorable, Predictions, PredictionsFile, Report, Rouge, RougeKind, SacreBleu,
    SacreSmoothing, Score, Scorer, SystemScores, WordNet, WordTokenizer,
};
use proptest::prelude::*;

fn text() -> impl Strategy<Value = String> {
    let word = prop::sample::select(vec![
        "the", "light", "falls", "from", "left", "a", "painting", "painted", "3.5", "\"jug\",",
        "red.", "It's", "é", "…", "can't", "\n", "--", "cannot", "画",
    ]);
    prop::collection::vec(word, 0..30).prop_map(|words| words.join(" "))
}

fn all_tokenizers() -> [WordTokenizer; 7] {
    [
        WordTokenizer::Whitespace,
        WordTokenizer::WordPunct,
        WordTokenizer::Treebank,
        WordTokenizer::Mteval13a,
        WordTokenizer::International,
        WordTokenizer::Characters,
        WordTokenizer::Chinese,
    ]
}

proptest! {
    #[test]
    fn scores_are_bounded_and_the_order_of_references_does_not_matter(
        hypothesis in text(),
        references in prop::collection::vec(text(), 1..4),
    ) {
        let mut reversed = references.clone();
        reversed.reverse();
        for tokenizer in all_tokenizers() {
            let cut = |texts: &[String]| -> Vec<Vec<String>> {
                texts.iter().map(|text| tokenizer.tokenize(text)).collect()
            };
            let (own, refs, back) = (tokenizer.tokenize(&hypothesis), cut(&references), cut(&reversed));
            for smoothing in NltkSmoothing::ALL {
                let bleu = NltkBleu::default().with_smoothing(smoothing);
                let score = bleu.sentence(&own, &refs);
                prop_assert_eq!(score, bleu.sentence(&own, &back));
                let bounded = !matches!(
                    smoothing,
                    NltkSmoothing::Method5 | NltkSmoothing::Method6 | NltkSmoothing::Method7
                );
                prop_assert!(score.is_none_or(|s| s >= 0.0 && (!bounded || s <= 1.0 + 1e-12)));
            }
            let gleu = Gleu::default().counts(&own, &refs).score();
            prop_assert!((0.0..=1.0).contains(&gleu));
            prop_assert_eq!(gleu, Gleu::default().counts(&own, &back).score());
            let meteor = Meteor::new(None::<&NoSynonyms>);
            let score = meteor.score(&own, &refs);
            prop_assert!((0.0..=1.0).contains(&score));
            prop_assert_eq!(score, meteor.score(&own, &back));
            for smoothing in SacreSmoothing::ALL {
                let bleu = SacreBleu { tokenizer, smoothing, ..SacreBleu::default() };
                let score = bleu.score(&bleu.counts(&hypothesis, &references)).score;
                prop_assert!((0.0..=100.0 + 1e-9).contains(&score));
                prop_assert_eq!(score, bleu.score(&bleu.counts(&hypothesis, &reversed)).score);
            }
        }
        let chrf = ChrF.score(&ChrF.counts(&hypothesis, &references));
        prop_assert!((0.0..=100.0 + 1e-9).contains(&chrf));
        for kind in [RougeKind::N(1), RougeKind::N(2), RougeKind::L, RougeKind::Lsum] {
            let rouge = Rouge::new(kind);
            let score = rouge.score(&hypothesis, &references);
            prop_assert!((0.0..=1.0).contains(&score.f));
            prop_assert_eq!(score.f, rouge.score(&hypothesis, &reversed).f);
            // Exchanging the texts exchanges precision and recall, except for Lsum, which goes through the lines of the reference.
            if kind != RougeKind::Lsum {
                let (a, b) = (
                    rouge.against(&hypothesis, &references[0]),
                    rouge.against(&references[0], &hypothesis),
                );
                prop_assert_eq!((a.precision, a.recall), (b.recall, b.precision));
            }
        }
    }

    #[test]
    fn a_text_is_its_own_best_reference(own in text()) {
        let words = WordTokenizer::Mteval13a.tokenize(&own);
        prop_assume!(words.len() >= 4);
        let near = |score: f64, whole: f64| (score - whole).abs() < 1e-9;
        let refs = vec![words.clone()];
        prop_assert!(near(NltkBleu::default().sentence(&words, &refs).unwrap(), 1.0));
        prop_assert!(near(Gleu::default().counts(&words, &refs).score(), 1.0));
        let bleu = SacreBleu::default();
        prop_assert!(near(bleu.score(&bleu.counts(&own, &[&own])).score, 100.0));
        prop_assert!(near(ChrF.score(&ChrF.counts(&own, &[&own])), 100.0));
        // All n words are one chunk: the penalty is 0.5 * (1 / n)^3.
        let penalty = 0.5 * (words.len() as f64).powi(-3);
        let meteor = Meteor::new(None::<&NoSynonyms>).score(&words, &refs);
        prop_assert!(near(meteor, 1.0 - penalty));
        if own.contains("light") {
            prop_assert!(near(Rouge::new(RougeKind::L).against(&own, &own).f, 1.0));
        }
    }
}

fn paintings(count: usize) -> Vec<TestPainting> {
    (0..count)
        .map(|index| TestPainting {
            index,
            image: Some(format!("{index}.png")),
            references: vec![format!("The light falls on painting number {index}."); 2],
        })
        .collect()
}

fn written(folder: &tempfile::TempDir, bytes: &[u8]) -> PathBuf {
    let path = folder.path().join("predictions.jsonl");
    std::fs::write(&path, bytes).unwrap();
    path
}

#[test]
fn predictions_of_any_system_are_read() {
    let folder = tempfile::tempdir().unwrap();
    for bytes in [
        "{\"image\": \"images/0.png\", \"text\": \"a\"}\n\n{\"question_id\": \"1.png\", \"answer\": \"b\"}",
        "\u{feff}[{\"id\": \"0.png\", \"prediction\": \"a\"}, {\"image\": \"1.png\", \"formal_analysis\": \"b\"}]",
    ] {
        let predictions = Predictions::load(written(&folder, bytes.as_bytes())).unwrap();
        let (texts, excluded) = predictions
            .align(&paintings(2), "x", OnUnscorable::Fail)
            .unwrap();
        assert_eq!(texts, [Some("a".to_owned()), Some("b".to_owned())]);
        assert!(excluded.is_empty());
    }
    for (bytes, expected) in [
        (&b"{\"image\": \"0.png\"}"[..], "line 1"),
        (b"{\"image\": \"0.png\", \"text\": 7}", "a number for 0.png"),
        (b"{\"text\": \"a\"}", "a field image"),
        (b"{\"image\": \"0.png\", \"text\": \"a\"}\n{", "line 2"),
        (b"[{\"image\": \"0.png\", \"text\": \"a\"}", "an array"),
        (b"{\"image\": \"0.png\",\n\xe9", "line 2"),
        (b"[7]", "record 0"),
    ] {
        let error = Predictions::load(written(&folder, bytes))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains(expected) && error.contains("predictions.jsonl"),
            "{error}"
        );
    }
    let missing = folder.path().join("nowhere");
    assert!(matches!(
        Predictions::load(missing),
        Err(EvalError::Read { .. })
    ));
}

#[test]
fn every_exclusion_is_reported() {
    let mut predictions = Predictions::default();
    predictions.push("0.png", "The light falls on painting number 0.");
    predictions.push("0.png", "Once more.");
    predictions.push("1.png", " \n");
    predictions.push("3.png", "x".repeat(10 << 20));
    predictions.push("9.png", "Of another set.");
    let paintings = paintings(4);
    let Err(EvalError::Unscorable { exclusions, .. }) =
        predictions.align(&paintings, "x", OnUnscorable::Fail)
    else {
        panic!("five that cannot be scored");
    };
    let causes: Vec<_> = exclusions
        .iter()
        .map(|e| (e.name.as_str(), e.cause))
        .collect();
    assert_eq!(
        causes,
        [
            ("0.png", ExclusionCause::Repeated),
            ("9.png", ExclusionCause::Unknown),
            ("1.png", ExclusionCause::Empty),
            ("2.png", ExclusionCause::Missing),
            ("3.png", ExclusionCause::TooLong { bytes: 10 << 20 }),
        ]
    );

    let scorer = Scorer::paper(None);
    let scores = SystemScores::new(
        "x",
        &predictions,
        &paintings,
        &scorer,
        OnUnscorable::Exclude,
    )
    .unwrap();
    assert_eq!(scores.exclusions, exclusions);
    assert_eq!(scores.paintings.iter().flatten().count(), 1);
    // Only paintings with a text count, and the only text is perfect.
    let interval = scores.interval(Score::Bleu, &scorer, 10, 1);
    assert!((interval.score - 100.0).abs() < 1e-9);

    let none = Predictions::default();
    let error = none
        .align(&paintings, "x", OnUnscorable::Exclude)
        .unwrap_err();
    assert!(matches!(error, EvalError::Nothing { .. }), "{error}");
}

#[test]
fn comparisons_find_the_better_system() {
    let paintings = paintings(40);
    let mut good = Predictions::default();
    let mut poor = Predictions::default();
    for (index, painting) in paintings.iter().enumerate() {
        let name = format!("{index}.png");
        good.push(&name, &painting.references[0]);
        poor.push(
            &name,
            format!("A picture of something on painting number {}.", index / 2),
        );
    }
    let scorer = Scorer::paper(None);
    let system = |name, predictions| {
        SystemScores::new(name, predictions, &paintings, &scorer, OnUnscorable::Fail).unwrap()
    };
    let (good, poor) = (system("good", &good), system("<poor>", &poor));
    for score in Score::ALL {
        let interval = poor.interval(score, &scorer, 200, 7);
        assert!(interval.low <= interval.score && interval.score <= interval.high);
        let compared = good.compare(&poor, score, &scorer, 200, 7).unwrap();
        assert_eq!(compared.paintings, 40);
        assert!(
            compared.difference > 0.0 && compared.p_value < 0.02,
            "{compared:?}"
        );
        let same = good.compare(&good, score, &scorer, 200, 7).unwrap();
        assert_eq!((same.difference, same.p_value), (0.0, 1.0));
    }
    let intervals: Vec<Vec<_>> = [&poor, &good]
        .map(|system| {
            Score::ALL
                .map(|score| system.interval(score, &scorer, 20, 7))
                .to_vec()
        })
        .to_vec();
    let comparisons = vec![
        vec![None; Score::ALL.len()],
        Score::ALL
            .map(|score| good.compare(&poor, score, &scorer, 20, 7))
            .to_vec(),
    ];
    let page = Report {
        title: "A & B",
        paintings: &paintings,
        columns: &Score::ALL,
        systems: &[poor, good],
        intervals: &intervals,
        comparisons: &comparisons,
        notices: &["a notice".to_owned()],
        shown: 3,
    }
    .html(&scorer, |_| None);
    assert!(page.contains("A &amp; B") && page.contains("&lt;poor&gt;"));
    assert!(
        !page.contains("<poor>") && !page.contains("http"),
        "one page, nothing from elsewhere"
    );
    for name in [
        "Best of good",
        "Worst of good",
        "Most improved of good",
        // The legend, and the links to the parts.
        "words that a reference has too",
        "href=\"#worst\"",
        "id=\"worst\"",
        "METEOR",
    ] {
        assert!(page.contains(name), "{name}");
    }
}

#[test]
fn an_interrupted_run_resumes() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("p.jsonl");
    let mut file = PredictionsFile::resume(&path).unwrap();
    file.push("0.png", "zero\n\"quoted\"").unwrap();
    drop(file);
    // Killed in the middle of a line.
    let whole = std::fs::read(&path).unwrap();
    std::fs::write(&path, [&whole[..], b"{\"image\": \"1.p"].concat()).unwrap();
    let mut file = PredictionsFile::resume(&path).unwrap();
    assert!(file.has("0.png") && !file.has("1.png"));
    file.push("1.png", "one").unwrap();
    let read = Predictions::load(&path).unwrap();
    let read: Vec<_> = read.iter().collect();
    assert_eq!(read, [("0.png", "zero\n\"quoted\""), ("1.png", "one")]);
}

#[test]
fn an_incomplete_wordnet_is_rejected() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    let error = WordNet::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("index.noun"), "{error}");
    for part in ["noun", "verb", "adj", "adv"] {
        write(&format!("index.{part}"), "  1 licence\n");
        write(&format!("data.{part}"), "  1 licence\n");
        write(&format!("{part}.exc"), "");
    }
    write("index.noun", "dawn n 1 0 1 0 00000042  \n");
    write(
        "data.noun",
        "00000042 28 n 02 dawn 0 first_light 0 000 | the first light of day\n",
    );
    assert!(WordNet::open(folder.path()).is_ok());
    write("data.noun", "00000042 28 n 0z dawn 0\n");
    let error = WordNet::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("data.noun, line 1"), "{error}");
    std::fs::remove_file(folder.path().join("adv.exc")).unwrap();
    write("data.noun", "00000042 28 n 01 dawn 0 000 | light\n");
    let error = WordNet::open(folder.path()).unwrap_err();
    assert!(error.to_string().contains("adv.exc"), "{error}");
}
