//! The files beside a vocabulary: `tokenizer_config.json`, `special_tokens_map.json` and
//! `added_tokens.json`. Their tokens are added; settings that are not followed are noted.

use std::{fmt, path::Path};

use ahash::AHashMap;
use serde::{
    Deserialize, Deserializer,
    de::{Error, MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};

use crate::{
    SpecialTokens, TokenizerError,
    added_tokens::{AddedToken, MAX_ADDED},
    limited::{ListOf, MapOf},
    printable, tokenizer_file,
    vocabulary::{MAX_IDS, Vocabulary},
};

/// Fields of `tokenizer_config.json`; `special_tokens_map.json` has the role tokens among them.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Settings {
    bos_token: Option<Token>,
    eos_token: Option<Token>,
    unk_token: Option<Token>,
    sep_token: Option<Token>,
    pad_token: Option<Token>,
    cls_token: Option<Token>,
    mask_token: Option<Token>,
    additional_special_tokens: Option<Tokens>,
    extra_special_tokens: Option<Tokens>,
    added_tokens_decoder: Option<MapOf<Token, MAX_ADDED>>,
    add_prefix_space: Option<bool>,
    legacy: Option<bool>,
    add_bos_token: Option<bool>,
    add_eos_token: Option<bool>,
    clean_up_tokenization_spaces: Option<bool>,
    do_lower_case: Option<bool>,
}

/// A token without an id: a text, or an object with rules.
#[derive(Clone, Default)]
struct Token(Described);

#[derive(Clone, Default, Deserialize)]
#[serde(default)]
struct Described {
    content: String,
    lstrip: bool,
    rstrip: bool,
    single_word: bool,
    normalized: bool,
    special: bool,
}

impl Token {
    fn with_id(self, id: u32) -> AddedToken {
        let Described {
            content,
            lstrip,
            rstrip,
            single_word,
            normalized,
            special,
        } = self.0;
        AddedToken {
            id,
            content,
            special,
            lstrip,
            rstrip,
            single_word,
            normalized,
        }
    }
}

impl<'de> Deserialize<'de> for Token {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextOrRules;
        impl<'de> Visitor<'de> for TextOrRules {
            type Value = Token;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a token, as a text or as an object with `content`")
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Token, E> {
                Ok(Token(Described {
                    content: text.to_owned(),
                    ..Described::default()
                }))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Token, A::Error> {
                Described::deserialize(MapAccessDeserializer::new(map)).map(Token)
            }
        }
        deserializer.deserialize_any(TextOrRules)
    }
}

/// Tokens as a list, or as a map whose keys do not matter.
#[derive(Default)]
struct Tokens(Vec<Token>);

impl<'de> Deserialize<'de> for Tokens {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrNamed;
        impl<'de> Visitor<'de> for ListOrNamed {
            type Value = Tokens;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of tokens")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, seq: A) -> Result<Tokens, A::Error> {
                let list = serde::de::value::SeqAccessDeserializer::new(seq);
                ListOf::<Token, MAX_ADDED>::deserialize(list).map(|list| Tokens(list.0))
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Tokens, A::Error> {
                let named =
                    MapOf::<Token, MAX_ADDED>::deserialize(MapAccessDeserializer::new(map))?;
                Ok(Tokens(
                    named.0.into_iter().map(|(_, token)| token).collect(),
                ))
            }
        }
        deserializer.deserialize_any(ListOrNamed)
    }
}

/// The combined contents of a folder's files.
#[derive(Debug)]
pub(crate) struct Beside {
    pub(crate) tokens: Vec<AddedToken>,
    pub(crate) pad: Option<String>,
    pub(crate) add_prefix_space: Option<bool>,
    pub(crate) legacy: bool,
    pub(crate) notes: Vec<String>,
}

/// Reads the files beside a vocabulary; `listed` are the added tokens of its `tokenizer.json`.
///
/// # Errors
/// A file cannot be read, or files disagree about a token.
pub(crate) fn read(
    folder: &Path,
    vocabulary: &Vocabulary,
    listed: Vec<AddedToken>,
) -> Result<Beside, TokenizerError> {
    let mut tokens = Gathered::new(vocabulary);
    let config_path = folder.join("tokenizer_config.json");
    let config: Settings = json(&config_path)?;
    for (id, token) in config.added_tokens_decoder.iter().flat_map(|map| &map.0) {
        let id = id.parse().map_err(|_| {
            wrong(
                &config_path,
                format!("the id {id:?} in added_tokens_decoder"),
            )
        })?;
        tokens.add(&config_path, token.clone().with_id(id))?;
    }
    let added_path = folder.join("added_tokens.json");
    let added: MapOf<u32, MAX_ADDED> = json(&added_path)?;
    for (content, id) in added.0 {
        let special = false;
        let token = AddedToken::special(id, content);
        tokens.add(&added_path, AddedToken { special, ..token })?;
    }
    for token in listed {
        tokens.add(&folder.join("tokenizer.json"), token)?;
    }
    let map_path = folder.join("special_tokens_map.json");
    let map: Settings = json(&map_path)?;
    for (path, settings) in [(&config_path, &config), (&map_path, &map)] {
        let roles = [
            &settings.bos_token,
            &settings.eos_token,
            &settings.unk_token,
            &settings.sep_token,
            &settings.pad_token,
            &settings.cls_token,
            &settings.mask_token,
        ];
        let lists = [
            &settings.additional_special_tokens,
            &settings.extra_special_tokens,
        ];
        let lists = lists.into_iter().flatten().flat_map(|list| &list.0);
        for token in roles.into_iter().flatten().chain(lists) {
            tokens.name_special(path, token)?;
        }
    }
    let pad = [&map.pad_token, &config.pad_token];
    let pad = pad.into_iter().flatten().map(|token| &token.0.content);
    // `<unk>` or `</s>` as the padding token keep their own role.
    let mut pad = pad.filter(|content| !SpecialTokens::TEXTS.contains(&content.as_str()));
    Ok(Beside {
        pad: pad.next().cloned(),
        tokens: tokens.tokens,
        add_prefix_space: config.add_prefix_space,
        legacy: config.legacy.unwrap_or(false),
        notes: notes(&config, &map),
    })
}

