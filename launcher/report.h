/* What a run tells about itself: the figures of every rank and the closing line behind it.
 * Formulas: docs/PERFORMANCE.md. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_REPORT_H
#define SHOAL_LAUNCHER_REPORT_H

#include "launcher/session.h"
#include "runtime/base/json.h"

#define SHOAL_BYTES_TEXT 32

/* "1.2 GB" (decimal units). Returns text. */
const char *shoal_bytes_text(char text[SHOAL_BYTES_TEXT], uint64_t n_bytes);

/* Figures of one rank, gathered at the end; fixed size, no pointers. */
struct shoal_rank_report {
    char kernels[16];
    int32_t n_thread;
    int32_t pinned;   /* 1: each thread to a core of its own */
    int64_t n_expert; /* owned, over all layers */
    uint64_t sent_bytes, received_bytes, sent_messages, received_messages;
    int64_t wait_us;
    uint64_t weight_bytes_read, expert_bytes_read;
    shoal_memory_table memory;
    uint64_t engine_bytes;
    shoal_engine_counters count;
};

/* This rank's figures now. */
void shoal_rank_report_fill(shoal_rank_report *mine, const shoal_session *session);

/* Speeds of one run of sequences, from times on rank 0's clock. Prefill: prompt tokens / time from
 * submit to the first token; decode: generated tokens behind the first / time behind the first. 0
 * where there is nothing to divide. */
typedef struct shoal_speeds {
    int64_t n_prompt, n_generated;
    int64_t prefill_us, decode_us;
    double prefill_tok_per_s, decode_tok_per_s;
} shoal_speeds;
shoal_speeds shoal_speeds_of(const shoal_event *done);

/* What guessing ahead brought. Formulas: docs/PERFORMANCE.md. */
typedef struct shoal_draft_report {
    int64_t n_accepted, n_proposed;
    double accepted_fraction; /* 0 if none was proposed */
    double tokens_per_step;   /* of a sequence past its prompt; 1 without guesses */
    double hops_per_token;    /* 0 on one rank */
} shoal_draft_report;
/* count: rank 0's, over a time in which n_token tokens were generated. */
shoal_draft_report shoal_draft_report_of(const shoal_engine_counters *count, int64_t n_token,
                                         int32_t n_rank);
shoal_json *shoal_draft_report_json(const shoal_draft_report *report);

#define SHOAL_DRAFT_TEXT 128
/* ", 94 of 142 drafts accepted (66.2 %), 1.66 tokens per step, 7.23 hops per token", or "" without
 * --draft. Returns text. */
const char *shoal_draft_report_text(char text[SHOAL_DRAFT_TEXT], const shoal_draft_report *report,
                                    const shoal_session *session);

/* Bytes that all ranks sent. */
uint64_t shoal_report_sent_bytes(const shoal_rank_report *report, int32_t n_rank);

/* New JSON object, "attention_us" and so on. */
shoal_json *shoal_report_phases_json(const shoal_phase_times *times);

/* New JSON array, an object per rank. */
shoal_json *shoal_report_ranks_json(const shoal_session *session, const shoal_rank_report *report);

/* Print a document as one line on stdout and close it. Errors: IO. */
shoal_status shoal_print_json(shoal_json *doc, shoal_log *log);

/* Everything on stdout has left the process. Errors: IO. */
shoal_status shoal_flush_stdout(shoal_log *log);

#endif
