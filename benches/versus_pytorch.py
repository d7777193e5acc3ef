"""The peer's half of versus_pytorch.rs: reads a request, does the same work with PyTorch, answers in JSON."""

import json
import os
import statistics
import sys
import time

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["CUDA_VISIBLE_DEVICES"] = ""
import peft
import PIL
import torch
import transformers
from PIL import Image
from peft import PeftModel
from transformers import LlavaForConditionalGeneration

transformers.logging.set_verbosity_error()

with open(sys.argv[1]) as file:
    request = json.load(file)
torch.set_num_threads(request["threads"])


def median(run, times):
    run()
    seconds = []
    for _ in range(times):
        start = time.perf_counter()
        run()
        seconds.append(time.perf_counter() - start)
    return statistics.median(seconds)


def padded(batch):
    """Ids, labels, mask and pixels: each image placeholder expanded to the picture's patches, rows padded on the right."""
    def expand(rows, fill):
        return [[x for id_, value in zip(marks, row) for x in ([fill] * request["patches"] if id_ == -200 else [value])]
                for row, marks in zip(rows, batch["input_ids"])]

    def pad(rows, fill):
        longest = max(map(len, rows))
        return torch.tensor([row + [fill] * (longest - len(row)) for row in rows])

    ids, labels = expand(batch["input_ids"], request["image_token"]), expand(batch["labels"], -100)
    size = request["image_size"]
    pixels = torch.tensor(batch["pixel_values"]).reshape(-1, 3, size, size)
    return pad(ids, 0), pad(labels, -100), pad([[1] * len(row) for row in ids], 0), pixels


ids, labels, mask, pixels = padded(request)

base = LlavaForConditionalGeneration.from_pretrained(os.path.join(request["folder"], "base"), dtype=torch.float32)
base.eval()


def decode(rows):
    return base.generate(input_ids=ids[:rows], attention_mask=mask[:rows], pixel_values=pixels[:rows], do_sample=False,
                         max_new_tokens=request["new_tokens"], min_new_tokens=request["new_tokens"], eos_token_id=None,
                         pad_token_id=0)


with torch.inference_mode():
    many = len(ids)
    decode_seconds = median(lambda: decode(1), 3)
    decode_many_seconds = median(lambda: decode(many), 3)
    written = decode(1)[0, ids.shape[1]:].tolist()
    written_many = decode(many)[:, ids.shape[1]:].tolist()

rows = request["rows"]
ids, labels, pixels, mask = ids[:rows], labels[:rows], pixels[:rows], mask[:rows]

model = PeftModel.from_pretrained(base, os.path.join(request["folder"], "adapter"), is_trainable=True)
model.train()
trained = [p for p in model.parameters() if p.requires_grad]
optimizer = torch.optim.AdamW(trained, lr=request["learning_rate"], weight_decay=0.0)


def step(ids, labels, mask, pixels, losses):
    loss = model(input_ids=ids, attention_mask=mask, pixel_values=pixels, labels=labels).loss
    loss.backward()
    torch.nn.utils.clip_grad_norm_(trained, 1.0)
    optimizer.step()
    optimizer.zero_grad()
    losses.append(loss.item())


def fresh_adapter():
    """Back to the first adapter and an empty optimizer."""
    global optimizer
    with torch.no_grad():
        for parameter, value in zip(trained, start):
            parameter.copy_(value)
    optimizer = torch.optim.AdamW(trained, lr=request["learning_rate"], weight_decay=0.0)


start = [parameter.detach().clone() for parameter in trained]
losses, mix_losses = [], []
step_seconds = median(lambda: step(ids, labels, mask, pixels, losses), request["steps"])
fresh_adapter()
mix = padded(request["mix"])
mix_seconds = median(lambda: step(*mix, mix_losses), request["steps"])

try:
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil as Processor
except ImportError:
    from transformers import CLIPImageProcessor as Processor
processor = Processor(size={"shortest_edge": 336}, crop_size={"height": 336, "width": 336})
picture = Image.open(os.path.join(request["folder"], "picture.png")).convert("RGB")


def process():
    side = max(picture.size)
    square = Image.new("RGB", (side, side), (122, 116, 104))
    square.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return processor(square, return_tensors="pt")["pixel_values"]


process_seconds = median(process, request["pictures"])
flat = process().flatten()
print(json.dumps({
    "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, peft {peft.__version__}, Pillow {PIL.__version__}",
    "step": step_seconds, "mix_step": mix_seconds, "mix_first_loss": mix_losses[0], "decode": decode_seconds, "decode_many": decode_many_seconds, "ids_many": written_many, "process": process_seconds, "first_loss": losses[0], "ids": written,
    "pixels": flat[::661].tolist(),
}))
