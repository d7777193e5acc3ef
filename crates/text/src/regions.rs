//! Regions of a picture that an answer of Qwen-VL points at, and the answer without them.

use std::{fmt, ops::Range};

use serde::Serialize;

/// One more than the largest coordinate: coordinates are thousandths of the picture's width and height.
pub const REGION_SCALE: u16 = 1000;

/// A point of a picture: x from the left and y from the top, each from 0 to 999 ([`REGION_SCALE`]).
pub type RegionPoint = [u16; 2];

/// An outline in a picture.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum RegionShape {
    /// `<box>(x1,y1),(x2,y2)</box>`: two opposite corners, the upper left one first as a rule.
    Box([RegionPoint; 2]),
    /// `<quad>(x1,y1),..,(x4,y4)</quad>`: four corners.
    Quad([RegionPoint; 4]),
}

/// What an answer points at: a name and where it is, perhaps at several places.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Region {
    /// The text of the `<ref>` right before the shapes.
    pub name: Option<String>,
    /// Boxes and quadrilaterals, in the order of the answer; at least one.
    pub shapes: Vec<RegionShape>,
}

/// An answer whose regions were read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AnswerRegions {
    /// The answer with each `<ref>NAME</ref>` and the shapes right after it replaced by the name, without white space around it.
    pub text: String,
    /// The regions, in the order of the answer.
    pub regions: Vec<Region>,
}

