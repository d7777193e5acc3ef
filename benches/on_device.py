"""The peer's half of on_device.rs: reads a request, does the same work with PyTorch + transformers + peft, answers in JSON."""

import json
import os
import statistics
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
import peft
import torch
import torch.nn.functional as F
import transformers
from transformers import CLIPVisionConfig, LlamaConfig, LlavaConfig, LlavaForConditionalGeneration

transformers.logging.set_verbosity_error()

with open(sys.argv[1]) as file:
    request = json.load(file)
on_gpu = request["device"].startswith("cuda")
device = torch.device(request["device"])
dtype = getattr(torch, request["dtype"])
torch.set_num_threads(request["threads"])
torch.manual_seed(7)
vision, llama, patches = request["vision"], request["llama"], request["tokens_per_picture"]
IMAGE = llama["vocab_size"]


def wait():
    if on_gpu:
        torch.cuda.synchronize(device)


def median(run):
    seconds = []
    for _ in range(request["warm_up"] + request["times"]):
        wait()
        start = time.perf_counter()
        run()
        wait()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds[request["warm_up"]:])


def model():
    names = ("hidden_size", "intermediate_size", "num_hidden_layers", "num_attention_heads")
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**{name: vision[name] for name in names}, image_size=vision["image_size"],
                                       patch_size=vision["patch_size"]),
        text_config=LlamaConfig(**{name: llama[name] for name in names}, num_key_value_heads=llama["num_key_value_heads"],
                                vocab_size=IMAGE + 64, max_position_embeddings=llama["max_position_embeddings"],
                                rms_norm_eps=llama["rms_norm_eps"]),
        image_token_index=IMAGE, vision_feature_layer=-2, vision_feature_select_strategy="default", attn_implementation="sdpa")
    default = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    with device:
        made = LlavaForConditionalGeneration(config)
    torch.set_default_dtype(default)
    return made.eval().requires_grad_(False)


def row(words, seed):
    ids = [3 + (at * 7919 + seed * 104729) % (llama["vocab_size"] - 100) for at in range(words)]
    ids[0] = 1
    at = min(30, words)
    return ids[:at] + [IMAGE] * patches + ids[at:]


def pixels(count):
    return torch.randn(count, 3, vision["image_size"], vision["image_size"], device=device, dtype=dtype)


def prompts(rows):
    words = request["prompt"] - patches
    ids = torch.tensor([row(words, seed) for seed in range(rows)], device=device)
    return {"input_ids": ids, "attention_mask": torch.ones_like(ids), "pixel_values": pixels(rows)}


def step():
    base = model()
    targets = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = peft.LoraConfig(r=request["rank"], lora_alpha=2 * request["rank"], lora_dropout=0.0,
                             target_modules=rf".*language_model.*\.({'|'.join(targets)})", modules_to_save=["multi_modal_projector"])
    adapted = peft.get_peft_model(base, config)
    trained = [parameter for parameter in adapted.parameters() if parameter.requires_grad]
    for parameter in trained:
        parameter.data = parameter.data.float()
    adapted.train()
    adapted.enable_input_require_grads()
    adapted.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    optimizer = torch.optim.AdamW(trained, lr=1e-4, weight_decay=0.0, fused=on_gpu)
    rows = [row(words, seed) for seed, words in enumerate(request["words"])]
    longest = max(map(len, rows))

    def padded(rows, fill):
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows], device=device)

    # All but the question is supervised: 60 ids of ours, of which one is the picture's placeholder.
    labels = [[-100 if at < 59 + patches or id_ == IMAGE else id_ for at, id_ in enumerate(row)] for row in rows]
    ids, labels, mask = padded(rows, 0), padded(labels, -100), padded([[1] * len(row) for row in rows], 0)
    pictures = pixels(len(rows))
    first = []

    def one():
        with torch.autocast(device.type, dtype, enabled=dtype != torch.float32):
            loss = adapted(input_ids=ids, attention_mask=mask, pixel_values=pictures, labels=labels, use_cache=False).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        first.append(loss.item())

    seconds = median(one)
    return {"step": seconds, "loss": first[0], "trained": sum(parameter.numel() for parameter in trained)}


@torch.inference_mode()
def read():
    made = model()
    inputs = prompts(1)
    return {"read": median(lambda: made(**inputs, logits_to_keep=1).logits[0, -1].argmax().item())}


@torch.inference_mode()
def write():
    made = model()
    found = {}
    for rows in request["rows"]:
        inputs = prompts(rows)

        def some(count):
            start = time.perf_counter()
            made.generate(**inputs, do_sample=False, max_new_tokens=count, min_new_tokens=count, eos_token_id=None, pad_token_id=0)
            wait()
            return time.perf_counter() - start

        some(request["new_tokens"])
        # The reading of the prompt falls out.
        count = request["new_tokens"]
        found[f"write_{rows}"] = (some(2 * count) - some(count)) / count
    return found


def attention():
    found = {}
    heads = llama["num_attention_heads"]
    dim = llama["hidden_size"] // heads
    for seq in request["lengths"]:
        shape = (request["attention_tokens"] // seq, heads, seq, dim)
        q, k, v, weights = (torch.randn(shape, device=device, dtype=dtype) for _ in range(4))
        with torch.inference_mode():
            forward = median(lambda: F.scaled_dot_product_attention(q, k, v, is_causal=True))
        leaves = [x.requires_grad_() for x in (q, k, v)]
        if on_gpu:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(device)
            before = torch.cuda.memory_allocated(device)

        def both():
            for leaf in leaves:
                leaf.grad = None
            F.scaled_dot_product_attention(*leaves, is_causal=True).backward(weights)

        seconds = median(both)
        if on_gpu:
            found[f"memory_{seq}"] = torch.cuda.max_memory_allocated(device) - before
        found[f"forward_{seq}"], found[f"backward_{seq}"] = forward, max(seconds - forward, 0.0)
    return found


@torch.inference_mode()
def tower():
    made = model().model.vision_tower
    pictures = pixels(request["pictures"])
    return {"tower": median(lambda: made(pictures, output_hidden_states=True).hidden_states[-2])}


answer = {"step": step, "read": read, "write": write, "attention": attention, "tower": tower}[request["part"]]()
answer["versions"] = f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}"
if on_gpu:
    answer["device"] = torch.cuda.get_device_name(device)
print(json.dumps(answer))
