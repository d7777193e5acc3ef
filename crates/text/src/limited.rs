//! JSON lists and maps with a maximum length, so that the memory of reading a file is bounded.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor},
};

/// A list of at most `N`.
#[derive(Clone, Debug)]
pub(crate) struct ListOf<T, const N: usize>(pub(crate) Vec<T>);

/// A map of at most `N` entries, in the order of the file.
#[derive(Clone, Debug)]
pub(crate) struct MapOf<T, const N: usize>(pub(crate) Vec<(String, T)>);

impl<T, const N: usize> Default for ListOf<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T, const N: usize> Default for MapOf<T, N> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

fn too_many<E: Error>(limit: usize) -> E {
    E::custom(format!("more than {limit} entries"))
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for ListOf<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Entries<T, N> {
            type Value = ListOf<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = seq.next_element()? {
                    if entries.len() == N {
                        return Err(too_many(N));
                    }
                    entries.push(entry);
                }
                Ok(ListOf(entries))
            }
        }
        deserializer.deserialize_seq(Entries(PhantomData))
    }
}

impl<'de, T: Deserialize<'de>, const N: usize> Deserialize<'de> for MapOf<T, N> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries<T, const N: usize>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>, const N: usize> Visitor<'de> for Entries<T, N> {
            type Value = MapOf<T, N>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    if entries.len() == N {
                        return Err(too_many(N));
                    }
                    entries.push(entry);
                }
                Ok(MapOf(entries))
            }
        }
        deserializer.deserialize_map(Entries(PhantomData))
    }
}
