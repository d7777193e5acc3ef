//! Words exact, scores within the last digits.

use std::{collections::BTreeMap, path::PathBuf};

use gallery_gpt::eval::{
    BleuCounts, ChrF, ChrFCounts, FScore, Gleu, Meteor, NltkBleu, NltkSmoothing, PorterStemmer,
    Rouge, RougeKind, SacreBleu, SacreSmoothing, Synonyms, WordNet, WordTokenizer, rouge_words,
};
use serde_json::Value;

use crate::{
    case::Case,
    fixtures::{Variant, list, text},
};

/// Largest difference of a score.
const SCORE: f64 = 1e-9;

type Pair = (String, Vec<String>);
type WordPair = (Vec<String>, Vec<Vec<String>>);

fn strings(value: &Value) -> Vec<String> {
    list(value)
        .iter()
        .map(|word| text(word).to_owned())
        .collect()
}

fn assert_score(what: &str, found: Option<f64>, expected: &Value) {
    match (found, expected.as_f64()) {
        (Some(found), Some(expected)) => {
            // Scores up to 100 are held to the same digits.
            let allowed = SCORE * expected.abs().max(1.0);
            assert!(
                (found - expected).abs() <= allowed,
                "{what}: found {found}, expected {expected}"
            );
        }
        (found, expected) => assert_eq!(found, expected, "{what}: only one side has a score"),
    }
}

fn assert_scores(what: &str, found: impl Iterator<Item = Option<f64>>, expected: &Value) {
    let found: Vec<Option<f64>> = found.collect();
    assert_eq!(found.len(), list(expected).len(), "{what}");
    for (at, (found, expected)) in found.into_iter().zip(list(expected)).enumerate() {
        assert_score(&format!("{what} {at}"), found, expected);
    }
}

pub(crate) fn cases(_: &Variant) -> Vec<Case> {
    let tokenized = [
        ("whitespace_lower", WordTokenizer::Whitespace),
        ("wordpunct_lower", WordTokenizer::WordPunct),
        ("treebank", WordTokenizer::Treebank),
    ];
    let mut cases = Vec::new();
    for (name, words) in tokenized {
        cases.push(Case::new(format!("nltk::{name}"), move |variant| {
            let (golden, pairs) = golden(variant);
            let compared = nltk(&golden, name, &tokenize(&golden, name, words, &pairs));
            variant.measured(&format!("{compared} scores of nltk's BLEU and GLEU"));
        }));
        let with_wordnet = wordnet().is_some();
        let synonyms = if with_wordnet { "wordnet" } else { "table" };
        cases.push(Case::new(
            format!("meteor::{name}::{synonyms}"),
            move |variant| {
                let (golden, pairs) = golden(variant);
                let pairs = tokenize(&golden, name, words, &pairs);
                meteor(variant, wordnet().as_ref(), &golden["meteor"][name], &pairs);
            },
        ));
    }
    cases.push(Case::new("sacrebleu", |variant| {
        let (golden, pairs) = golden(variant);
        sacrebleu(&golden, &pairs);
    }));
    cases.push(Case::new("rouge", |variant| {
        let (golden, pairs) = golden(variant);
        rouge(&golden, &pairs);
    }));
    cases.push(Case::new("stems", |variant| stems(&golden(variant).0)));
    cases
}

/// What the reference gave, and the texts.
fn golden(variant: &Variant) -> (Value, Vec<Pair>) {
    let golden = variant.json("metrics/expected.json");
    let pairs = list(&golden["pairs"])
        .iter()
        .map(|pair| (text(&pair["cand"]).to_owned(), strings(&pair["refs"])))
        .collect();
    (golden, pairs)
}

/// The words of the texts, which are the reference's.
fn tokenize(golden: &Value, name: &str, words: WordTokenizer, pairs: &[Pair]) -> Vec<WordPair> {
    let of = |text: &str| {
        if name.ends_with("_lower") {
            words.tokenize(&text.to_lowercase())
        } else {
            words.tokenize(text)
        }
    };
    let pairs: Vec<WordPair> = pairs
        .iter()
        .map(|(text, references)| (of(text), references.iter().map(|text| of(text)).collect()))
        .collect();
    for (at, (hypothesis, references)) in pairs.iter().enumerate() {
        let tokens = &golden["tokens"][name];
        assert_eq!(*hypothesis, strings(&tokens["cand"][at]), "{name} {at}");
        let expected: Vec<Vec<String>> = list(&tokens["refs"][at]).iter().map(strings).collect();
        assert_eq!(*references, expected, "{name} {at}");
    }
    pairs
}

