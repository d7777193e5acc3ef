//! The language of pickles, as far as `torch.save` writes it: values are built, nothing is ever called.
//!
//! A pickle is a program for a stack machine. Of its instructions, those that `torch.save` writes with protocols 2 to 5 are carried
//! out here; every other one is an error. A name of Python's stays a name, and a "call" of one builds a value only if the name is on
//! the short list in [`Machine::reduce`]. Texts are slices of the file, and the number of instructions is bounded, so that memory is
//! bounded whatever the pickle says.

use std::collections::HashMap;

use super::value::{PickledTensor, Storage, Value};

/// Most instructions of a pickle. A tensor takes about 40, so this is room for ten thousand of them.
const MAX_INSTRUCTIONS: usize = 1 << 19;

/// Most values that a pickle keeps for later. A tensor takes about 8.
const MAX_KEPT: usize = 1 << 17;

/// What a pickle builds.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    pub(super) root: Option<Value<'a>>,
    /// Bytes it takes.
    pub(super) length: usize,
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dictionaries: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<PickledTensor<'a>>,
}

impl<'a> Pickle<'a> {
    /// Reads the pickle that `bytes` start with.
    pub(super) fn read(bytes: &'a [u8]) -> Result<Self, String> {
        let mut machine = Machine {
            bytes,
            at: 0,
            stack: Vec::new(),
            marks: Vec::new(),
            memo: HashMap::new(),
            copied: 0,
            pickle: Pickle::default(),
        };
        for _ in 0..MAX_INSTRUCTIONS {
            if let Some(root) = machine.step()? {
                machine.pickle.root = Some(root);
                machine.pickle.length = machine.at;
                return Ok(machine.pickle);
            }
        }
        Err(format!(
            "a pickle of more than {MAX_INSTRUCTIONS} instructions; a model takes some ten thousand"
        ))
    }
}

struct Machine<'a> {
    bytes: &'a [u8],
    at: usize,
    stack: Vec<Value<'a>>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value<'a>>,
    /// Entries copied by calls; an instruction of a few bytes could otherwise copy a long list, again and again.
    copied: usize,
    pickle: Pickle<'a>,
}

