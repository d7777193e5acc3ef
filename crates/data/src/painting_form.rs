//! Training sets: PaintingForm's `train_samples_tuning.json`, and other formats.

use std::{collections::HashMap, io::BufRead, path::Path};

use gallery_gpt_text::printable;
use rayon::prelude::*;

use crate::{
    BadRecord, DatasetError, Record, RecordError, formats,
    json::{Element, for_each_element, open},
};

/// A training set.
#[derive(Debug, Default)]
pub struct PaintingForm {
    /// The usable records.
    pub records: Vec<Record>,
    /// The other records, each with its cause.
    pub bad: Vec<BadRecord>,
}

/// An id that several records have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RepeatedId {
    /// The id.
    pub id: String,
    /// Indices in the file of the first two records that have it, from 0.
    pub positions: [usize; 2],
    /// Number of records that have it.
    pub count: usize,
}

impl std::fmt::Display for RepeatedId {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [first, second] = self.positions;
        let id = printable(&self.id);
        let count = self.count;
        write!(
            formatter,
            "`{id}` is the id of {count} records, {first} and {second} the first"
        )
    }
}

impl PaintingForm {
    /// Reads a training file: a JSON array of records, or one record per line, in UTF-8 or UTF-16. The
    /// formats of records are those of [`RecordFormat`](crate::RecordFormat).
    ///
    /// # Errors
    /// The file cannot be read, is not such a file, or has no usable record.
    pub fn load(path: impl AsRef<Path>) -> Result<Self, DatasetError> {
        let path = path.as_ref();
        let set = Self::read(path, open(path)?)?;
        if set.records.is_empty() {
            return Err(DatasetError::NothingUsable {
                path: path.to_owned(),
                bad: set.bad.len(),
                first: set
                    .bad
                    .first()
                    .map(|bad| format!("; the first: {bad}"))
                    .unwrap_or_default(),
            });
        }
        Ok(set)
    }

    /// As [`PaintingForm::load`], from a reader; `path` is used in messages. A set without a usable
    /// record is not an error.
    ///
    /// Only the records are kept in memory, not the text (except UTF-16). An error inside a record
    /// makes that record a bad one and no other.
    ///
    /// # Errors
    /// The data cannot be read, are not a data set, or are damaged between the records; or nearly no
    /// record can be used ([`DatasetError::MostlyUnusable`]).
    pub fn read(path: &Path, reader: impl BufRead) -> Result<Self, DatasetError> {
        let mut set = Self::default();
        let mut waiting = Vec::new();
        let mut bytes = 0;
        let array = for_each_element(path, reader, &mut |element| {
            bytes += element.text.len();
            waiting.push(element);
            if waiting.len() == RECORDS_AT_ONCE || bytes > BYTES_AT_ONCE {
                bytes = 0;
                set.add(&mut waiting);
                set.ensure_data_set(path)?;
            }
            Ok(())
        })?;
        set.add(&mut waiting);
        if let [bad] = &*set.bad
            && !array
            && set.records.is_empty()
        {
            return Err(DatasetError::Malformed {
                path: path.to_owned(),
                expected: "a JSON array of records, or one record per line",
                found: format!("one object that is not a record: {}", bad.cause),
            });
        }
        Ok(set)
    }

    /// Parses records in parallel and adds them in their order.
    fn add(&mut self, waiting: &mut Vec<Element>) {
        let first = self.records.len() + self.bad.len();
        let parsed: Vec<Result<Record, (String, RecordError)>> = waiting
            .par_iter()
            .enumerate()
            .map(|(nth, element)| formats::record(first + nth, element))
            .collect();
        waiting.clear();
        for (index, record) in (first..).zip(parsed) {
            match record {
                Ok(record) => self.records.push(record),
                Err((id, cause)) => self.bad.push(BadRecord { index, id, cause }),
            }
        }
    }

    /// Rejects a file of which nearly no record can be used, since every bad record takes memory.
    fn ensure_data_set(&mut self, path: &Path) -> Result<(), DatasetError> {
        let (bad, records) = (self.bad.len(), self.records.len());
        if !mostly_unusable(records, bad) {
            return Ok(());
        }
        Err(DatasetError::MostlyUnusable {
            path: path.to_owned(),
            bad,
            records: bad + records,
            one: Box::new(self.bad.swap_remove(0)),
        })
    }

    /// The ids that several usable records have, in the order of their second records. That is not an
    /// error, but often a set that was joined with itself.
    #[must_use]
    pub fn repeated_ids(&self) -> Vec<RepeatedId> {
        let mut first: HashMap<&str, usize> = HashMap::with_capacity(self.records.len());
        let mut repeated: Vec<RepeatedId> = Vec::new();
        let mut at: HashMap<&str, usize> = HashMap::new();
        for record in self.records.iter().filter(|record| record.id != "none") {
            let Some(&position) = first.get(&*record.id) else {
                first.insert(&record.id, record.index);
                continue;
            };
            let nth = *at.entry(&record.id).or_insert_with(|| {
                repeated.push(RepeatedId {
                    id: record.id.clone(),
                    positions: [position, record.index],
                    count: 1,
                });
                repeated.len() - 1
            });
            repeated[nth].count += 1;
        }
        repeated
    }
}

