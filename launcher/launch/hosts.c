/* Which hosts are there, asked the way that mpirun will go. And the way to sbatch. */
#include "launcher/launch/child.h"
#include "launcher/launch/run.h"
#include "runtime/base/clock.h"

#include <arpa/inet.h>
#include <errno.h>
#include <ifaddrs.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_US = 10000000, TURN_NS = 20000000 };

/* Whether one of this machine's interfaces has that address (numeric text). */
static bool is_own_address(const struct ifaddrs *all, const char *text)
{
    for (const struct ifaddrs *a = all; a != NULL; a = a->ifa_next) {
        char own[NI_MAXHOST];
        if (a->ifa_addr == NULL ||
            (a->ifa_addr->sa_family != AF_INET && a->ifa_addr->sa_family != AF_INET6))
            continue;
        socklen_t n = a->ifa_addr->sa_family == AF_INET ? sizeof(struct sockaddr_in)
                                                        : sizeof(struct sockaddr_in6);
        if (getnameinfo(a->ifa_addr, n, own, sizeof own, NULL, 0, NI_NUMERICHOST) == 0 &&
            strcmp(own, text) == 0)
            return true;
    }
    return false;
}

static bool is_local(const shoal_launch_job *job, int32_t host, const struct ifaddrs *own)
{
    char name[SHOAL_CLUSTER_NAME] = "";
    if (gethostname(name, sizeof name - 1) == 0 && name[0] != '\0' &&
        shoal_launch_job_host_named(job, name) == host)
        return true;
    const char *address = job->host[host].address;
    return strcmp(address, "localhost") == 0 || is_own_address(own, address);
}

/* `agent HOST true`; rsh_agent may have arguments of its own. */
static pid_t ask(const shoal_launch_job *job, const shoal_launch_host *host)
{
    const char *agent = job->settings->rsh_agent;
    if (agent == NULL)
        agent = "ssh -o BatchMode=yes";
    shoal_words line = {0};
    for (const char *at = agent + strspn(agent, " "); *at != '\0'; at += strspn(at, " ")) {
        size_t n = strcspn(at, " ");
        shoal_words_addf(&line, "%.*s", (int)n, at);
        at += n;
    }
    shoal_words_add(&line, host->address);
    shoal_words_add(&line, "true");
    pid_t pid = line.failed ? -1 : shoal_child_start(line.word, -1, -1, -1);
    shoal_words_close(&line);
    return pid;
}

void shoal_launch_check_hosts(bool *alive, const shoal_launch_job *job)
{
    struct ifaddrs *own = NULL;
    if (getifaddrs(&own) != 0)
        own = NULL;
    pid_t *pid = calloc((size_t)job->n_host, sizeof *pid);
    int32_t n_open = 0;
    for (int32_t h = 0; h < job->n_host; h++) {
        alive[h] = !job->host[h].dropped && (pid == NULL || is_local(job, h, own));
        if (job->host[h].dropped || alive[h])
            continue;
        pid[h] = ask(job, &job->host[h]);
        n_open += pid[h] > 0;
    }
    if (own != NULL)
        freeifaddrs(own);
    for (const int64_t until = shoal_clock_us() + ANSWER_US; n_open > 0;) {
        const bool late = shoal_clock_us() >= until;
        for (int32_t h = 0; h < job->n_host; h++) {
            int status;
            if (pid[h] <= 0)
                continue;
            if (late)
                kill(-pid[h], SIGKILL);
            if (waitpid(pid[h], &status, late ? 0 : WNOHANG) != pid[h])
                continue;
            alive[h] = !late && WIFEXITED(status) && WEXITSTATUS(status) == 0;
            pid[h] = 0;
            n_open--;
        }
        if (n_open > 0)
            nanosleep(&(struct timespec){.tv_nsec = TURN_NS}, NULL);
    }
    free(pid);
}

shoal_status shoal_launch_submit(const char *script, size_t n, shoal_log *log)
{
    FILE *file = tmpfile();
    if (file == NULL || fwrite(script, 1, n, file) != n || fflush(file) != 0 ||
        lseek(fileno(file), 0, SEEK_SET) != 0) {
        if (file != NULL)
            fclose(file);
        return shoal_fail(log, SHOAL_IO, "launch: the script could not be kept: %s",
                          strerror(errno));
    }
    char *const line[] = {(char[]){"sbatch"}, NULL};
    fflush(stdout);
    pid_t pid = shoal_child_start(line, fileno(file), STDOUT_FILENO, STDERR_FILENO);
    int error = errno, status = 0;
    fclose(file);
    if (pid < 0)
        return shoal_fail(
            log, SHOAL_UNAVAILABLE,
            "launch: sbatch could not be started: %s; --print shows the script, to be "
            "handed in where SLURM is",
            strerror(error));
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
        ;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0)
        return SHOAL_OK;
    return shoal_fail(log, SHOAL_FAILED, "launch: sbatch refused the job, see its message");
}
