//! Text that arrives in pieces, wrapped at the width of the terminal.

use std::io::{IsTerminal, stdout};

use console::{Term, measure_text_width};

use crate::terminal::output;

/// Writes pieces to standard output. On a terminal they are wrapped between words; elsewhere the text is written as it is.
pub(crate) struct Wrapping {
    /// Columns of the terminal, if it is one.
    width: Option<usize>,
    column: usize,
    /// A space and the beginning of a word that has not ended yet.
    held: String,
}

impl Wrapping {
    pub(crate) fn new() -> Self {
        let width = usize::from(Term::stdout().size().1);
        Self {
            width: stdout().is_terminal().then_some(width.max(20)),
            column: 0,
            held: String::new(),
        }
    }

    /// Writes a piece without its last word, which the next piece may continue.
    pub(crate) fn push(&mut self, piece: &str) {
        let Some(width) = self.width else {
            output(format_args!("{piece}"));
            return;
        };
        output(format_args!("{}", self.broken(piece, width)));
    }

    /// Writes the last word and ends the line.
    pub(crate) fn finish(mut self) {
        self.push("\n");
    }

    /// What can be written now.
    fn broken(&mut self, piece: &str, width: usize) -> String {
        let mut text = String::new();
        for letter in piece.chars() {
            if letter.is_whitespace() {
                self.place_word(&mut text, width);
                if letter == '\n' {
                    text.push('\n');
                    (self.column, self.held) = (0, String::new());
                } else {
                    self.held.push(' ');
                }
            } else {
                // Control characters are no part of an answer.
                self.held.extend((!letter.is_control()).then_some(letter));
            }
        }
        text
    }

    fn place_word(&mut self, text: &mut String, width: usize) {
        let held = std::mem::take(&mut self.held);
        let word = held.trim_start();
        if word.is_empty() {
            self.held = held;
            return;
        }
        let columns = measure_text_width(&held);
        if self.column > 0 && self.column + columns > width {
            text.push('\n');
            text.push_str(word);
            self.column = measure_text_width(word);
        } else {
            text.push_str(&held);
            self.column += columns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_wrapped_the_same_however_the_text_is_cut() {
        let text =
            "The light falls from\nthe right, unbelievablylongwords stay whole. 静物 静物 静物";
        let pieces = |size: usize| {
            let letters: Vec<char> = text.chars().collect();
            let mut wrapping = Wrapping {
                width: Some(12),
                column: 0,
                held: String::new(),
            };
            let mut written = String::new();
            for piece in letters.chunks(size) {
                let piece: String = piece.iter().collect();
                written.push_str(&wrapping.broken(&piece, 12));
            }
            written + &wrapping.broken("\n", 12)
        };
        let expected = "The light\nfalls from\nthe right,\nunbelievablylongwords\nstay whole.\n静物 静物\n静物\n";
        for size in [1, 2, 5, 100] {
            assert_eq!(pieces(size), expected, "{size}");
        }
    }
}
