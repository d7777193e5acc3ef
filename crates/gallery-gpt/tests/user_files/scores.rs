//! Answers and references to be scored.
