//! Tokenizers with words of their own.
