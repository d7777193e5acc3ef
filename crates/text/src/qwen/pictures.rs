//! Pictures among the original's ids: their paths, and our placeholders.
//!
//! The original writes a picture as `<img>`, the bytes of its path, `<imgpad>` up to 256 ids, `</img>`, and its model reads the path
//! from the ids. Here a picture travels beside the ids, and [`IMAGE_TOKEN_INDEX`] stands for the 256.

use unicode_normalization::UnicodeNormalization;

use super::special::{ChatMlTokens, tag_in};
use crate::{
    IMAGE_TOKEN, IMAGE_TOKEN_INDEX, TokenizerError, error::PictureTagError, literal, printable,
};

/// Ids between `<img>` and `</img>`, and feature vectors of a picture.
pub const PICTURE_FEATURES: usize = 256;
/// Bytes of the longest path that the original's model reads: it looks at 255 of the ids, and one of them must be a pad.
const MAX_PATH: usize = PICTURE_FEATURES - 2;

const OPEN: &str = "<img>";
const CLOSE: &str = "</img>";

/// Takes the pictures out of a text in the original's form: every `<img>PATH</img>` becomes an `<image>` placeholder. An `<image>` that was
/// in the text stays text ([`crate::literal_image`]).
///
/// ```
/// use gallery_gpt_text::take_pictures;
///
/// let (text, paths) = take_pictures("Picture 1: <img>a/b.jpg</img>\nWhere is the light?")?;
/// assert_eq!(text, "Picture 1: <image>\nWhere is the light?");
/// assert_eq!(paths, ["a/b.jpg"]);
/// # Ok::<(), gallery_gpt_text::PictureTagError>(())
/// ```
///
/// # Errors
/// A tag without its other half, a tag within a path, an empty path, or one of more than 254 bytes, which the original cannot read.
pub fn take_pictures(text: &str) -> Result<(String, Vec<String>), PictureTagError> {
    let outside = |part: &str| match part.contains(CLOSE) {
        true => Err(PictureTagError::Unopened),
        false => Ok(literal::guard_placeholders(part)),
    };
    let mut parts = text.split(OPEN);
    let mut taken = outside(parts.next().unwrap_or_default())?;
    let mut paths = Vec::new();
    for part in parts {
        let Some((path, after)) = part.split_once(CLOSE) else {
            let start = part.chars().take(40).collect();
            return Err(PictureTagError::Unclosed { start });
        };
        check_path(path)?;
        paths.push(path.to_owned());
        taken.push_str(IMAGE_TOKEN);
        taken.push_str(&outside(after)?);
    }
    Ok((taken, paths))
}

fn check_path(path: &str) -> Result<(), PictureTagError> {
    if path.trim().is_empty() {
        return Err(PictureTagError::NoPath);
    }
    if let Some(tag) = tag_in(path) {
        return Err(PictureTagError::TagInPath { tag });
    }
    let bytes = path.nfc().map(char::len_utf8).sum();
    if bytes > MAX_PATH {
        let path = path.to_owned();
        let limit = MAX_PATH;
        return Err(PictureTagError::LongPath { path, bytes, limit });
    }
    Ok(())
}

/// A picture that the ids between `<img>` and `</img>` should be, but are not.
fn malformed(reason: impl Into<String>) -> TokenizerError {
    TokenizerError::PictureIds {
        reason: reason.into(),
    }
}

impl ChatMlTokens {
    /// The original's 258 ids of a picture: `<img>`, the path's bytes as ids, `<imgpad>`, `</img>`.
    ///
    /// # Errors
    /// The path has more than 254 bytes, after normalization (NFC).
    pub fn picture_ids(&self, path: &str) -> Result<Vec<u32>, TokenizerError> {
        let path: String = path.nfc().collect();
        match path.len() {
            0..=MAX_PATH => Ok(self.padded(path.as_bytes())),
            bytes => Err(malformed(format!(
                "the path `{}` has {bytes} bytes, and the original reads {MAX_PATH} at most; give the picture a shorter path",
                printable(&path)
            ))),
        }
    }

    /// The ids of a path of at most 256 bytes.
    pub(super) fn padded(&self, path: &[u8]) -> Vec<u32> {
        let mut ids = vec![self.img_start];
        ids.extend(path.iter().map(|&byte| u32::from(byte)));
        ids.resize(1 + PICTURE_FEATURES, self.img_pad);
        ids.push(self.img_end);
        ids
    }

    /// Our ids as the original's: every placeholder becomes 256 ids with a path, in the order of `paths`.
    ///
    /// # Errors
    /// The placeholders are not as many as the paths, or a path is too long.
    pub fn with_paths<P: AsRef<str>>(
        &self,
        ids: &[i64],
        paths: &[P],
    ) -> Result<Vec<i64>, TokenizerError> {
        let placeholders = ids.iter().filter(|&&id| id == IMAGE_TOKEN_INDEX).count();
        if placeholders != paths.len() {
            let found = paths.len();
            return Err(malformed(format!(
                "{found} paths for {placeholders} placeholders"
            )));
        }
        let mut paths = paths.iter();
        let mut expanded = Vec::with_capacity(ids.len() + PICTURE_FEATURES * placeholders);
        for &id in ids {
            match (id == IMAGE_TOKEN_INDEX).then(|| paths.next()).flatten() {
                Some(path) => {
                    let picture = self.picture_ids(path.as_ref())?;
                    expanded.extend(picture[1..=PICTURE_FEATURES].iter().copied().map(i64::from));
                }
                None => expanded.push(id),
            }
        }
        Ok(expanded)
    }

