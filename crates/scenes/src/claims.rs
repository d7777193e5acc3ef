//! Checks what a text claims about colours, places and light.

use crate::{Color, Noun, Place, Scene};

/// Counts of a text's checkable claims about a scene.
///
/// "A coat in blue" and "a blue coat" claim the colour of a thing. A place word between a thing's
/// noun and the next noun claims the place of that thing. A side after the word "light" claims the
/// side of the light.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Claims {
    /// Claims that are true of the scene.
    pub right: usize,
    /// Claims that are false, or about something that is not in the scene.
    pub wrong: usize,
    /// Facts of the scene that true claims name.
    pub facts_named: usize,
    /// All facts of the scene: the colour of every part, the place of both things, the side of the
    /// light.
    pub facts: usize,
}

#[derive(Clone, Copy, PartialEq)]
enum Fact {
    Color(Noun, Color),
    Place(Noun, Place),
    Light(Place),
}

impl Claims {
    /// Counts the claims of a text about a scene.
    #[must_use]
    pub fn of(text: &str, scene: &Scene) -> Self {
        let mut facts: Vec<Fact> = scene
            .colors()
            .into_iter()
            .map(|(noun, color)| Fact::Color(noun, color))
            .collect();
        facts.extend(
            scene
                .things()
                .map(|thing| Fact::Place(thing.noun, thing.place)),
        );
        facts.push(Fact::Light(match scene.light {
            crate::Side::Left => Place::Left,
            crate::Side::Right => Place::Right,
        }));
        let claimed = read(text);
        let right = claimed.iter().filter(|claim| facts.contains(claim)).count();
        Self {
            right,
            wrong: claimed.len() - right,
            facts_named: facts.iter().filter(|fact| claimed.contains(fact)).count(),
            facts: facts.len(),
        }
    }

    /// Fraction of the claims that are true; `None` for a text without claims.
    #[must_use]
    pub fn precision(&self) -> Option<f64> {
        let all = self.right + self.wrong;
        (all > 0).then(|| self.right as f64 / all as f64)
    }

    /// Fraction of the facts that are named.
    #[must_use]
    pub fn recall(&self) -> f64 {
        self.facts_named as f64 / self.facts as f64
    }
}

impl std::ops::AddAssign for Claims {
    fn add_assign(&mut self, other: Self) {
        self.right += other.right;
        self.wrong += other.wrong;
        self.facts_named += other.facts_named;
        self.facts += other.facts;
    }
}

fn read(text: &str) -> Vec<Fact> {
    let lower = text.to_lowercase();
    let mut claims = Vec::new();
    // A colour whose noun may follow.
    let mut color: Option<Color> = None;
    // The last noun, while its colour and its place may follow.
    let (mut colorless, mut placeless): (Option<Noun>, Option<Noun>) = (None, None);
    let mut light = false;
    let mut before = "";
    for raw in lower.split_whitespace() {
        let word = raw.trim_matches(|c: char| !c.is_alphabetic());
        if let Some(found) = Color::from_name(word) {
            match colorless.take() {
                Some(noun) if before == "in" => claims.push(Fact::Color(noun, found)),
                _ => color = Some(found),
            }
        } else {
            if let Some(noun) = Noun::ALL.into_iter().find(|noun| noun.name() == word) {
                match color {
                    Some(color) => claims.push(Fact::Color(noun, color)),
                    None => colorless = Some(noun),
                }
                placeless = Some(noun);
                light = false;
            } else if word == "light" {
                light = true;
                placeless = None;
            } else if let Some(place) = Place::ALL.into_iter().find(|place| place.name() == word) {
                if light {
                    claims.push(Fact::Light(place));
                    light = false;
                } else if let Some(noun) = placeless.take() {
                    claims.push(Fact::Place(noun, place));
                }
            }
            color = None;
        }
        // Claims do not cross the end of a sentence.
        if raw.ends_with(['.', ';', ':']) {
            (colorless, placeless, light) = (None, None, false);
        }
        before = word;
    }
    claims
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{analysis, catalogue, colour_answer, light_answer, place_answer};

    #[test]
    fn our_own_texts_claim_nothing_wrong() {
        for number in 0..300 {
            let scene = Scene::sample(1, number);
            for voice in 0..4 {
                let text = analysis(&scene, voice);
                let claims = Claims::of(&text, &scene);
                assert_eq!(
                    (claims.wrong, claims.facts_named),
                    (0, claims.facts),
                    "{text}\n{scene:?}"
                );
                let words = text.split_whitespace().count();
                assert!((55..100).contains(&words), "{words}: {text}");
                let claims = Claims::of(&catalogue(&scene, voice), &scene);
                assert_eq!(claims.wrong, 0);
            }
            for text in [
                colour_answer(&scene),
                place_answer(&scene),
                light_answer(&scene),
            ] {
                let claims = Claims::of(&text, &scene);
                assert!(claims.wrong == 0 && claims.right > 0, "{text}");
            }
        }
    }

    #[test]
    fn both_orders_are_read() {
        let scene = Scene::sample(1, 0);
        let (noun, color) = (scene.main.noun.name(), scene.main.color.name());
        for text in [
            format!("A {noun} in {color}."),
            format!("A {color} {noun}."),
        ] {
            let claims = Claims::of(&text, &scene);
            assert_eq!((claims.right, claims.wrong), (1, 0), "{text}");
        }
    }

    #[test]
    fn false_claims_are_counted() {
        let scene = Scene::sample(1, 0);
        let other = (1..)
            .map(|number| Scene::sample(1, number))
            .find(|other| {
                other.main.noun == scene.main.noun && other.main.color != scene.main.color
            })
            .unwrap();
        let claims = Claims::of(&analysis(&other, 0), &scene);
        assert!(claims.wrong > 0);
        assert_eq!(Claims::of("It is a painting.", &scene).precision(), None);
    }
}
