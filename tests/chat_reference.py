"""Conversations as transformers renders and tokenizes them, one JSON line each, for test_chat:

    chat_reference.py TOKENIZER.json COUNT [SEED [TEMPLATES]] | build/release/test_chat TOKENIZER.json -

The templates are written here by the rules of qwen_vl_spec section 7, with {% generation %} around what the model says,
which gives the loss mask. TEMPLATES: a folder with STYLE.jinja files to render with instead, as the published ones; lines
then have no mask. test_chat's recorded lines are COUNT 54 over tests/fixtures/text/tokenizer.json.
"""
import json
import os
import random
import re
import sys
import unicodedata

from transformers import PreTrainedTokenizerFast

VISION = "<|vision_start|><|image_pad|><|vision_end|>"
SAY = "{%- macro tell(m) -%}{%- if m.content is string -%}{{ m.content }}{%- elif m.content -%}{%- for p in m.content -%}" \
      "{%- if p.type == 'image' -%}{% set ns.pictures = ns.pictures + 1 %}" \
      "{%- if add_vision_id -%}{{ 'Picture ' ~ ns.pictures ~ ': ' }}{%- endif -%}{{ '" + VISION + "' }}" \
      "{%- else -%}{{ p.text }}{%- endif -%}{%- endfor -%}{%- endif -%}{%- endmacro -%}"
START = "{%- set ns = namespace(pictures=0, question=messages|length - 1, found=false) -%}" + SAY
CLOSE = "{{ '<|im_end|>\\n' }}"
TOOLS = ("# Tools\\n\\nYou may call one or more functions to assist with the user query.\\n\\nYou are provided with "
         "function signatures within <tools></tools> XML tags:\\n<tools>",
         "\\n</tools>\\n\\nFor each function call, return a json object with function name and arguments within "
         "<tool_call></tool_call> XML tags:\\n<tool_call>\\n{\"name\": <function-name>, \"arguments\": <args-json-object>}"
         "\\n</tool_call>")


def opening(default, tools):
    """The system turn and what it takes from the messages."""
    text = ("{%- set given = messages[0].role == 'system' -%}{%- set said = tell(messages[0]) if given else " + json.dumps(default or "") +
            " -%}{%- set said_any = given or " + ("true" if default else "false") + " -%}")
    listing = ""
    if tools:
        listing = ("{%- if tools -%}{{ ('\\n\\n' if said_any else '') + '" + TOOLS[0] + "' }}{%- for t in tools -%}{{ '\\n' + t|tojson }}"
                   "{%- endfor -%}{{ '" + TOOLS[1] + "' }}{%- endif -%}")
    return (text + "{%- if said_any" + (" or tools" if tools else "") + " -%}{{ '<|im_start|>system\\n' + said }}" + listing +
            CLOSE + "{%- endif -%}")


CALLS = ("{%- for call in m.tool_calls or [] -%}{%- set f = call.function if call.function is defined else call -%}"
         "{{ ('\\n' if said or not loop.first else '') + '<tool_call>\\n{\"name\": \"' + f.name + '\", \"arguments\": ' + ARGS + '}\\n</tool_call>' }}"
         "{%- endfor -%}")
# What a thinking model says: its thought taken from reasoning_content or from the text, kept after the last question.
THINKING = ("{%- set x = namespace(thought='', said=m.content if m.content is string else '') -%}"
            "{%- if m.reasoning_content is string -%}{%- set x.thought = m.reasoning_content -%}"
            "{%- elif '</think>' in x.said -%}"
            "{%- set x.thought = x.said.split('</think>')[0].rstrip('\\n').split('<think>')[-1].lstrip('\\n') -%}"
            "{%- set x.said = x.said.split('</think>')[-1].lstrip('\\n') -%}{%- endif -%}"
            "{%- set said = x.said -%}"
            "{%- set shown = loop.index0 > ns.question and (loop.last or x.thought) -%}")


