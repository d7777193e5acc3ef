//! A source file, and the same with comments and strings taken out.

/// A Rust source file.
pub(crate) struct Source {
    /// Path from the repository's root.
    pub(crate) name: String,
    pub(crate) text: String,
    /// The text with blanks in place of comments and of the contents of strings: as long, with the same lines.
    pub(crate) code: String,
    /// The contents of strings, with the offset of each.
    pub(crate) strings: Vec<(usize, String)>,
    /// What is only built for tests, as offsets.
    tests: Vec<std::ops::Range<usize>>,
    /// Whether all of it is.
    all_tests: bool,
}

impl Source {
    pub(crate) fn new(name: &str, text: String) -> Self {
        let (code, strings) = taken_apart(&text);
        let tests = test_modules(&code);
        Self {
            name: name.to_owned(),
            text,
            code,
            strings,
            tests,
            all_tests: false,
        }
    }

    /// The files of modules that are declared here for tests only, as `mod tests;`.
    pub(crate) fn test_files(&self) -> Vec<String> {
        let (folder, file) = self.name.rsplit_once('/').unwrap_or(("", &self.name));
        let folder = match file {
            "lib.rs" | "main.rs" | "mod.rs" => folder.to_owned(),
            file => format!("{folder}/{}", file.trim_end_matches(".rs")),
        };
        let declared = self.tests.iter().filter_map(|range| {
            let name = self.code[range.clone()].rsplit_once("mod ")?.1.trim();
            let is_name = name
                .chars()
                .all(|letter| letter.is_alphanumeric() || letter == '_');
            is_name.then(|| format!("{folder}/{name}"))
        });
        declared.collect()
    }

    /// Says that this is one of these, which other files declare.
    pub(crate) fn join_tests(&mut self, files: &[String]) {
        let own = self.name.trim_end_matches(".rs").trim_end_matches("/mod");
        self.all_tests = files.iter().any(|file| own.starts_with(file.as_str()));
    }

    /// The crate in `crates` that it is a source file of, without its tests and benchmarks.
    pub(crate) fn library(&self) -> Option<&str> {
        let (folder, inside) = self.name.strip_prefix("crates/")?.split_once('/')?;
        inside.starts_with("src/").then_some(folder)
    }

    /// The line of an offset, counted from 1.
    pub(crate) fn line(&self, offset: usize) -> usize {
        self.text[..offset].matches('\n').count() + 1
    }

    /// Whether an offset is in what is only built for tests.
    pub(crate) fn is_test(&self, offset: usize) -> bool {
        self.all_tests || self.tests.iter().any(|module| module.contains(&offset))
    }
}

/// Whether the character before an offset can be a part of the same word.
pub(crate) fn continues_word(code: &str, offset: usize) -> bool {
    let before = code[..offset].chars().next_back();
    before.is_some_and(|before| before.is_alphanumeric() || before == '_')
}

/// Code without comments and strings, and the strings.
fn taken_apart(text: &str) -> (String, Vec<(usize, String)>) {
    let bytes = text.as_bytes();
    let mut code = bytes.to_vec();
    let mut strings = Vec::new();
    let mut at = 0;
    while at < bytes.len() {
        let rest = &text[at..];
        let end = if rest.starts_with("//") {
            at + rest.find('\n').unwrap_or(rest.len())
        } else if rest.starts_with("/*") {
            at + block_comment(rest)
        } else if let Some((open, close)) = string_at(text, at) {
            let begin = at + open;
            let length = string_length(&text[begin..], &close);
            strings.push((begin, text[begin..begin + length].to_owned()));
            blank(&mut code[begin..begin + length]);
            at = begin + length + close.len();
            continue;
        } else if let Some(length) = character(rest) {
            at + length
        } else {
            at += rest.chars().next().map_or(1, char::len_utf8);
            continue;
        };
        blank(&mut code[at..end]);
        at = end;
    }
    (String::from_utf8_lossy(&code).into_owned(), strings)
}

