/* What a walk through a step in time has: lockstep.c walks it, walk.c makes room for it. Layering:
 * private to launcher/predict. */
#ifndef SHOAL_LAUNCHER_PREDICT_WALK_H
#define SHOAL_LAUNCHER_PREDICT_WALK_H

#include "launcher/predict/costs.h"

enum { SHOAL__WALK_PARTS = 4 };

/* Rows of a part on their way, per rank. */
typedef struct shoal__walk_part {
    shoal_routing_step routed;
    int32_t *n_row;     /* [n_rank] */
    double *arrived_us; /* [n_rank] when the last message for this rank is there */
    double *taken_us;   /* [n_rank] what taking these messages costs it */
    double *last_us;    /* [n_rank] and the last of them */
    bool away;          /* results are to be collected */
} shoal__walk_part;

typedef struct shoal__walk {
    const shoal__costs *c;
    const shoal_cluster *cluster;
    const shoal__step *step;
    shoal_log *log;
    int32_t n_rank, n_part, layer;
    shoal__walk_part part[SHOAL__WALK_PARTS];
    double *clock_us;            /* [n_rank] */
    double *sends_us, *takes_us; /* [n_host] until when the card is busy */
    double *card_gb_per_s;       /* [n_host] */
    double *memory;              /* behind all of these */
    double *work_us;             /* [n_rank] of attention, then of the experts */
    double *shared_us;           /* [n_rank] of shared experts */
    int32_t *expert;             /* choices of one part */
    double n_bytes, n_message, experts_us, imbalance_us, attention_us; /* sums */
} shoal__walk;

/* w->c, cluster, step, log and n_rank are set; n_token: of all ranks. Errors: NO_MEMORY; close
 * then, too. */
shoal_status shoal__walk_open(shoal__walk *walk, int64_t n_token);
void shoal__walk_close(shoal__walk *walk);

/* GB/s of a link; 1 where it is not known. */
double shoal__link_gb_per_s(const shoal_cluster_link *link);

#endif
