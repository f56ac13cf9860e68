/* Processes: start one with given ends, in a group of its own, and clear up behind it.
 * Layering: launcher. */
#ifndef SHOAL_LAUNCHER_LAUNCH_CHILD_H
#define SHOAL_LAUNCHER_LAUNCH_CHILD_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

/* Run word[0] (looked for in PATH) with these as its ends; -1: /dev/null. The ends stay the
 * caller's. Signals are as a fresh process has them. Returns its id; -1 with errno set, also when
 * it could not be executed. */
pid_t shoal_child_start(char *const *word, int in, int out, int err);

/* SIGKILL to all children of this process, and theirs as they become its children (it must be a
 * subreaper), until there are none; gives up after a second. */
void shoal_child_end_all(void);

/* Collect what has ended. */
void shoal_child_reap(void);

#endif
