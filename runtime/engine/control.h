/* What rank 0 and the owners say to each other about a step: the check of a control message
 * against the limits that both sides know, and the layout of the results that come back.
 *
 * Result message of an owner, little-endian, its size a function of the control message:
 *     header { u32 magic, u32 n_chunk of the owner, i64 step }
 *     per chunk of the owner in the order of the control message, each padded to 8 bytes:
 *         SAMPLE   i32 token [shoal__chunk_n_sample], -1 behind those that were kept,
 *                  i32 draft [n_draft], -1 behind those that were made
 *         SCORES   f64 nll [n_row]
 *         ROWS     f32 logits [n_row, n_vocab], f32 hidden [n_row, n_embd],
 *                  i32 expert [n_moe_layer, n_row, top_k], f32 weight [n_moe_layer, n_row, top_k]
 *         neither  nothing
 *         and with want_routes behind it, padded again: u16 expert [n_row, n_moe_layer, top_k]
 * An owner whose chunks all give nothing sends no message. Layering: engine. */
#ifndef SHOAL_ENGINE_CONTROL_H
#define SHOAL_ENGINE_CONTROL_H

#include "runtime/engine/limits.h"
#include "runtime/engine/scheduler.h"

/* Everything that a rank relies on: owners, slots, positions, token ids, and that the rows of
 * `rank` fit its buffers. Errors: FAILED. */
shoal_status shoal__control_check(const shoal_control *control, const shoal_limits *limits,
                                  int32_t rank, shoal_log *log);

/* Tokens that a chunk with SAMPLE may give: one, or one per row with DECODE. */
int32_t shoal__chunk_n_sample(const shoal_control_chunk *chunk);
/* How often the step runs the MTP layer, on every rank alike: 0 without DRAFT chunks. */
int32_t shoal__control_n_draft_pass(const shoal_control *control);
/* If the chunk has a part in pass `pass`, counted from 1: all rows in the first, then the last
 * guess in each. */
bool shoal__chunk_in_draft_pass(const shoal_control_chunk *chunk, int32_t pass);

/* Bytes of the result of `rank`: of this step (0: no message), and at most. */
size_t shoal__result_bytes(const shoal_limits *limits, const shoal_control *control, int32_t rank);
size_t shoal__result_bytes_max(const shoal_limits *limits, int32_t rank);

/* Where the results of the chunks of `rank` lie in its message: fills place[i] for each chunk i of
 * the control message that it owns. The owner writes there, rank 0 reads. message: 8-byte aligned,
 * [shoal__result_bytes]. */
void shoal__result_place(shoal_chunk_result *place, unsigned char *message,
                         const shoal_limits *limits, const shoal_control *control, int32_t rank);

void shoal__result_write_header(unsigned char *message, const shoal_control *control, int32_t rank);
/* Header as wanted, tokens and guesses in range. Errors: FAILED, naming the rank. */
shoal_status shoal__result_check(const unsigned char *message, const shoal_chunk_result *place,
                                 const shoal_limits *limits, const shoal_control *control,
                                 int32_t rank, shoal_log *log);

#endif
