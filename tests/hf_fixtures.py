"""Round trips of the checkpoints in tests/fixtures through codedance and back: hf_fixtures.py CODEDANCE WORK_DIR

For each of them: exported in its own dtype, transformers loads the same weights to the bit; exported as bf16, the rounded
ones. Saved in bf16 shards, in f16 and under the names in memory, exports keep names and bytes. Trained for two steps by `codedance train` and exported, transformers'
loss on the next batch is ours, and ours is that of the same steps by torch's AdamW on transformers' model; log-probs of
every token of the trained model agree, with pictures as Pillow resizes them and, with model.image_processor torchvision,
as AutoProcessor does by itself.
"""
import copy
import glob
import json
import os
import shutil
import subprocess
import sys

import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file
from transformers import AutoProcessor, AutoTokenizer

try:  # transformers 5: the default processor resizes tensors, not Pillow's way
    from transformers import Qwen2VLImageProcessorPil as ImageProcessor
except ImportError:
    from transformers import Qwen2VLImageProcessor as ImageProcessor

exe, work = sys.argv[1], sys.argv[2]
ROOT = os.path.join(os.path.dirname(os.path.abspath(__file__)), "fixtures")
BOUND = 1e-5  # of the largest log-prob: against float64 each of the two is within 3e-6 (the records' .err, test_fixtures)
# dtype, shard size, names in memory instead of the published ones
LAYOUTS = {"bf16_shards": (torch.bfloat16, "60KB", False), "f16": (torch.float16, "5GB", False),
           "raw_names": (torch.float32, None, True)}
TRAIN = """run: {{dir: '{run}'}}
model: {{path: '{model}', chat_style: {style}}}
train: {{stages: [sft], max_tokens: 1024, max_patches: 1024, checkpoint_every: 2, keep: 9}}
sft: {{data: '{model}/chats.jsonl', steps: 2, batch: 3}}
optim_sft: {{lr: 0.003, beta1: 0.9, beta2: 0.95, weight_decay: 0.1, clip_norm: 0, grad_shards: 2, schedule: constant, warmup_steps: 0}}
"""
torch.set_num_threads(2)
transformers.utils.logging.disable_progress_bar()


