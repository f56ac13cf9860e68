/* One function per sub-command, all of one shape; main.c has the table. Layering: launcher. */
#ifndef SHOAL_LAUNCHER_COMMAND_H
#define SHOAL_LAUNCHER_COMMAND_H

#include "launcher/options.h"

#include <signal.h>

/* interrupted: set by SIGTERM, SIGINT, SIGUSR1. Returns the status that the process ends with. */
typedef shoal_status shoal_command_fn(const shoal_options *options,
                                      const volatile sig_atomic_t *interrupted, shoal_log *log);

shoal_command_fn shoal_cmd_generate;
shoal_command_fn shoal_cmd_batch;
shoal_command_fn shoal_cmd_logits;
shoal_command_fn shoal_cmd_perplexity;
shoal_command_fn shoal_cmd_tokenize;
shoal_command_fn shoal_cmd_inspect;
shoal_command_fn shoal_cmd_bench;
shoal_command_fn shoal_cmd_check;
shoal_command_fn shoal_cmd_probe;
shoal_command_fn shoal_cmd_launch;
shoal_command_fn shoal_cmd_stage;
shoal_command_fn shoal_cmd_routes;
shoal_command_fn shoal_cmd_plan;

#endif
