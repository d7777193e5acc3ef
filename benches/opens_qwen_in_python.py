"""Opens what `opens_in_python.rs` wrote of Qwen-VL-Chat's architecture with torch and peft, and compares logits.

The model's own code is not needed: a tree of modules with its names, whose decoder computes what a short text takes.
"""

import json
import math
import pathlib
import sys

import peft
import torch
from peft import PeftModel
from safetensors.torch import load_file
from torch import nn
from transformers import PretrainedConfig

FOLDER = pathlib.Path(sys.argv[1])
CASE = json.loads((FOLDER / "qwen.json").read_text())
IDS = torch.tensor(CASE["input_ids"])


class RMSNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(width))
        self.eps = eps

    def forward(self, x):
        return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + self.eps) * self.weight


def turned(x, base):
    """Rotary positions of `[batch, heads, seq, width]`."""
    half = x.shape[-1] // 2
    angles = torch.arange(x.shape[2])[:, None] * base ** (-torch.arange(half) / half)
    cos, sin = angles.cos(), angles.sin()
    first, second = x[..., :half], x[..., half:]
    return torch.cat([first * cos - second * sin, second * cos + first * sin], -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        width = config["hidden_size"]
        self.heads, self.base = config["num_attention_heads"], config["rotary_emb_base"]
        self.c_attn = nn.Linear(width, 3 * width)
        self.c_proj = nn.Linear(width, width, bias=False)

    def forward(self, x):
        batch, seq, width = x.shape
        parts = self.c_attn(x).split(width, -1)
        q, k, v = (part.view(batch, seq, self.heads, -1).transpose(1, 2) for part in parts)
        q, k = turned(q, self.base), turned(k, self.base)
        mask = torch.full((seq, seq), -math.inf).triu(1)
        weights = (q @ k.transpose(2, 3) / math.sqrt(q.shape[-1]) + mask).softmax(-1)
        return self.c_proj((weights @ v).transpose(1, 2).reshape(batch, seq, width))


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, inner = config["hidden_size"], config["intermediate_size"] // 2
        self.w1 = nn.Linear(width, inner, bias=False)
        self.w2 = nn.Linear(width, inner, bias=False)
        self.c_proj = nn.Linear(inner, width, bias=False)

    def forward(self, x):
        return self.c_proj(self.w1(x) * nn.functional.silu(self.w2(x)))


class Block(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, eps = config["hidden_size"], config["layer_norm_epsilon"]
        self.ln_1, self.ln_2 = RMSNorm(width, eps), RMSNorm(width, eps)
        self.attn, self.mlp = Attention(config), Mlp(config)

    def forward(self, x):
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))


def part(**modules):
    return nn.ModuleDict(modules)


def visual(config):
    """The tower and the resampler: names and shapes alone."""
    width, out, patch = config["width"], config["output_dim"], config["patch_size"]
    inner = int(width * config["mlp_ratio"])
    blocks = [
        part(
            ln_1=nn.LayerNorm(width),
            ln_2=nn.LayerNorm(width),
            attn=part(in_proj=nn.Linear(width, 3 * width), out_proj=nn.Linear(width, width)),
            mlp=part(c_fc=nn.Linear(width, inner), c_proj=nn.Linear(inner, width)),
        )
        for _ in range(config["layers"])
    ]
    pool = part(
        kv_proj=nn.Linear(width, out, bias=False),
        attn=nn.MultiheadAttention(out, out // 128),
        ln_q=nn.LayerNorm(out),
        ln_kv=nn.LayerNorm(out),
    )
    pool.query = nn.Parameter(torch.empty(256, out))
    pool.pos_embed = nn.Parameter(torch.empty(256, out))
    tower = part(
        conv1=nn.Conv2d(3, width, patch, patch, bias=False),
        ln_pre=nn.LayerNorm(width),
        transformer=part(resblocks=nn.ModuleList(blocks)),
        attn_pool=pool,
        ln_post=nn.LayerNorm(out),
    )
    tower.positional_embedding = nn.Parameter(torch.empty(256, width))
    tower.proj = nn.Parameter(torch.empty(out, out))
    return tower


class Model(nn.Module):
    def __init__(self, config):
        super().__init__()
        width, words = config["hidden_size"], config["vocab_size"]
        blocks = [Block(config) for _ in range(config["num_hidden_layers"])]
        self.transformer = part(
            wte=nn.Embedding(words, width),
            h=nn.ModuleList(blocks),
            ln_f=RMSNorm(width, config["layer_norm_epsilon"]),
            visual=visual(config["visual"]),
        )
        self.lm_head = nn.Linear(width, words, bias=False)
        # What peft asks of a model that generates.
        self.config = PretrainedConfig(tie_word_embeddings=False)
        self.prepare_inputs_for_generation = None

    def forward(self, input_ids, **_):
        x = self.transformer["wte"](input_ids)
        for block in self.transformer["h"]:
            x = block(x)
        return self.lm_head(self.transformer["ln_f"](x))


def opened(name):
    """A folder with every tensor in its place: none missing, none left over, all shapes equal."""
    index = json.loads((FOLDER / name / "model.safetensors.index.json").read_text())
    tensors = {}
    for shard in set(index["weight_map"].values()):
        tensors |= load_file(FOLDER / name / shard)
    assert tensors.keys() == index["weight_map"].keys(), name
    model = Model(json.loads((FOLDER / name / "config.json").read_text()))
    model.load_state_dict(tensors, strict=True)
    return model.eval()


def compare(name, model, expected):
    with torch.no_grad():
        logits = model(IDS)
    expected = torch.tensor(CASE[expected]).reshape(logits.shape)
    worst = (logits - expected).abs().max().item()
    print(f"{name}: logits differ by at most {worst:.2e}, the largest is {expected.abs().max():.2f}")
    assert worst < 1e-4, name


compare("qwen", opened("qwen"), "logits")
compare("qwen_merged", opened("qwen_merged"), "adapter_logits")
adapted = PeftModel.from_pretrained(opened("qwen"), FOLDER / "qwen_adapter").eval()
ours = load_file(FOLDER / "qwen_adapter" / "adapter_model.safetensors").keys()
theirs = peft.get_peft_model_state_dict(adapted, save_embedding_layers=False).keys()
assert ours == theirs, ours ^ theirs
print(f"qwen_adapter: {len(ours)} tensors, those that peft's modules have")
compare("qwen_adapter", adapted, "adapter_logits")
compare("qwen_adapter, merged by peft", adapted.merge_and_unload(), "adapter_logits")