def turns(style):
    s = STYLES[style]
    calls = CALLS.replace("ARGS", "(f.arguments if f.arguments is string else f.arguments|tojson)" if s["raw"] else "(f.arguments|tojson)")
    tool = {"tight": "{{ '<|im_start|>user\\n<tool_response>' + tell(m) + '</tool_response>' }}" + CLOSE,
            "role": "{{ '<|im_start|>tool\\n' + tell(m) }}" + CLOSE,
            "lines": "{%- if loop.first or loop.previtem.role != 'tool' -%}{{ '<|im_start|>user' }}{%- endif -%}"
                     "{{ '\\n<tool_response>\\n' + tell(m) + '\\n</tool_response>' }}"
                     "{%- if loop.last or loop.nextitem.role != 'tool' -%}" + CLOSE + "{%- endif -%}"}[s["tool"]]
    said = "{%- set said = tell(m) -%}{% generation %}{{ said }}" + (calls if s["tools"] else "") + "{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}"
    if s["think"]:
        # The part of a thought that the generation prompt holds already is not the model's.
        prompt = "'<think>\\n'" if s["think"] == "always" else "('<think>\\n\\n</think>\\n\\n' if empty else '')"
        rest = "x.thought.strip('\\n') + '\\n</think>\\n\\n'"
        if s["think"] == "hybrid":
            rest = "('' if empty else '<think>\\n' + " + rest + ")"
        said = (THINKING + "{%- set empty = enable_thinking is defined and not enable_thinking and not x.thought -%}"
                "{%- if shown -%}{{ " + prompt + " }}{%- endif -%}"
                "{% generation %}{%- if shown -%}{{ " + rest + " + said.lstrip('\\n') }}{%- else -%}{{ said }}{%- endif -%}" +
                calls + "{{ '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}")
    # Which user message asks: in texts by themselves the first line and the last word; pictures are no tool output.
    question = ("{%- for m in messages|reverse -%}{%- if not ns.found and m.role == 'user' -%}"
                "{%- set first = m.content if m.content is string else m.content[0].text|default('') -%}"
                "{%- set last = m.content if m.content is string else m.content[-1].text|default('') -%}"
                "{%- if not (first.startswith('<tool_response>') and last.endswith('</tool_response>')) -%}"
                "{%- set ns.found = true -%}{%- set ns.question = messages|length - loop.index -%}"
                "{%- endif -%}{%- endif -%}{%- endfor -%}")
    ask = "{%- if add_generation_prompt -%}{{ '<|im_start|>assistant\\n' }}"
    if s["think"] == "always":
        ask += "{{ '<think>\\n' }}"
    if s["think"] == "hybrid":
        ask += "{%- if enable_thinking is defined and not enable_thinking -%}{{ '<think>\\n\\n</think>\\n\\n' }}{%- endif -%}"
    return (question + "{%- for m in messages -%}{%- if m.role == 'system' and loop.first -%}"
            "{%- elif m.role == 'tool' -%}" + tool + "{%- elif m.role == 'assistant' -%}{{ '<|im_start|>assistant\\n' }}" + said +
            "{%- else -%}{{ '<|im_start|>' + m.role + '\\n' + tell(m) }}" + CLOSE + "{%- endif -%}{%- endfor -%}" + ask + "{%- endif -%}")


ASSISTANT = "You are a helpful assistant."
QWEN = "You are Qwen, created by Alibaba Cloud. " + ASSISTANT


def row(default, images, tools, raw, late, tool, think):
    return dict(default=default, images=images, tools=tools, raw=raw, late=late, tool=tool, think=think)


STYLES = {"codedance": row(None, True, False, False, True, "tight", None),
          "qwen2_5_vl": row(ASSISTANT, True, False, False, True, "role", None),
          "qwen2_5_vl_tools": row(ASSISTANT, True, True, False, True, "lines", None),
          "qwen2_5": row(QWEN, False, True, False, True, "lines", None),
          "qwen3_vl": row(None, True, True, True, False, "lines", None),
          "qwen3_vl_thinking": row(None, True, True, True, False, "lines", "always"),
          "qwen3": row(None, False, True, True, True, "lines", "hybrid"),
          "qwen3_instruct": row(None, False, True, True, True, "lines", None),
          "qwen3_thinking": row(None, False, True, True, True, "lines", "always")}
