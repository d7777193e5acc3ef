"""Writes the PyTorch files of this folder, and what torch reads back from them (expected.json). Written with torch 2.15.0."""

import json
from collections import OrderedDict
from pathlib import Path

import torch
from torch import nn

here = Path(__file__).parent
expected = {}


def describe(tensor):
    return {"shape": list(tensor.shape), "values": tensor.detach().to(torch.float64).flatten().tolist()}


def save(name, value, **options):
    path = here / f"{name}.bin"
    torch.save(value, path, **options)
    if not name.startswith("refused"):
        read = torch.load(path, weights_only=False)
        expected[name] = {key: describe(tensor) for key, tensor in read.items()}


torch.manual_seed(0)
model = nn.Sequential(nn.Linear(3, 2), nn.LayerNorm(2))
for protocol in (2, 3, 4, 5):
    save(f"state_dict_{protocol}", model.state_dict(), pickle_protocol=protocol)
    save(f"legacy_{protocol}", model.state_dict(), pickle_protocol=protocol, _use_new_zipfile_serialization=False)
save("plain", dict(model.state_dict()))
save("parameters", dict(model.named_parameters()))

with_state = nn.Parameter(torch.arange(4.0))
with_state.note = "kept by torch"
attributed = torch.arange(3.0)
attributed.note = [1, 2]
save("with_attributes", {"parameter": with_state, "tensor": attributed})

base = torch.arange(24.0).reshape(4, 6)
views = OrderedDict(
    all=base,
    tied=base,
    row=base[2],
    column=base[:, 1],
    transposed=base.t(),
    block=base[1:3, 2:5],
    every_other=base[::2, ::3],
    permuted=base.reshape(2, 2, 6).permute(2, 0, 1),
    expanded=torch.tensor([[1.0], [2.0]]).expand(2, 5),
    scalar=torch.tensor(7.5),
    one=base[3:4, 5:6],
    empty=torch.zeros(0, 3),
)
save("views", views)
save("views_legacy", views, _use_new_zipfile_serialization=False)

save(
    "dtypes",
    {
        "f16": torch.tensor([1.5, -2.0, 65504.0], dtype=torch.float16),
        "bf16": torch.tensor([1.5, -2.0, 3.0e38], dtype=torch.bfloat16),
        "f32": torch.tensor([1.5, -2.0, 1e-40]),
        "f64": torch.tensor([1.5], dtype=torch.float64),
        "i64": torch.tensor([1, -2]),
        "bool": torch.tensor([True, False]),
        "u16": torch.tensor([1, 65535], dtype=torch.uint16),
        "f8": torch.tensor([1.5, -2.0], dtype=torch.float8_e4m3fn),
    },
)

# An attribute of the name of an entry: torch's dictionary has the entry.
shadowed = OrderedDict(weight=torch.ones(2), bias=torch.zeros(2))
shadowed.weight = torch.full((2,), 9.0)
shadowed._metadata = {"weight": torch.full((2,), 8.0)}
save("attribute_of_the_same_name", shadowed)

torch.serialization.set_crc32_options(False)
save("without_crc32", model.state_dict())
torch.serialization.set_crc32_options(True)

save("refused_nested", {"state_dict": {"weight": torch.ones(2)}, "epoch": 3})
save("refused_number", {"weight": torch.ones(2), "epoch": 3})
save("refused_negated", {"weight": torch._neg_view(torch.ones(2))})
save("refused_sparse", {"weight": torch.eye(2).to_sparse()})

(here / "expected.json").write_text(json.dumps(expected) + "\n")
