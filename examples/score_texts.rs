//! Scores predictions against references: each text, then the whole system with confidence intervals.

#![allow(clippy::print_stdout, reason = "an example prints what it did")]

use gallery_gpt::{eval::painting_name, prelude::*};

fn main() -> anyhow::Result<()> {
    let test = TestSet::load(&[
        "datasets/painting-form-mini/formalanalysis_test_gpt.json".into(),
        "datasets/painting-form-mini/formalanalysis_test_gemini.json".into(),
    ])?;
    let paintings = &test.paintings[..20];
    // One description of every painting: the baseline to beat.
    let text = "In this still life a jug in white stands at the left.";
    let mut predictions = Predictions::default();
    for painting in paintings {
        predictions.push(painting_name(painting), text);
    }

    // `Some(WordNet::open(..)?)` adds synonyms to METEOR.
    let scorer = Scorer::paper(None);
    let one = scorer.score(text, &paintings[0].references);
    println!("the first painting: METEOR {:.2}", one.get(Score::Meteor));
    let system = SystemScores::new(
        "constant",
        &predictions,
        paintings,
        &scorer,
        OnUnscorable::Fail,
    )?;
    for score in Score::ALL {
        let interval = system.interval(score, &scorer, 200, 42);
        println!(
            "{score:?} {:.2} ({:.2} to {:.2})",
            interval.score, interval.low, interval.high
        );
    }
    Ok(())
}
