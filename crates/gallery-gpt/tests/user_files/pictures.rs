//! Pictures as they are found in folders.
