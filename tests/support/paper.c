#include "tests/support/paper.h"

#include "launcher/cluster/cluster_presets.h"
#include "tests/support/check_main.h"

#include <stdio.h>

void shoal_paper_set_rank(shoal_paper *p, int32_t r, double speed, double memory_gb)
{
    shoal_cluster_rank *rank = &p->cluster.rank[r];
    *rank = (shoal_cluster_rank){.host = r,
                                 .gpu = -1,
                                 .n_thread = 8,
                                 .memory_bytes = (uint64_t)(memory_gb * 1e9),
                                 .layer_us = 20};
    p->cluster.host[r] = (shoal_cluster_host){.n_core = 8, .nic_gb_per_s = 1.17};
    shoal_device_fill(rank, &(shoal_device_rates){.int8_gop_per_s = 3000 * speed,
                                                  .f32_gflop_per_s = 800 * speed,
                                                  .read_gb_per_s = 60 * speed});
}

void shoal_paper_open(shoal_paper *p, const char *name, int32_t n_rank, double memory_gb)
{
    char path[512];
    shoal_log_init(&p->log, NULL, 0, "test");
    snprintf(path, sizeof path, "%s/tests/configs/%s", getenv("SHOAL_SOURCE_DIR"), name);
    ck_assert_int_eq(shoal_checkpoint_open(&p->checkpoint, path, true, &p->log), SHOAL_OK);
    ck_assert_int_eq(shoal_spec_open(&p->spec, p->checkpoint, &p->log), SHOAL_OK);
    ck_assert_int_eq(shoal_routing_uniform_open(&p->uniform, &p->spec.router, &p->log), SHOAL_OK);
    p->routing = shoal_routing_of_uniform(&p->uniform);
    ck_assert_int_eq(shoal_cluster_open(&p->cluster, n_rank, n_rank, &p->log), SHOAL_OK);
    for (int32_t r = 0; r < n_rank; r++) {
        shoal_paper_set_rank(p, r, 1, memory_gb);
        for (int32_t q = 0; q < n_rank; q++)
            if (q != r)
                *shoal_cluster_link_at(&p->cluster, r, q) =
                    (shoal_cluster_link){.latency_us = 30, .gb_per_s = 1.17, .overhead_us = 5};
    }
}

void shoal_paper_close(shoal_paper *p)
{
    shoal_cluster_close(&p->cluster);
    shoal_routing_uniform_close(&p->uniform);
    shoal_spec_close(&p->spec);
    shoal_checkpoint_close(p->checkpoint);
}

shoal_predict_run shoal_paper_run(const shoal_paper *p, int32_t n_sequence)
{
    return (shoal_predict_run){.spec = &p->spec,
                               .checkpoint = p->checkpoint,
                               .fast = true,
                               .weights = SHOAL_WEIGHTS_Q4,
                               .kv_dtype = SHOAL_KV_BF16,
                               .n_context = 640,
                               .n_sequence = n_sequence,
                               .prefill_chunk = 256,
                               .overlap_rows = SHOAL_OVERLAP_ROWS,
                               .n_prompt = 512,
                               .n_gen = 128,
                               .cluster = &p->cluster,
                               .routing = &p->routing};
}

void shoal_paper_place(shoal_placement *placement, shoal_paper *p, int32_t n_rank,
                       const double *expert, const double *sequence)
{
    ck_assert_int_eq(shoal_placement_open(placement, p->spec.n_moe_layer, p->spec.router.n_expert,
                                          p->spec.router.n_group, n_rank, expert, sequence,
                                          &p->log),
                     SHOAL_OK);
}