/// Most arguments of a call, dimensions of a tensor and flags of one.
const MAX_ARGUMENTS: usize = 16;

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
                _ => return Err("a name that is no text".to_owned()),
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

    fn take(&mut self, count: usize) -> Result<&'a [u8], String> {
        let end = self.at.checked_add(count);
        let taken = end.and_then(|end| self.bytes.get(self.at..end));
        let taken = taken.ok_or("a pickle that is cut off")?;
        self.at += count;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], String> {
        let mut array = [0; N];
        array.copy_from_slice(self.take(N)?);
        Ok(array)
    }

    /// An unsigned number of `N` bytes.
    fn length<const N: usize>(&mut self) -> Result<u64, String> {
        let mut wide = [0; 8];
        wide[..N].copy_from_slice(self.take(N)?);
        Ok(u64::from_le_bytes(wide))
    }

    /// Bytes behind their number.
    fn counted<const N: usize>(&mut self) -> Result<&'a [u8], String> {
        let count = self.length::<N>()?;
        self.take(usize::try_from(count).map_err(|_| "a pickle that is cut off")?)
    }

    fn long<const N: usize>(&mut self) -> Result<(), String> {
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

    fn text<const N: usize>(&mut self) -> Result<(), String> {
        let bytes = self.counted::<N>()?;
        let text = std::str::from_utf8(bytes).map_err(|_| "a text that is not UTF-8")?;
        self.stack.push(Value::Text(text));
        Ok(())
    }

    fn skip_bytes<const N: usize>(&mut self) -> Result<(), String> {
        self.counted::<N>()?;
        self.stack.push(Value::Bytes);
        Ok(())
    }

    fn line(&mut self) -> Result<&'a str, String> {
        let rest = &self.bytes[self.at..];
        let end = rest.iter().position(|&byte| byte == b'\n');
        let line = self.take(end.ok_or("a pickle that is cut off")?)?;
        self.at += 1;
        std::str::from_utf8(line).map_err(|_| "a name that is not UTF-8".to_owned())
    }

    /// Height of the stack below its `count` topmost values, which no mark may divide.
    fn height_of(&self, count: usize) -> Result<usize, String> {
        let floor = self.marks.last().copied().unwrap_or(0);
        let height = self.stack.len().checked_sub(count);
        height
            .filter(|&height| height >= floor)
            .ok_or_else(|| "a pickle that takes what is not on its stack".to_owned())
    }

    fn pop(&mut self) -> Result<Value<'a>, String> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn top(&self) -> Result<Value<'a>, String> {
        self.height_of(1).map(|height| self.stack[height])
    }

    fn pop_mark(&mut self) -> Result<Vec<Value<'a>>, String> {
        let mark = self.marks.pop().ok_or("a pickle without a mark")?;
        Ok(self.stack.split_off(mark))
    }

    fn push_sequence(&mut self, items: Vec<Value<'a>>) {
        self.stack
            .push(Value::Sequence(self.pickle.sequences.len()));
        self.pickle.sequences.push(items);
    }

    fn push_dictionary(&mut self, entries: Vec<(Value<'a>, Value<'a>)>) {
        self.stack
            .push(Value::Dictionary(self.pickle.dictionaries.len()));
        self.pickle.dictionaries.push(entries);
    }

    fn extend(&mut self, items: Vec<Value<'a>>) -> Result<(), String> {
        match self.top()? {
            Value::Sequence(list) => self.pickle.sequences[list].extend(items),
            // Not ours to fill, and not looked at either.
            Value::Foreign(..) => {}
            other => return Err(format!("items for {}", other.kind())),
        }
        Ok(())
    }

    fn set_items(&mut self, items: &[Value<'a>]) -> Result<(), String> {
        match self.top()? {
            Value::Dictionary(entries) => {
                self.pickle.dictionaries[entries].extend(pairs(items)?);
            }
            Value::Foreign(..) => {}
            other => return Err(format!("entries for {}", other.kind())),
        }
        Ok(())
    }

    fn remember(&mut self, place: u64) -> Result<(), String> {
        let top = self.top()?;
        self.memo.insert(place, top);
        if self.memo.len() > MAX_KEPT {
            return Err(format!("a pickle that keeps more than {MAX_KEPT} values"));
        }
        Ok(())
    }

    fn recall(&mut self, place: u64) -> Result<(), String> {
        let value = self.memo.get(&place).ok_or("a value that was not kept")?;
        self.stack.push(*value);
        Ok(())
    }

    /// Attributes of an object. The `_metadata` of a `state_dict` is one; attributes are no entries, whatever their names.
    fn build(&mut self, _state: Value<'a>) -> Result<(), String> {
        match self.top()? {
            Value::Dictionary(_) | Value::Foreign(..) => Ok(()),
            other => Err(format!("attributes for {}", other.kind())),
        }
    }

    fn call(&mut self, function: Value<'a>, arguments: Value<'a>) -> Result<Value<'a>, String> {
        let (Value::Name(module, name), Value::Sequence(arguments)) = (function, arguments) else {
            return Err(format!("a call of {}", function.kind()));
        };
        let arguments = self.arguments(arguments)?;
        // A tensor with attributes, or of a subclass: (function, type, its arguments, attributes).
        if let ("torch._tensor", "_rebuild_from_type_v2") = (module, name) {
            return match arguments[..] {
                [
                    Value::Name(module, name),
                    Value::Name(
                        "torch" | "torch._tensor" | "torch.nn.parameter",
                        "Tensor" | "Parameter",
                    ),
                    Value::Sequence(inner),
                    _,
                ] => {
                    let inner = self.arguments(inner)?;
                    self.reduce((module, name), &inner)
                }
                [_, Value::Name(module, name), ..] => Ok(Value::Foreign(module, name)),
                _ => Ok(Value::Foreign(module, name)),
            };
        }
        self.reduce((module, name), &arguments)
    }

    fn arguments(&self, of: usize) -> Result<Vec<Value<'a>>, String> {
        let arguments = &self.pickle.sequences[of];
        if arguments.len() > MAX_ARGUMENTS {
            return Err(format!("a call with {} arguments", arguments.len()));
        }
        Ok(arguments.clone())
    }

    /// The few calls that are understood; any other makes a value that nobody can use.
    fn reduce(
        &mut self,
        (module, name): (&'a str, &'a str),
        arguments: &[Value<'a>],
    ) -> Result<Value<'a>, String> {
        use Value::{Name, Sequence, Storage, Tensor};
        Ok(match (module, name, arguments) {
            ("collections", "OrderedDict", items) => {
                let mut entries = Vec::new();
                if let [Sequence(items)] = items {
                    let items = &self.pickle.sequences[*items];
                    self.copied += items.len();
                    if self.copied > MAX_INSTRUCTIONS {
                        return Err("a pickle that copies its lists".to_owned());
                    }
                    for item in items {
                        let pair = match item {
                            Sequence(pair) => &self.pickle.sequences[*pair][..],
                            _ => &[],
                        };
                        let &[key, value] = pair else {
                            return Err(format!("entries made of {}", item.kind()));
                        };
                        entries.push((key, value));
                    }
                }
                self.pickle.dictionaries.push(entries);
                Value::Dictionary(self.pickle.dictionaries.len() - 1)
            }
            ("torch", "Size", [Sequence(sizes)]) => Sequence(*sizes),
            (
                "torch._utils",
                "_rebuild_tensor" | "_rebuild_tensor_v2",
                [
                    Storage(storage),
                    Value::Int(offset),
                    Sequence(shape),
                    Sequence(strides),
                    rest @ ..,
                ],
            ) => {
                self.plain(rest.get(2))?;
                self.tensor(*storage, *offset, [*shape, *strides], None)?
            }
            (
                "torch._utils",
                "_rebuild_tensor_v3",
                [
                    Storage(storage),
                    Value::Int(offset),
                    Sequence(shape),
                    Sequence(strides),
                    _,
                    _,
                    Name("torch", dtype),
                    rest @ ..,
                ],
            ) => {
                self.plain(rest.first())?;
                self.tensor(*storage, *offset, [*shape, *strides], Some(dtype))?
            }
            (
                "torch._utils",
                "_rebuild_parameter" | "_rebuild_parameter_with_state",
                [Tensor(tensor), ..],
            ) => Tensor(*tensor),
            _ => Value::Foreign(module, name),
        })
    }

    /// Refuses a tensor that is to be conjugated or negated when it is read.
    fn plain(&self, metadata: Option<&Value<'a>>) -> Result<(), String> {
        match metadata {
            Some(Value::Dictionary(flags)) => {
                let flags = &self.pickle.dictionaries[*flags];
                match flags
                    .iter()
                    .take(MAX_ARGUMENTS)
                    .find(|(_, value)| *value == Value::Bool(true))
                {
                    Some((Value::Text(flag), _)) => Err(format!(
                        "a tensor with the flag `{flag}`, which is not supported"
                    )),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }

    fn tensor(
        &mut self,
        storage: usize,
        offset: i64,
        [shape, strides]: [usize; 2],
        dtype: Option<&'a str>,
    ) -> Result<Value<'a>, String> {
        let sizes = |of: usize| -> Result<Vec<usize>, String> {
            let sizes = self.arguments(of)?.into_iter().map(|size| match size {
                Value::Int(size) => usize::try_from(size).ok(),
                _ => None,
            });
            let sizes: Option<Vec<usize>> = sizes.collect();
            sizes.ok_or_else(|| "a tensor of an impossible size".to_owned())
        };
        let tensor = PickledTensor {
            storage,
            offset: u64::try_from(offset).map_err(|_| "a tensor that begins before its storage")?,
            shape: sizes(shape)?,
            strides: sizes(strides)?,
            dtype,
        };
        if tensor.shape.len() != tensor.strides.len() {
            return Err("a tensor whose sizes and strides differ in number".to_owned());
        }
        self.pickle.tensors.push(tensor);
        Ok(Value::Tensor(self.pickle.tensors.len() - 1))
    }

    /// A storage, by the tuple that `torch.save` writes: `("storage", type, key, location, length)`, and before 0.4 a part of
    /// another, `(key, offset, length)`.
    fn storage(&mut self, id: Value<'a>) -> Result<(), String> {
        let wrong = || "a storage that is not described as torch.save does".to_owned();
        let Value::Sequence(id) = id else {
            return Err(wrong());
        };
        let [
            Value::Text("storage"),
            Value::Name("torch" | "torch.cuda" | "torch.storage", kind),
            Value::Text(key),
            _,
            Value::Int(length),
            ref view @ ..,
        ] = self.pickle.sequences[id][..]
        else {
            return Err(wrong());
        };
        let mut storage = Storage {
            key,
            kind,
            length: u64::try_from(length).map_err(|_| wrong())?,
            offset: 0,
        };
        match view {
            [] | [Value::None] => {}
            [Value::Sequence(view)] => match self.pickle.sequences[*view][..] {
                [_, Value::Int(offset), Value::Int(length)] => {
                    storage.offset = u64::try_from(offset).map_err(|_| wrong())?;
                    storage.length = u64::try_from(length).map_err(|_| wrong())?;
                }
                _ => return Err(wrong()),
            },
            _ => return Err(wrong()),
        }
        self.stack.push(Value::Storage(self.pickle.storages.len()));
        self.pickle.storages.push(storage);
        Ok(())
    }
}

fn pairs<'a>(items: &[Value<'a>]) -> Result<Vec<(Value<'a>, Value<'a>)>, String> {
    let (pairs, rest) = items.as_chunks::<2>();
    if !rest.is_empty() {
        return Err("a name without a value".to_owned());
    }
    Ok(pairs.iter().map(|&[key, value]| (key, value)).collect())
}
