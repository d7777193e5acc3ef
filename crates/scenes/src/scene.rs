//! The facts of a painting.

use rand::{RngExt, SeedableRng, seq::IndexedRandom};
use rand_chacha::ChaCha8Rng;

use crate::Color;

/// Seed of the sample's training pictures.
pub const TRAIN_SEED: u64 = 1;
/// Seed of the sample's test pictures.
pub const TEST_SEED: u64 = 2;
/// Seed of the pictures that the tiny base model is trained on.
pub const BASE_SEED: u64 = 3;

/// The genre of a painting.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Genre {
    /// Things on a table.
    StillLife,
    /// An outdoor view.
    Landscape,
    /// A portrait of a sitter.
    Portrait,
    /// Abstract shapes.
    Abstraction,
}

/// What a part of a painting shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "each name is the thing")]
pub enum Noun {
    Jug,
    Bowl,
    Bottle,
    Apple,
    Wall,
    Table,
    Tree,
    House,
    Hill,
    Sail,
    Sky,
    Meadow,
    Coat,
    Curtain,
    Backdrop,
    Circle,
    Square,
    Triangle,
    Bar,
}

/// Where a thing stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The left third.
    Left,
    /// The middle third.
    Center,
    /// The right third.
    Right,
}

/// Where the light comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// The left.
    Left,
    /// The right.
    Right,
}

/// The brushwork.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Brushwork {
    /// No visible strokes.
    Smooth,
    /// Long visible strokes.
    Broad,
    /// Dots of paint.
    Dotted,
}

/// A thing with its colour and place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Thing {
    /// What it is.
    pub noun: Noun,
    /// Its colour.
    pub color: Color,
    /// Where it stands.
    pub place: Place,
}

/// The facts of one painting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scene {
    /// The genre.
    pub genre: Genre,
    /// The large thing.
    pub main: Thing,
    /// The small thing, in another place.
    pub second: Thing,
    /// The background and its colour.
    pub backdrop: (Noun, Color),
    /// The ground and its colour; portraits and abstractions have none.
    pub ground: Option<(Noun, Color)>,
    /// Where the light comes from.
    pub light: Side,
    /// The brushwork.
    pub brushwork: Brushwork,
    /// Seed of all that is not a fact: sizes, jitter, strokes.
    pub detail: u64,
}

impl Genre {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::StillLife => "still life",
            Self::Landscape => "landscape",
            Self::Portrait => "portrait",
            Self::Abstraction => "abstraction",
        }
    }

    fn things(self) -> (&'static [Noun], &'static [Noun]) {
        use Noun as N;
        match self {
            Self::StillLife => (
                &[N::Jug, N::Bowl, N::Bottle],
                &[N::Apple, N::Bottle, N::Bowl],
            ),
            Self::Landscape => (&[N::Tree, N::House, N::Hill], &[N::Sail, N::House, N::Tree]),
            Self::Portrait => (&[N::Coat], &[N::Curtain]),
            Self::Abstraction => (
                &[N::Circle, N::Square, N::Triangle],
                &[N::Bar, N::Circle, N::Square],
            ),
        }
    }
}

impl Noun {
    /// All nouns.
    pub const ALL: [Self; 19] = [
        Self::Jug,
        Self::Bowl,
        Self::Bottle,
        Self::Apple,
        Self::Wall,
        Self::Table,
        Self::Tree,
        Self::House,
        Self::Hill,
        Self::Sail,
        Self::Sky,
        Self::Meadow,
        Self::Coat,
        Self::Curtain,
        Self::Backdrop,
        Self::Circle,
        Self::Square,
        Self::Triangle,
        Self::Bar,
    ];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Jug => "jug",
            Self::Bowl => "bowl",
            Self::Bottle => "bottle",
            Self::Apple => "apple",
            Self::Wall => "wall",
            Self::Table => "table",
            Self::Tree => "tree",
            Self::House => "house",
            Self::Hill => "hill",
            Self::Sail => "sail",
            Self::Sky => "sky",
            Self::Meadow => "meadow",
            Self::Coat => "coat",
            Self::Curtain => "curtain",
            Self::Backdrop => "backdrop",
            Self::Circle => "circle",
            Self::Square => "square",
            Self::Triangle => "triangle",
            Self::Bar => "bar",
        }
    }
}

