//! Synthetic paintings drawn from seeded scene descriptions, with true texts about them.
//!
//! No real data set can ship with this project, so this crate draws its sample: a [`Scene`]
//! describes what is where, in which colour and light; [`paint`] draws it; [`analysis`] writes a
//! formal analysis and [`catalogue`] a short entry; and [`Claims`] checks what a text claims about
//! a scene.
//!
//! ```
//! use gallery_gpt_scenes::{Claims, Scene, analysis, paint};
//!
//! let scene = Scene::sample(7, 0);
//! let picture = paint(&scene);
//! assert!(picture.width() >= 96);
//! let claims = Claims::of(&analysis(&scene, 0), &scene);
//! assert_eq!(claims.wrong, 0);
//! assert_eq!(claims.facts_named, claims.facts);
//! ```

mod claims;
mod paint;
mod palette;
mod scene;
mod words;

pub use claims::Claims;
pub use paint::{paint, paint_parts};
pub use palette::{Color, Temperature};
pub use scene::{
    BASE_SEED, Brushwork, Genre, Noun, Place, Scene, Side, TEST_SEED, TRAIN_SEED, Thing,
};
pub use words::{
    QUESTIONS, analysis, catalogue, colour_answer, inventory, light_answer, place_answer,
};
