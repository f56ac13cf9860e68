#include "launcher/bootstrap.h"

#include "comm/mpi/mpi.h"
#include "launcher/watchdog.h"

#include <mpi.h>

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What MPI's own start and end may take beyond the deadline, and what its abort may take. */
#define START_S 10.0
#define ABORT_S 0.5

/* Set by mpirun, by PMIx and by PMI respectively; other variables of these families (OMPI_MCA_*)
 * are settings that people export, and say nothing about how this process was started. */
static const char *const rank_variables[] = {"OMPI_COMM_WORLD_RANK", "PMIX_RANK", "PMI_RANK"};

int32_t shoal_bootstrap_environment_rank(void)
{
    for (size_t i = 0; i < sizeof rank_variables / sizeof rank_variables[0]; i++) {
        const char *text = getenv(rank_variables[i]);
        int64_t rank;
        if (text != NULL && shoal_parse_int64(&rank, text) && rank >= 0 && rank <= INT32_MAX)
            return (int32_t)rank;
    }
    return -1;
}

void shoal_bootstrap_log(shoal_log *log)
{
    char host[64] = "";
    if (gethostname(host, sizeof host) != 0 || host[0] == '\0')
        snprintf(host, sizeof host, "localhost");
    host[sizeof host - 1] = '\0';
    int32_t rank = shoal_bootstrap_environment_rank();
    shoal_log_init(log, stderr, rank > 0 ? rank : 0, host);
}

/* srun without PMIx starts tasks that cannot find each other; each would be rank 0 of one. */
static void warn_alone_in_slurm(shoal_log *log)
{
    const char *text = getenv("SLURM_STEP_NUM_TASKS");
    int64_t n_task;
    if (text != NULL && shoal_parse_int64(&n_task, text) && n_task > 1)
        shoal_log_warn(log,
                       "srun started %s tasks but gave them no PMIx: each runs alone; use srun "
                       "--mpi=pmix",
                       text);
}

/* MPI_Init returns when all ranks have called it. */
static int init_mpi(const shoal_bootstrap *bootstrap, int *provided)
{
    shoal_watchdog dog = {
        .limit_s = bootstrap->deadline_s + START_S,
        .text = "MPI has not started: a rank of this job died or stands still, or its host or the "
                "launcher's daemon there cannot be reached; see what mpirun or srun says, then "
                "start again",
        .interrupted = bootstrap->interrupted,
        .status = SHOAL_PEER_LOST,
        .log = bootstrap->log,
    };
    shoal_watchdog_start(&dog);
    int code = MPI_Init_thread(NULL, NULL, MPI_THREAD_FUNNELED, provided);
    shoal_watchdog_stop(&dog);
    return code;
}

static shoal_status start_mpi(shoal_bootstrap *bootstrap, shoal_log *log)
{
    int initialised = 0;
    int provided = MPI_THREAD_SINGLE;
    MPI_Initialized(&initialised);
    if (initialised)
        return shoal_fail(log, SHOAL_FAILED, "MPI is already initialised in this process");
    for (const shoal_mpi_setting *s = shoal_mpi_settings; s->name != NULL; s++)
        setenv(s->name, s->value, 0);
    if (init_mpi(bootstrap, &provided) != MPI_SUCCESS)
        return shoal_fail(log, SHOAL_UNAVAILABLE, "MPI could not be started");
    bootstrap->mpi = true;
    shoal_mpi_be_quiet();
    int rank = 0;
    MPI_Comm_rank(MPI_COMM_WORLD, &rank);
    log->rank = rank;
    if (provided < MPI_THREAD_FUNNELED)
        return shoal_fail(log, SHOAL_UNAVAILABLE,
                          "this MPI supports no threads (level %d, wanted %d: "
                          "MPI_THREAD_FUNNELED)",
                          provided, MPI_THREAD_FUNNELED);
    return SHOAL_OK;
}

shoal_status shoal_bootstrap_open(shoal_bootstrap *bootstrap, const shoal_options *options,
                                  const volatile sig_atomic_t *interrupted, shoal_log *log)
{
    *bootstrap = (shoal_bootstrap){
        .deadline_s = options->deadline_s, .interrupted = interrupted, .log = log};
    bool launched = shoal_bootstrap_environment_rank() >= 0;
    bool use_mpi = options->transport == SHOAL_TRANSPORT_MPI ||
                   (options->transport != SHOAL_TRANSPORT_SELF && launched);
    shoal_transport *transport = NULL;
    if (use_mpi) {
        SHOAL_TRY(start_mpi(bootstrap, log));
        SHOAL_TRY(shoal_transport_open_mpi(&transport, log));
    } else {
        if (!launched)
            warn_alone_in_slurm(log);
        log->rank = 0;
        if (shoal_transport_open_self(&transport) != SHOAL_OK)
            return shoal_fail(log, SHOAL_NO_MEMORY, "no memory for a communicator");
    }
    shoal_comm_config config = {
        .deadline_s = options->deadline_s,
        .interrupted = interrupted,
        .fault = options->fault,
    };
    SHOAL_TRY(shoal_comm_open(&bootstrap->comm, transport, &config, log));
    log->rank = shoal_comm_rank(bootstrap->comm);
    return SHOAL_OK;
}

void shoal_bootstrap_mpi_text(char *text, size_t n_max)
{
    char whole[MPI_MAX_LIBRARY_VERSION_STRING] = "";
    int n;
    MPI_Get_library_version(whole, &n); /* allowed before MPI_Init */
    whole[strcspn(whole, ",\n")] = '\0';
    snprintf(text, n_max, "%s", whole);
}

/* All have said that they leave, so what can still be lost is a rank that has done its work. A
 * signal is no news: launchers send it when the first of the ranks has left with a failure of all.
 */
static void finalize_mpi(const shoal_bootstrap *bootstrap)
{
    shoal_watchdog dog = {
        .limit_s = bootstrap->deadline_s + START_S,
        .text = "MPI does not end: a rank was lost after all work was done; what was written is "
                "complete",
        .status = SHOAL_PEER_LOST,
        .log = bootstrap->log,
    };
    shoal_watchdog_start(&dog);
    MPI_Finalize();
    shoal_watchdog_stop(&dog);
}

/* MPI_Abort asks the launcher's daemon of this host, which may be gone or cut off itself. */
static void abort_mpi(shoal_status status)
{
    shoal_watchdog dog = {.limit_s = ABORT_S, .text = "", .status = status};
    shoal_watchdog_start(&dog);
    fflush(NULL);
    MPI_Abort(MPI_COMM_WORLD, shoal_status_exit_code(status));
    shoal_watchdog_stop(&dog);
}

void shoal_bootstrap_close(shoal_bootstrap *bootstrap, shoal_status status)
{
    bool together =
        bootstrap->comm != NULL ? shoal_comm_close(bootstrap->comm, status) : status == SHOAL_OK;
    bootstrap->comm = NULL;
    if (!bootstrap->mpi)
        return;
    bootstrap->mpi = false;
    if (together)
        finalize_mpi(bootstrap);
    else
        abort_mpi(status != SHOAL_OK ? status : SHOAL_PEER_LOST);
}
