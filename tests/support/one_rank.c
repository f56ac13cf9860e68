#include "tests/support/one_rank.h"

#include <check.h>
#include <stdlib.h>
#include <string.h>

void shoal_one_rank_open(shoal_one_rank *r, const shoal_one_rank_config *config)
{
    char path[512];
    (void)snprintf(path, sizeof(path), "%s/%s", getenv("SHOAL_SOURCE_DIR"), config->model);
    memset(r, 0, sizeof(*r));
    shoal_log_init(&r->log, stderr, 0, "test");
    ck_assert_int_eq(shoal_checkpoint_open(&r->checkpoint, path, true, &r->log), SHOAL_OK);
    ck_assert_int_eq(shoal_spec_open(&r->spec, r->checkpoint, &r->log), SHOAL_OK);
    ck_assert_int_eq(shoal_placement_open(&r->placement, r->spec.n_moe_layer + config->n_mtp,
                                          r->spec.router.n_expert, r->spec.router.n_group, 1, NULL,
                                          NULL, &r->log),
                     SHOAL_OK);
    shoal_transport *transport;
    ck_assert_int_eq(shoal_transport_open_self(&transport), SHOAL_OK);
    const shoal_comm_config comm_config = {.deadline_s = 30.0};
    ck_assert_int_eq(shoal_comm_open(&r->comm, transport, &comm_config, &r->log), SHOAL_OK);
    ck_assert_int_eq(shoal_kernels_select(&r->compute.kernels, config->kernels, &r->log), SHOAL_OK);
    ck_assert_int_eq(shoal_pool_open(&r->compute.pool, config->n_thread, &r->log), SHOAL_OK);
    r->compute.device = config->device;
    const shoal_model_config model_config = {.n_mtp = config->n_mtp,
                                             .fast = config->fast,
                                             .weights = config->weights,
                                             .packed = config->packed,
                                             .combine = SHOAL_COMBINE_EXACT,
                                             .kv_dtype = config->kv_dtype,
                                             .n_context = config->n_context,
                                             .n_sequence = config->n_sequence,
                                             .n_token_max = config->n_row_max,
                                             .n_logit_max = config->n_row_max,
                                             .placement = &r->placement,
                                             .compute = r->compute,
                                             .comm = r->comm};
    ck_assert_int_eq(shoal_model_open(&r->model, &r->spec, r->checkpoint, &model_config, &r->log),
                     SHOAL_OK);
    const shoal_status loaded = shoal_model_load(r->model);
    if (config->loaded != NULL)
        *config->loaded = loaded;
    else
        ck_assert_int_eq(loaded, SHOAL_OK);
}

void shoal_one_rank_close(shoal_one_rank *r)
{
    shoal_model_close(r->model);
    shoal_pool_close(r->compute.pool);
    shoal_comm_close(r->comm, SHOAL_OK);
    shoal_placement_close(&r->placement);
    shoal_spec_close(&r->spec);
    shoal_checkpoint_close(r->checkpoint);
}
