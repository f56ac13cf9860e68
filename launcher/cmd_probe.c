/* shoal probe: what the machines of this job can do and what lies between them; no model. */
#include "launcher/agreement.h"
#include "launcher/bootstrap.h"
#include "launcher/cluster/cluster_probe.h"
#include "launcher/command.h"
#include "launcher/devices.h"
#include "launcher/probe/probe.h"

/* What a rank measures with. */
typedef struct tools {
    shoal_compute compute;
    shoal_cores cores;
    shoal_devices devices;
} tools;

static shoal_status open_tools(tools *t, const shoal_options *options, shoal_comm *comm,
                               shoal_log *log)
{
    SHOAL_TRY(shoal_kernels_select(&t->compute.kernels, options->kernels, log));
    return shoal_cores_open(&t->cores, &t->compute.pool, options->n_thread, comm, log);
}

static shoal_status run(shoal_probe *probe, tools *t, const shoal_options *options,
                        shoal_comm *comm, shoal_log *log)
{
    char mpi[SHOAL_PROBE_TEXT];
    log->capture = true;
    shoal_status status = open_tools(t, options, comm, log);
    SHOAL_TRY(shoal_agreement_stage(comm, status, "opening", log));
    /* Bound ranks are one of the probe's own warnings. */
    const shoal_log_level level = log->level;
    log->level = SHOAL_LOG_ERROR;
    status = shoal_cores_share(&t->cores, t->compute.pool, comm, log);
    log->level = level;
    SHOAL_TRY(status);
    const shoal_devices_use use = {.n_item = 1, .pool = t->compute.pool};
    SHOAL_TRY(shoal_devices_open(&t->devices, options, &use, comm, log));
    t->compute.device = t->devices.own;
    shoal_bootstrap_mpi_text(mpi, sizeof mpi);
    const shoal_probe_setup setup = {.comm = comm,
                                     .compute = &t->compute,
                                     .cores = &t->cores,
                                     .mpi = mpi,
                                     .effort = shoal_probe_effort_full(),
                                     .shows_progress = true};
    return shoal_probe_run(probe, &setup, log);
}

/* Rank 0, with all figures: a file that cannot be written is no reason for the others to fail. */
static shoal_status report(const shoal_probe *probe, const shoal_options *options, shoal_log *log)
{
    if (options->json)
        shoal_probe_print_json(probe, stdout);
    else
        shoal_probe_print(probe, stdout);
    if (options->output == NULL)
        return SHOAL_OK;
    return shoal_cluster_write_probe(&probe->message, options->output, log);
}

shoal_status shoal_cmd_probe(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                             shoal_log *log)
{
    shoal_bootstrap bootstrap;
    tools t = {0};
    shoal_probe probe = {0};
    shoal_status reported = SHOAL_OK;
    shoal_status status = shoal_bootstrap_open(&bootstrap, options, interrupted, log);
    if (status == SHOAL_OK)
        status = run(&probe, &t, options, bootstrap.comm, log);
    if (status == SHOAL_OK && probe.facts != NULL)
        reported = report(&probe, options, log);
    shoal_bootstrap_close(&bootstrap, status);
    shoal_probe_close(&probe);
    shoal_devices_close(&t.devices);
    shoal_pool_close(t.compute.pool);
    return status != SHOAL_OK ? status : reported;
}
