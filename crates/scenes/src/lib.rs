//! Paintings drawn from scene descriptions.
