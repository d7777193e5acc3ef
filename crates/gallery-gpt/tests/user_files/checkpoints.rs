//! Models of other tools: weights, configs, checksums.
