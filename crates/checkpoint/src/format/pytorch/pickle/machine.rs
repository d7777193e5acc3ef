//! The stack machine of pickles: what it reads, its stack, and the values it remembers.

use std::collections::HashMap;

use super::super::value::{Pickle, Value};

/// Instructions of a pickle at most. A tensor takes about 40, so this is room for ten thousand of them.
pub(super) const MAX_INSTRUCTIONS: usize = 1 << 19;

/// Values that a pickle remembers at most. A tensor takes about 8.
const MAX_REMEMBERED: usize = 1 << 17;

pub(super) struct Machine<'a> {
    bytes: &'a [u8],
    pub(super) at: usize,
    pub(super) stack: Vec<Value<'a>>,
    /// Heights of the stack at the marks.
    pub(super) marks: Vec<usize>,
    pub(super) memo: HashMap<u64, Value<'a>>,
    /// Entries copied by calls so far. Bounded, as an instruction of a few bytes can copy a long list.
    pub(super) copied: usize,
    pub(super) pickle: Pickle<'a>,
}

impl<'a> Machine<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self {
            bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
            pickle: Pickle::default(),
        }
    }

    pub(super) fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("a pickle that is cut off")?;
        self.at += count;
        Ok(taken)
    }

    pub(super) fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned integer of `N` bytes.
    pub(super) fn length<const N: usize>(&mut self) -> Result<u64, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Bytes after their length, which takes `N` bytes.
    pub(super) fn counted<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let count = self.length::<N>()?;
        self.take(usize::try_from(count).map_err(|_| "a pickle that is cut off")?)
    }

    pub(super) fn long<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.counted::<N>()?;
        let value = if bytes.len() <= 8 {
            let negative = bytes.last().is_some_and(|last| last & 0x80 != 0);
            let mut wide = [if negative { 0xff } else { 0 }; 8];
            wide[..bytes.len()].copy_from_slice(bytes);
            Value::Int(i64::from_le_bytes(wide))
        } else {
            Value::Long(bytes)
        };
        self.stack.push(value);
        Ok(())
    }

    pub(super) fn text<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.counted::<N>()?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a string that is not UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    pub(super) fn skip_bytes<const N: usize>(&mut self) -> Result<(), String> {
        self.counted::<N>()?;
        self.stack.push(Value::Bytes);
        Ok(())
    }

    pub(super) fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("a pickle that is cut off")?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    /// Height of the stack below its topmost `count` values, all of which have to be above the last mark.
    pub(super) fn height_of(&self, count: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(count);
        height
            .filter(|&height| height >= floor)
            .ok_or_else(|| "a pickle that pops more than is on its stack".to_owned())
    }

    pub(super) fn pop(&mut self) -> Result<Value<'a>, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    pub(super) fn top(&self) -> Result<Value<'a>, String> {
        self.height_of(1).map(|height| self.stack[height])
    }

    pub(super) fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or("a pickle without a mark")?;
        Ok(self.stack.split_off(mark))
    }

    pub(super) fn push_sequence(&mut self, items: Vec<Value<'a>>) {
        self.stack
            .push(Value::Sequence(self.pickle.sequences.len()));
        self.pickle.sequences.push(items);
    }

    pub(super) fn push_dictionary(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) {
        self.stack
            .push(Value::Dictionary(self.pickle.dictionaries.len()));
        self.pickle.dictionaries.push(entries);
    }

    pub(super) fn extend(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        match self.top()? {
            Value::Sequence(list) => self.pickle.sequences[list].extend(items),
            // The items of an object that is not built are dropped.
            Value::Foreign(..) => {}
            other => return Err(format!("items for {}", other.kind())),
        }
        Ok(())
    }

    pub(super) fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), String> {
        match self.top()? {
            Value::Dictionary(entries) => {
                self.pickle.dictionaries[entries].extend(pairs(items)?);
            }
            Value::Foreign(..) => {}
            other => return Err(format!("entries for {}", other.kind())),
        }
        Ok(())
    }

    pub(super) fn remember(&mut self, place: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(place, top);
        if self.memo.len() > MAX_REMEMBERED {
            return Err(format!(
                "a pickle that remembers more than {MAX_REMEMBERED} values"
            ));
        }
        Ok(())
    }

    pub(super) fn recall(&mut self, place: u64) -> Result<(), String> {
        let value = self
            .memo
            .get(&place)
            .ok_or("a memo entry that was never set")?;
        self.stack.push(*value);
        Ok(())
    }
}

/// The names and values of dictionary entries, which follow each other on the stack.
pub(super) fn pairs<'a>(items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a key without a value".to_owned());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
