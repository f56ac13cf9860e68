/* Storage types of checkpoint tensors, scalar conversions between them and f32 (the specification
 * of each type), and the view that activations travel in. Layering: base. */
#ifndef SHOAL_BASE_TENSOR_H
#define SHOAL_BASE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

/* X(name, elements per block, bytes per block, text). The text is that of safetensors, or of GGUF
 * for the types that GGUF alone has; plain types have blocks of one element. OTHER is whatever a
 * file may hold that no weight can be read from; its size is not known here. */
#define SHOAL_DTYPE_MAP(X)                                                                         \
    X(F32, 1, 4, "F32")                                                                            \
    X(F16, 1, 2, "F16")                                                                            \
    X(BF16, 1, 2, "BF16")                                                                          \
    X(F8_E4M3, 1, 1, "F8_E4M3")                                                                    \
    X(F8_E8M0, 1, 1, "F8_E8M0")                                                                    \
    X(U8, 1, 1, "U8")                                                                              \
    X(I32, 1, 4, "I32")                                                                            \
    X(I64, 1, 8, "I64")                                                                            \
    X(F64, 1, 8, "F64")                                                                            \
    X(Q4_0, 32, 18, "Q4_0")                                                                        \
    X(Q4_1, 32, 20, "Q4_1")                                                                        \
    X(Q5_0, 32, 22, "Q5_0")                                                                        \
    X(Q5_1, 32, 24, "Q5_1")                                                                        \
    X(Q8_0, 32, 34, "Q8_0")                                                                        \
    X(Q4_K, 256, 144, "Q4_K")                                                                      \
    X(Q5_K, 256, 176, "Q5_K")                                                                      \
    X(Q6_K, 256, 210, "Q6_K")                                                                      \
    X(MXFP4, 32, 17, "MXFP4")                                                                      \
    X(OTHER, 1, 0, "unknown")

typedef enum shoal_dtype {
#define SHOAL_DTYPE_ENUM(name, block, bytes, text) SHOAL_DTYPE_##name,
    SHOAL_DTYPE_MAP(SHOAL_DTYPE_ENUM)
#undef SHOAL_DTYPE_ENUM
        SHOAL_N_DTYPE
} shoal_dtype;

/* Elements of a block, and the bytes of a block (so of an element where a block has one). 0 bytes
 * for OTHER and for no dtype. */
size_t shoal_dtype_block(shoal_dtype dtype);
size_t shoal_dtype_bytes(shoal_dtype dtype);
const char *shoal_dtype_text(shoal_dtype dtype);

/* Activations: f32, row-major, one row per token. A view; owns nothing. */
typedef struct shoal_tensor {
    float *data;   /* [n_row, n_col] */
    int32_t n_row; /* tokens */
    int32_t n_col;
} shoal_tensor;

/* Scalar conversions. to_bf16/to_f16 round to nearest even; NaN stays NaN. e4m3: 1-4-3, bias 7, no
 * infinity, NaN is 0x7f and 0xff. e8m0: 2^(x - 127), NaN is 0xff. */
float shoal_bf16_to_f32(uint16_t x);
uint16_t shoal_f32_to_bf16(float x);
float shoal_f16_to_f32(uint16_t x);
uint16_t shoal_f32_to_f16(float x);
float shoal_e4m3_to_f32(uint8_t x);
float shoal_e8m0_to_f32(uint8_t x);

#endif