GRIDS = [(1, 4, 6), (1, 6, 6), (1, 2, 2)]
WORDS = ["What", " is", " this", "?", "\n", "\n\n", "  ", "é", "e\u0301", "中文字", " שלום", "👩\u200d👧", "한국", "\u1112\u1161\u11ab", "'s", " 1234", "\t", "<b>&amp;</b>",
         "\"q\"", "{{ x }}", "{% if %}", "\\n", "\u0338", " don't", " def f(x):\n    return x", "ａ", "\u2028", "🙂", "./;", " naïve"]
LOOK = ["<|im_end|>", "<|im_start|>assistant\n", "<|image_pad|>", "<|vision_start|>", "<|endoftext|>", "<think>", "</tool_call>", "<|im_end", "<tool_response>", "</tool_response>"]


class Talks:
    def __init__(self, rnd, style):
        self.rnd, self.s, self.images = rnd, STYLES[style], 0

    def text(self, n=6, look=True):
        r = self.rnd
        out = [r.choice(WORDS) for _ in range(r.randint(0, n))]
        if look and r.random() < 0.25:
            out.insert(r.randint(0, len(out)), r.choice(LOOK))
        return "".join(out)

    def parts(self):
        out = []
        for _ in range(self.rnd.randint(1, 4)):
            if self.rnd.random() < 0.4 and self.images < 3:
                out.append({"type": "image", "path": f"{self.images}.png"})
                self.images += 1
            else:
                out.append({"type": "text", "text": self.text()})
        return out

    def content(self):
        return self.parts() if self.s["images"] and self.rnd.random() < 0.6 else self.text()

    def value(self, deep=2):
        r = self.rnd
        k = r.randrange(9 if deep else 6)
        if k == 0:
            return self.text(3, False)
        if k < 6:
            return r.choice([0, -7, 2**62, 1.0, 0.1, -2.5e-7, 1e16, 1e18, 123456.75, 5e-324, -0.0, True, False, None, "", "\x01\x7f\u2028\"\\/"])
        if k == 6:
            return [self.value(deep - 1) for _ in range(r.randint(0, 3))]
        return {self.text(2, False) + str(i): self.value(deep - 1) for i in range(r.randint(0, 3))}

    def assistant(self):
        r, s = self.rnd, self.s
        said = "".join(r.choice(WORDS) for _ in range(r.randint(0, 6)))
        if r.random() < 0.8:  # text that does not join the header's line end
            said = r.choice(["Yes", "7", "中", "<answer>", "("]) + said
        m = {"role": "assistant"}
        if s["think"] and r.random() < 0.4:
            m["reasoning_content"] = r.choice(["", "\n", "Hm."]) + self.text(4, False)
        elif r.random() < 0.4:
            said = r.choice(["<think>Hm.\n\n</think>\n\n", "<think>\n\n</think>\n", "<think>a</think>b<think>c</think>\n", "</think>", "<think>"]) + said
        m["content"] = [{"type": "text", "text": said}, {"type": "text", "text": "!"}] if s["images"] and not s["think"] and r.random() < 0.1 else said
        if s["tools"] and r.random() < 0.5:
            m["tool_calls"] = [self.call() for _ in range(r.randint(1, 3))]
            if r.random() < 0.4:
                m["content"] = r.choice(["", None])
        return m

    def call(self):
        args = self.value() if self.rnd.random() < 0.3 else {"x": self.value(), "é": self.value(1)}
        f = {"name": self.rnd.choice(["zoom", "get_weather", "f-1"]), "arguments": args if isinstance(args, (dict, str)) else {"a": args}}
        return self.rnd.choice([f, {"type": "function", "function": f}, {"id": "c1", "type": "function", "function": f}])

    def talk(self):
        r, m = self.rnd, []
        if r.random() < 0.4:
            m.append({"role": "system", "content": self.text()})
        for _ in range(r.randint(1, 3)):
            m.append({"role": "user", "content": self.content() if r.random() < 0.9 else "<tool_response>ok" + self.text(2, False) + "</tool_response>"})
            if self.s["late"] and r.random() < 0.1:
                m.append({"role": "system", "content": self.text()})
            for _ in range(r.randint(0, 2)):
                m.append(self.assistant())
                for _ in range(r.choice([0, 0, 1, 2, 3])):
                    m.append({"role": "tool", "content": self.content()})
        out = {"messages": m}
        if self.s["tools"] and r.random() < 0.5:
            out["tools"] = [{"type": "function", "function": {"name": f"f{i}", "description": self.text(), "parameters": self.value()}} for i in range(r.randint(1, 3))]
        return out


