#!/usr/bin/env python3
"""Makes cases/*.jsonl with the `tokenizers` library (pip install tokenizers==0.23.3).

The tests only read its output; run it again when a kind of case is added. Files:

models.json    two small models: byte (byte-level alphabet) and piece (SentencePiece style)
parts.jsonl    one tokenizer a line: {model, parts, cases}; parts replace members of tokenizer.json,
               parts.model members of the model
demo.jsonl     cases for models/demo; a line with "decode" is ids to text only

Cases are as in tests/tokenizers, and decoded_skip is decode(ids) with special tokens left out;
ids_with_special is left out where it equals ids, decoded where it equals text, and decoded_skip where
it equals decoded.
"""
import json
import os
import random
import tempfile

from tokenizers import Tokenizer, models, pre_tokenizers, trainers

HERE = os.path.dirname(os.path.abspath(__file__))
DEMO = os.path.join(HERE, "../../models/demo/")
TEXT = open(DEMO + "heldout-austen.txt").read() + open(DEMO + "heldout-python.txt").read()

EDGE = [
    "\u0301", "e\u0301", "\u00e9", "q\u0307\u0323", "q\u0323\u0307", "\u212b\u2126", "\u1112\u1161\u11ab",
    "\U0001f469\u200d\U0001f469\u200d\U0001f467", "\U0001f44d\U0001f3fd \U0001f1e9\U0001f1ea", "\u6f22\u5b57\u3068\u304b\u306a",
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0643\u0645", "\u0e44\u0e17\u0e22", "\u0939\u093f\u0928\u094d\u0926\u0940",
    "a\r\nb\r\n\r\n c\n\n\n", "12345678901234567890", "3.14159 1,000,000 \u0663\u0664\u0665 \u00bd\u00b2\u2167", "nul\0in\0\0text",
    "tabs\t\tand   spaces  ", "    if (x != y) {\n        return -1;\n    }\n", "don't I'll THEY'RE we've 'tis",
    "\u00a0\u2003\u3000\u180e\u0085\u2028x", "\ufeff\ufffd\U0010ffff\x01\x7f", "_under_score__ --dashes... !?",
    "<|begin_of_text|>", "a<|end_of_text|>b <|begin_of_text|><|end_of_text|>", "<|end_of_tex", "<<|end_of_text|>>",
    "\u0120t \u010a \u2581x", "http://x.y/z?q=1&r=2#f", "CamelCaseABCdef", "stra\u00dfe STRASSE \ufb01n", " ", "", "\n", "  \n  ",
]


def case(tokenizer, text):
    ids = tokenizer.encode(text, add_special_tokens=False).ids
    special = tokenizer.encode(text).ids
    decoded = tokenizer.decode(ids, skip_special_tokens=False)
    skip = tokenizer.decode(ids)
    line = {"text": text, "ids": ids}
    if special != ids:
        line["ids_with_special"] = special
    if decoded != text:
        line["decoded"] = decoded
    if skip != decoded:
        line["decoded_skip"] = skip
    return line


def demo():
    tokenizer = Tokenizer.from_file(DEMO + "tokenizer.json")
    rng = random.Random(1)
    lines = [case(tokenizer, text) for text in EDGE]
    for _ in range(12):
        at = rng.randrange(len(TEXT))
        lines.append(case(tokenizer, TEXT[at:at + 150]))
    for _ in range(40):  # ids that no text gives: broken UTF-8
        ids = [rng.choice([rng.randrange(0, 258), rng.randrange(4096)]) for _ in range(rng.randrange(1, 14))]
        line = {"decode": ids, "decoded": tokenizer.decode(ids, skip_special_tokens=False)}
        if tokenizer.decode(ids) != line["decoded"]:
            line["decoded_skip"] = tokenizer.decode(ids)
        lines.append(line)
    return lines


