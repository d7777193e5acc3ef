//! PEFT's rules for matching modules by names and regular expressions.

use std::collections::BTreeSet;

use fancy_regex::{Regex, RegexBuilder};

/// Limit of backtracking steps of an expression. Usual ones need a few thousand at most.
const BACKTRACKS: usize = 100_000;
/// Longest expression in bytes.
const MAX_LENGTH: usize = 16 << 10;
/// Largest compiled expression in bytes.
const MAX_COMPILED: usize = 1 << 20;

/// The part of a module's name that an expression has to match.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NamedBy {
    /// All of it.
    Whole,
    /// All of it, or the part after one of its dots.
    End,
    /// The part before the number of a layer: all of it, or what is after a dot.
    Layer,
}

/// A name or a regular expression for modules.
#[derive(Clone, Debug)]
pub(super) enum ModulePattern {
    /// A name whose dots match any character, as most patterns are.
    Name(String),
    Regex(Box<Regex>),
}

impl ModulePattern {
    pub(super) fn new(text: &str, named: NamedBy) -> Result<Self, String> {
        if text.len() > MAX_LENGTH {
            return Err(format!("is {} bytes long", text.len()));
        }
        let is_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
        if named == NamedBy::End && text.chars().all(is_name) {
            return Ok(Self::Name(text.to_owned()));
        }
        let text = match named {
            NamedBy::Whole => format!(r"\A(?:{text})\z"),
            NamedBy::End => format!(r"\A(?:.*\.)?(?:{text})\z"),
            NamedBy::Layer => format!(r"\A(?:|.*?\.)(?:{text})\.(?<idx>\d+)\."),
        };
        let regex = RegexBuilder::new(&text)
            .backtrack_limit(BACKTRACKS)
            .delegate_size_limit(MAX_COMPILED)
            .delegate_dfa_size_limit(MAX_COMPILED)
            .build();
        regex
            .map(|regex| Self::Regex(Box::new(regex)))
            .map_err(|error| error.to_string())
    }

    /// Whether it is a compiled regular expression.
    pub(super) fn is_expression(&self) -> bool {
        matches!(self, Self::Regex(_))
    }

    /// Whether it matches a module.
    pub(super) fn fits(&self, module: &str) -> Result<bool, String> {
        match self {
            Self::Name(name) => Ok(ends_with(module, name)),
            Self::Regex(regex) => regex.is_match(module).map_err(|error| error.to_string()),
        }
    }

    /// The number of the layer that a module is in, if the pattern matches the list of layers.
    pub(super) fn layer(&self, module: &str) -> Result<Option<usize>, String> {
        let Self::Regex(regex) = self else {
            return Ok(None);
        };
        let found = regex.captures(module).map_err(|error| error.to_string())?;
        let number = found.and_then(|found| found.name("idx")?.as_str().parse().ok());
        Ok(number)
    }

    /// The first number in a module's name, after at least two names.
    pub(super) fn any_layer(module: &str) -> Option<usize> {
        let mut parts = module.split('.').skip(2).peekable();
        while let Some(part) = parts.next() {
            if parts.peek().is_some() && part.bytes().all(|byte| byte.is_ascii_digit()) {
                return part.parse().ok();
            }
        }
        None
    }
}

/// Whether the name matches the end of a module's name, from a dot on; its own dots match any character.
fn ends_with(module: &str, name: &str) -> bool {
    let (module, name) = (module.as_bytes(), name.as_bytes());
    let Some(start) = module.len().checked_sub(name.len()) else {
        return false;
    };
    let fits = |(&found, &wanted): (&u8, &u8)| found == wanted || wanted == b'.';
    (start == 0 || module[start - 1] == b'.') && module[start..].iter().zip(name).all(fits)
}

/// `target_modules` or `exclude_modules`.
#[derive(Clone, Debug)]
pub(super) enum ModuleNames {
    /// Every linear except the output head.
    AllLinear,
    /// An expression for whole names.
    Pattern(ModulePattern),
    /// Names, or ends of names from a dot on.
    List(BTreeSet<String>),
}

