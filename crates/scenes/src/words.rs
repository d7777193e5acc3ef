//! True texts about a scene.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Brushwork, Genre, Noun, Place, Scene, Temperature, Thing};

/// Questions for a formal analysis, in the style of PaintingForm.
pub const QUESTIONS: [&str; 4] = [
    "Please construct a formal analysis paragraph of approximately 75 words that is coherent and focuses solely on visual characteristics.",
    "Write a logically connected paragraph of formal analysis, limited to the visual features of this painting.",
    "Your task is to write a coherent paragraph of formal analysis, exclusively on visual characteristics.",
    "Please write a paragraph of formal analysis for this painting.",
];

fn generator(scene: &Scene, voice: u64) -> ChaCha8Rng {
    let mut random = ChaCha8Rng::seed_from_u64(scene.detail);
    random.set_stream(1000 + voice);
    random
}

fn article(word: &str) -> &'static str {
    if word.starts_with(['a', 'e', 'i', 'o', 'u']) {
        "an"
    } else {
        "a"
    }
}

fn thing(thing: Thing) -> String {
    let noun = thing.noun.name();
    format!(
        "{} {noun} in {} at the {}",
        article(noun),
        thing.color.name(),
        thing.place.name()
    )
}

/// A short catalogue entry: the genre and one to three facts, chosen by `voice`.
#[must_use]
pub fn catalogue(scene: &Scene, voice: u64) -> String {
    let mut random = generator(scene, voice);
    let mut facts = facts(scene);
    let count = random.random_range(1..=3);
    while facts.len() > count {
        facts.remove(random.random_range(0..facts.len()));
    }
    entry(scene, &facts)
}

/// As [`catalogue`], with all facts.
#[must_use]
pub fn inventory(scene: &Scene) -> String {
    entry(scene, &facts(scene))
}

fn facts(scene: &Scene) -> Vec<String> {
    let mut facts = vec![thing(scene.main), thing(scene.second)];
    for (noun, color) in std::iter::once(scene.backdrop).chain(scene.ground) {
        let noun = noun.name();
        facts.push(format!("{} {noun} in {}", article(noun), color.name()));
    }
    facts.push(format!("light from the {}", scene.light.name()));
    facts.push(format!("{} brushwork", scene.brushwork.name()));
    facts
}

fn entry(scene: &Scene, facts: &[String]) -> String {
    let (first, rest) = scene.genre.name().split_at(1);
    format!("{}{rest}: {}.", first.to_uppercase(), facts.join("; "))
}

/// A formal analysis of about 75 words: composition, colour, light, line, brushwork, balance.
/// `voice` chooses the wording.
#[must_use]
pub fn analysis(scene: &Scene, voice: u64) -> String {
    let mut random = generator(scene, voice);
    let mut choose = |choices: &[String]| choices[random.random_range(0..choices.len())].clone();
    let genre = scene.genre.name();
    let main = thing(scene.main);
    let second = thing(scene.second);
    let sentences = [
        choose(&[
            format!("The composition of this {genre} rests on {main}, answered by {second}."),
            format!("This {genre} is built around {main}, with {second} as its counterpart."),
            format!("In this {genre} the eye meets {main} first and then moves to {second}."),
        ]),
        choose(&balance(scene)),
        choose(&color(scene)),
        choose(&light(scene)),
        choose(&line(scene)),
        choose(&brushwork(scene)),
    ];
    sentences.join(" ")
}

fn balance(scene: &Scene) -> Vec<String> {
    if scene.main.place == Place::Center {
        vec![
            "The larger mass holds the middle, so the balance is calm and nearly symmetrical."
                .to_owned(),
            "With its larger mass in the middle, the picture is stable and nearly symmetrical."
                .to_owned(),
        ]
    } else {
        vec![
            "The masses are unequal, so the balance is asymmetrical and the picture feels alive."
                .to_owned(),
            "The weight lies to one side, and the asymmetrical balance gives the picture movement."
                .to_owned(),
        ]
    }
}