def base_models():
    byte = Tokenizer(models.BPE())
    byte.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    byte.train_from_iterator([TEXT], trainers.BpeTrainer(
        vocab_size=340, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False))
    piece = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True, fuse_unk=True))
    piece.pre_tokenizer = pre_tokenizers.Metaspace()
    special = ["<unk>", "<s>", "</s>"] + ["<0x%02X>" % byte for byte in range(256)]
    piece.train_from_iterator([TEXT], trainers.BpeTrainer(vocab_size=420, special_tokens=special, show_progress=False))
    return {"byte": json.loads(byte.to_str())["model"], "piece": json.loads(piece.to_str())["model"]}


def added(id, content, **flags):
    token = dict(id=id, content=content, single_word=False, lstrip=False, rstrip=False, normalized=False, special=False)
    token.update(flags)
    return token


def split(pattern, behavior="Isolated", invert=False, literal=False):
    return {"type": "Split", "pattern": {"String" if literal else "Regex": pattern}, "behavior": behavior, "invert": invert}


def sequence(kind, *parts):
    return {"type": "Sequence", kind: list(parts)}


BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
BYTE_DECODER = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
PIECE_DECODER = sequence("decoders", {"type": "Replace", "pattern": {"String": "\u2581"}, "content": " "},
                         {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0})