    /// The original's ids as ours, and the paths that its model would read from them: the 256 ids of every picture become one
    /// [`IMAGE_TOKEN_INDEX`].
    ///
    /// # Errors
    /// A picture has no `</img>` after 256 ids, no pad, or a path that is not text.
    pub fn without_paths(&self, ids: &[i64]) -> Result<(Vec<i64>, Vec<String>), TokenizerError> {
        let is = |id: &i64, token: u32| *id == i64::from(token);
        let mut ours = Vec::new();
        let mut paths = Vec::new();
        let mut rest = ids;
        while let Some(at) = rest.iter().position(|id| is(id, self.img_start)) {
            let (before, picture) = rest.split_at(at + 1);
            if picture
                .get(PICTURE_FEATURES)
                .is_none_or(|id| !is(id, self.img_end))
            {
                return Err(malformed(format!(
                    "{PICTURE_FEATURES} ids and `{CLOSE}` must follow `{OPEN}`; found {}",
                    match picture.iter().position(|id| is(id, self.img_end)) {
                        Some(ids) => format!("{ids} ids"),
                        None => format!("no `{CLOSE}`"),
                    }
                )));
            }
            let read = &picture[..PICTURE_FEATURES - 1];
            let Some(end) = read.iter().position(|id| is(id, self.img_pad)) else {
                return Err(malformed(format!(
                    "no `<imgpad>` among the {} ids that the path is read from: it is longer than {MAX_PATH} bytes",
                    read.len()
                )));
            };
            paths.push(path(&read[..end])?);
            ours.extend_from_slice(before);
            ours.extend([IMAGE_TOKEN_INDEX, i64::from(self.img_end)]);
            rest = &picture[PICTURE_FEATURES + 1..];
        }
        ours.extend_from_slice(rest);
        Ok((ours, paths))
    }

    /// The path of the picture that the ids after an `<img>` begin with, and how many ids it takes with its `</img>`; nothing if they are
    /// no picture.
    pub(super) fn path_at(&self, ids: &[u32]) -> Option<(String, usize)> {
        let ids = &ids[..ids.len().min(PICTURE_FEATURES + 1)];
        let end = ids.iter().position(|&id| id == self.img_end)?;
        let pad = ids[..end].iter().position(|&id| id == self.img_pad)?;
        let ids: Vec<i64> = ids[..pad].iter().copied().map(i64::from).collect();
        Some((path(&ids).ok()?, end + 1))
    }
}

fn path(ids: &[i64]) -> Result<String, TokenizerError> {
    let bytes: Result<Vec<u8>, _> = ids.iter().map(|&id| u8::try_from(id)).collect();
    let bytes = bytes.map_err(|_| malformed("an id above 255 in the path of a picture"))?;
    String::from_utf8(bytes).map_err(|_| malformed("the path of a picture is not UTF-8"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TOKENS: fn() -> ChatMlTokens = || ChatMlTokens::after(420);

    #[test]
    fn a_path_goes_to_ids_and_back() {
        let tokens = TOKENS();
        let longest = "\u{e9}".repeat(127);
        for path in ["a b.png", "", &longest] {
            let ids: Vec<i64> = tokens
                .picture_ids(path)
                .unwrap()
                .into_iter()
                .map(i64::from)
                .collect();
            assert_eq!(ids.len(), 258);
            let (ours, paths) = tokens.without_paths(&ids).unwrap();
            assert_eq!(ours, [634, IMAGE_TOKEN_INDEX, 635]);
            assert_eq!(paths, [path]);
            assert_eq!(tokens.with_paths(&ours, &paths).unwrap(), ids);
        }
        assert_eq!(tokens.picture_ids("e\u{301}").unwrap()[1..3], [0xC3, 0xA9]);
    }

    #[test]
    fn pictures_that_cannot_be_read_are_refused() {
        let tokens = TOKENS();
        let error = tokens
            .picture_ids(&"a".repeat(255))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("255 bytes") && error.contains("shorter"),
            "{error}"
        );
        assert!(tokens.with_paths(&[1, 2], &["a"]).is_err());
        let padded =
            |path: &[u8]| -> Vec<i64> { tokens.padded(path).into_iter().map(i64::from).collect() };
        for ids in [
            vec![634, 97, 98],
            vec![634, 97, 635],
            padded(&[b'a'; 255]),
            padded(&[b'a'; 256]),
            padded(&[200]),
            [vec![634, 300], padded(b"")[2..].to_vec()].concat(),
        ] {
            let error = tokens.without_paths(&ids);
            assert!(
                matches!(error, Err(TokenizerError::PictureIds { .. })),
                "{error:?}"
            );
        }
    }

    #[test]
    fn unbalanced_tags_are_refused() {
        for (text, words) in [
            ("<img>a.png", "<img>` without"),
            ("a</img>", "without `<img>`"),
            ("<img>a<img>b</img></img>", "without"),
            ("<img>a</img></img>", "without `<img>`"),
            ("<img> </img>", "no path"),
            ("<img>a<ref>b</img>", "<ref>"),
        ] {
            let error = take_pictures(text).unwrap_err().to_string();
            assert!(error.contains(words), "{text}: {error}");
        }
        let long = format!("<img>{}</img>", "a".repeat(255));
        assert!(
            take_pictures(&long)
                .unwrap_err()
                .to_string()
                .contains("254")
        );
    }

    #[test]
    fn a_placeholder_that_was_text_stays_text() {
        let (text, paths) = take_pictures("<image> is <img>a</img>").unwrap();
        assert_eq!((text.matches(IMAGE_TOKEN).count(), paths.len()), (1, 1));
        assert!(text.ends_with(" is <image>"));
    }
}
