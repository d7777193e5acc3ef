//! Untrusted text in messages.

use std::borrow::Cow;

/// Maximum number of characters shown.
const SHOWN: usize = 400;

/// Makes text from a file safe to show in a message: control characters and those that change the
/// writing direction are escaped, so that no record can control a terminal, and long text is cut
/// with `…`.
///
/// ```
/// assert_eq!(gallery_gpt_text::printable("café 1"), "café 1");
/// assert_eq!(gallery_gpt_text::printable("\x1b[2J"), r"\u{1b}[2J");
/// ```
#[must_use]
pub fn printable(text: &str) -> Cow<'_, str> {
    let steers = |c: char| {
        c.is_control()
            || matches!(c, '\u{200E}' | '\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}')
    };
    let end = text.char_indices().nth(SHOWN).map(|(end, _)| end);
    if end.is_none() && !text.contains(steers) {
        return text.into();
    }
    let mut shown = String::new();
    for c in text[..end.unwrap_or(text.len())].chars() {
        if steers(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    if end.is_some() {
        shown.push('…');
    }
    shown.into()
}
