/* Storage types of checkpoint tensors, scalar conversions between them and f32 (the specification
 * of each type), and the view that activations travel in. Layering: base. */
#ifndef SHOAL_BASE_TENSOR_H
#define SHOAL_BASE_TENSOR_H

#include <stddef.h>
#include <stdint.h>

/* X(name, bytes per element, safetensors name) */
#define SHOAL_DTYPE_MAP(X)                                                                         \
    X(F32, 4, "F32")                                                                               \
    X(F16, 2, "F16")                                                                               \
    X(BF16, 2, "BF16")                                                                             \
    X(F8_E4M3, 1, "F8_E4M3")                                                                       \
    X(U8, 1, "U8")                                                                                 \
    X(I32, 4, "I32")                                                                               \
    X(I64, 8, "I64")                                                                               \
    X(F64, 8, "F64")

typedef enum shoal_dtype {
#define SHOAL_DTYPE_ENUM(name, bytes, text) SHOAL_DTYPE_##name,
    SHOAL_DTYPE_MAP(SHOAL_DTYPE_ENUM)
#undef SHOAL_DTYPE_ENUM
        SHOAL_N_DTYPE
} shoal_dtype;

size_t shoal_dtype_bytes(shoal_dtype dtype);
const char *shoal_dtype_text(shoal_dtype dtype);

/* Activations: f32, row-major, one row per token. A view; owns nothing. */
typedef struct shoal_tensor {
    float *data;   /* [n_row, n_col] */
    int32_t n_row; /* tokens */
    int32_t n_col;
} shoal_tensor;

/* Scalar conversions. to_bf16/to_f16 round to nearest even; NaN stays NaN. e4m3: 1-4-3, bias 7, no
 * infinity, NaN is 0x7f and 0xff. */
float shoal_bf16_to_f32(uint16_t x);
uint16_t shoal_f32_to_bf16(float x);
float shoal_f16_to_f32(uint16_t x);
uint16_t shoal_f32_to_f16(float x);
float shoal_e4m3_to_f32(uint8_t x);

#endif
