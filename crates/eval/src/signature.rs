//! Signatures: the exact definition of a score in one line, as in sacreBLEU.

/// Name, tokenizer, options and version of a score. Scores are comparable only if their signatures
/// are equal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Signature {
    name: String,
    fields: Vec<(&'static str, String)>,
}

impl Signature {
    pub(crate) fn new<const N: usize>(name: &str, fields: [(&'static str, String); N]) -> Self {
        Self {
            name: name.to_owned(),
            fields: fields.into(),
        }
    }

    /// Name of the score.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The fields without the name: for BLEU and chrF exactly sacreBLEU's signature.
    #[must_use]
    pub fn fields(&self) -> String {
        let fields: Vec<String> = self
            .fields
            .iter()
            .map(|(key, value)| format!("{key}:{value}"))
            .collect();
        fields.join("|")
    }
}

impl std::fmt::Display for Signature {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}|{}", self.name, self.fields())
    }
}