fn color(scene: &Scene) -> Vec<String> {
    let (backdrop, behind) = scene.backdrop;
    let backdrop = format!("{} in {}", backdrop.name(), behind.name());
    let tone = behind.temperature().name();
    match scene.ground {
        Some((ground, below)) => {
            let ground = format!("{} in {}", ground.name(), below.name());
            let pair = match (below.temperature(), behind.temperature()) {
                (Temperature::Neutral, _) | (_, Temperature::Neutral) => {
                    "leave the strongest accents to the forms"
                }
                (below, behind) if below == behind => "keep to the same temperature",
                _ => "set one temperature against another",
            };
            vec![
                format!("The {backdrop} sets a {tone} tone above the {ground}; the two {pair}."),
                format!(
                    "A {tone} note comes from the {backdrop}, and below it the {ground} carries the scene; they {pair}."
                ),
            ]
        }
        None => {
            let pair = match (scene.main.color.temperature(), behind.temperature()) {
                (Temperature::Warm, Temperature::Cool) => "a warm form advances from a cool depth",
                (Temperature::Cool, Temperature::Warm) => "a cool form recedes into a warm depth",
                _ => "the contrast is one of value more than of temperature",
            };
            vec![
                format!("Behind them the {backdrop} sets a {tone} tone, and {pair}."),
                format!("The {backdrop} gives the whole a {tone} tone; {pair}."),
            ]
        }
    }
}

fn light(scene: &Scene) -> Vec<String> {
    let side = scene.light.name();
    vec![
        format!("The light falls from the {side} and models the forms with soft shadow."),
        format!("A clear light from the {side} brightens one edge of every form."),
    ]
}

fn line(scene: &Scene) -> Vec<String> {
    let one = |text: &str| vec![text.to_owned()];
    match scene.genre {
        Genre::StillLife => one("The level edge of the support steadies the rounded outlines."),
        Genre::Landscape => one("A long horizon steadies the uprights that cross it."),
        Genre::Portrait => {
            one("The sloping shoulders form a pyramid beneath the oval of the head.")
        }
        Genre::Abstraction => one("Plain outlines set the shapes flat against each other."),
    }
}

fn brushwork(scene: &Scene) -> Vec<String> {
    match scene.brushwork {
        Brushwork::Smooth => vec![
            "Smooth brushwork leaves no stroke visible.".to_owned(),
            "The smooth brushwork hides the hand of the painter.".to_owned(),
        ],
        Brushwork::Broad => vec![
            "Broad brushwork lets every stroke show.".to_owned(),
            "The broad brushwork gives the surface a visible rhythm.".to_owned(),
        ],
        Brushwork::Dotted => vec![
            "Dotted brushwork makes the surface shimmer.".to_owned(),
            "The dotted brushwork breaks the surface into points.".to_owned(),
        ],
    }
}

/// An answer to "Analyze the use of color."
#[must_use]
pub fn colour_answer(scene: &Scene) -> String {
    let parts: Vec<String> = scene
        .colors()
        .into_iter()
        .map(|(noun, color): (Noun, _)| format!("the {} in {}", noun.name(), color.name()))
        .collect();
    let (last, rest) = parts
        .split_last()
        .map_or(("", &[][..]), |(l, r)| (l.as_str(), r));
    format!(
        "The palette is held together by {} and {last}.",
        rest.join(", ")
    )
}

/// An answer to "Where are the main masses?"
#[must_use]
pub fn place_answer(scene: &Scene) -> String {
    format!(
        "The larger mass is {}, the smaller {}.",
        thing(scene.main),
        thing(scene.second)
    )
}

/// An answer to "Describe the light."
#[must_use]
pub fn light_answer(scene: &Scene) -> String {
    format!(
        "The light falls from the {} and leaves the other side in soft shadow.",
        scene.light.name()
    )
}
