//! Training records in other people's forms.