fn blank(bytes: &mut [u8]) {
    for byte in bytes.iter_mut().filter(|byte| **byte != b'\n') {
        *byte = b' ';
    }
}

/// Bytes of a block comment, with those inside it.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    let bytes = text.as_bytes();
    while at + 1 < bytes.len() {
        match &bytes[at..at + 2] {
            b"/*" => depth += 1,
            b"*/" => depth -= 1,
            _ => {
                at += 1;
                continue;
            }
        }
        at += 2;
        if depth == 0 {
            return at;
        }
    }
    text.len()
}

/// Bytes before the contents of a string that begins here, and what ends it.
fn string_at(text: &str, at: usize) -> Option<(usize, String)> {
    let rest = &text[at..];
    if rest.starts_with('"') {
        return Some((1, "\"".to_owned()));
    }
    if continues_word(text, at) {
        return None;
    }
    let raw = rest.strip_prefix("br").or_else(|| rest.strip_prefix('r'))?;
    let marks = raw.len() - raw.trim_start_matches('#').len();
    raw[marks..].starts_with('"').then(|| {
        (
            rest.len() - raw.len() + marks + 1,
            format!("\"{}", "#".repeat(marks)),
        )
    })
}

/// Bytes of a string's contents.
fn string_length(text: &str, close: &str) -> usize {
    if close != "\"" {
        return text.find(close).unwrap_or(text.len());
    }
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match character {
            '"' if !escaped => return at,
            _ => escaped = character == '\\' && !escaped,
        }
    }
    text.len()
}

/// Bytes of a character such as `'"'`; none if it is a lifetime or something else.
fn character(text: &str) -> Option<usize> {
    let mut characters = text.strip_prefix('\'')?.char_indices();
    let (_, first) = characters.next()?;
    if first == '\\' {
        characters.next();
        return characters
            .find(|(_, character)| *character == '\'')
            .map(|(at, _)| at + 2);
    }
    let (at, next) = characters.next()?;
    (next == '\'').then_some(at + 2)
}

/// The modules under `#[cfg(test)]`.
fn test_modules(code: &str) -> Vec<std::ops::Range<usize>> {
    let marks = code.match_indices("#[cfg(test)]");
    let modules = marks.filter_map(|(begin, _)| {
        let open = begin + code[begin..].find(['{', ';'])?;
        if code[open..].starts_with(';') {
            return Some(begin..open);
        }
        let mut depth = 0;
        for (at, byte) in code[open..].bytes().enumerate() {
            match byte {
                b'{' => depth += 1,
                b'}' => depth -= 1,
                _ => continue,
            }
            if depth == 0 {
                return Some(begin..open + at);
            }
        }
        Some(begin..code.len())
    });
    modules.collect()
}

#[cfg(test)]
mod tests {
    use super::Source;

    #[test]
    fn comments_and_strings_are_no_code() {
        let text = "fn f<'a>() { // fs::x\n let a = \"fs::\\\"read\"; /* a /* b */ c */ let q = '\"'; g(r#\"x\"y\"#) }\n";
        let source = Source::new("a.rs", text.to_owned());
        assert_eq!(source.code.len(), text.len());
        assert!(!source.code.contains("fs::"), "{}", source.code);
        assert!(source.code.contains("g(r#\"   \"#) }"), "{}", source.code);
        let strings: Vec<&str> = source
            .strings
            .iter()
            .map(|(_, text)| text.as_str())
            .collect();
        assert_eq!(strings, ["fs::\\\"read", "x\"y"]);
    }

    #[test]
    fn unit_tests_are_known() {
        let text = "fn a() {}\n#[cfg(test)]\nmod tests {\n fn b() { { } }\n}\nfn c() {}\n";
        let source = Source::new("a.rs", text.to_owned());
        let is_test = |word: &str| source.is_test(text.find(word).unwrap());
        assert_eq!(
            [is_test("fn a"), is_test("fn b"), is_test("fn c")],
            [false, true, false]
        );
    }
}