SPECIALS = [added(0, "<unk>", special=True), added(1, "<s>", special=True), added(2, "</s>", special=True)]
GPT4O = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*(?i:'s|'t|'re|'ve|'m|'ll|'d)?"
         r"|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
HAN = r"[\p{Han}]+|[\p{Lu}\p{Lo}\p{M}&&[^\p{Han}]]*[\p{Ll}\p{Lo}\p{M}&&[^\p{Han}]]+"


def byte_parts():
    def parts(*pre, **more):
        return dict({"pre_tokenizer": sequence("pretokenizers", *pre, BYTES), "decoder": BYTE_DECODER}, **more)
    for behavior in ["Isolated", "Removed", "MergedWithPrevious", "MergedWithNext", "Contiguous"]:
        yield parts(split(r"[aeiou ]", behavior))
        yield parts(split(r"\p{L}+", behavior, invert=True))
    for pattern in [r"\w+|\W", r"\b", r"\B", r"[\w&&[^\d]]+", r"\h+|\H", r"\s\S", r"[\S]", r"^|$", r".", r"(?m:.){2}", r"a*", r"x|",
                    r"(?<=a).|(?<!\s)\s", r"\u00e9|\x{1F44D}|\x41|\v", r"\p{^L}+", r"\p{Uppercase_Letter}|\p{Greek}", r"[^a-c[x-z]\s]+",
                    r"[a-z&&[^aeiou]&&[^x-z]]+", r"[^a-z&&\p{L}]", r"e{,2}t", r"a{|}", r"\S++ ?+", r"(?i)THE|'S", GPT4O, HAN]:
        yield parts(split(pattern))
    yield parts(split(" ", "MergedWithNext", literal=True), split("..", literal=True))
    yield parts(split("", literal=True))
    yield parts({"type": "Digits", "individual_digits": True})
    yield parts({"type": "Digits", "individual_digits": False})
    yield {"pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True},
           "decoder": BYTE_DECODER}
    yield {"pre_tokenizer": sequence("pretokenizers", split(r"\s+"), dict(BYTES, add_prefix_space=True, use_regex=True)),
           "decoder": None}
    yield parts(normalizer={"type": "NFC"}, model={"ignore_merges": True})
    yield parts(normalizer=sequence("normalizers", {"type": "NFC"}, sequence("normalizers")), decoder=sequence("decoders", BYTE_DECODER))
    yield parts(normalizer={"type": "Replace", "pattern": {"Regex": r"\s+"}, "content": " "})
    flags = [{}, {"single_word": True}, {"lstrip": True}, {"rstrip": True}, {"lstrip": True, "rstrip": True, "single_word": True}]
    for i, flag in enumerate(flags):
        tokens = [added(340, "the", **flag), added(341, "the<", **flag), added(342, " sp ", special=True, **flag),
                  added(343, "e\u0301", normalized=bool(i & 1), **flag), added(344, "<|x|>", special=True, **flag)]
        yield parts(added_tokens=tokens, normalizer={"type": "NFC"} if i < 3 else None)
    first, last = {"SpecialToken": {"id": "B", "type_id": 0}}, {"SpecialToken": {"id": "E", "type_id": 0}}
    whole = {"Sequence": {"id": "A", "type_id": 0}}
    template = {"type": "TemplateProcessing", "single": [first, whole, last], "pair": [whole, {"Sequence": {"id": "B", "type_id": 1}}],
                "special_tokens": {"B": {"id": "B", "ids": [5, 6], "tokens": ["x", "y"]}, "E": {"id": "E", "ids": [7], "tokens": ["z"]}}}
    yield parts(post_processor=template)
    yield parts(post_processor=sequence("processors", BYTE_DECODER, dict(template, single=[whole, last])))


def piece_parts():
    replace = {"type": "Replace", "pattern": {"String": " "}, "content": "\u2581"}
    llama = sequence("normalizers", {"type": "Prepend", "prepend": "\u2581"}, replace)
    yield {"normalizer": llama, "decoder": PIECE_DECODER, "added_tokens": SPECIALS}
    yield {"normalizer": llama, "decoder": PIECE_DECODER, "added_tokens": SPECIALS, "model": {"byte_fallback": False}}
    yield {"normalizer": llama, "decoder": PIECE_DECODER, "added_tokens": SPECIALS,
           "model": {"byte_fallback": False, "fuse_unk": False}}
    yield {"normalizer": replace, "decoder": None, "added_tokens": SPECIALS, "model": {"unk_token": None, "byte_fallback": False}}
    yield {"normalizer": llama, "decoder": PIECE_DECODER,
           "added_tokens": SPECIALS[:2] + [added(2, "</s>", normalized=True), added(420, "<b> ", normalized=True)]}
    for scheme in ["always", "first", "never"]:
        for cut in [True, False]:
            space = {"type": "Metaspace", "replacement": "\u2581", "prepend_scheme": scheme, "split": cut}
            yield {"pre_tokenizer": space, "decoder": space, "added_tokens": SPECIALS}


def part_texts(rng, kind):
    texts = rng.sample(EDGE, 5)
    for _ in range(2):
        at = rng.randrange(len(TEXT))
        texts.append(TEXT[at:at + 60])
    mark = ["the", "the<", " sp ", "e\u0301", "<|x|>", " ", "x"] if kind == "byte" else ["<s>", "</s>", "<b> ", "<unk>", "\u00e9", " ", "x"]
    texts.append("".join(rng.choice(mark) for _ in range(12)))
    return texts


def main():
    base = base_models()
    rng = random.Random(2)
    with open(HERE + "/cases/models.json", "w") as f:
        json.dump(base, f)
        f.write("\n")
    with open(HERE + "/cases/demo.jsonl", "w") as f:
        for line in demo():
            f.write(json.dumps(line) + "\n")
    with open(HERE + "/cases/parts.jsonl", "w") as f, tempfile.TemporaryDirectory() as folder:
        for kind, list_of_parts in [("byte", byte_parts()), ("piece", piece_parts())]:
            for parts in list_of_parts:
                file = dict({"version": "1.0", "added_tokens": [], "normalizer": None, "pre_tokenizer": None,
                             "post_processor": None, "decoder": None}, **parts)
                file["model"] = dict(base[kind], **parts.get("model", {}))
                with open(folder + "/tokenizer.json", "w") as out:
                    json.dump(file, out)
                tokenizer = Tokenizer.from_file(folder + "/tokenizer.json")
                cases = [case(tokenizer, text) for text in part_texts(rng, kind)]
                f.write(json.dumps({"model": kind, "parts": parts, "cases": cases}) + "\n")


main()