impl ModuleNames {
    pub(super) fn contains(&self, module: &str) -> Result<bool, String> {
        match self {
            Self::AllLinear => Ok(!module.ends_with("lm_head")),
            Self::Pattern(pattern) => pattern.fits(module),
            Self::List(names) => {
                let behind = module.match_indices('.').map(|(at, _)| &module[at + 1..]);
                let mut ends = [module].into_iter().chain(behind);
                Ok(ends.any(|end| names.contains(end)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MODULE: &str = "model.language_model.layers.11.self_attn.v_proj";

    #[test]
    fn patterns_fit_the_end_of_a_name() {
        for (text, fits) in [
            ("v_proj", true),
            ("self_attn.v_proj", true),
            ("_proj", false),
            ("layers.1.self_attn.v_proj", false),
            ("layers.11.self_attn.v_proj", true),
            (MODULE, true),
            ("x.model.language_model.layers.11.self_attn.v_proj", false),
            (r"layers\.1\d\.self_attn\.(q|v)_proj", true),
            ("q_proj|v_proj", true),
            (r"^model.language_model.layers.11.self_attn.v_proj", true),
            ("^v_proj", false),
        ] {
            let pattern = ModulePattern::new(text, NamedBy::End).unwrap();
            assert_eq!(pattern.fits(MODULE), Ok(fits), "{text}");
        }
    }

    #[test]
    fn expressions_fit_whole_names() {
        for (text, fits) in [
            ("v_proj", false),
            (r".*language_model.*\.(q_proj|v_proj)", true),
            (r"^(?!.*vision_tower).*(?:q_proj|v_proj)$", true),
            (r"^(?!.*language_model).*(?:q_proj|v_proj)$", false),
            (r".*layers\.[01]\..*", false),
        ] {
            let pattern = ModulePattern::new(text, NamedBy::Whole).unwrap();
            assert_eq!(pattern.fits(MODULE), Ok(fits), "{text}");
        }
        for text in ["(", &"a".repeat(MAX_LENGTH + 1)] {
            assert!(ModulePattern::new(text, NamedBy::Whole).is_err());
        }
        let endless = ModulePattern::new(r"(?:(a|aa)+)(?!b)\1c", NamedBy::Whole).unwrap();
        assert!(endless.fits(&"a".repeat(64)).is_err());
    }

    #[test]
    fn lists_name_ends_from_a_dot_on() {
        let list = |names: &[&str]| ModuleNames::List(names.iter().map(|&n| n.into()).collect());
        assert_eq!(list(&["q_proj", "v_proj"]).contains(MODULE), Ok(true));
        assert_eq!(list(&["self_attn.v_proj"]).contains(MODULE), Ok(true));
        assert_eq!(list(&[MODULE]).contains(MODULE), Ok(true));
        assert_eq!(
            list(&["proj", "attn.v_proj", ""]).contains(MODULE),
            Ok(false)
        );
        assert_eq!(ModuleNames::AllLinear.contains(MODULE), Ok(true));
        assert_eq!(ModuleNames::AllLinear.contains("lm_head"), Ok(false));
    }

    #[test]
    fn layers_are_counted_in_the_first_list_of_a_name() {
        assert_eq!(ModulePattern::any_layer(MODULE), Some(11));
        assert_eq!(
            ModulePattern::any_layer("model.layers.3.experts.5.up"),
            Some(3)
        );
        for none in [
            "layers.3.up",
            "model.multi_modal_projector.linear_1",
            "model.norm.3",
        ] {
            assert_eq!(ModulePattern::any_layer(none), None, "{none}");
        }
        let layer = |text, module| {
            let pattern = ModulePattern::new(text, NamedBy::Layer).unwrap();
            pattern.layer(module).unwrap()
        };
        assert_eq!(layer("layers", MODULE), Some(11));
        assert_eq!(layer("layers", "layers.3.up"), Some(3));
        assert_eq!(layer("h", MODULE), None);
    }
}
