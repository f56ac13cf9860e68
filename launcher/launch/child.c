#include "launcher/launch/child.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

pid_t shoal_child_start(char *const *word, int in, int out, int err)
{
    posix_spawn_file_actions_t ends;
    posix_spawnattr_t how;
    sigset_t fresh;
    pid_t pid = -1;
    int error = posix_spawn_file_actions_init(&ends);
    if (error == 0 && (error = posix_spawnattr_init(&how)) == 0) {
        const int end[3] = {in, out, err};
        for (int i = 0; i < 3 && error == 0; i++)
            error = end[i] >= 0
                        ? posix_spawn_file_actions_adddup2(&ends, end[i], i)
                        : posix_spawn_file_actions_addopen(&ends, i, "/dev/null", O_RDWR, 0);
        sigfillset(&fresh);
        posix_spawnattr_setsigdefault(&how, &fresh);
        posix_spawnattr_setpgroup(&how, 0);
        posix_spawnattr_setflags(&how, POSIX_SPAWN_SETPGROUP | POSIX_SPAWN_SETSIGDEF);
        if (error == 0)
            error = posix_spawnp(&pid, word[0], &ends, &how, word, environ);
        posix_spawnattr_destroy(&how);
    }
    posix_spawn_file_actions_destroy(&ends);
    errno = error;
    return error == 0 ? pid : -1;
}

/* The parent of a process, by /proc/PID/stat: "PID (name) S PPID ..."; the name may hold anything.
 */
static pid_t parent_of(const char *pid, bool *zombie)
{
    char path[64], text[512];
    snprintf(path, sizeof path, "/proc/%.20s/stat", pid);
    FILE *file = fopen(path, "re");
    if (file == NULL)
        return -1;
    size_t n = fread(text, 1, sizeof text - 1, file);
    fclose(file);
    text[n] = '\0';
    const char *name_end = strrchr(text, ')');
    char state;
    int parent;
    if (name_end == NULL || sscanf(name_end + 1, " %c %d", &state, &parent) != 2)
        return -1;
    *zombie = state == 'Z';
    return parent;
}

/* True if there was one. */
static bool kill_children(void)
{
    DIR *proc = opendir("/proc");
    if (proc == NULL)
        return false;
    bool any = false;
    for (const struct dirent *entry = readdir(proc); entry != NULL; entry = readdir(proc)) {
        bool zombie = false;
        if (!isdigit((unsigned char)entry->d_name[0]) ||
            parent_of(entry->d_name, &zombie) != getpid() || zombie)
            continue;
        any = true;
        kill((pid_t)strtol(entry->d_name, NULL, 10), SIGKILL);
    }
    closedir(proc);
    return any;
}

void shoal_child_reap(void)
{
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

void shoal_child_end_all(void)
{
    for (int32_t i = 0; i < 50 && kill_children(); i++) {
        nanosleep(&(struct timespec){.tv_nsec = 20000000}, NULL);
        shoal_child_reap();
    }
    shoal_child_reap();
}
