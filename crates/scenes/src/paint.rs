//! Draws a scene as a painting.

use image::{Rgb, RgbImage};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::{Brushwork, Genre, Noun, Place, Scene, Side, Thing};

type Paint = [f32; 3];

/// Shorter side of a picture in pixels.
const SHORT: usize = 128;

struct Canvas {
    width: usize,
    height: usize,
    pixels: Vec<Paint>,
    /// The noun of each pixel.
    parts: Vec<Noun>,
    /// +1 where the light comes from the right, -1 from the left.
    light: f32,
}

/// Draws a scene. Its format is landscape, portrait or square; equal scenes give equal pictures.
#[must_use]
pub fn paint(scene: &Scene) -> RgbImage {
    paint_parts(scene).0
}

/// As [`paint`], with the noun of each pixel, row by row from the top left.
#[must_use]
pub fn paint_parts(scene: &Scene) -> (RgbImage, Vec<Noun>) {
    let mut random = ChaCha8Rng::seed_from_u64(scene.detail);
    let long = SHORT + random.random_range(0..48);
    let (width, height) = match (scene.genre, random.random_range(0..3)) {
        (_, 0) => (SHORT, SHORT),
        (Genre::Portrait, _) => (SHORT, long),
        _ => (long, SHORT),
    };
    let mut canvas = Canvas {
        width,
        height,
        pixels: vec![[0.0; 3]; width * height],
        parts: vec![scene.backdrop.0; width * height],
        light: match scene.light {
            Side::Left => -1.0,
            Side::Right => 1.0,
        },
    };
    let mut jittered = |color: crate::Color| {
        color
            .rgb()
            .map(|level| (level + random.random_range(-9.0..9.0)).clamp(0.0, 255.0))
    };
    let backdrop = jittered(scene.backdrop.1);
    let ground = scene.ground.map(|(noun, color)| (noun, jittered(color)));
    let main = jittered(scene.main.color);
    let second = jittered(scene.second.color);
    let horizon = match scene.genre {
        Genre::StillLife => 0.62 + random.random_range(-0.04..0.04),
        Genre::Landscape => 0.58 + random.random_range(-0.06..0.06),
        Genre::Portrait | Genre::Abstraction => 1.1,
    };
    canvas.backdrop(backdrop, ground, horizon);
    let size = random.random_range(0.92..1.08);
    let sway = random.random_range(-0.03..0.03);
    // The smaller thing is in front, except for a curtain, which hangs behind the sitter.
    let mut parts = [
        (scene.main, main, size, -sway),
        (scene.second, second, 0.62 * size, sway),
    ];
    if scene.second.noun == Noun::Curtain {
        parts.swap(0, 1);
    }
    for (thing, color, size, sway) in parts {
        canvas.thing(thing, color, size, sway, horizon);
    }
    canvas.finish(scene.brushwork, &mut random);
    (canvas.picture(), canvas.parts)
}

fn mix(a: Paint, b: Paint, share: f32) -> Paint {
    std::array::from_fn(|i| a[i] + (b[i] - a[i]) * share)
}

fn scaled(color: Paint, by: f32) -> Paint {
    color.map(|level| (level * by).clamp(0.0, 255.0))
}

impl Canvas {
    /// Calls `draw` with the position of every pixel, from 0 to 1 along each side, its colour and
    /// its noun.
    fn each(&mut self, mut draw: impl FnMut(f32, f32, &mut Paint, &mut Noun)) {
        for y in 0..self.height {
            for x in 0..self.width {
                let at = y * self.width + x;
                let u = (x as f32 + 0.5) / self.width as f32;
                let v = (y as f32 + 0.5) / self.height as f32;
                draw(u, v, &mut self.pixels[at], &mut self.parts[at]);
            }
        }
    }

    fn backdrop(&mut self, behind: Paint, below: Option<(Noun, Paint)>, horizon: f32) {
        let light = self.light;
        self.each(|u, v, pixel, part| {
            // Brighter toward the light, a little darker toward the top.
            let side = 1.0 + 0.26 * light * (u - 0.5) * 2.0;
            *pixel = match below {
                Some((ground, below)) if v > horizon => {
                    *part = ground;
                    scaled(below, side * (1.04 - 0.14 * (1.0 - v)))
                }
                _ => scaled(behind, side * (0.92 + 0.12 * v)),
            };
        });
    }

