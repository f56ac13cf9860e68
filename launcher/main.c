/* shoal: the table of commands, the signal flag, the exit code. Nothing else in the tree ends the
 * process, but for bootstrap.c where MPI must be aborted, and watchdog.c where MPI hangs. */
#include "launcher/agreement.h"
#include "launcher/bootstrap.h"
#include "launcher/command.h"

#include <stdlib.h>
#include <string.h>

typedef struct command {
    const char *name;
    int32_t bit;
    shoal_command_fn *run;
    const char *summary;
    const char *text; /* of --help, behind the usage line */
} command;

static const command commands[] = {
    {"generate", SHOAL_COMMAND_GENERATE, shoal_cmd_generate, "continue a prompt",
     "Streams the text that follows the prompt to stdout, and one summary line to stderr.\n"
     "Exactly one of --prompt, --prompt-file, --prompt-ids is needed; the first two get the\n"
     "begin token as tokenizer_config.json says. Without a tokenizer the ids are written.\n"},
    {"batch", SHOAL_COMMAND_BATCH, shoal_cmd_batch, "answer a file of prompts",
     "One JSON object a line in, one out, appended as they finish. A bad line is answered with\n"
     "{id, error}; the rest goes on, and the exit code is 65. Options for sampling are defaults\n"
     "for lines that have none of their own. SIGTERM, SIGINT and SIGUSR1 leave whole lines and\n"
     "exit code 75: start again with --resume.\n"},
    {"logits", SHOAL_COMMAND_LOGITS, shoal_cmd_logits, "write logits and routing of given tokens",
     "Writes f32 logits [n, n_vocab], f32 final_hidden [n, n_embd], i32 topk_expert and f32\n"
     "topk_weight [n_moe_layer, n, k] in the order chosen.\n"},
    {"perplexity", SHOAL_COMMAND_PERPLEXITY, shoal_cmd_perplexity, "score a text",
     "Mean of -ln p(token | those before it in its window of --context tokens), and its exp.\n"
     "Windows do not overlap; the first token of a window is not scored; no token is added.\n"},
    {"tokenize", SHOAL_COMMAND_TOKENIZE, shoal_cmd_tokenize, "text to ids and back",
     "One JSON string a line on stdin, one JSON array of ids a line on stdout. MODEL may hold a\n"
     "tokenizer only.\n"},
    {"inspect", SHOAL_COMMAND_INSPECT, shoal_cmd_inspect, "describe a checkpoint",
     "Architecture, parameters, bytes by class of tensor and per rank, cache per token. Reads\n"
     "headers only; a config.json alone is enough, the bytes are then what it announces.\n"},
    {"bench", SHOAL_COMMAND_BENCH, shoal_cmd_bench, "measure throughput",
     "For every P of --prompt-tokens and every B of --sequences: B sequences of P random tokens\n"
     "each are prefilled, then G decode steps of all B are timed, R times; medians are given.\n"
     "  prefill_tok_per_s = B * P / time from submit until every sequence has its first token\n"
     "  decode_tok_per_s  = tokens made by G steps / time of the G steps\n"
     "  read_bandwidth_gb_per_s = sum over ranks of bytes / time / 1e9 of a sequential read of\n"
     "      max(1 GiB, 4 times the last-level cache) by the same threads, before every run\n"
     "  weight_bytes_per_step = packed weights that a decode step read, over all ranks\n"
     "  read_bandwidth_fraction = weight_bytes_per_step / B * decode_tok_per_s / 1e9 /\n"
     "      read_bandwidth_gb_per_s\n"
     "  phases: time of each part of a step on every rank without its waiting, which is `wait`\n"
     "The other figures are explained in docs/PERFORMANCE.md.\n"},
    {"check", SHOAL_COMMAND_CHECK, shoal_cmd_check, "prove that N ranks equal one",
     "Rank 0 first runs the whole model alone on a few prompts, so it must have the memory for "
     "it;\n"
     "then all ranks run it together, all sequences at once. Every row of every layer is "
     "compared:\n"
     "to the bit, or with --combine reduced within 1e-4 of the row's largest value. Says equal\n"
     "(exit code 0), or where it first differs: layer, token, expert, by how much (exit code "
     "1).\n"},
    {"probe", SHOAL_COMMAND_PROBE, shoal_cmd_probe, "measure the cluster",
     "What every rank reads and multiplies, all at once, and what lies between every two: "
     "latency,\n"
     "bandwidth, and the interface that the messages really take. Takes some seconds and no "
     "model;\n"
     "start it as the job will be started. Warns of the usual traps. docs/CLUSTER.md explains the\n"
     "table, docs/PERFORMANCE.md has the formulas.\n"},
    {"launch", SHOAL_COMMAND_LAUNCH, shoal_cmd_launch, "start a job on a cluster, and again",
     "Runs `shoal COMMAND MODEL ...` on the ranks of a cluster file by mpirun, or with --slurm as "
     "a\n"
     "job of SLURM. Passes its output on as it is, forwards SIGTERM, SIGINT and SIGUSR1, says "
     "what\n"
     "became of it, and exits with the code of COMMAND, 75 whenever a rank was lost. It is not\n"
     "itself started by mpirun or srun.\n"},
    {"stage", SHOAL_COMMAND_STAGE, shoal_cmd_stage, "put each node's weights on its own disk",
     "Under mpirun or srun, as the runs will be: each node gets in DIR the packed weights of its "
     "own\n"
     "experts (and of attention, if it holds sequences), and what it takes to start without "
     "MODEL.\n"
     "MODEL need be on rank 0's node only. Then, with the same --weights, --placement and ranks,\n"
     "shoal generate DIR, or MODEL --cache DIR, starts in seconds. What is there is not sent "
     "again:\n"
     "after an interruption, or with another placement, run it again.\n"},
    {"routes", SHOAL_COMMAND_ROUTES, shoal_cmd_routes, "sum up a routing trace",
     "F is what --routes F of a run wrote: the experts that the router chose for every token. "
     "Says\n"
     "how evenly each layer uses its experts, how uneven the work of ranks is under the uniform\n"
     "placement, and which experts are chosen together. Formulas: docs/PERFORMANCE.md.\n"},
    {"plan", SHOAL_COMMAND_PLAN, shoal_cmd_plan, "predict memory and speed on a cluster",
     "Over rank counts: memory of the fullest rank against its room, prefill and decode for one\n"
     "and for many sequences, exact and reduced, what bounds them, the best count and why the\n"
     "next rank helps or hurts; where it does not fit, what would. A config.json is enough for\n"
     "MODEL; the cluster is a YAML file (--cluster) or what shoal probe measured (--probe).\n"
     "Formulas and how far predictions are from measurements: docs/PERFORMANCE.md.\n"},
};