/// Maximum number of records that are parsed together.
const RECORDS_AT_ONCE: usize = 2048;
/// Bytes of text after which the records read so far are parsed.
const BYTES_AT_ONCE: usize = 8 << 20;

/// Whether a file with these numbers of records is probably not a data set.
pub(crate) fn mostly_unusable(usable: usize, bad: usize) -> bool {
    bad >= 10_000 && bad >= 9 * usable
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<PaintingForm, DatasetError> {
        PaintingForm::read("set.json".as_ref(), json.as_bytes())
    }

    #[test]
    fn every_bad_record_is_named() {
        let good = r#"{"id":"a","image":"1.png","conversations":[{"from":"human","value":"Q\n<image>"},{"from":"gpt","value":"A"}]}"#;
        let bad = [
            (r#"7"#, "an object"),
            (r#"{"id":"b","conversations":[]}"#, "`conversations`"),
            (r#"{"id":"c","image":"2.png"}"#, "`conversations`"),
            (
                r#"{"id":"d","image":"2.png","conversations":[]}"#,
                "empty list",
            ),
            (
                r#"{"id":"e","image":"2.png","conversations":[{"from":"owl","value":"x"}]}"#,
                "`owl`",
            ),
            (
                r#"{"id":"f","image":"2.png","conversations":[{"from":"human"}]}"#,
                "`value`",
            ),
            (
                r#"{"id":"g","image":"2.png","conversations":[{"from":"human","value":"no placeholder"}]}"#,
                "0 <image>",
            ),
        ];
        for (json, expected) in bad {
            let set = parse(&format!("[{good},{json}]")).unwrap();
            assert_eq!(set.records.len(), 1);
            let message = set.bad[0].to_string();
            assert!(
                message.starts_with("record 1 (id ") && message.contains(expected),
                "{message}"
            );
        }
    }

    const A: &str = r#"{"id":"a","image":"1.png","conversations":[{"from":"human","value":"Q\n<image>"},{"from":"gpt","value":"A"}]}"#;

    #[test]
    fn files_that_are_not_data_sets_are_errors() {
        let broken = [
            ("", "an empty file"),
            (" \n\t", "an empty file"),
            ("{}", "found nothing"),
            ("{\n \"data\": [\n ]\n}", "`data`"),
            ("hello", "not JSON"),
            (
                "version https://git-lfs.github.com/spec/v1\noid",
                "Git LFS pointer",
            ),
            ("<!DOCTYPE html>", "a web page"),
            ("[1,", "the file is cut off"),
            ("[{]", "`]` instead of `}` at line 1 column 3"),
            (
                "[1 2]",
                "`2` instead of `,` or `]` after a record at line 1 column 4",
            ),
            ("[1,\n 2,\n]", "`]` instead of a record at line 3 column 1"),
            ("[] x", "the end of the file at line 1 column 4"),
            ("[{\"a\": \"b},\n{\"a\": \"c\"}]", "a quote may be missing"),
        ];
        for (json, expected) in broken {
            let error = parse(json).unwrap_err();
            assert!(
                matches!(error, DatasetError::Malformed { .. }),
                "{json}: {error}"
            );
            assert!(error.to_string().contains(expected), "{json}: {error}");
        }
        assert!(parse("\u{FEFF}[]").is_ok());
    }

    #[test]
    fn an_error_inside_a_record_affects_it_only_and_has_a_place() {
        let broken = [
            ("{\"id\": \"b\"\n  \"image\": \"2.png\"}", "line 3 column 3"),
            ("{\"id\": \"b\", \"x\": tru}", "line 2 column"),
            ("{\"id\": \"\\ud800\"}", "line 2 column"),
        ];
        for (json, place) in broken {
            let set = parse(&format!("[{A},\n{json},\n{A}]")).unwrap();
            assert_eq!((set.records.len(), set.records[1].index), (2, 2), "{json}");
            let message = set.bad[0].to_string();
            assert!(message.contains(place), "{message}");
        }
        let deep = format!("[{A}, {}{}]", "[".repeat(100_000), "]".repeat(100_000));
        let set = parse(&deep).unwrap();
        assert!(
            set.bad[0].to_string().contains("recursion"),
            "{}",
            set.bad[0]
        );
        let latin = [b"[{\"id\": \"caf\xE9\"},", A.as_bytes(), b"]"].concat();
        let set = PaintingForm::read("set.json".as_ref(), &*latin).unwrap();
        assert!(
            set.bad[0].to_string().contains("0xE9 at line 1 column 13"),
            "{}",
            set.bad[0]
        );
    }

    #[test]
    fn python_s_numbers_are_read_in_ignored_fields() {
        for number in ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"] {
            let scored = A.replace("\"image\"", &format!("\"score\":{number},\"image\""));
            let set = parse(&format!("[{scored}]")).unwrap();
            assert_eq!(
                set.records,
                parse(&format!("[{A}]")).unwrap().records,
                "{number}"
            );
        }
        // pandas writes NaN for a field that is missing.
        let no_picture = r#"[{"id":"a","image":NaN,"conversations":[{"from":"human","value":"NaN?"},{"from":"gpt","value":"\"NaN\" Infinity"}]}]"#;
        let set = parse(no_picture).unwrap();
        assert!(set.records[0].pictures.is_empty());
        assert_eq!(
            set.records[0].conversation.turns[1].text,
            "\"NaN\" Infinity"
        );
    }

    #[test]
    fn lines_and_utf_16_are_read_as_an_array_is() {
        let b = A.replace("\"a\"", "\"b\"");
        let expected = parse(&format!("[{A},{b}]")).unwrap().records;
        let utf16 = |text: &str, unit: fn(u16) -> [u8; 2]| -> Vec<u8> {
            text.encode_utf16().flat_map(unit).collect()
        };
        let array = format!("[{A},\r\n{b}]\n");
        let forms = [
            format!("{A}\n{b}\n").into_bytes(),
            format!("\u{FEFF}\n{A}\r\n\r\n  {b}").into_bytes(),
            format!("{A}\n{b}").replace("[{", "[\n{").into_bytes(),
            utf16(&array, u16::to_le_bytes),
            utf16(&format!("\u{FEFF}{array}"), u16::to_le_bytes),
            utf16(&format!("\u{FEFF}{A}\n{b}"), u16::to_be_bytes),
        ];
        for form in forms {
            for size in [1, 3, 1000] {
                let reader = std::io::BufReader::with_capacity(size, &*form);
                let set = PaintingForm::read("set".as_ref(), reader).unwrap();
                assert_eq!(
                    set.records,
                    expected,
                    "{:?}",
                    String::from_utf8_lossy(&form)
                );
            }
        }
        let set = parse(&format!("{A}\n{{\"id\": \"x\",\n{b}")).unwrap();
        assert_eq!((set.records.len(), set.bad.len()), (2, 1));
        assert!(set.bad[0].to_string().contains("line 2"), "{}", set.bad[0]);
    }

    #[test]
    fn a_record_has_a_maximum_size() {
        let long = format!("[{A},{{\"id\":\"{}\"}},{A}]", "x".repeat(5 << 20));
        let set = parse(&long).unwrap();
        assert_eq!((set.records.len(), set.bad.len()), (2, 1));
        assert!(set.bad[0].to_string().contains("4 MiB"), "{}", set.bad[0]);
        let lines = format!("{A}\n{}\n{A}", "x".repeat(5 << 20));
        assert_eq!(parse(&lines).unwrap().records.len(), 2);
    }

    #[test]
    fn a_file_of_unusable_records_is_not_read_to_its_end() {
        let zeros = format!("[{A}{}]", ",0".repeat(1_000_000));
        let error = parse(&zeros).unwrap_err();
        assert!(
            matches!(error, DatasetError::MostlyUnusable { .. }),
            "{error}"
        );
        assert!(
            error.to_string().contains("such as record 1 (id none)"),
            "{error}"
        );
        let many = format!("[{}]", format!("{A},0,0,0,").repeat(20_000) + A);
        let set = parse(&many).unwrap();
        assert_eq!((set.records.len(), set.bad.len()), (20_001, 60_000));
    }

    #[test]
    fn repeated_ids_are_counted() {
        let b = A.replace("\"a\"", "\"b\"");
        let set = parse(&format!("[{A},{b},{A},{b},{b}]")).unwrap();
        let found: Vec<_> = set
            .repeated_ids()
            .into_iter()
            .map(|id| (id.id, id.positions, id.count))
            .collect();
        assert_eq!(
            found,
            [("a".to_owned(), [0, 2], 2), ("b".to_owned(), [1, 3], 3)]
        );
    }

    #[test]
    fn no_record_controls_the_terminal() {
        let set = parse(
            r#"[{"id":"\u001b[2J\u202Ex","image":"1.png","conversations":[{"from":"\u001b]0;x\u0007","value":"x"}]}]"#,
        );
        let message = set.unwrap().bad[0].to_string();
        assert!(
            !message.contains(['\u{1b}', '\u{7}', '\u{202e}']),
            "{message}"
        );
        assert!(message.contains(r"\u{1b}[2J"), "{message}");
    }
}
