//! Named colours.

/// A named colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Color {
    /// (196, 44, 40)
    Red,
    /// (232, 134, 40)
    Orange,
    /// (238, 208, 72)
    Yellow,
    /// (62, 134, 66)
    Green,
    /// (52, 92, 178)
    Blue,
    /// (122, 66, 156)
    Violet,
    /// (122, 82, 48)
    Brown,
    /// (240, 236, 226)
    White,
    /// (40, 38, 44)
    Black,
}

/// Whether a colour comes forward or recedes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Temperature {
    /// Reds to yellows, brown.
    Warm,
    /// Greens to violets.
    Cool,
    /// Black and white.
    Neutral,
}

impl Color {
    /// All colours.
    pub const ALL: [Self; 9] = [
        Self::Red,
        Self::Orange,
        Self::Yellow,
        Self::Green,
        Self::Blue,
        Self::Violet,
        Self::Brown,
        Self::White,
        Self::Black,
    ];

    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Red => "red",
            Self::Orange => "orange",
            Self::Yellow => "yellow",
            Self::Green => "green",
            Self::Blue => "blue",
            Self::Violet => "violet",
            Self::Brown => "brown",
            Self::White => "white",
            Self::Black => "black",
        }
    }

    /// The colour with this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|color| color.name() == name)
    }

    /// Red, green and blue, 0 to 255.
    #[must_use]
    pub fn rgb(self) -> [f32; 3] {
        match self {
            Self::Red => [196.0, 44.0, 40.0],
            Self::Orange => [232.0, 134.0, 40.0],
            Self::Yellow => [238.0, 208.0, 72.0],
            Self::Green => [62.0, 134.0, 66.0],
            Self::Blue => [52.0, 92.0, 178.0],
            Self::Violet => [122.0, 66.0, 156.0],
            Self::Brown => [122.0, 82.0, 48.0],
            Self::White => [240.0, 236.0, 226.0],
            Self::Black => [40.0, 38.0, 44.0],
        }
    }

    /// Its temperature.
    #[must_use]
    pub fn temperature(self) -> Temperature {
        match self {
            Self::Red | Self::Orange | Self::Yellow | Self::Brown => Temperature::Warm,
            Self::Green | Self::Blue | Self::Violet => Temperature::Cool,
            Self::White | Self::Black => Temperature::Neutral,
        }
    }
}

impl Temperature {
    /// Its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Warm => "warm",
            Self::Cool => "cool",
            Self::Neutral => "neutral",
        }
    }
}