/// A part of a text with tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaggedPart<'t> {
    /// Text outside of tags, with any tag in it that has no other half.
    Text(&'t str),
    /// The path in `<img>..</img>`.
    Picture(&'t str),
    /// What stands in `<ref>..</ref>`.
    Ref(&'t str),
    /// What stands in `<box>..</box>`.
    Box(&'t str),
    /// What stands in `<quad>..</quad>`.
    Quad(&'t str),
}

/// The names of the tags that come in pairs.
const NAMES: [&str; 4] = ["img", "ref", "box", "quad"];

/// A pair of tags around a text.
struct Pair {
    name: &'static str,
    /// From the first tag to the end of the second.
    whole: Range<usize>,
    inside: Range<usize>,
}

/// The pairs of tags with no other tag between them, in order.
fn pairs(text: &str) -> Vec<Pair> {
    let mut pairs = Vec::new();
    // The name of the tag that is open, and where it and its inside begin.
    let mut open: Option<(&str, usize, usize)> = None;
    for (start, _) in text.match_indices('<') {
        let closing = text[start + 1..].starts_with('/');
        let name = &text[start + 1 + usize::from(closing)..];
        let found = NAMES.into_iter().find(|wanted| {
            let rest = name.strip_prefix(wanted);
            rest.is_some_and(|rest| rest.starts_with('>'))
        });
        let Some(name) = found else { continue };
        let end = start + 2 + usize::from(closing) + name.len();
        open = match (closing, open) {
            (false, _) => Some((name, start, end)),
            (true, Some((opened, first, inside))) if opened == name => {
                pairs.push(Pair {
                    name,
                    whole: first..end,
                    inside: inside..start,
                });
                None
            }
            (true, _) => None,
        };
    }
    pairs
}

/// The parts of a text with tags, in order (`to_list_format` of the original). A tag without its other half, or with another tag before
/// it, is text; the original refuses it.
///
/// ```
/// use gallery_gpt_text::{TaggedPart, tagged_parts};
///
/// let parts = tagged_parts("<ref>boat</ref> and <box>open");
/// assert_eq!(parts, [TaggedPart::Ref("boat"), TaggedPart::Text(" and <box>open")]);
/// ```
#[must_use]
pub fn tagged_parts(text: &str) -> Vec<TaggedPart<'_>> {
    let mut parts = Vec::new();
    let mut at = 0;
    for pair in pairs(text) {
        if pair.whole.start > at {
            parts.push(TaggedPart::Text(&text[at..pair.whole.start]));
        }
        let inside = &text[pair.inside];
        parts.push(match pair.name {
            "img" => TaggedPart::Picture(inside),
            "ref" => TaggedPart::Ref(inside),
            "box" => TaggedPart::Box(inside),
            _ => TaggedPart::Quad(inside),
        });
        at = pair.whole.end;
    }
    if at < text.len() {
        parts.push(TaggedPart::Text(&text[at..]));
    }
    parts
}

/// Reads the regions of an answer.
///
/// Each `<ref>NAME</ref>` becomes its name, and the boxes and quadrilaterals right after it become a [`Region`] of that name; whatever
/// stands between their tags, they are not in the text, as the original's authors clean answers before scoring. Shapes that follow no name
/// are regions too, and stay in the text, as there. So does whatever is no such pair of tags.
///
/// ```
/// use gallery_gpt_text::answer_regions;
///
/// let answer = answer_regions("<ref>A boat</ref><box>(12,34),(567,890)</box> lies still.");
/// assert_eq!(answer.text, "A boat lies still.");
/// assert_eq!(answer.regions[0].to_string(), "<ref>A boat</ref><box>(12,34),(567,890)</box>");
/// ```
#[must_use]
pub fn answer_regions(answer: &str) -> AnswerRegions {
    let mut text = String::with_capacity(answer.len());
    let mut regions: Vec<Region> = Vec::new();
    // The name that shapes may follow, and whether a region of it, or without a name, was begun.
    let mut name: Option<&str> = None;
    let mut begun = false;
    for part in tagged_parts(answer) {
        let shape = match part {
            TaggedPart::Box(inside) => points(inside).map(RegionShape::Box),
            TaggedPart::Quad(inside) => points(inside).map(RegionShape::Quad),
            _ => None,
        };
        if let TaggedPart::Ref(inside) = part {
            text.push_str(inside);
            (name, begun) = (Some(inside), false);
            continue;
        }
        let Some(shape) = shape else {
            let is_shape = matches!(part, TaggedPart::Box(_) | TaggedPart::Quad(_));
            if !(is_shape && name.is_some()) {
                push(&mut text, part);
                (name, begun) = (None, false);
            }
            continue;
        };
        if name.is_none() {
            push(&mut text, part);
        }
        match regions.last_mut().filter(|_| begun) {
            Some(region) => region.shapes.push(shape),
            None => regions.push(Region {
                name: name.map(str::to_owned),
                shapes: vec![shape],
            }),
        }
        begun = true;
    }
    AnswerRegions {
        text: text.trim().to_owned(),
        regions,
    }
}

fn push(text: &mut String, part: TaggedPart<'_>) {
    let (name, inside) = match part {
        TaggedPart::Text(plain) => return text.push_str(plain),
        TaggedPart::Picture(inside) => ("img", inside),
        TaggedPart::Ref(inside) => ("ref", inside),
        TaggedPart::Box(inside) => ("box", inside),
        TaggedPart::Quad(inside) => ("quad", inside),
    };
    for part in ["<", name, ">", inside, "</", name, ">"] {
        text.push_str(part);
    }
}

/// `N` points as `(x,y),(x,y)`, with blanks anywhere between numbers and signs.
fn points<const N: usize>(inside: &str) -> Option<[RegionPoint; N]> {
    let number = |text: &str| -> Option<u16> {
        let digits = text.trim_matches(' ');
        let is_number =
            (1..=3).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        is_number.then(|| digits.parse().ok()).flatten()
    };
    let mut points = [[0; 2]; N];
    let mut rest = inside;
    for (nth, point) in points.iter_mut().enumerate() {
        if nth > 0 {
            rest = rest.trim_start_matches(' ').strip_prefix(',')?;
        }
        let (pair, after) = rest
            .trim_start_matches(' ')
            .strip_prefix('(')?
            .split_once(')')?;
        let (x, y) = pair.split_once(',')?;
        *point = [number(x)?, number(y)?];
        rest = after;
    }
    rest.trim_matches(' ').is_empty().then_some(points)
}

impl fmt::Display for RegionShape {
    /// As the model writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (name, points): (_, &[RegionPoint]) = match self {
            Self::Box(points) => ("box", points),
            Self::Quad(points) => ("quad", points),
        };
        write!(f, "<{name}>")?;
        for (nth, [x, y]) in points.iter().enumerate() {
            let comma = if nth > 0 { "," } else { "" };
            write!(f, "{comma}({x},{y})")?;
        }
        write!(f, "</{name}>")
    }
}

impl fmt::Display for Region {
    /// As the model writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(name) = &self.name {
            write!(f, "<ref>{name}</ref>")?;
        }
        self.shapes.iter().try_for_each(|shape| shape.fmt(f))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(answer: &str) -> (String, Vec<String>) {
        let read = answer_regions(answer);
        let regions = read.regions.iter().map(Region::to_string).collect();
        (read.text, regions)
    }

    #[test]
    fn a_name_takes_the_shapes_after_it() {
        let answer = " <ref>Two boats</ref><box>(1,2),(3,4)</box><quad>(5,6),(7,8),(9,10),(11,999)</quad> under <ref>a cloud</ref>. ";
        let (text, regions) = read(answer);
        assert_eq!(text, "Two boats under a cloud.");
        assert_eq!(
            regions,
            ["<ref>Two boats</ref><box>(1,2),(3,4)</box><quad>(5,6),(7,8),(9,10),(11,999)</quad>"]
        );
        let (text, regions) =
            read("<box>( 1, 2 ) , (3,4)</box><box>(5,6),(7,8)</box> <box>(0,0),(9,9)</box>");
        assert_eq!(
            text,
            "<box>( 1, 2 ) , (3,4)</box><box>(5,6),(7,8)</box> <box>(0,0),(9,9)</box>"
        );
        assert_eq!(
            regions,
            [
                "<box>(1,2),(3,4)</box><box>(5,6),(7,8)</box>",
                "<box>(0,0),(9,9)</box>"
            ]
        );
    }

    #[test]
    fn odd_tags_stay_in_the_text() {
        for answer in [
            "<box>(1,2),(3,4)",
            "(1,2)</box>",
            "<ref>a",
            "a</ref>",
            "<box>(1,2)</box>",
            "<box>(1,2),(3,1000)</box>",
            "<box>(1,2),(3,-4)</box>",
            "<box>(1,2),(3,+4)</box>",
            "<box>(1,2),(3,4),</box>",
            "<quad>(1,2),(3,4)</quad>",
            "<box>(1,2),(3,4)</quad>",
            "<box><quad>x</box></quad>",
            "<img>a</img>",
            "<box >(1,2),(3,4)</box>",
            "<<box>>",
            "",
        ] {
            assert_eq!(read(answer), (answer.to_owned(), vec![]), "{answer}");
        }
        let (text, regions) = read("<ref>a<ref>b</ref><box>(1,2),(3,4)</box></ref><box>x</box>");
        assert_eq!(text, "<ref>ab</ref><box>x</box>");
        assert_eq!(regions, ["<ref>b</ref><box>(1,2),(3,4)</box>"]);
        let (text, regions) =
            read("<ref>a</ref><box>(1,2),(3,1000)</box><box>(1,2),(3,4)</box><quad>x</quad>.");
        assert_eq!(text, "a.");
        assert_eq!(regions, ["<ref>a</ref><box>(1,2),(3,4)</box>"]);
    }

    proptest! {
        #[test]
        fn any_text_is_read(text in "(</?(box|ref|quad|img)>|\\([0-9]{0,4},[0-9]{0,3}\\)|,|\\PC){0,30}") {
            let parts = tagged_parts(&text);
            let mut joined = String::new();
            for part in parts {
                push(&mut joined, part);
            }
            prop_assert_eq!(&joined, &text);
            let read = answer_regions(&text);
            prop_assert!(read.text.len() <= text.len());
            prop_assert!(read.regions.iter().all(|region| !region.shapes.is_empty()));
        }

        #[test]
        fn a_region_is_read_as_it_was_written(name in proptest::option::of("[a-z ]{1,9}"), boxes in prop::collection::vec(prop::array::uniform2(prop::array::uniform2(0_u16..1000)), 1..4)) {
            let region = Region { name, shapes: boxes.into_iter().map(RegionShape::Box).collect() };
            let read = answer_regions(&region.to_string());
            prop_assert_eq!(read.regions, [region]);
        }
    }
}
