//! The special tokens that follow Qwen's merges.

/// Number of `<|extra_0|>` and so on, which nothing uses.
const EXTRA: usize = 205;
/// The tags that a text may contain: regions and pictures.
const TAGS: [&str; 9] = [
    "<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>", "<img>", "</img>", "<imgpad>",
];

/// Ids of the special tokens of Qwen-VL's tokenizer. There is none that begins a text, none for unknown characters, and none for padding:
/// `<|endoftext|>` pads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ChatMlTokens {
    /// `<|endoftext|>`; also the padding id.
    pub endoftext: u32,
    /// `<|im_start|>`, before every turn.
    pub im_start: u32,
    /// `<|im_end|>`, after every turn.
    pub im_end: u32,
    /// `<ref>`: what a region shows follows.
    pub ref_start: u32,
    /// `</ref>`.
    pub ref_end: u32,
    /// `<box>`: two corners follow.
    pub box_start: u32,
    /// `</box>`.
    pub box_end: u32,
    /// `<quad>`: four corners follow.
    pub quad_start: u32,
    /// `</quad>`.
    pub quad_end: u32,
    /// `<img>`, before a picture.
    pub img_start: u32,
    /// `</img>`, after a picture.
    pub img_end: u32,
    /// `<imgpad>`, which fills the ids of a picture after its path.
    pub img_pad: u32,
}

impl ChatMlTokens {
    /// Number of special tokens.
    pub(super) const COUNT: usize = 3 + EXTRA + TAGS.len();

    /// The ids after `merges` tokens.
    pub(super) fn after(merges: u32) -> Self {
        let tag = |nth: u32| merges + 3 + EXTRA as u32 + nth;
        Self {
            endoftext: merges,
            im_start: merges + 1,
            im_end: merges + 2,
            ref_start: tag(0),
            ref_end: tag(1),
            box_start: tag(2),
            box_end: tag(3),
            quad_start: tag(4),
            quad_end: tag(5),
            img_start: tag(6),
            img_end: tag(7),
            img_pad: tag(8),
        }
    }

    /// Their texts, in the order of their ids.
    pub(super) fn texts() -> Vec<String> {
        let turns = ["<|endoftext|>", "<|im_start|>", "<|im_end|>"].map(str::to_owned);
        let extra = (0..EXTRA).map(|nth| format!("<|extra_{nth}|>"));
        let tags = TAGS.map(str::to_owned);
        turns.into_iter().chain(extra).chain(tags).collect()
    }

    /// The ids that end an answer: `<|im_end|>`, `<|im_start|>` and `<|endoftext|>`.
    #[must_use]
    pub fn end_ids(&self) -> [u32; 3] {
        [self.im_end, self.im_start, self.endoftext]
    }

    /// Whether an id is a tag of a region or of a picture.
    pub(super) fn is_tag(&self, id: u32) -> bool {
        (self.ref_start..=self.img_pad).contains(&id)
    }
}

/// The first tag in a text.
pub(super) fn tag_in(text: &str) -> Option<&'static str> {
    TAGS.into_iter().find(|tag| text.contains(tag))
}
