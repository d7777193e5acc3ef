//! The contents of a pickle of `torch.save`: values, storages, tensors.

/// A value of a pickle. Containers and tensors are held by [`Pickle`]; a value holds only an index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    None,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits, little endian.
    Long(&'a [u8]),
    Float,
    Text(&'a str),
    Bytes,
    /// A tuple or a list.
    Sequence(usize),
    Dictionary(usize),
    /// A global name, as module and name.
    Name(&'a str, &'a str),
    Storage(usize),
    Tensor(usize),
    /// The result of a call that is not carried out.
    Foreign(&'a str, &'a str),
}

impl Value<'_> {
    /// What it is, for a message.
    pub(super) fn kind(&self) -> String {
        match self {
            Self::None => "None".to_owned(),
            Self::Bool(_) => "a boolean".to_owned(),
            Self::Int(_) | Self::Long(_) => "an integer".to_owned(),
            Self::Float => "a float".to_owned(),
            Self::Text(_) => "a string".to_owned(),
            Self::Bytes => "bytes".to_owned(),
            Self::Sequence(_) => "a list".to_owned(),
            Self::Dictionary(_) => "a dictionary; the tensors have to be at the root".to_owned(),
            Self::Storage(_) => "a storage without a tensor".to_owned(),
            Self::Tensor(_) => "a tensor".to_owned(),
            Self::Name(module, name) | Self::Foreign(module, name) => {
                format!("a `{module}.{name}`, which is not run")
            }
        }
    }
}

/// A storage that the pickle names.
#[derive(Clone, Copy, Debug)]
pub(super) struct Storage<'a> {
    /// Its name in the file.
    pub(super) key: &'a str,
    /// Its class in PyTorch, such as `FloatStorage`.
    pub(super) kind: &'a str,
    /// Number of its elements.
    pub(super) length: u64,
    /// Offset in the storage `key`, in elements, if this is a view of it (PyTorch before 0.4).
    pub(super) offset: u64,
}

/// A tensor that the pickle describes.
#[derive(Clone, Debug)]
pub(super) struct PickledTensor<'a> {
    /// Index among the pickle's storages.
    pub(super) storage: usize,
    pub(super) offset: u64,
    pub(super) shape: Vec<usize>,
    pub(super) strides: Vec<usize>,
    /// Its dtype by name, if that is not the storage's.
    pub(super) dtype: Option<&'a str>,
}

/// What a pickle builds.
#[derive(Debug, Default)]
pub(super) struct Pickle<'a> {
    pub(super) root: Option<Value<'a>>,
    /// Length in bytes.
    pub(super) length: usize,
    pub(super) sequences: Vec<Vec<Value<'a>>>,
    pub(super) dictionaries: Vec<Vec<(Value<'a>, Value<'a>)>>,
    pub(super) storages: Vec<Storage<'a>>,
    pub(super) tensors: Vec<PickledTensor<'a>>,
}
