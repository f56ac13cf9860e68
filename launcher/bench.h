/* Inside shoal bench. A case is one prompt length with one number of sequences. Rank 0 runs the
 * cases; all that the other ranks must do at the same time (reading memory, serving steps, giving
 * their figures) it orders, one message each. Formulas: docs/PERFORMANCE.md.
 *
 *     cmd_bench.c     the cases, and rank 0's way through them
 *     bench_orders.c  what an order is on every rank
 *     bench_report.c  figures, JSON and table
 *
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_BENCH_H
#define SHOAL_LAUNCHER_BENCH_H

#include "launcher/report.h"
#include "launcher/yardstick.h"

typedef enum shoal__bench_part_kind {
    SHOAL__BENCH_PREFILL,
    SHOAL__BENCH_DECODE,
    SHOAL__BENCH_N_PART
} shoal__bench_part_kind;

/* What one rank did in one part of a case, over its timed runs; gathered, so fixed size. */
typedef struct shoal__bench_part {
    int64_t n_step, step_us;
    shoal_phase_times times; /* add up to step_us */
    shoal_work_counters work;
    uint64_t sent_bytes;
} shoal__bench_part;

typedef struct shoal__bench_rank {
    shoal__bench_part part[SHOAL__BENCH_N_PART];
} shoal__bench_rank;

typedef struct shoal__bench_case {
    int32_t n_prompt, n_sequence;
    /* Rank 0, of the timed runs: */
    double *prefill;                      /* [n_repeat] tok/s */
    double *decode;                       /* [n_repeat] tok/s */
    double *read;                         /* [n_repeat] GB/s, all ranks */
    shoal__bench_rank *rank;              /* [n_rank] */
    int64_t wall_us[SHOAL__BENCH_N_PART]; /* on rank 0's clock */
    int64_t n_token[SHOAL__BENCH_N_PART];
    double imbalance[SHOAL__BENCH_N_PART];
    shoal_engine_counters drafted; /* of rank 0 in decode */
} shoal__bench_case;

/* Slots of each exchange on this rank, part by part (shoal_model_log_slots). */
typedef struct shoal__bench_slots {
    int32_t *n_slot; /* [n_max] */
    int64_t n, n_max;
} shoal__bench_slots;

typedef struct shoal__bench {
    int32_t n_gen, n_repeat, n_case;
    shoal__bench_case *cases; /* [n_case] */
    /* Rank 0, the case now running: */
    int32_t *prompt;   /* [most sequences, longest prompt] */
    int64_t *sequence; /* [most sequences] of the engine */
    bool *has_first;   /* [most sequences] */
    int32_t n_case_done;
    shoal_peaks peaks; /* of all ranks together; pool_job_us of the slowest */
    /* Every rank: */
    shoal_yardstick yardstick;
    shoal__bench_rank mine;
    shoal__bench_slots slots[SHOAL__BENCH_N_PART];
} shoal__bench;

typedef enum shoal__bench_order_kind {
    SHOAL__BENCH_PEAKS,   /* measure and gather the peaks */
    SHOAL__BENCH_WARM_UP, /* a prefill and a few decode steps, not counted */
    SHOAL__BENCH_READ,    /* all ranks read memory at once; the sum is read[run] of the case */
    SHOAL__BENCH_RUN,     /* one part of the case, counted */
    SHOAL__BENCH_GATHER,  /* everyone's counts so far to the case, and begin anew */
    SHOAL__BENCH_END
} shoal__bench_order_kind;

typedef struct shoal__bench_order {
    int32_t kind; /* shoal__bench_order_kind */
    int32_t part; /* RUN: shoal__bench_part_kind */
    int32_t run;  /* READ */
    int32_t pad;
} shoal__bench_order;

/* Carry out an order on this rank; rank 0 sends it to the others first, and `c` is the case it is
 * for (NULL elsewhere). Collective. */
shoal_status shoal__bench_do(shoal__bench *b, shoal_session *s, shoal__bench_case *c,
                             shoal__bench_order order);
/* Other ranks: carry out what rank 0 orders until END. */
shoal_status shoal__bench_follow(shoal__bench *b, shoal_session *s);

/* Rank 0's part of WARM_UP and RUN (cmd_bench.c): engine steps, which the others serve. */
shoal_status shoal__bench_warm_up(shoal__bench *b, shoal_session *s, shoal__bench_case *c);
shoal_status shoal__bench_prefill(shoal__bench *b, shoal_session *s, shoal__bench_case *c);
shoal_status shoal__bench_decode(shoal__bench *b, shoal_session *s, shoal__bench_case *c);

/* All cases on stdout, as a table or with --json. Sorts the speeds of the runs. */
shoal_status shoal__bench_print(shoal__bench *b, const shoal_session *s,
                                const shoal_rank_report *report);

#endif
