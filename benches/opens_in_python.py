"""Opens what `opens_in_python.rs` wrote with transformers, peft and torch, and compares logits."""

import json
import pathlib
import sys

import peft
import torch
import transformers
from peft import PeftModel
from transformers import CLIPVisionModel, LlavaForConditionalGeneration

FOLDER = pathlib.Path(sys.argv[1])
CASE = json.loads((FOLDER / "case.json").read_text())
IDS = torch.tensor(CASE["input_ids"])
PIXELS = torch.tensor(CASE["pixel_values"]).reshape(1, 3, CASE["size"], CASE["size"])
print(f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}")


def opened(name):
    model, info = LlavaForConditionalGeneration.from_pretrained(
        FOLDER / name, output_loading_info=True, attn_implementation="eager"
    )
    keys = [info[kind] for kind in ("missing_keys", "unexpected_keys", "mismatched_keys")]
    assert not any(keys), (name, keys)
    return model.eval()


def compare(name, model, expected):
    with torch.no_grad():
        logits = model(input_ids=IDS, pixel_values=PIXELS).logits[..., : CASE["words"]]
    expected = torch.tensor(CASE[expected]).reshape(logits.shape)
    worst = (logits - expected).abs().max().item()
    print(f"{name}: logits differ by at most {worst:.2e}, the largest is {expected.abs().max():.2f}")
    assert worst < 1e-4, name


transformers.utils.logging.set_verbosity_error()
compare("base", opened("base"), "logits")
compare("sharded", opened("sharded"), "logits")
compare("merged", opened("merged"), "adapter_logits")
adapted = PeftModel.from_pretrained(opened("base"), FOLDER / "adapter").eval()
compare("adapter", adapted, "adapter_logits")

tower, info = CLIPVisionModel.from_pretrained(
    FOLDER / "original" / "vision_tower", output_loading_info=True
)
assert not info["missing_keys"] and not info["unexpected_keys"], info
print(f"original's tower: {sum(p.numel() for p in tower.parameters())} parameters, no key missing or unexpected")
rest = torch.load(FOLDER / "llava_lora" / "non_lora_trainables.bin", weights_only=True)
ours = dict(adapted.named_parameters())
for index, name in ((0, "linear_1"), (2, "linear_2")):
    for leaf in ("weight", "bias"):
        (other,) = [v for k, v in ours.items() if k.endswith(f"modules_to_save.default.{name}.{leaf}")]
        assert torch.equal(rest[f"base_model.model.model.mm_projector.{index}.{leaf}"], other), leaf
print("LLaVA LoRA folder: projector equal to the PEFT folder's")
