"""Parity with transformers: hf_parity.py CODEDANCE WORK_DIR [MODEL_DIR PROMPTS.jsonl]

A random model made by `codedance init` is loaded by transformers, shaken, saved by transformers in its own layout, and
scored by `codedance score` on conversations with pictures. Token ids must be equal, log-probs within 1e-5, and exported
weights equal to the last bit.

The exported directory also works with transformers' defaults alone; its default processor resizes with torchvision, so
pixels may differ from Pillow's by two levels of a byte.

Then end to end, for a model with the demo's shape and pictures: what a user of an exported directory does
(AutoProcessor, apply_chat_template, from_pretrained, generate), against `codedance generate` and `codedance score`.
With MODEL_DIR only this part runs, on that model and those prompts.
"""
import json
import os
import shutil
import subprocess
import sys

import torch
import transformers
from PIL import Image
from transformers import AutoProcessor, AutoTokenizer, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor
from transformers.models.qwen2_vl.image_processing_qwen2_vl import smart_resize

try:  # transformers 5: the default processor resizes tensors, not Pillow's way
    from transformers import Qwen2VLImageProcessorPil as ImageProcessor
except ImportError:
    from transformers import Qwen2VLImageProcessor as ImageProcessor

BOUND = 1e-5  # of the conversation's largest log-prob: against float64 each program is within 3e-6 (tests/fixtures)
SIDE_FILES = ["tokenizer.json", "tokenizer_config.json", "preprocessor_config.json", "chat_template.json",
              "generation_config.json"]
STD = 0.26130258  # the smallest of the three: one level of a byte is at most 1 / 255 / STD in pixel_values
HERE = os.path.dirname(os.path.abspath(__file__))
exe, work = sys.argv[1], sys.argv[2]
torch.manual_seed(0)
torch.set_num_threads(2)


def path(*names):
    return os.path.join(work, *names)


