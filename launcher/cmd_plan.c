/* shoal plan: what a model would take and do on a cluster, before there is one. */
#include "launcher/bootstrap.h"
#include "launcher/command.h"
#include "launcher/plan/plan.h"
#include "launcher/report.h"

shoal_status shoal_cmd_plan(const shoal_options *options, const volatile sig_atomic_t *interrupted,
                            shoal_log *log)
{
    (void)interrupted;
    if (shoal_bootstrap_environment_rank() > 0)
        return SHOAL_OK;
    shoal__plan plan;
    if (options->n_simulated > 0) {
        shoal_status simulated = shoal__plan_open(&plan, options, log);
        if (simulated == SHOAL_OK)
            simulated = shoal__plan_simulate(&plan);
        shoal__plan_close(&plan);
        return simulated;
    }
    shoal_status status = shoal__plan_make(&plan, options, log);
    if (status == SHOAL_OK && options->json) {
        status = shoal_print_json(shoal__plan_json(&plan), log);
    } else if (status == SHOAL_OK) {
        shoal__plan_print(&plan);
        status = shoal_flush_stdout(log);
    }
    shoal__plan_close(&plan);
    return status;
}