/// The added tokens of a `tokenizer.json` alone.
///
/// # Errors
/// They disagree with its vocabulary.
pub(crate) fn listed(
    path: &Path,
    vocabulary: &Vocabulary,
    listed: Vec<AddedToken>,
) -> Result<Vec<AddedToken>, TokenizerError> {
    let mut tokens = Gathered::new(vocabulary);
    for token in listed {
        tokens.add(path, token)?;
    }
    Ok(tokens.tokens)
}

/// Parses a file; the default if it does not exist.
fn json<T: Default + for<'de> Deserialize<'de>>(path: &Path) -> Result<T, TokenizerError> {
    if !path.exists() {
        return Ok(T::default());
    }
    let bytes = tokenizer_file::read(path)?;
    serde_json::from_slice(&bytes).map_err(|error| wrong(path, error.to_string()))
}

fn wrong(path: &Path, found: String) -> TokenizerError {
    TokenizerError::Malformed {
        path: path.to_owned(),
        expected: "usable tokenizer file",
        found: printable(&found).into_owned(),
    }
}

/// Settings that are not followed, one sentence each.
fn notes(config: &Settings, map: &Settings) -> Vec<String> {
    let mut notes = Vec::new();
    let [unk, bos, eos] = SpecialTokens::TEXTS;
    let roles = [
        ("bos_token", bos, [&map.bos_token, &config.bos_token]),
        ("eos_token", eos, [&map.eos_token, &config.eos_token]),
        ("unk_token", unk, [&map.unk_token, &config.unk_token]),
    ];
    for (role, ours, named) in roles {
        if let Some(token) = named.into_iter().flatten().next()
            && token.0.content != ours
        {
            notes.push(format!(
                "the tokenizer's files name `{}` as {role}; `{ours}` is used, as LLaVA-1.5 was trained",
                printable(&token.0.content)
            ));
        }
    }
    let switches = [
        (config.add_bos_token, true, "add_bos_token"),
        (config.add_eos_token, false, "add_eos_token"),
        (
            config.clean_up_tokenization_spaces,
            false,
            "clean_up_tokenization_spaces",
        ),
        (config.do_lower_case, false, "do_lower_case"),
    ];
    for (found, done, field) in switches {
        if found.is_some_and(|found| found != done) {
            notes.push(format!(
                "tokenizer_config.json has {field}: {}, which is not followed; it is {done} here, as LLaVA-1.5 was trained",
                !done
            ));
        }
    }
    notes
}

/// Added tokens so far, unique by id and by text.
struct Gathered<'a> {
    vocabulary: &'a Vocabulary,
    tokens: Vec<AddedToken>,
    /// Index in `tokens` by text and by id.
    by_content: AHashMap<String, usize>,
    by_id: AHashMap<u32, usize>,
    /// One more than the largest id.
    next: u32,
}

impl<'a> Gathered<'a> {
    fn new(vocabulary: &'a Vocabulary) -> Self {
        Self {
            vocabulary,
            tokens: Vec::new(),
            by_content: AHashMap::new(),
            by_id: AHashMap::new(),
            next: vocabulary.rows() as u32,
        }
    }

    fn add(&mut self, path: &Path, token: AddedToken) -> Result<(), TokenizerError> {
        let AddedToken { id, content, .. } = &token;
        if content.is_empty() {
            return Ok(());
        }
        let by_content = self.by_content.get(content).map(|&at| self.tokens[at].id);
        let by_id = self
            .by_id
            .get(id)
            .map(|&at| self.tokens[at].content.as_str());
        let known_id = by_content.or_else(|| self.vocabulary.id(content));
        let known_text = by_id.or_else(|| self.vocabulary.text(*id));
        if let Some(other) = known_id.filter(|other| other != id) {
            let found = format!("`{content}` with id {id}, which has id {other} elsewhere");
            return Err(wrong(path, found));
        }
        if let Some(other) = known_text.filter(|other| other != content) {
            let found = format!("`{content}` with id {id}, which is the id of `{other}`");
            return Err(wrong(path, found));
        }
        if *id as usize >= MAX_IDS {
            let found = format!("`{content}` with id {id}; {MAX_IDS} ids are read at most");
            return Err(wrong(path, found));
        }
        if by_content.is_none() {
            self.by_content.insert(content.clone(), self.tokens.len());
            self.by_id.insert(*id, self.tokens.len());
            self.next = self.next.max(id + 1);
            self.tokens.push(token);
        }
        Ok(())
    }

    /// Makes a token special. A token without an id gets the next one, as in transformers.
    fn name_special(&mut self, path: &Path, token: &Token) -> Result<(), TokenizerError> {
        if let Some(&at) = self.by_content.get(&token.0.content) {
            self.tokens[at].special = true;
            return Ok(());
        }
        let id = self.vocabulary.id(&token.0.content).unwrap_or(self.next);
        let special = true;
        self.add(
            path,
            AddedToken {
                special,
                ..token.clone().with_id(id)
            },
        )
    }
}
