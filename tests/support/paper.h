/* A model that is only described (tests/configs) on a cluster that is only on paper, for tests of
 * what is predicted of both: hosts of one rank each on 10 Gbit/s Ethernet, and a run of `plan`'s
 * defaults with q4 weights. Opening asserts.
 *
 *     shoal_paper p;
 *     shoal_paper_open(&p, "DeepSeek-V3", 8, 256);
 *     const shoal_predict_run run = shoal_paper_run(&p, 1);
 *
 * Layering: tests, for those of the launcher. */
#ifndef SHOAL_TESTS_SUPPORT_PAPER_H
#define SHOAL_TESTS_SUPPORT_PAPER_H

#include "launcher/cluster/cluster.h"
#include "launcher/predict/predict.h"

typedef struct shoal_paper {
    shoal_log log;
    shoal_checkpoint *checkpoint;
    shoal_spec spec;
    shoal_routing_uniform uniform;
    shoal_routing routing; /* of the above */
    shoal_cluster cluster; /* may be changed */
} shoal_paper;

/* name: a folder of tests/configs. n_rank equal ranks of memory_gb. */
void shoal_paper_open(shoal_paper *p, const char *name, int32_t n_rank, double memory_gb);
void shoal_paper_close(shoal_paper *p);

/* Rank r as shoal_paper_open makes it, but with `speed` times its speeds. */
void shoal_paper_set_rank(shoal_paper *p, int32_t r, double speed, double memory_gb);

/* Borrows p, which must stay where it is. */
shoal_predict_run shoal_paper_run(const shoal_paper *p, int32_t n_sequence);

/* A placement of the model's experts; weights as shoal_placement_open takes them, or NULL. */
void shoal_paper_place(shoal_placement *placement, shoal_paper *p, int32_t n_rank,
                       const double *expert, const double *sequence);

#endif
