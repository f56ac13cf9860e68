#!/usr/bin/env python3
"""Time llama.cpp through the package llama-cpp-python, as llama-bench does: random ids, no sampling.

usage: llama_speed.py MODEL.gguf [--threads 2 --prompt-tokens 512,... --gen-tokens 64 --sequences 1 --repeat 1]
       llama_speed.py MODEL.gguf --quantize Q4_0|Q8_0 OUT.gguf

One JSON object on stdout: {cases: [{prompt_tokens, sequences, prefill_tok_per_s, decode_tok_per_s}]}, over all sequences, medians over the
repetitions, which come after a warm-up that is not counted. --quantize writes a pure-quantised copy instead.
"""
import argparse
import ctypes
import json
import os
import random
import statistics
import sys
import time

import llama_cpp as llama

N_BATCH, N_UBATCH = 2048, 512  # rows given to llama_decode at once, and computed at once; the defaults of llama-bench


@llama.llama_log_callback
def quiet(*_):
    pass


def quantize(model, kind, out):
    params = llama.llama_model_quantize_default_params()
    params.ftype = dict(Q4_0=2, Q8_0=7)[kind]
    params.pure = True
    if llama.llama_model_quantize(model.encode(), (out + ".part").encode(), ctypes.byref(params)) != 0:
        sys.exit(f"llama_speed: {model} could not be quantised")
    os.replace(out + ".part", out)


class Timer:
    def __init__(self, a):
        self.a = a
        self.model = llama.llama_model_load_from_file(a.model.encode(), llama.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama_speed: {a.model} could not be loaded")
        self.n_vocab = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(self.model))
        self.random = random.Random(1)

    def token(self):
        return self.random.randrange(3, self.n_vocab)

    def open_context(self, n_prompt):
        a, params = self.a, llama.llama_context_default_params()
        params.n_ctx = a.sequences * (n_prompt + a.gen_tokens + 8)
        params.n_batch, params.n_ubatch, params.n_seq_max = N_BATCH, N_UBATCH, a.sequences
        params.n_threads = params.n_threads_batch = a.threads
        if hasattr(params, "kv_unified"):
            params.kv_unified = False
        return llama.llama_init_from_model(self.model, params)

    @staticmethod
    def batch(rows):
        """rows: (token, position, sequence, whether logits are wanted)"""
        batch = llama.llama_batch_init(len(rows), 0, 1)
        batch.n_tokens = len(rows)
        for i, (token, position, sequence, logits) in enumerate(rows):
            batch.token[i], batch.pos[i], batch.n_seq_id[i], batch.logits[i] = token, position, 1, logits
            batch.seq_id[i][0] = sequence
        return batch

    def timed(self, context, batches):
        start = time.perf_counter()
        for batch in batches:
            if llama.llama_decode(context, batch) != 0:
                sys.exit("llama_speed: llama_decode failed")
            llama.llama_synchronize(context)
        seconds = time.perf_counter() - start
        for batch in batches:
            llama.llama_batch_free(batch)
        return seconds

    def run(self, n_prompt, n_gen):
        """tok/s of prefill and of decode"""
        n_sequence, context = self.a.sequences, self.open_context(n_prompt)
        rows = [(self.token(), p, s, p == n_prompt - 1) for s in range(n_sequence) for p in range(n_prompt)]
        prefill = self.timed(context, [self.batch(rows[i:i + N_BATCH]) for i in range(0, len(rows), N_BATCH)])
        decode = self.timed(context, [self.batch([(self.token(), n_prompt + g, s, True) for s in range(n_sequence)])
                                      for g in range(n_gen)])
        llama.llama_free(context)
        return len(rows) / prefill, n_sequence * n_gen / decode

    def case(self, n_prompt):
        self.run(n_prompt, 2)
        runs = [self.run(n_prompt, self.a.gen_tokens) for _ in range(self.a.repeat)]
        return dict(prompt_tokens=n_prompt, sequences=self.a.sequences,
                    prefill_tok_per_s=statistics.median(prefill for prefill, _ in runs),
                    decode_tok_per_s=statistics.median(decode for _, decode in runs))


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("model")
    parser.add_argument("--quantize", nargs=2)
    parser.add_argument("--prompt-tokens", default="512")
    for name, value in dict(threads=2, gen_tokens=64, sequences=1, repeat=1).items():
        parser.add_argument("--" + name.replace("_", "-"), type=int, default=value)
    a = parser.parse_args()
    llama.llama_backend_init()
    llama.llama_log_set(quiet, None)
    if a.quantize:
        quantize(a.model, *a.quantize)
        return
    timer = Timer(a)
    print(json.dumps(dict(cases=[timer.case(int(n)) for n in a.prompt_tokens.split(",")])))


main()
