#include "launcher/weighted.h"

#include "launcher/agreement.h"
#include "launcher/cluster/cluster_probe.h"
#include "launcher/predict/predict.h"
#include "launcher/probe/probe.h"
#include "runtime/base/clock.h"

#include <stdlib.h>
#include <string.h>

/* Tokens that the shares are to be good for: a prompt of some paragraphs and an answer. */
enum { N_PROMPT = 256, N_GEN = 256 };

/* What a stored tensor becomes in memory if it is kept as it is. */
static shoal_format native_format(const shoal_tensor_info *t)
{
    shoal_format format = SHOAL_FORMAT_F32; /* what other types of GGUF become */
    if (t->dtype == SHOAL_DTYPE_U8 || t->dtype == SHOAL_DTYPE_MXFP4)
        return SHOAL_FORMAT_MXFP4;
    if (t->dtype == SHOAL_DTYPE_Q8_0)
        return SHOAL_FORMAT_Q8;
    if (t->dtype == SHOAL_DTYPE_Q4_0)
        return SHOAL_FORMAT_Q4;
    (void)shoal_format_of_dtype(&format, t->dtype);
    return format;
}

uint32_t shoal_weighted_formats(shoal_format *of_experts, const shoal_checkpoint *checkpoint,
                                shoal_weights_choice weights)
{
    static const shoal_format chosen[] = {[SHOAL_WEIGHTS_BF16] = SHOAL_FORMAT_BF16,
                                          [SHOAL_WEIGHTS_Q8] = SHOAL_FORMAT_Q8,
                                          [SHOAL_WEIGHTS_Q4] = SHOAL_FORMAT_Q4};
    if (weights != SHOAL_WEIGHTS_NATIVE) {
        *of_experts = chosen[weights];
        return 1U << chosen[weights];
    }
    uint64_t all[SHOAL_N_FORMAT] = {0}, experts[SHOAL_N_FORMAT] = {0}, sum = 0;
    for (int64_t i = 0; i < shoal_checkpoint_n_tensor(checkpoint); i++) {
        const shoal_tensor_info *t = shoal_checkpoint_tensor(checkpoint, i);
        const shoal_format format = native_format(t);
        all[format] += t->n_bytes;
        sum += t->n_bytes;
        if (strstr(t->name, ".experts.") != NULL)
            experts[format] += t->n_bytes;
    }
    uint32_t bits = 0;
    *of_experts = SHOAL_FORMAT_BF16;
    for (int32_t f = 0; f < SHOAL_N_FORMAT; f++) {
        if (all[f] > sum / 20)
            bits |= 1U << f;
        if (experts[f] > experts[*of_experts])
            *of_experts = (shoal_format)f;
    }
    return bits | 1U << *of_experts;
}

void shoal_weighted_text(char text[128], const double *weight, int32_t n)
{
    enum { N_SHOWN = 16, N_TEXT = 128 };
    double sum = 0;
    size_t used = 0;
    for (int32_t r = 0; r < n; r++)
        sum += weight[r];
    text[0] = '\0';
    for (int32_t r = 0; r < n && r < N_SHOWN; r++)
        used += (size_t)snprintf(text + used, N_TEXT - used, "%s%.0f %%", r > 0 ? ", " : "",
                                 100 * weight[r] / sum);
    if (n > N_SHOWN)
        snprintf(text + used, N_TEXT - used, ", ...");
}

/* The first ranks of the file must be this job's, on the same hosts. */
static shoal_status read_probe(shoal_cluster *cluster, const shoal_session *s)
{
    const char *path = s->options.probe;
    shoal_cluster all;
    SHOAL_TRY(shoal_cluster_read_probe(&all, path, s->log));
    shoal_status status = SHOAL_OK;
    if (all.n_rank < s->n_rank)
        status = shoal_fail(s->log, SHOAL_USAGE,
                            "--probe %s has %d ranks, this job has %d; start shoal probe as this "
                            "job was started",
                            path, (int)all.n_rank, (int)s->n_rank);
    for (int32_t r = 0; status == SHOAL_OK && r < s->n_rank; r++)
        if (strcmp(all.host[all.rank[r].host].name, shoal_comm_host(s->comm, r)) != 0)
            status = shoal_fail(s->log, SHOAL_BAD_DATA,
                                "--probe %s has rank %d on %s, in this job it is on %s; start "
                                "shoal probe as this job was started",
                                path, (int)r, all.host[all.rank[r].host].name,
                                shoal_comm_host(s->comm, r));
    if (status == SHOAL_OK)
        status = shoal_cluster_first(cluster, &all, s->n_rank, s->log);
    shoal_cluster_close(&all);
    return status;
}

/* Half a second of all ranks; rank 0's cluster is filled. Collective. */
static shoal_status measure(shoal_cluster *cluster, shoal_session *s)
{
    const shoal_weights_choice weights = (shoal_weights_choice)s->options.weights;
    shoal_format of_experts;
    const uint32_t formats = shoal_weighted_formats(&of_experts, s->checkpoint, weights);
    const shoal_probe_setup setup = {.comm = s->comm,
                                     .compute = &s->compute,
                                     .cores = &s->cores,
                                     .mpi = "",
                                     .effort = shoal_probe_effort_quick(formats)};
    shoal_probe probe = {0};
    SHOAL_TRY(shoal_probe_run(&probe, &setup, s->log));
    shoal_status status = SHOAL_OK;
    if (s->rank == 0)
        status = shoal_cluster_of_probe(cluster, &probe.message, "this job", s->log);
    shoal_probe_close(&probe);
    return status;
}