    fn thing(&mut self, thing: Thing, color: Paint, size: f32, sway: f32, horizon: f32) {
        let center = match thing.place {
            Place::Left => 0.23,
            Place::Center => 0.5,
            Place::Right => 0.77,
        } + sway;
        let aspect = self.width as f32 / self.height as f32;
        let base = if horizon > 1.0 { 0.5 } else { horizon + 0.16 };
        let light = self.light;
        let skin = [222.0, 178.0, 148.0];
        let trunk = [88.0, 62.0, 44.0];
        self.each(|u, v, pixel, part| {
            // Relative to the thing's foot (or middle), in units of the picture's height, y
            // upwards.
            let x = (u - center) * aspect / size;
            let y = (base - v) / size;
            let hit = match thing.noun {
                Noun::Jug => jug(x, y).map(|d| (color, d)),
                Noun::Bottle => bottle(x, y).map(|d| (color, d)),
                Noun::Bowl => bowl(x, y).map(|d| (color, d)),
                Noun::Apple => disc(x, y - 0.15, 0.17).map(|d| (color, d)),
                Noun::Tree => match disc(x, y - 0.38, 0.22) {
                    Some(d) => Some((color, d)),
                    None if x.abs() < 0.035 && (0.0..0.3).contains(&y) => Some((trunk, x / 0.035)),
                    None => None,
                },
                Noun::House => {
                    if x.abs() < 0.2 && (0.0..0.26).contains(&y) {
                        Some((color, x / 0.2))
                    } else if (0.26..0.42).contains(&y) && x.abs() < (0.42 - y) * 1.45 {
                        Some((scaled(color, 0.72), x / 0.23))
                    } else {
                        None
                    }
                }
                Noun::Hill => {
                    let top = 0.36 * (1.0 - (x / 0.36).powi(2));
                    (x.abs() < 0.36 && (0.0..top).contains(&y)).then_some((color, x / 0.36))
                }
                Noun::Sail => {
                    if (0.06..0.46).contains(&y) && (-0.02..(0.46 - y) * 0.62).contains(&x) {
                        Some((color, x / 0.25))
                    } else if (0.0..0.06).contains(&y) && x.abs() < 0.2 + y {
                        Some((trunk, x / 0.2))
                    } else {
                        None
                    }
                }
                Noun::Coat => {
                    if let Some(d) = disc(x * 1.2, y - 0.16, 0.15) {
                        // Hair above, face below.
                        let tint = if y > 0.21 { trunk } else { skin };
                        Some((tint, d))
                    } else if y < 0.02 {
                        let half = (0.12 + (0.02 - y) * 1.6).min(0.3);
                        (x.abs() < half).then_some((color, x / half))
                    } else {
                        None
                    }
                }
                Noun::Curtain => {
                    let fold = (x * 40.0).sin() * 0.5;
                    (x.abs() < 0.24).then_some((color, fold))
                }
                Noun::Circle => disc(x, y, 0.25).map(|d| (color, d)),
                Noun::Square => (x.abs() < 0.22 && y.abs() < 0.22).then_some((color, x / 0.22)),
                Noun::Triangle => ((-0.24..0.24).contains(&y) && x.abs() < (0.24 - y) * 0.56)
                    .then_some((color, x / 0.27)),
                Noun::Bar => (x.abs() < 0.09 && y.abs() < 0.62).then_some((color, x / 0.09)),
                Noun::Wall | Noun::Table | Noun::Sky | Noun::Meadow | Noun::Backdrop => None,
            };
            match hit {
                // Lit on the side of the light, shaded on the other.
                Some((color, across)) => {
                    *pixel = scaled(color, 1.0 + 0.2 * light * across);
                    *part = thing.noun;
                }
                None => {
                    // A soft shadow falls on the ground away from the light.
                    let shadow = ((x + light * 0.24) / 0.3).powi(2) + ((y + 0.02) / 0.06).powi(2);
                    if horizon < 1.0 && v > horizon && shadow < 1.0 {
                        *pixel = scaled(*pixel, 0.74 + 0.26 * shadow);
                    }
                }
            }
        });
    }

