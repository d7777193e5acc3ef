//! A reader of the pickles that `torch.save` writes: it builds values and never calls anything.
//!
//! A pickle is a program for a stack machine. Of its instructions, those that `torch.save` writes with protocols 2 to 5 are carried
//! out here; every other one is an error. A global name is kept as a name, and a "call" of one builds a value only if the name is on
//! the short list in [`calls`]. Strings are slices of the file, and the number of instructions is bounded, so memory is bounded
//! whatever the pickle says.

mod calls;
mod machine;

use self::machine::{MAX_INSTRUCTIONS, Machine, pairs};
use super::value::{Pickle, Value};

/// Reads the pickle that `bytes` start with.
pub(super) fn read(bytes: &[u8]) -> Result<Pickle<'_>, String> {
    let mut machine = Machine::new(bytes);
    for _ in 0..MAX_INSTRUCTIONS {
        if let Some(root) = machine.step()? {
            machine.pickle.root = Some(root);
            machine.pickle.length = machine.at;
            return Ok(machine.pickle);
        }
    }
    Err(format!(
        "a pickle of more than {MAX_INSTRUCTIONS} instructions; one of a model has some ten thousand"
    ))
}

impl<'a> Machine<'a> {
    /// Carries out one instruction; the last one gives the pickle's value.
    fn step(&mut self) -> Result<Option<Value<'a>>, String> {
        let start = self.at;
        // Named as in Python's `pickletools`.
        match self.take(1)?[0] {
            // PROTO
            0x80 => {
                let protocol = self.take(1)?[0];
                if !(2..=5).contains(&protocol) {
                    return Err(format!("a pickle of protocol {protocol}; expected 2 to 5"));
                }
            }
            // FRAME: how far to read ahead.
            0x95 => drop(self.take(8)?),
            // STOP
            b'.' => return self.pop().map(Some),
            // MARK, POP, POP_MARK, DUP
            b'(' => self.marks.push(self.stack.len()),
            b'0' => drop(self.pop()?),
            b'1' => drop(self.pop_mark()?),
            b'2' => {
                let top = self.top()?;
                self.stack.push(top);
            }
            // NONE, NEWTRUE, NEWFALSE
            b'N' => self.stack.push(Value::None),
            0x88 => self.stack.push(Value::Bool(true)),
            0x89 => self.stack.push(Value::Bool(false)),
            // BININT, BININT1, BININT2, LONG1, LONG4, BINFLOAT
            b'J' => {
                let bytes = self.array()?;
                self.stack
                    .push(Value::Int(i64::from(i32::from_le_bytes(bytes))));
            }
            b'K' => {
                let value = self.length::<1>()?;
                self.stack.push(Value::Int(value as i64));
            }
            b'M' => {
                let value = self.length::<2>()?;
                self.stack.push(Value::Int(value as i64));
            }
            0x8a => self.long::<1>()?,
            0x8b => self.long::<4>()?,
            b'G' => {
                self.take(8)?;
                self.stack.push(Value::Float);
            }
            // SHORT_BINSTRING and BINSTRING, which Python 2 wrote; SHORT_BINUNICODE, BINUNICODE, BINUNICODE8
            b'U' | 0x8c => self.text::<1>()?,
            b'T' | b'X' => self.text::<4>()?,
            0x8d => self.text::<8>()?,
            // SHORT_BINBYTES, BINBYTES, BINBYTES8, BYTEARRAY8
            b'C' => self.skip_bytes::<1>()?,
            b'B' => self.skip_bytes::<4>()?,
            0x8e | 0x96 => self.skip_bytes::<8>()?,
            // EMPTY_TUPLE and EMPTY_LIST, TUPLE and LIST, TUPLE1, TUPLE2, TUPLE3
            b')' | b']' => self.push_sequence(Vec::new()),
            b't' | b'l' => {
                let items = self.pop_mark()?;
                self.push_sequence(items);
            }
            count @ 0x85..=0x87 => {
                let count = usize::from(count - 0x84);
                let from = self.height_of(count)?;
                let items = self.stack.split_off(from);
                self.push_sequence(items);
            }
            // EMPTY_DICT, DICT
            b'}' => self.push_dictionary(Vec::new()),
            b'd' => {
                let items = self.pop_mark()?;
                let entries = pairs(&items)?;
                self.push_dictionary(entries);
            }
            // APPEND, APPENDS, SETITEM, SETITEMS
            b'a' => {
                let item = self.pop()?;
                self.extend(vec![item])?;
            }
            b'e' => {
                let items = self.pop_mark()?;
                self.extend(items)?;
            }
            b's' => {
                let from = self.height_of(2)?;
                let items = self.stack.split_off(from);
                self.set_items(&items)?;
            }
            b'u' => {
                let items = self.pop_mark()?;
                self.set_items(&items)?;
            }
            // GLOBAL, STACK_GLOBAL
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.stack.push(Value::Name(module, name));
            }
            0x93 => match (self.pop()?, self.pop()?) {
                (Value::Text(name), Value::Text(module)) => {
                    self.stack.push(Value::Name(module, name));
                }
                _ => return Err("a name that is not a string".to_owned()),
            },
            // REDUCE, NEWOBJ
            b'R' | 0x81 => {
                let (arguments, function) = (self.pop()?, self.pop()?);
                let made = self.call(function, arguments)?;
                self.stack.push(made);
            }
            // BUILD
            b'b' => {
                let state = self.pop()?;
                self.build(state)?;
            }
            // BINPERSID
            b'Q' => {
                let id = self.pop()?;
                self.storage(id)?;
            }
            // BINPUT, LONG_BINPUT, MEMOIZE, BINGET, LONG_BINGET
            b'q' => {
                let place = self.length::<1>()?;
                self.remember(place)?;
            }
            b'r' => {
                let place = self.length::<4>()?;
                self.remember(place)?;
            }
            0x94 => self.remember(self.memo.len() as u64)?,
            b'h' => {
                let place = self.length::<1>()?;
                self.recall(place)?;
            }
            b'j' => {
                let place = self.length::<4>()?;
                self.recall(place)?;
            }
            other => {
                return Err(format!(
                    "instruction {other:#04x} at byte {start}, which torch.save does not write"
                ));
            }
        }
        Ok(None)
    }
}