enum { N_COMMAND = sizeof commands / sizeof commands[0] };

static volatile sig_atomic_t interrupted;

static void on_signal(int signal_number)
{
    interrupted = signal_number;
}

/* A lost reader of stdout and a file at its limit are failed writes, not silent deaths. */
static void catch_signals(void)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigemptyset(&action.sa_mask);
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGUSR1, &action, NULL);
    struct sigaction ignore = {.sa_handler = SIG_IGN};
    sigaction(SIGPIPE, &ignore, NULL);
    sigaction(SIGXFSZ, &ignore, NULL);
}

static void print_usage(FILE *out)
{
    fputs("usage: shoal COMMAND [MODEL] [options]\n"
          "       mpirun -np N shoal COMMAND [MODEL] [options]\n"
          "\n"
          "Mixture-of-Experts language models over many small machines. MODEL is a checkpoint\n"
          "folder (config.json, *.safetensors, tokenizer.json) or a .gguf file (the first of a "
          "split).\n"
          "\n",
          out);
    for (int32_t i = 0; i < N_COMMAND; i++)
        fprintf(out, "  %-12s%s\n", commands[i].name, commands[i].summary);
    fputs("\n"
          "  shoal COMMAND --help    options of a command\n"
          "  shoal --version         version and build\n"
          "\n"
          "Exit codes: 0 done, 1 failed, 2 bad usage, 65 bad input data, 66 missing input, 69 a\n"
          "peer or device is unavailable, 75 a rank was lost or a signal came: try again.\n",
          out);
}

static void print_command_help(FILE *out, const command *c)
{
    const shoal_argument *a = shoal_option_argument(c->bit);
    fprintf(out, "usage: shoal %s%s%s [options]%s%s\n\n%s\n", c->name, a->name != NULL ? " " : "",
            a->name != NULL ? a->name : "", a->program != NULL ? " -- " : "",
            a->program != NULL ? a->program : "", c->text);
    shoal_options_print(out, c->bit);
}

static const command *find_command(const char *name)
{
    for (int32_t i = 0; i < N_COMMAND; i++) {
        if (strcmp(commands[i].name, name) == 0)
            return &commands[i];
    }
    return NULL;
}

static shoal_status fail_unknown_command(const char *name, shoal_log *log)
{
    const command *nearest = NULL;
    int32_t nearest_distance = 3;
    for (int32_t i = 0; i < N_COMMAND; i++) {
        int32_t distance = shoal_text_distance(name, commands[i].name);
        if (distance < nearest_distance) {
            nearest = &commands[i];
            nearest_distance = distance;
        }
    }
    if (nearest != NULL)
        return shoal_fail(log, SHOAL_USAGE, "unknown command '%s'; did you mean %s?", name,
                          nearest->name);
    return shoal_fail(log, SHOAL_USAGE, "unknown command '%s'; see shoal --help", name);
}

static shoal_status run(int argc, char **argv, shoal_log *log)
{
    bool speaks = shoal_bootstrap_environment_rank() <= 0;
    if (argc < 2) {
        if (speaks)
            print_usage(stderr);
        return SHOAL_USAGE;
    }
    if (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0) {
        if (speaks)
            print_usage(stdout);
        return SHOAL_OK;
    }
    if (strcmp(argv[1], "--version") == 0) {
        if (speaks)
            printf("shoal %s\n", shoal_build_text());
        return SHOAL_OK;
    }
    const command *c = find_command(argv[1]);
    if (c == NULL)
        return fail_unknown_command(argv[1], log);
    shoal_options options;
    shoal_options_init(&options, c->bit);
    options.backends = shoal_device_backends;
    SHOAL_TRY(shoal_options_parse(&options, c->name, argc - 2, argv + 2, log));
    if (options.help) {
        if (speaks)
            print_command_help(stdout, c);
        return SHOAL_OK;
    }
    log->level = options.quiet     ? SHOAL_LOG_WARN
                 : options.verbose ? SHOAL_LOG_DEBUG
                                   : SHOAL_LOG_INFO;
    if ((c->bit & (SHOAL_COMMANDS_OF_RANKS | SHOAL_COMMAND_LAUNCH)) != 0)
        catch_signals();
    return c->run(&options, &interrupted, log);
}

int main(int argc, char **argv)
{
    shoal_log log;
    shoal_bootstrap_log(&log);
    shoal_status status = run(argc, argv, &log);
    if (fflush(stdout) != 0 && status == SHOAL_OK)
        status = shoal_fail(&log, SHOAL_IO, "standard output could not be written");
    return shoal_status_exit_code(status);
}