    fn finish(&mut self, brushwork: Brushwork, random: &mut ChaCha8Rng) {
        let area = self.width * self.height;
        match brushwork {
            Brushwork::Smooth => {
                for pixel in &mut self.pixels {
                    let grain = random.random_range(-2.0..2.0);
                    *pixel = pixel.map(|level| level + grain);
                }
            }
            Brushwork::Broad => {
                let lean = random.random_range(-0.6..0.6_f32);
                for _ in 0..area / 22 {
                    let angle = lean + random.random_range(-0.35..0.35_f32);
                    self.stroke(random, angle, 9, 1, 17.0);
                }
            }
            Brushwork::Dotted => {
                for _ in 0..area / 9 {
                    self.stroke(random, 0.0, 1, 1, 34.0);
                }
            }
        }
    }

    /// A stroke in the colour of the pixel where it starts, a little lighter or darker.
    fn stroke(&mut self, random: &mut ChaCha8Rng, angle: f32, half: i32, thick: i32, vary: f32) {
        let x0 = random.random_range(0..self.width) as f32;
        let y0 = random.random_range(0..self.height) as f32;
        let at = y0 as usize * self.width + x0 as usize;
        let shift = random.random_range(-vary..vary);
        let source = self.pixels[at];
        let color = source.map(|level| level + shift);
        for along in -half..=half {
            for across in -thick..=thick {
                let x = x0 + along as f32 * angle.cos() - across as f32 * angle.sin();
                let y = y0 + along as f32 * angle.sin() + across as f32 * angle.cos();
                if x < 0.0 || y < 0.0 || x >= self.width as f32 || y >= self.height as f32 {
                    continue;
                }
                let at = y as usize * self.width + x as usize;
                let there = self.pixels[at];
                // Strokes stay inside their form.
                let distance: f32 = (0..3).map(|i| (there[i] - source[i]).abs()).sum();
                if distance < 90.0 {
                    self.pixels[at] = mix(there, color, 0.8);
                }
            }
        }
    }

    fn picture(&self) -> RgbImage {
        RgbImage::from_fn(self.width as u32, self.height as u32, |x, y| {
            let pixel = self.pixels[y as usize * self.width + x as usize];
            Rgb(pixel.map(|level| level.round().clamp(0.0, 255.0) as u8))
        })
    }
}

/// The horizontal position of a point in a disc, -1 to 1, if it is inside.
fn disc(x: f32, y: f32, radius: f32) -> Option<f32> {
    (x * x + y * y < radius * radius).then_some(x / radius)
}

fn jug(x: f32, y: f32) -> Option<f32> {
    let body = (x / 0.19).powi(2) + ((y - 0.2) / 0.2).powi(2) < 1.0;
    let neck = x.abs() < 0.09 && (0.36..0.5).contains(&y);
    let ring = ((x - 0.2) / 0.1).powi(2) + ((y - 0.28) / 0.13).powi(2);
    (body || neck || (0.45..1.0).contains(&ring)).then_some((x / 0.19).clamp(-1.0, 1.0))
}

fn bottle(x: f32, y: f32) -> Option<f32> {
    let body = x.abs() < 0.11 && (0.0..0.34).contains(&y);
    let neck = x.abs() < 0.045 && (0.34..0.56).contains(&y);
    (body || neck).then_some(x / 0.11)
}

fn bowl(x: f32, y: f32) -> Option<f32> {
    let cup = (x / 0.27).powi(2) + ((y - 0.22) / 0.22).powi(2) < 1.0 && y < 0.22 && y > 0.0;
    cup.then_some(x / 0.27)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_scenes_give_equal_pictures() {
        let scene = Scene::sample(3, 5);
        assert_eq!(paint(&scene), paint(&scene));
        assert_ne!(paint(&scene), paint(&Scene::sample(3, 6)));
    }

    #[test]
    fn every_part_of_a_scene_is_seen() {
        for number in 0..100 {
            let scene = Scene::sample(3, number);
            let (picture, parts) = paint_parts(&scene);
            assert_eq!(parts.len() as u32, picture.width() * picture.height());
            for (noun, _) in scene.colors() {
                let share =
                    parts.iter().filter(|part| **part == noun).count() as f64 / parts.len() as f64;
                assert!(share > 0.01, "{noun:?} fills {share} of {scene:?}");
            }
        }
    }
}
