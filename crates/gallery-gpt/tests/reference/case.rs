//! A check of one variant, and the test that it becomes.

use libtest_mimic::Trial;

use crate::fixtures::Variant;

type Check = Box<dyn FnOnce(&Variant) + Send>;

/// A named check of a variant.
pub(crate) struct Case {
    name: String,
    /// Nothing where the variant does not have what would be checked.
    check: Option<Check>,
}

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        check: impl FnOnce(&Variant) + Send + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            check: Some(Box::new(check)),
        }
    }

    /// Says that the variant does not have this.
    pub(crate) fn absent(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            check: None,
        }
    }

    /// The check where the variant has this path, a file or a folder.
    pub(crate) fn of_path(
        variant: &Variant,
        path: &str,
        check: impl FnOnce(&Variant) + Send + 'static,
    ) -> Self {
        match variant.has(path) {
            true => Self::new(path, check),
            false => Self::absent(path),
        }
    }

    /// The test `stage::variant::case`.
    pub(crate) fn trial(self, variant: &Variant, stage: &'static str) -> Trial {
        let name = format!("{stage}::{}::{}", variant.name, self.name);
        let variant = variant.in_stage(stage);
        match self.check {
            Some(check) => Trial::test(name, move || {
                check(&variant);
                Ok(())
            }),
            None => Trial::test(name, || Ok(()))
                .with_kind("absent")
                .with_ignored_flag(true),
        }
    }
}

/// A stage of the model that is compared with the reference.
pub(crate) struct Stage {
    name: &'static str,
    folder: &'static str,
    cases: fn(&Variant) -> Vec<Case>,
}

impl Stage {
    pub(crate) const fn new(
        name: &'static str,
        folder: &'static str,
        cases: fn(&Variant) -> Vec<Case>,
    ) -> Self {
        Self {
            name,
            folder,
            cases,
        }
    }

    /// The tests of this stage on a variant.
    pub(crate) fn trials(&self, variant: &Variant) -> Vec<Trial> {
        let cases = match variant.has(self.folder) {
            true => (self.cases)(variant),
            false => vec![Case::absent(self.folder)],
        };
        let trial = |case: Case| case.trial(variant, self.name);
        cases.into_iter().map(trial).collect()
    }
}