def codedance(*args):
    done = subprocess.run([exe, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"codedance {' '.join(args)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def load(directory):
    with open(os.path.join(directory, "config.json")) as f:
        model_class = getattr(transformers, json.load(f)["architectures"][0])
    model, info = model_class.from_pretrained(directory, dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    problems = {k: v for k, v in info.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys") and v}
    if problems:
        sys.exit(f"{directory}: transformers reports {problems}")
    return model.eval()


def same_weights(a, b, what, cast=None):
    a, b = a.state_dict(), b.state_dict()
    if a.keys() != b.keys():
        sys.exit(f"{what}: other names: {sorted(a.keys() ^ b.keys())[:5]}")
    for name in a:
        if not torch.equal(a[name].to(cast).float() if cast else a[name], b[name].float()):
            sys.exit(f"{what}: {name} differs")


def inputs_of(row, directory, tokenizer, processor):
    messages = []
    for m in row["messages"]:
        parts = m["content"] if isinstance(m["content"], list) else [{"type": "text", "text": m["content"]}]
        if processor:
            parts = [{"type": "image", "image": Image.open(os.path.join(directory, p["path"]))} if p["type"] == "image" else p for p in parts]
        else:
            parts = "".join(p["text"] for p in parts)
        messages.append({"role": m["role"], "content": parts})
    text = (processor or tokenizer).apply_chat_template(messages, tokenize=False)
    images = [p["image"] for m in messages for p in m["content"] if p["type"] == "image"] if processor else []
    return (processor(text=[text], images=images, return_tensors="pt") if images else
            tokenizer([text], return_tensors="pt", add_special_tokens=False))


def compare(directory, trained, model, tokenizer, processor, options):
    """Largest difference of log-probs and the largest of them; mean loss of `codedance score` and of transformers."""
    worst, largest, ours, theirs, targets = 0.0, 1.0, 0.0, 0.0, 0
    with open(os.path.join(directory, "chats.jsonl")) as f:
        rows = [json.loads(line) for line in f]
    sets = [a for o in options for a in ("--set", o)]
    scores = codedance("score", "--model", trained, *sets, os.path.join(directory, "chats.jsonl")).splitlines()
    if len(scores) != len(rows):
        sys.exit(f"{directory}: {len(scores)} scores of {len(rows)} conversations")
    for row, line in zip(rows, scores):
        got, inputs = json.loads(line), inputs_of(row, directory, tokenizer, processor)
        ids = inputs["input_ids"][0]
        if ids.tolist() != got["ids"]:
            sys.exit(f"{directory}: {row['id']}: ids {got['ids']}, transformers {ids.tolist()}")
        with torch.no_grad():
            want = torch.log_softmax(model(**inputs).logits[0].float(), -1)[:-1].gather(1, ids[1:, None])[:, 0]
        have, mask = torch.tensor(got["logprobs"][1:]), torch.tensor(got["mask"][1:]).bool()
        worst, largest = max(worst, (have - want).abs().max().item()), max(largest, want.abs().max().item())
        ours, theirs, targets = ours - have[mask].double().sum().item(), theirs - want[mask].double().sum().item(), targets + mask.sum().item()
    return worst, largest, ours / targets, theirs / targets


def check_layout(name, directory, original, layout):
    """The same model as others save it: its export holds the same tensors, names and bytes, and loads."""
    saved, exported = (os.path.join(work, f"{name}_{layout}_{kind}") for kind in ("saved", "export"))
    dtype, shard, raw = LAYOUTS[layout]
    shutil.copytree(directory, saved, ignore=lambda _, names: [n for n in names if n in ("model.safetensors", "record.safetensors", "img")])
    model = copy.deepcopy(original).to(dtype)
    if raw:  # what FSDP or a training script writes: the names in memory
        state = {k: v for k, v in model.state_dict().items() if not (k == "lm_head.weight" and model.config.tie_word_embeddings)}
        save_file({k: v.contiguous() for k, v in state.items()}, os.path.join(saved, "model.safetensors"), {"format": "pt"})
    else:
        model.save_pretrained(saved, max_shard_size=shard)
    codedance("export", saved, "--to", exported)
    had, wrote = tensors(saved), tensors(exported)
    if had.keys() != wrote.keys():
        sys.exit(f"{name} {layout}: names {sorted(had.keys() ^ wrote.keys())[:5]}")
    for k in had:
        if had[k].dtype != wrote[k].dtype or not torch.equal(had[k], wrote[k]):
            sys.exit(f"{name} {layout}: {k} differs")
    same_weights(original, load(exported), f"{name} {layout}", dtype)


def tensors(directory):
    return {k: v for f in sorted(glob.glob(os.path.join(directory, "*.safetensors"))) for k, v in load_file(f).items()}


def check(directory):
    name = os.path.basename(directory)
    style = bytes(load_file(os.path.join(directory, "record.safetensors"))["style"].tolist()).decode()
    f32, bf16, run = (os.path.join(work, f"{name}_{kind}") for kind in ("f32", "bf16", "run"))
    original = load(directory)
    codedance("export", directory, "--to", f32)
    codedance("export", directory, "--to", bf16, "--dtype", "bf16")
    same_weights(original, load(f32), f"{name} exported")
    same_weights(original, load(bf16), f"{name} exported as bf16", torch.bfloat16)

    for layout in LAYOUTS:
        check_layout(name, directory, original, layout)
    config = run + ".yaml"
    with open(config, "w") as f:
        f.write(TRAIN.format(run=run, model=directory, style=style))
    codedance("train", config)
    trained = os.path.join(run, "export")
    tokenizer, model = AutoTokenizer.from_pretrained(trained), load(trained)
    processors = {"pil": None}
    if hasattr(original.config, "vision_config"):
        processors = {"torchvision": AutoProcessor.from_pretrained(trained), "pil": AutoProcessor.from_pretrained(trained)}
        processors["pil"].image_processor = ImageProcessor.from_pretrained(trained)
    for kind, processor in processors.items():
        worst, largest, ours, theirs = compare(directory, trained, model, tokenizer, processor, ("model.chat_style=" + style, "model.image_processor=" + kind))
        print(f"{name}, {kind}: loss {ours:.6f}, transformers {theirs:.6f}; log-probs up to {largest:.1f} within {worst:.1e}")
        if not max(worst / largest, abs(ours - theirs) / theirs) < BOUND:
            sys.exit("too large")
    by_torch = load_file(os.path.join(directory, "record.safetensors"))["train.loss"][2].item()
    print(f"{name}: exports have equal bits; loss after two steps by torch {by_torch:.6f}")
    if not abs(theirs / by_torch - 1) < BOUND:
        sys.exit("too large")


def main():
    found = sorted(os.path.dirname(f) for f in glob.glob(os.path.join(ROOT, "*", "record.safetensors")))
    if len(found) < 8:
        sys.exit(f"{ROOT}: only {len(found)} checkpoints")
    for directory in found:
        check(directory)
    print(f"round trips agree with transformers {transformers.__version__}, torch {torch.__version__}")


main()
