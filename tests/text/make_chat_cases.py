#!/usr/bin/env python3
"""Makes cases/chat.jsonl with Jinja itself (pip install jinja2==3.1.6).

    make_chat_cases.py [--genuine FOLDER]

Every line is a template and what it makes of some conversations: {template, bos, eos, format, cases}, where
template is a file of chat_templates or a folder of tests/tokenizers, format is the name that Shoal gives it, and
a case is {messages: [[role, content], ...], text} or, where there is no prompt, {messages, refused: true}.

The files of chat_templates are short ones, with the expressions that a format is recognised by and without what
Shoal has no use for (tools, documents). --genuine checks that they still say what the released templates say:
a FOLDER/NAME.jinja is rendered beside chat_templates/NAME.jinja, and every difference ends this script.
"""
import argparse
import datetime
import json
import os
import sys

import jinja2
from jinja2.sandbox import ImmutableSandboxedEnvironment

HERE = os.path.dirname(os.path.abspath(__file__))
DATE = (2025, 3, 7)
BOS, EOS = "<s>", "</s>"

# file: (name of the format, roles whose message is not answered when it is the last)
FORMATS = {
    "deepseek_v2": ("DeepSeek-V2", ""), "deepseek_v2.5": ("DeepSeek-V2.5", ""),
    "deepseek_v3_first": ("DeepSeek-V3", ""), "deepseek_r1": ("DeepSeek-R1", ""),
    "deepseek_r1_plain": ("DeepSeek-R1", ""), "deepseek_r1_systems": ("DeepSeek-R1", ""),
    "deepseek_r1_systems_plain": ("DeepSeek-R1", ""), "deepseek_r1_0528": ("DeepSeek-R1-0528", ""),
    "deepseek_v3.1": ("DeepSeek-V3.1", "assistant system"), "chatml": ("ChatML", ""), "chatml_bos": ("ChatML", ""),
    "chatml_roles": ("ChatML", ""), "qwen1.5": ("Qwen1.5", "assistant"), "qwen2": ("Qwen2", ""),
    "qwen2_bos": ("Qwen2", ""), "qwen2.5": ("Qwen2.5", ""), "qwen3_thinking": ("Qwen3-Thinking", ""),
    "qwen3_instruct": ("Qwen3-Instruct", ""), "qwen3_coder": ("Qwen3-Coder", ""),
    "mixtral_first": ("Mixtral", "assistant system"), "mixtral": ("Mixtral", "assistant system"), "mixtral_8x22b": ("Mixtral-8x22B", "assistant system"),
    "llama2": ("Llama-2", "assistant system"), "llama3": ("Llama-3", ""), "llama3.1": ("Llama-3.1", ""),
    "gpt_oss": ("gpt-oss (harmony)", ""), "glm4.5": ("GLM-4.5", ""), "granite3.0": ("Granite-3.0", ""),
    "granite3.1": ("Granite-3.1", ""), "granite3.3": ("Granite-3.3", ""),
    "granite3.3_lines": ("Granite-3.3", ""),
}
FOLDERS = {"deepseek_v3": ("DeepSeek-V3", ""), "qwen3": ("Qwen3", "")}


def conversation(roles, *contents):
    return [[{"s": "system", "u": "user", "a": "assistant"}[r], c] for r, c in zip(roles, contents)]


CONVERSATIONS = [
    conversation("u", "Hello"),
    conversation("su", "Be brief.", "Hello"),
    conversation("uau", "1+1?", "<think>\n\nadd\n\n</think>\n\n2", "And 2+2?"),
    conversation("suaua", "\n sys\t", " Hi \n", "  an answer  ", "\u00a0\u3000x\x1f", "</think>b</think>\n\nc\n"),
    conversation("ua", "q", "begun"),
    conversation("uaua", "q", "<think>t</think>a", "<tool_response>7</tool_response>", "\n<think>u\n</think>\n\nb"),
    conversation("usu", "a", "later", "b"),
    conversation("ssu", "one", "two", "three"),
    conversation("uuaa", "a", "b", "c", "<think>d</think>"),
    conversation("s", "alone"),
    conversation("a", "alone"),
    conversation("su", "", ""),
    conversation("su", "x", " \n "),
    conversation("u", "\u6f22\u5b57 \U0001f44d <|im_end|>[/INST] {{ x }} 'q\" \\n\r\n"),
    conversation("uau", "a", "<|channel|>final<|message|>b", "c"),
]


class Refused(Exception):
    pass


def refuse(text):
    raise Refused(text)


def template_of(text):
    """As the transformers library renders it."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True,
                                                extensions=["jinja2.ext.loopcontrols"])
    environment.globals["raise_exception"] = refuse
    environment.globals["strftime_now"] = lambda form: datetime.date(*DATE).strftime(form)
    return environment.from_string(text)


def render(template, pairs):
    messages = [{"role": role, "content": content} for role, content in pairs]
    try:
        return template.render(messages=messages, add_generation_prompt=True, bos_token=BOS, eos_token=EOS)
    except Refused:
        return None


def cases_of(template, unanswered):
    for pairs in CONVERSATIONS:
        text = render(template, pairs)
        if text is None or pairs[-1][0] in unanswered.split():
            yield {"messages": pairs, "refused": True}
        else:
            yield {"messages": pairs, "text": text}


def check_genuine(folder, name, template):
    path = os.path.join(folder, name + ".jinja")
    if not os.path.exists(path):
        print(f"{name}: no released template to compare with")
        return
    genuine = template_of(read(path))
    for pairs in CONVERSATIONS:
        ours, theirs = render(template, pairs), render(genuine, pairs)
        if ours is not None and ours != theirs:
            sys.exit(f"{name}: {pairs}\n  ours   {ours!r}\n  theirs {theirs!r}")


def read(path):
    with open(path, encoding="utf-8", newline="") as file:
        return file.read()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--genuine")
    arguments = parser.parse_args()
    lines = []
    for name, (form, unanswered) in FORMATS.items():
        template = template_of(read(os.path.join(HERE, "chat_templates", name + ".jinja")))
        if arguments.genuine:
            check_genuine(arguments.genuine, name, template)
        lines.append({"template": name + ".jinja", "format": form, "bos": BOS, "eos": EOS,
                      "cases": list(cases_of(template, unanswered))})
    for name, (form, unanswered) in FOLDERS.items():
        config = json.loads(read(os.path.join(HERE, "../tokenizers", name, "tokenizer_config.json")))
        template = template_of(config["chat_template"])
        lines.append({"template": name, "format": form, "bos": BOS, "eos": EOS, "cases": list(cases_of(template, unanswered))})
    with open(os.path.join(HERE, "cases", "chat.jsonl"), "w", encoding="utf-8") as file:
        for line in lines:
            file.write(json.dumps(line) + "\n")


main()
