//! Trainings: resuming, locking, weighting.