static shoal_status choose(double *weight, const shoal_cluster *cluster, const shoal_session *s)
{
    const shoal_options *o = &s->options;
    shoal_routing_uniform uniform;
    SHOAL_TRY(shoal_routing_uniform_open(&uniform, &s->spec.router, s->log));
    const shoal_routing routing = shoal_routing_of_uniform(&uniform);
    const shoal_predict_run run = {
        .spec = &s->spec,
        .checkpoint = s->checkpoint,
        .fast = o->math == SHOAL_MATH_FAST,
        .weights = (shoal_weights_choice)o->weights,
        .combine = (shoal_combine_kind)o->combine,
        .kv_dtype = o->kv == SHOAL_KV_CHOICE_F32 ? SHOAL_KV_F32 : SHOAL_KV_BF16,
        .n_context = o->n_context,
        .n_sequence = o->n_sequence,
        .prefill_chunk = o->prefill_chunk,
        .overlap_rows = o->overlap == SHOAL_OVERLAP_OFF ? 0 : SHOAL_OVERLAP_ROWS,
        .n_prompt = N_PROMPT < o->n_context / 2 ? N_PROMPT : (o->n_context + 1) / 2,
        .n_gen = N_GEN < o->n_context / 2 ? N_GEN : (o->n_context + 1) / 2,
        .cluster = cluster,
        .routing = &routing,
    };
    const shoal_status status = shoal_predict_weights(weight, weight + s->n_rank, &run, s->log);
    shoal_routing_uniform_close(&uniform);
    return status;
}

/* "12.3, 3.1 GB/s of q4 weights": what weighs most. */
static void speeds_text(char text[256], const shoal_cluster *cluster, shoal_format format)
{
    enum { N_SHOWN = 8, N_TEXT = 256 };
    size_t used = 0;
    for (int32_t r = 0; r < cluster->n_rank && r < N_SHOWN; r++)
        used += (size_t)snprintf(text + used, N_TEXT - used, "%s%.1f", r > 0 ? ", " : "",
                                 cluster->rank[r].decode_gb_per_s[format]);
    snprintf(text + used, N_TEXT - used, "%s GB/s of %s weights",
             cluster->n_rank > N_SHOWN ? ", ..." : "", shoal_format_text(format));
}

/* Rank 0: the shares, and a line that says them. */
static shoal_status decide(double *weight, const shoal_cluster *cluster, const shoal_session *s,
                           double time_s)
{
    SHOAL_TRY(choose(weight, cluster, s));
    shoal_format format;
    (void)shoal_weighted_formats(&format, s->checkpoint, (shoal_weights_choice)s->options.weights);
    char experts[128], sequences[128], speeds[256], from[128];
    shoal_weighted_text(experts, weight, s->n_rank);
    shoal_weighted_text(sequences, weight + s->n_rank, s->n_rank);
    speeds_text(speeds, cluster, format);
    if (s->options.probe != NULL)
        snprintf(from, sizeof from, "of %.100s", s->options.probe);
    else
        snprintf(from, sizeof from, "measured in %.1f s", time_s);
    shoal_log_info(s->log, "placement weighted: experts %s; sequences %s; ranks read %s (%s)",
                   experts, sequences, speeds, from);
    return SHOAL_OK;
}

/* Facts on rank 0. Collective. */
static shoal_status find_out(shoal_cluster *cluster, shoal_session *s)
{
    if (s->options.probe == NULL)
        return measure(cluster, s);
    return s->rank == 0 ? read_probe(cluster, s) : SHOAL_OK;
}

static shoal_status share_weights(double *weight, shoal_session *s)
{
    shoal_cluster cluster = {0};
    const int64_t start_us = shoal_clock_us();
    s->log->capture = true; /* what fails is said by the stage below */
    shoal_status status = find_out(&cluster, s);
    const double time_s = (double)(shoal_clock_us() - start_us) * 1e-6;
    if (status == SHOAL_OK && s->rank == 0)
        status = decide(weight, &cluster, s, time_s);
    shoal_cluster_close(&cluster);
    SHOAL_TRY(shoal_agreement_stage(s->comm, status, "choosing the placement", s->log));
    return shoal_comm_bcast(s->comm, weight, 2 * (size_t)s->n_rank * sizeof *weight, 0);
}

shoal_status shoal_weighted_placement(shoal_session *s, int32_t n_moe_layer)
{
    if (s->n_rank == 1 && s->options.probe == NULL) /* nothing to choose */
        return shoal_placement_open(&s->placement, n_moe_layer, s->spec.router.n_expert,
                                    s->spec.router.n_group, 1, NULL, NULL, s->log);
    double *weight = calloc(2 * (size_t)s->n_rank, sizeof *weight); /* experts, sequences */
    s->log->capture = true;
    shoal_status status = SHOAL_OK;
    if (weight == NULL)
        status = shoal_fail(s->log, SHOAL_NO_MEMORY, "no memory for the shares of %d ranks",
                            (int)s->n_rank);
    status = shoal_agreement_stage(s->comm, status, "choosing the placement", s->log);
    if (status == SHOAL_OK)
        status = share_weights(weight, s);
    if (status == SHOAL_OK)
        status = shoal_placement_open(&s->placement, n_moe_layer, s->spec.router.n_expert,
                                      s->spec.router.n_group, s->n_rank, weight, weight + s->n_rank,
                                      s->log);
    free(weight);
    return status;
}
