/* The control message: what rank 0 tells every rank before a step. Plain structs here, protobuf-c
 * behind the door; packing and unpacking use memory that the caller carved once, because a step
 * allocates nothing. The same message goes to every rank: a rank runs the chunks it owns, and the
 * owners of all chunks are the sources of the exchange.
 * Layering: proto knows base only; what the numbers may be is the engine's to check. */
#ifndef SHOAL_PROTO_CONTROL_H
#define SHOAL_PROTO_CONTROL_H

#include "runtime/base/arena.h"

/* What a chunk is and what is wanted from its rows. */
typedef enum shoal_control_flag {
    SHOAL_CONTROL_SAMPLE = 1, /* its last row gives a token */
    SHOAL_CONTROL_DECODE = 2, /* its first row is a token that was sampled, not one of the prompt;
                                 the rows behind are guesses at what follows, and each gives a token
                                 as long as the guesses before it were right */
    SHOAL_CONTROL_SCORES = 4, /* -ln p of the token after each row; one more token than rows */
    SHOAL_CONTROL_ROWS = 8,   /* logits, hidden state and routing of each row */
    SHOAL_CONTROL_DRAFT =
        16, /* its rows go through the MTP layer too. Without SAMPLE: one more token
               than rows; with it: guesses at what follows the sampled token */
    SHOAL_CONTROL_ALL_FLAGS = 31
} shoal_control_flag;

/* Consecutive positions of one sequence. */
typedef struct shoal_control_chunk {
    int32_t owner;     /* rank */
    int32_t slot;      /* cache slot on the owner */
    int32_t position0; /* position of its first row */
    int32_t n_row;
    uint32_t flags; /* shoal_control_flag */
    int32_t token0; /* its first token among those of the message; follows from the chunks before */
    int32_t n_token; /* n_row, one more with SCORES and with DRAFT alone; follows from both */
    int32_t n_draft; /* with DRAFT: guesses wanted, 0 without SAMPLE; 0 otherwise */
    /* With SAMPLE; zero otherwise. */
    float temperature;
    float top_p;
    int32_t top_k;
    uint64_t seed, key;
} shoal_control_chunk;

typedef struct shoal_control {
    int64_t step;
    bool stop; /* leave: no step follows */
    int32_t n_chunk;
    int32_t n_token;
    shoal_control_chunk *chunk; /* [n_chunk] */
    int32_t *token;             /* [n_token] */
} shoal_control;

/* Tokens of a chunk with n_row rows and these flags. */
int32_t shoal_control_chunk_n_token(int32_t n_row, uint32_t flags);

/* Room for messages of at most n_chunk_max chunks and n_token_max tokens. */
typedef struct shoal_control_codec {
    int32_t n_chunk_max;
    int32_t n_token_max;
    size_t message_bytes_max; /* no packed message is larger */
    size_t scratch_bytes;
    void *scratch; /* [scratch_bytes] columns of a message being packed or unpacked */
} shoal_control_codec;

/* Measure or carve. */
void shoal_control_codec_carve(shoal_control_codec *codec, shoal_arena *arena, int32_t n_chunk_max,
                               int32_t n_token_max);
/* Measure or carve the arrays of a control of that size. */
void shoal_control_carve(shoal_control *control, shoal_arena *arena, int32_t n_chunk_max,
                         int32_t n_token_max);

/* Pack into bytes [message_bytes_max]; returns the size. The control is within the codec's limits,
 * with token0 and n_token as they follow (a caller's bug otherwise). Allocates nothing. */
size_t shoal_control_pack(uint8_t *bytes, shoal_control_codec *codec, const shoal_control *control);

/* Unpack into control, whose arrays have room for the codec's limits. Allocates nothing. Errors:
 * FAILED (not a control message, or one beyond the limits: builds or options differ). */
shoal_status shoal_control_unpack(shoal_control *control, shoal_control_codec *codec,
                                  const uint8_t *bytes, size_t n_bytes, shoal_log *log);

#endif