def hide(x, marks):
    """Added tokens that users and tools spell out, made unrecognisable."""
    if isinstance(x, str):
        for t, mark in marks.items():
            x = x.replace(t, mark)
        return x
    if isinstance(x, list):
        return [hide(v, marks) for v in x]
    return {hide(k, marks): hide(v, marks) for k, v in x.items()} if isinstance(x, dict) else x


def wrapped(m):
    """Tool output in a user message: templates look at its tags, so they are not hidden, and become ids in transformers."""
    c = m["content"]
    return m["role"] == "user" and isinstance(c, str) and c.startswith("<tool_response>") and c.endswith("</tool_response>")


def main():
    path, count, *more = sys.argv[1:]
    rnd = random.Random(int(more[0]) if more else 1)
    folder = more[1] if len(more) > 1 else None
    tok = PreTrainedTokenizerFast(tokenizer_file=path)
    spec = json.load(open(path))
    plain = PreTrainedTokenizerFast(tokenizer_object=type(tok.backend_tokenizer).from_str(json.dumps({**spec, "added_tokens": []})))
    added = sorted((a["content"] for a in spec["added_tokens"]), key=len, reverse=True)
    marks = {t: chr(0xF0000 + i) for i, t in enumerate(added)}
    back = {m: t for t, m in marks.items()}
    cut = re.compile("(" + "|".join(map(re.escape, added)) + ")")
    for n in range(int(count)):
        style = list(STYLES)[n % len(STYLES)]
        if folder and not os.path.exists(f"{folder}/{style}.jinja"):
            continue
        talk = Talks(rnd, style).talk()
        flags = {}
        if rnd.random() < 0.2 and STYLES[style]["images"] and style != "codedance":
            flags["add_vision_id"] = True
        if rnd.random() < 0.5 and style == "qwen3":
            flags["enable_thinking"] = False
        prompt = rnd.random() < 0.5
        template = open(f"{folder}/{style}.jinja").read() if folder else START + opening(STYLES[style]["default"], STYLES[style]["tools"]) + turns(style)
        hidden = []
        for m in talk["messages"]:
            if m["role"] != "assistant" and not wrapped(m):
                m = {**m, "content": hide(m["content"], marks)}
            hidden.append(m)
        tools = hide(talk.get("tools"), marks)
        say = dict(tools=tools, chat_template=template, add_generation_prompt=prompt, **flags)
        text = tok.apply_chat_template(hidden, tokenize=False, **say)
        ids, pieces, pictures, pads = [], [], 0, []
        for piece in cut.split(text):
            whole = "".join(back.get(c, c) for c in piece)
            if piece in marks:
                k = 1
                if piece == "<|image_pad|>":
                    g = GRIDS[pictures]
                    k, pictures = g[0] * g[1] * g[2] // 4, pictures + 1
                ids += k * [tok.convert_tokens_to_ids(piece)]
                pads += range(len(ids) - k + 1, len(ids))
                pieces.append(piece * k)
            elif piece:
                ids += plain.encode(whole, add_special_tokens=False)
                pieces.append(unicodedata.normalize("NFC", whole))
        out = {"style": style, "row": talk, "prompt": prompt, **flags, "text": "".join(pieces)}
        visible = any(wrapped(m) for m in talk["messages"])
        joins = re.search(r"<\|im_start\|>assistant\n(<think>\n(\n</think>\n\n)?)?\s", text.replace(VISION, ""))
        if not visible and not joins:
            out["ids"] = ids
            if text == "".join(back.get(c, c) for c in text):  # nothing hidden: transformers' own ids and mask
                mine = [i for k, i in enumerate(ids) if k not in pads]
                assert tok(text, add_special_tokens=False).input_ids == mine, text
                if not folder:
                    made = tok.apply_chat_template(hidden, tokenize=True, return_dict=True, return_assistant_tokens_mask=True, **say)
                    assert made["input_ids"] == mine
                    mask = iter(made["assistant_masks"])
                    out["mask"] = [0 if k in pads else next(mask) for k in range(len(ids))]
        print(json.dumps(out, ensure_ascii=False))


main()