fn nltk(golden: &Value, name: &str, pairs: &[WordPair]) -> usize {
    let mut compared = 0;
    for (key, expected) in golden["nltk_bleu"][name].as_object().unwrap() {
        let (method, order) = key.split_once("/bleu").unwrap();
        let method = NltkSmoothing::ALL
            .into_iter()
            .find(|smoothing| smoothing.name() == method)
            .unwrap();
        let bleu = NltkBleu::up_to(order.parse().unwrap()).with_smoothing(method);
        let what = format!("{name} {key}");
        let scores = pairs
            .iter()
            .map(|(text, references)| bleu.sentence(text, references));
        assert_scores(&what, scores, &expected["sentence"]);
        assert_score(&what, bleu.corpus(pairs), &expected["corpus"]);
        compared += pairs.len() + 1;
    }
    for (key, expected) in golden["nltk_gleu"][name].as_object().unwrap() {
        let (least, most) = key.split_once("_max").unwrap();
        let least = least.strip_prefix("min").unwrap().parse().unwrap();
        let gleu = Gleu {
            lengths: least..=most.parse().unwrap(),
        };
        let what = format!("{name} {key}");
        let scores = pairs
            .iter()
            .map(|(text, references)| Some(gleu.counts(text, references).score()));
        assert_scores(&what, scores, &expected["sentence"]);
        assert_score(&what, Some(gleu.corpus(pairs)), &expected["corpus"]);
        compared += pairs.len() + 1;
    }
    compared
}

/// The synonyms that nltk finds for the words of the texts.
///
/// METEOR asks for what stemming left of a word, the fixtures are keyed by whole words. A stem that is a word of WordNet is among the
/// word's own synonyms; any other has none.
struct Table(BTreeMap<String, Vec<String>>);

impl Table {
    fn new(words: BTreeMap<String, Vec<String>>) -> Self {
        let stems = words.iter().filter_map(|(word, others)| {
            let stem = PorterStemmer::Nltk.stem(word);
            (others.contains(&stem) && !words.contains_key(&stem)).then(|| (stem, others.clone()))
        });
        let stems: Vec<_> = stems.collect();
        Self(words.into_iter().chain(stems).collect())
    }
}

impl Synonyms for Table {
    fn each(&self, word: &str, tell: &mut dyn FnMut(&str)) {
        self.0
            .get(word)
            .into_iter()
            .flatten()
            .for_each(|word| tell(word));
    }
}

/// WordNet 3.0, where there is one: named, or where Debian's `wordnet-base` puts it.
fn wordnet() -> Option<WordNet> {
    let named = std::env::var_os("GALLERY_GPT_WORDNET").map(PathBuf::from);
    let usual = PathBuf::from("/usr/share/wordnet");
    let folder = named.or_else(|| usual.join("data.noun").is_file().then_some(usual))?;
    Some(WordNet::open(folder).unwrap())
}

/// From the database itself; else from the fixtures' table, which knows the synonyms of whole words only.
fn meteor(variant: &Variant, wordnet: Option<&WordNet>, golden: &Value, pairs: &[WordPair]) {
    if let Some(wordnet) = wordnet {
        return meteor_with(wordnet, golden, pairs);
    }
    let synonyms = variant.json("metrics/wordnet_synonyms.json");
    let synonyms = synonyms["synonyms"].as_object().unwrap();
    let synonyms = Table::new(
        synonyms
            .iter()
            .map(|(word, others)| (word.clone(), strings(others)))
            .collect(),
    );
    meteor_with(&synonyms, golden, pairs);
}

fn meteor_with(synonyms: &impl Synonyms, golden: &Value, pairs: &[WordPair]) {
    for (key, expected) in golden.as_object().unwrap() {
        let mut meteor = Meteor::new(Some(synonyms));
        if let Some(numbers) = key.strip_prefix("alpha") {
            let (alpha, rest) = numbers.split_once("_beta").unwrap();
            let (beta, gamma) = rest.split_once("_gamma").unwrap();
            meteor.alpha = alpha.parse().unwrap();
            meteor.beta = beta.parse().unwrap();
            meteor.gamma = gamma.parse().unwrap();
        }
        let what = format!("METEOR {key}");
        match key.as_str() {
            "mean" => {
                let scores = pairs.iter().map(|(text, all)| meteor.score(text, all));
                let mean = scores.sum::<f64>() / pairs.len() as f64;
                assert_score(&what, Some(mean), expected);
            }
            "single_first_reference" => {
                let scores = pairs
                    .iter()
                    .map(|(text, all)| (!text.is_empty()).then(|| meteor.against(text, &all[0])));
                assert_scores(&what, scores, expected);
            }
            _ => {
                let scores = pairs
                    .iter()
                    .map(|(text, all)| Some(meteor.score(text, all)));
                assert_scores(&what, scores, expected);
            }
        }
    }
}