impl Place {
    /// All places.
    pub const ALL: [Self; 3] = [Self::Left, Self::Center, Self::Right];

    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Center => "centre",
            Self::Right => "right",
        }
    }
}

impl Side {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Left => "left",
            Self::Right => "right",
        }
    }
}

impl Brushwork {
    /// The word.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Smooth => "smooth",
            Self::Broad => "broad",
            Self::Dotted => "dotted",
        }
    }
}

impl Scene {
    /// Samples the facts of a scene. Scenes of one seed differ by their number; equal arguments
    /// give equal scenes.
    ///
    /// # Panics
    /// Never: every list sampled from has an entry.
    #[must_use]
    pub fn sample(seed: u64, number: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(number);
        let pick = |from: &[Noun], random: &mut ChaCha8Rng| {
            *from.choose(random).expect("a genre has things")
        };
        let genre = *[
            Genre::StillLife,
            Genre::Landscape,
            Genre::Portrait,
            Genre::Abstraction,
        ]
        .choose(&mut random)
        .expect("four genres");
        let (mains, seconds) = genre.things();
        let main_noun = pick(mains, &mut random);
        let second_noun = loop {
            let noun = pick(seconds, &mut random);
            if noun != main_noun {
                break noun;
            }
        };
        // No colour twice in a picture, so that a text about a colour is unambiguous.
        let mut colors = Color::ALL.to_vec();
        let mut color = |random: &mut ChaCha8Rng, excluded: &[Color]| loop {
            let at = random.random_range(0..colors.len());
            if !excluded.contains(&colors[at]) {
                break colors.swap_remove(at);
            }
        };
        let main_color = color(&mut random, &[]);
        let second_color = color(&mut random, &[]);
        let backdrop_color = color(&mut random, &[Color::Black]);
        let ground_color = color(&mut random, &[Color::White]);
        let place = |random: &mut ChaCha8Rng| *Place::ALL.choose(random).expect("three places");
        let main_place = place(&mut random);
        let second_place = loop {
            let place = place(&mut random);
            if place != main_place {
                break place;
            }
        };
        let (backdrop, ground) = match genre {
            Genre::StillLife => (Noun::Wall, Some(Noun::Table)),
            Genre::Landscape => (Noun::Sky, Some(Noun::Meadow)),
            Genre::Portrait | Genre::Abstraction => (Noun::Backdrop, None),
        };
        Self {
            genre,
            main: Thing {
                noun: main_noun,
                color: main_color,
                place: main_place,
            },
            second: Thing {
                noun: second_noun,
                color: second_color,
                place: second_place,
            },
            backdrop: (backdrop, backdrop_color),
            ground: ground.map(|noun| (noun, ground_color)),
            light: *[Side::Left, Side::Right]
                .choose(&mut random)
                .expect("two sides"),
            brushwork: *[Brushwork::Smooth, Brushwork::Broad, Brushwork::Dotted]
                .choose(&mut random)
                .expect("three kinds"),
            detail: random.random(),
        }
    }

    /// Every colour with the thing it belongs to.
    #[must_use]
    pub fn colors(&self) -> Vec<(Noun, Color)> {
        let mut colors = vec![
            (self.main.noun, self.main.color),
            (self.second.noun, self.second.color),
            self.backdrop,
        ];
        colors.extend(self.ground);
        colors
    }

    /// Both things.
    #[must_use]
    pub fn things(&self) -> [Thing; 2] {
        [self.main, self.second]
    }
}
