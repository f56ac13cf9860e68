#!/usr/bin/env python3
"""Write dequant.bin: random blocks of every block type of GGUF that Shoal reads, and what the gguf
package makes of them.  usage: make_cases.py > dequant.bin    Needs numpy, gguf.

File: per type, u32 ggml type, u32 n_block, u32 bytes per block, u32 elements per block, the blocks,
their values as f32; little-endian. A type of 0xffffffff ends it."""
import struct
import sys

import gguf
import numpy as np
from gguf.quants import dequantize

TYPES = "Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q4_K Q5_K Q6_K MXFP4".split()
# where a block has its f16 numbers
HALVES = dict(Q4_0=[0], Q4_1=[0, 2], Q5_0=[0], Q5_1=[0, 2], Q8_0=[0], Q4_K=[0, 2], Q5_K=[0, 2],
              Q6_K=[208], MXFP4=[])
N_BLOCK = 12

rng = np.random.default_rng(7)
out = sys.stdout.buffer
for name in TYPES:
    kind = gguf.GGMLQuantizationType[name]
    n_elem, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    blocks = rng.integers(0, 256, (N_BLOCK, n_bytes), dtype=np.uint8)
    for at in HALVES[name]:
        half = rng.normal(0, 1, N_BLOCK) * 10.0 ** rng.integers(-6, 4, N_BLOCK)
        half[:5] = 0, -0.0, 6e-8, 65504, -1  # zero, subnormal, largest
        blocks[:, at:at + 2] = half.astype(np.float16).view(np.uint8).reshape(-1, 2)
    if name == "MXFP4":
        blocks[:8, 0] = 0, 1, 2, 3, 126, 127, 128, 250  # subnormal scales, 1, no overflow
        blocks[8:, 0] = rng.integers(0, 252, N_BLOCK - 8)
    values = dequantize(blocks, kind).astype(np.float32)
    assert values.size == N_BLOCK * n_elem and np.isfinite(values).all()
    out.write(struct.pack("<4I", int(kind), N_BLOCK, n_bytes, n_elem))
    out.write(blocks.tobytes() + values.tobytes())
out.write(struct.pack("<I", 0xFFFFFFFF))