def codedance(*args):
    done = subprocess.run([exe, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"codedance {' '.join(args)}: exit {done.returncode}\n{done.stderr}")
    return done.stdout


def config(tied):
    """Windows cut the pictures (7x7 tokens, window 4x4), head counts differ, sections are uneven."""
    return {
        "architectures": ["Qwen2_5_VLForConditionalGeneration"], "model_type": "qwen2_5_vl", "hidden_act": "silu",
        "hidden_size": 64, "intermediate_size": 96, "max_position_embeddings": 2048, "num_attention_heads": 4,
        "num_hidden_layers": 3, "num_key_value_heads": 2 if tied else 4, "rms_norm_eps": 1e-6, "rope_theta": 1e6,
        "rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "tie_word_embeddings": tied, "vocab_size": 352,
        "vision_config": {
            "model_type": "qwen2_5_vl", "depth": 4, "fullatt_block_indexes": [1, 3], "hidden_act": "silu", "hidden_size": 32,
            "in_channels": 3, "in_chans": 3, "intermediate_size": 44, "num_heads": 2, "out_hidden_size": 64, "patch_size": 14,
            "spatial_merge_size": 2, "spatial_patch_size": 14, "temporal_patch_size": 2, "tokens_per_second": 2, "window_size": 112}}


def make_rows():
    """The demo's conversations, and one of our own: a wide picture, a tall one, a system prompt, a tool result."""
    codedance("data", "synth", "--kind", "sft", "--n", "40", "--split", "parity", "--seed", "3", "--out", path("data"))
    rows = read_rows(path("data", "data.jsonl"))
    rows = rows[:3] + sorted(rows[3:], key=lambda r: -len(json.dumps(r)))[:3]
    # Sizes that are resized along one axis only: Pillow's releases differ in which axis comes first.
    for name, size in (("wide.png", (301, 84)), ("tall.png", (56, 240))):
        noise = torch.randint(0, 256, (size[1], size[0], 3), dtype=torch.uint8)
        Image.fromarray(noise.numpy()).save(path("data", "img", name))
    rows.append({"id": "own", "messages": [
        {"role": "system", "content": "Look closely."},
        {"role": "user", "content": [{"type": "text", "text": "Two pictures: "}, {"type": "image", "path": "img/wide.png"},
                                     {"type": "text", "text": " and "}, {"type": "image", "path": "img/tall.png"}]},
        {"role": "assistant", "content": "<think>Crop.</think><code>\n```python\nshow(img)\n```\n</code>"},
        {"role": "tool", "content": [{"type": "text", "text": "Error: NameError"}, {"type": "image", "path": "img/wide.png"}]},
        {"role": "assistant", "content": "<answer>caf\u00e9 \u4e2d\u6587 42</answer>"}]})
    try:
        smart_resize(20, 20)
    except ValueError:  # transformers 4.49 refuses sides below 28
        rows = [r for r in rows if min(side for m in hf_messages(r) for p in m["content"] if p["type"] == "image"
                                       for side in p["image"].size) >= 28]
    with open(path("data", "rows.jsonl"), "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    return rows


def read_rows(file):
    with open(file) as f:
        return [json.loads(line) for line in f]


def hf_messages(row, folder=path("data")):
    out = []
    for m in row["messages"]:
        parts = m["content"] if isinstance(m["content"], list) else [{"type": "text", "text": m["content"]}]
        parts = [{"type": "image", "image": Image.open(os.path.join(folder, p["path"])).convert("RGB")} if p["type"] == "image" else p
                 for p in parts]
        out.append({"role": m["role"], "content": parts})
    return out


def load(directory):
    model, info = Qwen2_5_VLForConditionalGeneration.from_pretrained(
        directory, torch_dtype=torch.float32, attn_implementation="eager", output_loading_info=True)
    problems = {k: v for k, v in info.items() if k in ("missing_keys", "unexpected_keys", "mismatched_keys") and v}
    if problems:
        sys.exit(f"{directory}: transformers reports {problems}")
    return model.eval()


def same_weights(a, b, what, cast=None):
    a, b = a.state_dict(), b.state_dict()
    if a.keys() != b.keys():
        sys.exit(f"{what}: other names: {sorted(a.keys() ^ b.keys())[:5]}")
    for name in a:
        want = a[name].to(cast).float() if cast else a[name]
        if not torch.equal(want, b[name].float()):
            sys.exit(f"{what}: {name} differs")


def score_with_hf(model, processor, row):
    text = processor.apply_chat_template(hf_messages(row), tokenize=False)
    images = [p["image"] for m in hf_messages(row) for p in m["content"] if p["type"] == "image"]
    inputs = processor(text=[text], images=images or None, return_tensors="pt")
    with torch.no_grad():
        logits = model(**inputs).logits[0].float()
    ids = inputs["input_ids"][0]
    return ids.tolist(), torch.log_softmax(logits, -1)[:-1].gather(1, ids[1:, None])[:, 0]


def difference(got, want):
    """Largest difference of log-probs as a share of the largest one."""
    return ((torch.tensor(got["logprobs"][1:]) - want).abs().max() / want.abs().max().clamp(min=1)).item()


def compare(directory, model, rows):
    tokenizer = AutoTokenizer.from_pretrained(directory)
    with open(os.path.join(directory, "chat_template.json")) as f:
        template = json.load(f)["chat_template"]
    parts = {"image_processor": ImageProcessor.from_pretrained(directory), "tokenizer": tokenizer, "chat_template": template}
    try:
        processor = Qwen2_5_VLProcessor(**parts)
    except (ImportError, TypeError, ValueError):  # newer versions insist on a video processor
        from transformers import Qwen2VLVideoProcessor
        processor = Qwen2_5_VLProcessor(**parts, video_processor=Qwen2VLVideoProcessor())
    worst, tokens, images = 0.0, 0, 0
    out = codedance("score", "--model", directory, path("data", "rows.jsonl")).splitlines()
    if len(out) != len(rows):
        sys.exit(f"score printed {len(out)} lines for {len(rows)} rows")
    for row, line in zip(rows, out):
        got = json.loads(line)
        ids, want = score_with_hf(model, processor, row)
        if ids != got["ids"]:
            at = next((i for i, (a, b) in enumerate(zip(ids, got["ids"])) if a != b), min(len(ids), len(got["ids"])))
            sys.exit(f"{row['id']}: token {at} is {got['ids'][at:at + 8]}, transformers {ids[at:at + 8]} "
                     f"({tokenizer.decode(ids[max(0, at - 5):at + 5])!r})")
        worst = max(worst, difference(got, want))
        tokens += len(ids) - 1
        images += sum(p["type"] == "image" for m in hf_messages(row) for p in m["content"])
    return worst, tokens, images


def prepare(processor, messages, **kwargs):
    return processor.apply_chat_template(messages, tokenize=True, return_dict=True, return_tensors="pt", **kwargs)


def check_defaults(directory, rows):
    """AutoProcessor as it comes, on a directory of the published layout: the same ids, pixels within two levels."""
    processor, pillow = AutoProcessor.from_pretrained(directory), ImageProcessor.from_pretrained(directory)
    model, worst = load(directory), 0.0
    lines = codedance("score", "--model", directory, path("data", "rows.jsonl")).splitlines()
    for row, line in zip(rows, lines):
        messages = hf_messages(row)
        inputs = prepare(processor, messages)
        if inputs["input_ids"][0].tolist() != json.loads(line)["ids"]:
            sys.exit(f"{row['id']}: the default processor makes other ids")
        images = [p["image"] for m in messages for p in m["content"] if p["type"] == "image"]
        want = pillow(images=images, return_tensors="pt")["pixel_values"]
        worst = max(worst, (inputs["pixel_values"] - want).abs().max().item())
    inputs = prepare(processor, hf_messages(rows[0])[:1], add_generation_prompt=True)
    model.generate(**inputs, do_sample=False, max_new_tokens=4)
    print(f"defaults: {type(processor.image_processor).__name__}: ids equal, pixels within {worst * 255 * STD:.2f} levels")
    if worst > 2.01 / 255 / STD:
        sys.exit("too large")


def pick(rows, count):
    """The same number of every category, in order."""
    names = sorted({r["category"] for r in rows})
    return [r for c in names for r in [r for r in rows if r["category"] == c][:-(-count // len(names))]]


def unwritten(tokenizer, vocab):
    """Ids that a rollout never samples (data/chat.h). A trained model doesn't want them, a random one does."""
    names = ["<|endoftext|>", "<|im_start|>", "<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>",
             "<tool_response>", "</tool_response>"]
    return tokenizer.convert_tokens_to_ids(names) + list(range(len(tokenizer), vocab))


def end_to_end(directory, rows, folder, what, new_tokens, answer_text=None):
    """rows: prompts without assistant turns, picture paths relative to folder. Their greedy first turns, and the scores of
    prompt and turn together, must be what transformers makes of the directory. answer_text: for a random model, scored in
    place of its turns, which are no text."""
    processor, model = AutoProcessor.from_pretrained(directory), Qwen2_5_VLForConditionalGeneration.from_pretrained(directory).eval()
    vocab = model.get_input_embeddings().weight.shape[0]
    limits = {"suppress_tokens": unwritten(processor.tokenizer, vocab)} if answer_text else {}
    for r in rows:
        for part in r["messages"][0]["content"]:
            if part["type"] == "image":
                part["path"] = os.path.abspath(os.path.join(folder, part["path"]))
    out = path(what)
    os.makedirs(out)
    with open(path(what, "prompts.jsonl"), "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    codedance("generate", "--model", directory, "--data", path(what, "prompts.jsonl"), "--samples", "1", "--out", out,
              "--set", "rollout.temperature=0", "--set", "rollout.max_turns=0",
              "--set", f"rollout.max_new_tokens={new_tokens}")
    trajectories = read_rows(path(what, "trajectories.jsonl"))
    if len(trajectories) != len(rows):
        sys.exit(f"{what}: generate wrote {len(trajectories)} answers for {len(rows)} prompts")
    pixels = worst = 0.0
    tokens = 0
    for i, (row, t) in enumerate(zip(rows, trajectories)):
        turn = t["turns"][0]
        messages = hf_messages(row, "/")
        inputs = prepare(processor, messages, add_generation_prompt=True)
        ids = inputs["input_ids"][0].tolist()
        if ids != t["ids"][:turn["start"]]:
            sys.exit(f"{what}: {row['id']}: prompt {t['ids'][:turn['start']]}, transformers {ids}")
        seen = [{"type": "image", "image": Image.open(path(what, "img", f"{i:06d}_{k}.png"))}
                for k in range(sum(p["type"] == "image" for p in messages[0]["content"]))]
        ours = prepare(processor, [{"role": "user", "content": seen}])  # already of the right size: not resized again
        pixels = max(pixels, (ours["pixel_values"] - inputs["pixel_values"]).abs().max().item())
        with torch.no_grad():
            answer = model.generate(**inputs, do_sample=False, max_new_tokens=new_tokens, **limits)
        answer = answer[0].tolist()[len(ids):]
        if answer != t["ids"][turn["start"]:turn["end"]]:
            sys.exit(f"{what}: {row['id']}: {turn['text']!r}, transformers {processor.tokenizer.decode(answer)!r}")
        row["messages"].append({"role": "assistant", "content": answer_text or turn["text"]})
    with open(path(what, "answered.jsonl"), "w") as f:
        f.writelines(json.dumps(r) + "\n" for r in rows)
    for row, line in zip(rows, codedance("score", "--model", directory, path(what, "answered.jsonl")).splitlines()):
        got = json.loads(line)
        inputs = prepare(processor, hf_messages(row, "/"))
        ids = inputs["input_ids"][0]
        if ids.tolist() != got["ids"]:
            sys.exit(f"{what}: {row['id']}: other ids for {row['messages'][-1]['content']!r}")
        with torch.no_grad():
            want = torch.log_softmax(model(**inputs).logits[0].float(), -1)[:-1].gather(1, ids[1:, None])[:, 0]
        worst = max(worst, difference(got, want))
        tokens += len(ids) - 1
    print(f"{what}: {len(rows)} prompts: largest difference of pixels {pixels:.2e}, ids equal, greedy turns equal; "
          f"{tokens} tokens: largest relative log-prob difference {worst:.2e} (bound {BOUND:g})")
    if not worst < BOUND or pixels > 1e-6:
        sys.exit("too large")


def shake(model):
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.05 * torch.randn_like(p))


def demo_model():
    """The demo's shape and its view: every picture as 84x84, bilinear filter."""
    codedance("init", "--config", os.path.join(HERE, "..", "configs", "demo_model.json"), "--tokenizer",
              path("tokenizer.json"), "--seed", "5", "--min-pixels", "7056", "--max-pixels", "7056", "--resample", "2",
              "--out", path("demo_fresh"))
    model = load(path("demo_fresh"))
    shake(model)
    model.save_pretrained(path("demo_saved"))
    for name in SIDE_FILES:
        shutil.copy(path("demo_fresh", name), path("demo_saved"))
    codedance("export", path("demo_saved"), "--to", path("demo_export"))
    codedance("data", "synth", "--kind", "prompts", "--n", "60", "--split", "parity", "--seed", "3", "--out", path("prompts"))
    return path("demo_export")


def main():
    if len(sys.argv) > 3:
        rows = pick(read_rows(sys.argv[4]), 24)
        end_to_end(sys.argv[3], rows, os.path.dirname(sys.argv[4]), "given", 80)
        return
    rows = make_rows()
    codedance("data", "tokenizer", path("data", "data.jsonl"), "--merges", "64", "--out", path("tokenizer.json"))
    for tied in (True, False):
        kind = "tied" if tied else "untied"
        fresh, saved, f32, bf16 = (path(f"{kind}_{n}") for n in ("fresh", "saved", "f32", "bf16"))
        with open(path("config.json"), "w") as f:
            json.dump(config(tied), f)
        codedance("init", "--config", path("config.json"), "--tokenizer", path("tokenizer.json"), "--seed", "5",
                  "--min-pixels", "3136", "--max-pixels", "39200", "--out", fresh)
        model = load(fresh)
        shake(model)
        model.save_pretrained(saved)
        for name in SIDE_FILES:
            shutil.copy(os.path.join(fresh, name), saved)
        worst, tokens, images = compare(saved, model, rows)
        print(f"{kind}: {tokens} tokens, {images} pictures: largest relative log-prob difference {worst:.2e} (bound {BOUND:g})")
        if not worst < BOUND:
            sys.exit("too large")
        codedance("export", saved, "--to", f32)
        codedance("export", saved, "--to", bf16, "--dtype", "bf16")
        same_weights(model, load(f32), "export")
        check_defaults(f32, rows)
        same_weights(model, load(bf16), "bf16 export", torch.bfloat16)
    directory = demo_model()
    end_to_end(directory, pick(read_rows(path("prompts", "data.jsonl")), 24), path("prompts"), "demo", 24,
               "<think>Zoom in.</think><code>\n```python\nimg.crop((0, 0, W, H))\n```\n</code>")
    print(f"equal to transformers {transformers.__version__}, torch {torch.__version__}")


main()
