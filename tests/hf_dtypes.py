"""Round trips of every family and dtype through `codedance export`: hf_dtypes.py CODEDANCE WORK_DIR

Random small models saved by transformers' save_pretrained, whole and in shards, are exported as they are and in other
dtypes; from_pretrained must then give every tensor to the last bit, in the stored dtype, with nothing missing,
unexpected or newly initialised. bf16 and fp16 rounding are torch's own.
"""
import os
import subprocess
import sys

import torch
import transformers

exe, work = sys.argv[1], sys.argv[2]
torch.manual_seed(1)
transformers.utils.logging.disable_progress_bar()
TORCH = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}

text = dict(vocab_size=160, hidden_size=48, intermediate_size=80, num_hidden_layers=3, num_attention_heads=4,
            num_key_value_heads=2, max_position_embeddings=512)
rope = {"rope_type": "default", "rope_theta": 1e6}
ids = dict(image_token_id=150, video_token_id=151, vision_start_token_id=152, vision_end_token_id=153)


def family(name, tied):
    """A model of the family, or None where this transformers has none."""
    t = transformers
    if name == "qwen2":
        return t.Qwen2ForCausalLM(t.Qwen2Config(**text, tie_word_embeddings=tied, rope_parameters=rope))
    if name == "qwen3" and hasattr(t, "Qwen3ForCausalLM"):
        return t.Qwen3ForCausalLM(t.Qwen3Config(**text, head_dim=16, tie_word_embeddings=tied, rope_parameters=rope))
    if name == "qwen2_5_vl":
        vision = dict(depth=3, hidden_size=32, intermediate_size=44, num_heads=2, out_hidden_size=48, window_size=56,
                      fullatt_block_indexes=[1], tokens_per_second=2)
        config = t.Qwen2_5_VLConfig(text_config=dict(text, rope_parameters=dict(rope, mrope_section=[2, 2, 2])),
                                    vision_config=vision, tie_word_embeddings=tied, **ids)
        return t.Qwen2_5_VLForConditionalGeneration(config)
    if name == "qwen3_vl" and hasattr(t, "Qwen3VLForConditionalGeneration"):
        vision = dict(depth=3, hidden_size=32, intermediate_size=44, num_heads=2, out_hidden_size=48, patch_size=16,
                      num_position_embeddings=16, deepstack_visual_indexes=[0, 2])
        rope3 = dict(rope, mrope_section=[4, 2, 2], mrope_interleaved=True)
        config = t.Qwen3VLConfig(text_config=dict(text, head_dim=16, rope_parameters=rope3), vision_config=vision,
                                 tie_word_embeddings=tied, **ids)
        return t.Qwen3VLForConditionalGeneration(config)
    return None


def codedance(*args):
    done = subprocess.run([exe, *args], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"codedance {' '.join(args)}: exit {done.returncode}\n{done.stderr}")


def load(kind, directory):
    model, info = kind.from_pretrained(directory, dtype="auto", output_loading_info=True)
    for key in ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs"):
        if info.get(key):
            sys.exit(f"{directory}: {key}: {info[key]}")
    return model


def same(a, b, dtype, what):
    x, y = a.state_dict(), b.state_dict()
    if x.keys() != y.keys():
        sys.exit(f"{what}: other tensors: {sorted(x.keys() ^ y.keys())[:8]}")
    for name in x:
        want = x[name].to(dtype)
        if y[name].dtype != dtype or not torch.equal(want.view(torch.uint8), y[name].view(torch.uint8)):
            sys.exit(f"{what}: {name} differs")


def files(directory):
    return sorted(f for f in os.listdir(directory) if f.endswith(".safetensors"))


count = 0
for name in ("qwen2_5_vl", "qwen3_vl", "qwen2", "qwen3"):
    for tied in (False, True):
        for dtype in TORCH:
            model = family(name, tied)
            if model is None:
                print(f"# transformers {transformers.__version__} has no {name}")
                continue
            with torch.no_grad():
                for p in model.parameters():  # biases and norms too: nothing is a constant that hides a mistake
                    p.copy_(torch.randn_like(p) * 0.3)
            kind = type(model)
            model = model.to(TORCH[dtype])
            at = os.path.join(work, f"dt_{name}_{int(tied)}_{dtype}")
            model.save_pretrained(at, max_shard_size="100KB" if tied else "5GB")
            codedance("export", at, "--out", at + "_kept")
            same(model, load(kind, at + "_kept"), TORCH[dtype], at + "_kept")
            with open(at + "/config.json", "rb") as a, open(at + "_kept/config.json", "rb") as b:
                if a.read() != b.read():
                    sys.exit(f"{at}: config.json changed")
            codedance("export", at, "--out", at + "_cut", "--shard-size", "60000")
            if len(files(at + "_cut")) < 2:
                sys.exit(f"{at}: --shard-size 60000 gave {files(at + '_cut')}")
            same(model, load(kind, at + "_cut"), TORCH[dtype], at + "_cut")
            for other in TORCH:
                codedance("export", at, "--out", at + "_as_" + other, "--dtype", other)
                same(model, load(kind, at + "_as_" + other), TORCH[other], at + "_as_" + other)
            count += 1
if count == 0:
    sys.exit("no model was compared")
print(f"{count} models: equal to the last bit as saved, in shards, and in fp32, bf16 and fp16")
