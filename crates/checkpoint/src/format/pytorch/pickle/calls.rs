//! The calls in a pickle of `torch.save`. Those on a short list build values; nothing is ever executed.

use super::{
    super::value::{PickledTensor, Storage, Value},
    machine::{MAX_INSTRUCTIONS, Machine},
};

/// Arguments of a call, dimensions of a tensor and flags of one, at most.
const MAX_ARGUMENTS: usize = 16;

impl<'a> Machine<'a> {
    /// Attributes of an object, such as the `_metadata` of a `state_dict`. They are dropped: attributes are not entries.
    pub(super) fn build(&mut self, _state: Value<'a>) -> Result<(), String> {
        match self.top()? {
            Value::Dictionary(_) | Value::Foreign(..) => Ok(()),
            other => Err(format!("attributes for {}", other.kind())),
        }
    }

    pub(super) fn call(
        &mut self,
        function: Value<'a>,
        arguments: Value<'a>,
    ) -> Result<Value<'a>, String> {
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

    /// The supported calls; any other gives a [`Value::Foreign`].
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
                        return Err("a pickle that copies its lists too often".to_owned());
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

    /// Refuses a tensor that has to be conjugated or negated when it is read.
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
            return Err("a tensor with another number of strides than of dimensions".to_owned());
        }
        self.pickle.tensors.push(tensor);
        Ok(Value::Tensor(self.pickle.tensors.len() - 1))
    }

    /// A storage, from the tuple that `torch.save` writes: `("storage", type, key, location, length)`, and before PyTorch 0.4 a view
    /// of it, `(key, offset, length)`.
    pub(super) fn storage(&mut self, id: Value<'a>) -> Result<(), String> {
        let wrong = || "a storage that is not described as by torch.save".to_owned();
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
