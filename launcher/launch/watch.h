/* What a job says while it runs, and what its end means. launch reads stderr as it passes through:
 * the ranks' own lines ("[rank host] error: ...") tell of losses that ranks found, mpirun's tell of
 * ranks that died without a word. No file is asked: hosts need not share one, and who is killed
 * writes none (docs/adr/0016). Nothing here runs or waits; lines go in, an outcome comes out.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_LAUNCH_WATCH_H
#define SHOAL_LAUNCHER_LAUNCH_WATCH_H

#include "launcher/launch/job.h"

enum { SHOAL_WATCH_LINE = 2048, SHOAL_WATCH_TEXT = 512, SHOAL_OUTCOME_TEXT = 768 };

typedef struct shoal_watch {
    char line[SHOAL_WATCH_LINE]; /* the one that is not whole yet; what is longer is cut */
    int32_t n_line;

    bool lost;         /* a rank, or a whole host, is lost */
    int32_t lost_rank; /* -1: not said */
    char lost_host[SHOAL_CLUSTER_NAME];
    char lost_how[SHOAL_WATCH_TEXT]; /* "silent for 3.0 s, waiting for ... at step 6, layer 3; ..."
                                      */
    int64_t lost_us;                 /* the first word of it */

    int32_t killed_rank; /* that mpirun saw die by a signal; -1: none */
    int32_t killed_signal;
    char killed_host[SHOAL_CLUSTER_NAME];

    /* That did not answer the others when mpirun ended them all; -1: none. Only a suspicion. */
    int32_t unheard_rank;
    char unheard_how[SHOAL_WATCH_TEXT]; /* "step 6, layer 3; last heard 0.1 s ago" */

    int32_t exit_rank; /* the first that mpirun saw leave with a status; -1: none */
    int32_t exit_code;

    bool stopped;                 /* ranks were sent a signal */
    bool unreachable;             /* mpirun could not start its daemon on a host */
    bool no_binary;               /* nor the binary */
    int32_t n_error;              /* other errors that ranks spoke of */
    char error[SHOAL_WATCH_TEXT]; /* the first of them */
} shoal_watch;

void shoal_watch_init(shoal_watch *watch);

/* Bytes of stderr in order, at any cuts; now_us on any clock. */
void shoal_watch_take(shoal_watch *watch, const char *bytes, size_t n, int64_t now_us);

typedef enum shoal_outcome_kind {
    SHOAL_OUTCOME_DONE,
    SHOAL_OUTCOME_LOST,        /* 75: a rank or host is gone */
    SHOAL_OUTCOME_UNREACHABLE, /* 69: a host could not be started on */
    SHOAL_OUTCOME_STOPPED,     /* 75: by a signal */
    SHOAL_OUTCOME_FAILED,      /* by itself; would fail again */
} shoal_outcome_kind;

typedef struct shoal_outcome {
    shoal_outcome_kind kind;
    shoal_status status;           /* whose exit code is launch's */
    int32_t host;                  /* of the job, that the loss was on; -1: not known */
    char text[SHOAL_OUTCOME_TEXT]; /* what happened; "": the ranks have said so themselves */
} shoal_outcome;

/* How mpirun ended. */
typedef struct shoal_launch_end {
    int32_t wait_status; /* of waitpid */
    int32_t signal;      /* that was forwarded; 0: none */
    bool ended;          /* it had to be ended: it outlived the loss, or the signal */
    int64_t start_us, end_us;
} shoal_launch_end;

void shoal_outcome_of(shoal_outcome *outcome, const shoal_watch *watch, const shoal_launch_end *end,
                      const shoal_launch_job *job);

#endif