fn sacrebleu(golden: &Value, pairs: &[Pair]) {
    for (key, expected) in golden["sacrebleu"].as_object().unwrap() {
        let [tokenizer, case, smoothing] = key.split('|').collect::<Vec<_>>()[..] else {
            panic!("{key}");
        };
        let tokenizer = match tokenizer {
            "13a" => WordTokenizer::Mteval13a,
            "intl" => WordTokenizer::International,
            "char" => WordTokenizer::Characters,
            "none" => WordTokenizer::Whitespace,
            "zh" => WordTokenizer::Chinese,
            other => panic!("{other}"),
        };
        let smoothing = SacreSmoothing::ALL
            .into_iter()
            .find(|known| known.name().split('[').next() == Some(smoothing))
            .unwrap();
        let bleu = SacreBleu {
            tokenizer,
            lowercase: case == "lc:True",
            smoothing,
            effective_order: false,
        };
        let found = bleu.corpus(pairs);
        let corpus = &expected["corpus"];
        assert_score(key, Some(found.score), &corpus["score"]);
        assert_score(key, Some(found.bp), &corpus["bp"]);
        assert_score(key, Some(found.sys_len as f64), &corpus["sys_len"]);
        assert_score(key, Some(found.ref_len as f64), &corpus["ref_len"]);
        let some = |numbers: [f64; 4]| numbers.into_iter().map(Some);
        assert_scores(key, some(found.precisions), &corpus["precisions"]);
        assert_scores(key, some(found.counts), &corpus["counts"]);
        assert_scores(key, some(found.totals), &corpus["totals"]);
        assert_eq!(bleu.signature(None).fields(), text(&corpus["signature"]));
        let sentence = SacreBleu {
            effective_order: true,
            ..bleu
        };
        let scores = pairs.iter().map(|(text, references)| {
            let counts: BleuCounts = sentence.counts(text, references);
            Some(sentence.score(&counts).score)
        });
        assert_scores(key, scores, &expected["sentence_effective_order"]);
    }
    let chrf = &golden["sacrebleu_chrf2"];
    let scores = pairs.iter().map(|(text, references)| {
        let counts: ChrFCounts = ChrF.counts(text, references);
        Some(ChrF.score(&counts))
    });
    assert_scores("chrF2", scores, &chrf["sentence"]);
    assert_score("chrF2", Some(ChrF.corpus(pairs)), &chrf["corpus"]);
}

fn rouge(golden: &Value, pairs: &[Pair]) {
    for (key, expected) in golden["rouge"].as_object().unwrap() {
        let stemmer = key == "stemmer:True";
        for kind in [
            RougeKind::N(1),
            RougeKind::N(2),
            RougeKind::N(3),
            RougeKind::L,
            RougeKind::Lsum,
        ] {
            let rouge = Rouge {
                stemmer,
                ..Rouge::new(kind)
            };
            let name = kind.name();
            let parts = |score: FScore| [score.precision, score.recall, score.f].map(Some);
            let mut sum = 0.0;
            for (at, (text, references)) in pairs.iter().enumerate() {
                let what = format!("{name} {key} {at}");
                let first = rouge.against(text, &references[0]);
                let golden = &expected["first_reference"][at][&name];
                assert_scores(&what, parts(first).into_iter(), golden);
                let best = rouge.score(text, references);
                let golden = &expected["multi_reference_max_f"][at][&name];
                assert_scores(&what, parts(best).into_iter(), golden);
                sum += best.f;
            }
            let mean = sum / pairs.len() as f64;
            assert_score(&name, Some(mean), &expected["mean_f_multi"][&name]);
        }
    }
    for ((text, references), golden) in pairs.iter().zip(list(&golden["rouge_tokens_stemmed"])) {
        assert_eq!(rouge_words(text, true), strings(&golden[0]));
        assert_eq!(rouge_words(&references[0], true), strings(&golden[1]));
    }
}

fn stems(golden: &Value) {
    for (key, stemmer) in [
        ("porter_stems_nltk_extensions", PorterStemmer::Nltk),
        ("porter_stems_original", PorterStemmer::Original),
    ] {
        for (word, stem) in golden[key].as_object().unwrap() {
            assert_eq!(stemmer.stem(word), text(stem), "{key}: {word}");
        }
    }
}
