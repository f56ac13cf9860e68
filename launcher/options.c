#include "launcher/options.h"

#include "launcher/predict/simulate.h"

#include <string.h>

#define RUN       SHOAL_COMMANDS_THAT_RUN
#define RANKS     SHOAL_COMMANDS_OF_RANKS
#define STAGE     SHOAL_COMMAND_STAGE
#define SIZE      (RUN | SHOAL_COMMAND_PLAN) /* what bytes and speed depend on */
#define SAMPLE    (SHOAL_COMMAND_GENERATE | SHOAL_COMMAND_BATCH)
#define ALL       (-1)
#define AT(field) offsetof(shoal_options, field)

#define FLAG(name, commands, field, help)                                                          \
    {                                                                                              \
        name, NULL, help, AT(field), 0, 0, (commands), SHOAL_OPTION_FLAG, false                    \
    }
#define TEXT(name, value, commands, field, help)                                                   \
    {                                                                                              \
        name, value, help, AT(field), 0, 0, (commands), SHOAL_OPTION_TEXT, false                   \
    }
#define NEED(name, value, commands, field, help)                                                   \
    {                                                                                              \
        name, value, help, AT(field), 0, 0, (commands), SHOAL_OPTION_TEXT, true                    \
    }
#define INT(name, value, min, max, commands, field, help)                                          \
    {                                                                                              \
        name, value, help, AT(field), (min), (max), (commands), SHOAL_OPTION_INT, false            \
    }
#define NUMBER(name, value, min, max, commands, field, help)                                       \
    {                                                                                              \
        name, value, help, AT(field), (min), (max), (commands), SHOAL_OPTION_NUMBER, false         \
    }
#define CHOICE(name, value, commands, field, help)                                                 \
    {                                                                                              \
        name, value, help, AT(field), 0, 0, (commands), SHOAL_OPTION_CHOICE, false                 \
    }

/* In the order of --help: the command's own first, then what all runs share. */
static const shoal_option table[] = {
    TEXT("prompt", "T", SHOAL_COMMAND_GENERATE, prompt, "the prompt itself"),
    TEXT("prompt-file", "F", SHOAL_COMMAND_GENERATE, prompt_file, "read the prompt from a file"),
    TEXT("prompt-ids", "1,2,3", SHOAL_COMMAND_GENERATE | SHOAL_COMMAND_CHECK, prompt_ids,
         "the prompt as token ids, nothing added (check: six short prompts)"),
    FLAG("chat", SHOAL_COMMAND_GENERATE, chat,
         "the prompt is a user's message, put into the chat format of MODEL"),
    NEED("input", "F", SHOAL_COMMAND_BATCH, input,
         "JSON lines: {id, prompt | prompt_ids | messages, max_tokens, temperature, top_k, top_p, "
         "seed, ignore_eos, stop}"),
    NEED("output", "F", SHOAL_COMMAND_BATCH, output,
         "JSON lines: {id, text, ids, finish_reason, timing} or {id, error}"),
    FLAG("resume", SHOAL_COMMAND_BATCH, resume,
         "go on with an output: cut a torn last line, skip what is answered"),
    INT("max-tokens", "N", 1, INT32_MAX, SAMPLE, max_tokens,
        "generate at most N tokens (256, or what the context has room for)"),
    NUMBER("temperature", "X", 0, 1000, SAMPLE, temperature, "0: greedy (0)"),
    INT("top-k", "K", 0, INT32_MAX, SAMPLE, top_k, "sample from the K likeliest; 0: all (0)"),
    NUMBER("top-p", "P", 0, 1, SAMPLE, top_p, "sample from the likeliest that make up P (1)"),
    {"seed", "S", "of the sampler; batch: with the id, of each line that has none (0)", AT(seed), 0,
     0, SAMPLE, SHOAL_OPTION_UINT64, false},
    FLAG("ignore-eos", SAMPLE, ignore_eos, "go on behind an end token"),
    {"stop", "S", "end in front of this text; may be given up to 16 times", AT(stop), 0, 0, SAMPLE,
     SHOAL_OPTION_LIST, false},
    CHOICE("draft", "mtp|ngram", SAMPLE | SHOAL_COMMAND_BENCH | STAGE, draft,
           "guess tokens ahead and verify them: by the model's MTP layer, or by what followed "
           "the same tokens before; greedy text stays the same"),
    INT("draft-tokens", "K", 1, SHOAL_DRAFT_TOKENS_MAX, SAMPLE | SHOAL_COMMAND_BENCH, draft_tokens,
        "guesses per sequence and step at most (mtp 1, ngram 4)"),
    NEED("ids", "1,2,3", SHOAL_COMMAND_LOGITS, ids, "token ids, nothing added"),
    NEED("output", "F", SHOAL_COMMAND_LOGITS, output,
         "safetensors: logits, final_hidden, topk_expert, topk_weight"),
    TEXT("output", "F", SHOAL_COMMAND_PROBE, output,
         "also keep it in a file, for --probe F of plan and of runs"),
    NEED("file", "F", SHOAL_COMMAND_PERPLEXITY, file, "text to score"),
    FLAG("special", SHOAL_COMMAND_TOKENIZE, special, "add what the post-processor adds"),
    FLAG("decode", SHOAL_COMMAND_TOKENIZE, decode, "JSON arrays of ids in, JSON strings out"),
    TEXT("cluster", "F", SHOAL_COMMAND_PLAN, cluster,
         "the cluster as a YAML file; configs/ has examples that explain every field"),
    TEXT("probe", "F", SHOAL_COMMAND_PLAN, probe, "the cluster as shoal probe measured it"),
    INT("shared-cores", "N", 1, 1 << 16, SHOAL_COMMAND_PLAN, shared_cores,
        "test aid: all hosts are on one machine and take turns on its N cores"),
    TEXT("routes", "F", SHOAL_COMMAND_PLAN, routes,
         "experts are chosen as in this routing trace of the model (by chance, all alike)"),
    TEXT("prompt-tokens", "P", SHOAL_COMMAND_PLAN, prompt_tokens, "prompt length (512)"),
    TEXT("sequences", "B,...", SHOAL_COMMAND_PLAN, sequences,
         "sequences at once over all ranks, one column each; memory is for the most (1,32)"),
    INT("gen-tokens", "G", 1, INT32_MAX, SHOAL_COMMAND_PLAN, gen_tokens,
        "tokens that are generated behind a prompt (128)"),
    TEXT("ranks", "1,2,4 or A..B", SHOAL_COMMAND_PLAN, ranks,
         "rank counts: the first so many of the cluster (each up to 16; of more powers of two, and "
         "all)"),
    INT("simulate", "L", 1, SHOAL_SIMULATE_LAYERS_MAX, SHOAL_COMMAND_PLAN, n_simulated,
        "instead: run plan, dispatch and combine of L MoE layers of a decode step over virtual "
        "ranks, with the cluster's links and computing times of the cost model"),
    TEXT("prompt-tokens", "P,...", SHOAL_COMMAND_BENCH, prompt_tokens,
         "prompt length of each sequence, or a list of lengths (128)"),
    TEXT("sequences", "B,...", SHOAL_COMMAND_BENCH, sequences,
         "sequences at once over all ranks, or a list of counts (1)"),
    INT("gen-tokens", "G", 1, INT32_MAX, SHOAL_COMMAND_BENCH, gen_tokens,
        "decode steps that are timed (64)"),
    INT("repeat", "R", 1, 1000, SHOAL_COMMAND_BENCH, repeat, "runs; medians are reported (3)"),
    NEED(
        "to", "DIR", STAGE, to,
        "the folder on each node, made if its parent is there; --cache DIR of later runs, or their "
        "MODEL"),
    CHOICE("source", "auto|send|shared", STAGE, source,
           "send: rank 0 reads MODEL and sends; shared: each node reads MODEL itself; auto: shared "
           "where all nodes see the same files (auto)"),
    NEED("cluster", "F", SHOAL_COMMAND_LAUNCH, cluster,
         "the hosts, their ranks, and how jobs are started: a YAML file, see configs/"),
    INT("ranks", "N", 1, SHOAL_MAX_RANK, SHOAL_COMMAND_LAUNCH, n_rank,
        "start the first N ranks of the file (all)"),
    INT("restarts", "N", 0, 1000000, SHOAL_COMMAND_LAUNCH, restarts,
        "start again up to N times when a rank or host is lost, without the hosts that do not "
        "answer; a batch goes on where it was (0; with --slurm 20)"),
    FLAG("print", SHOAL_COMMAND_LAUNCH, print, "only print the line, or with --slurm the script"),
    FLAG("slurm", SHOAL_COMMAND_LAUNCH, slurm, "hand a job script to sbatch"),
    TEXT("ranks", "1,2,4 or A..B", SHOAL_COMMAND_INSPECT | SHOAL_COMMAND_ROUTES, ranks,
         "rank counts to give the bytes of each rank, or the imbalance, for (1,2,4,8)"),
    FLAG("json",
         SHOAL_COMMAND_GENERATE | SHOAL_COMMAND_PERPLEXITY | SHOAL_COMMAND_INSPECT |
             SHOAL_COMMAND_BENCH | SHOAL_COMMAND_CHECK | SHOAL_COMMAND_PROBE |
             SHOAL_COMMAND_ROUTES | SHOAL_COMMAND_PLAN,
         json, "one JSON object on stdout (plan: a list)"),

    CHOICE("math", "f32|fast", SIZE, math,
           "fast: integer rows for quantised weights, fewer bytes on the wire; f32: the arithmetic "
           "of the reference (fast)"),
    CHOICE("weights", "native|bf16|q8|q4", SIZE | STAGE | SHOAL_COMMAND_INSPECT, weights,
           "what the matrices of attention, MLPs and head become in memory: as stored, bf16, or "
           "integers of 8 or 4 bits in groups of 32 (native)"),
    CHOICE("kv", "auto|f32|bf16", SIZE, kv,
           "cache type; auto: f32 with --math f32, else bf16 (auto)"),
    CHOICE("combine", "exact|reduced", SIZE, combine,
           "reduced: fewer bytes, not bit-identical over rank counts (exact)"),
    CHOICE("overlap", "auto|off", SIZE, overlap,
           "auto: steps of many rows are worked on in parts, so that one travels while another "
           "computes; the same bits (auto)"),
    INT("context", "N", 1, INT32_MAX, SIZE, n_context,
        "positions per sequence (the model's, at most 4096; perplexity 1024; check 128; bench, "
        "plan "
        "and logits: what is needed)"),
    INT("sequences", "N", 1, 1 << 20, RUN & ~SHOAL_COMMAND_BENCH, n_sequence,
        "sequences at once over all ranks (1; batch 16; check 6; perplexity one per rank)"),
    INT("prefill-chunk", "N", 1, 1 << 20, SIZE, prefill_chunk,
        "prompt tokens of one rank in one step (256)"),
    INT("threads", "N", 1, 4096, RANKS, n_thread,
        "per rank (the host's cores divided by its ranks)"),
    TEXT("cache", "DIR", RUN, cache,
         "keep packed weights in files there and map them on the next start; one folder serves "
         "any number of models, ranks and placements"),
    FLAG("verify", RUN | STAGE, verify,
         "with --cache: compare the checksums of what is mapped; stage: of all that is in DIR"),
    TEXT("placement", "F|uniform", STAGE, placement, "who holds what, a YAML file (uniform)"),
    TEXT("placement", "F|uniform|weighted", RUN, placement,
         "who holds what: equal shares, shares by what the ranks can do, or a YAML file (uniform)"),
    TEXT("probe", "F", RUN, probe,
         "with --placement weighted: what shoal probe wrote, instead of measuring at the start"),
    TEXT("placement", "F|uniform|weighted", SHOAL_COMMAND_PLAN, placement,
         "who holds what; weighted: shares as the cost model chooses them (weighted)"),
    TEXT("kernels", "auto|reference|avx2|avx2vnni|avx512|avx512-bf16", RANKS & ~STAGE, kernels,
         "instruction set; all give the same bits, but for avx512-bf16, which is faster with bf16 "
         "and fp8 weights and for all ranks to share (auto)"),
    {"device", SHOAL_DEVICE_WANTED,
     "what a rank computes with, cuda:N by its number on the host; auto: a GPU for each rank of a "
     "host while there are some, then the processor; several: one for each rank, as cuda:0,cpu "
     "(auto)",
     AT(device), 0, 0, RANKS & ~STAGE, SHOAL_OPTION_DEVICE, false},
    CHOICE("transport", "auto|self|mpi|nccl", RUN, transport,
           "mpi when started by mpirun or srun, else self; nccl, for rows between ranks that all "
           "compute on GPUs; auto: nccl where it is there, and measured to be faster than mpi "
           "(auto)"),
    CHOICE("transport", "auto|self|mpi", RANKS & ~RUN, transport,
           "auto: mpi when started by mpirun or srun, else self"),
    TEXT("nccl-library", "PATH", RUN, nccl_library,
         "libnccl, 2.18 or newer (libnccl.so.2, as the system finds it)"),
    NUMBER("deadline", "S", 0.1, 86400, RANKS, deadline_s,
           "seconds of silence after which a rank is lost (30)"),
    TEXT("trace", "F", RUN, trace,
         "write what every rank did when, for Perfetto or chrome://tracing"),
    TEXT("routes", "F", RUN, routes,
         "write which experts the router chose for every token; shoal routes F sums it up"),
    {"fault", "rank=R,step=S,layer=L,do=kill|stop|exit|drop|device",
     "test aid: rank R fails at that place (step -1: while loading; stage: step of its units), or "
     "its GPU does",
     AT(fault), 0, 0, RUN | STAGE, SHOAL_OPTION_FAULT, false},
    FLAG("quiet", ALL, quiet, "warnings and errors only"),
    FLAG("verbose", ALL, verbose, "also what helps to find faults"),
    FLAG("help", ALL, help, "this text"),
    {0},
};

const shoal_option *shoal_option_table(void)
{
    return table;
}

/* The first that knows the command; the last knows all. */
static const shoal_argument arguments[] = {
    {SHOAL_COMMAND_PROBE, NULL, NULL, 0, NULL},
    {SHOAL_COMMAND_LAUNCH, NULL, NULL, 0, "COMMAND MODEL ..."},
    {SHOAL_COMMAND_ROUTES, "F", "a routing trace that --routes of a run wrote", AT(routes), NULL},
    {ALL, "MODEL", "a checkpoint folder", AT(model), NULL},
};

const shoal_argument *shoal_option_argument(int32_t command)
{
    const shoal_argument *a = arguments;
    while ((a->commands & command) == 0)
        a++;
    return a;
}

void shoal_options_init(shoal_options *options, int32_t command)
{
    *options = (shoal_options){
        .command = command,
        .top_p = 1,
        .draft = SHOAL_DRAFT_CHOICE_NONE,
        .prompt_tokens = "128",
        .sequences = "1",
        .gen_tokens = 64,
        .repeat = 3,
        .ranks = "1,2,4,8",
        .restarts = -1,
        .math = SHOAL_MATH_FAST,
        .kv = SHOAL_KV_CHOICE_AUTO,
        .combine = SHOAL_COMBINE_EXACT,
        .prefill_chunk = 256,
        .kernels = "auto",
        .device = "auto",
        .transport = SHOAL_TRANSPORT_AUTO,
        .deadline_s = 30,
    };
    if (command == SHOAL_COMMAND_PLAN) {
        options->prompt_tokens = "512";
        options->sequences = "1,32";
        options->gen_tokens = 128;
        options->ranks = NULL;
    }
}

shoal_drafts shoal_options_drafts(const shoal_options *options)
{
    const int32_t n = options->draft_tokens;
    switch ((shoal_draft_choice)options->draft) {
    case SHOAL_DRAFT_CHOICE_MTP:
        return (shoal_drafts){.kind = SHOAL_DRAFT_MTP, .n_token = n > 0 ? n : 1};
    case SHOAL_DRAFT_CHOICE_NGRAM:
        return (shoal_drafts){.kind = SHOAL_DRAFT_NGRAM, .n_token = n > 0 ? n : 4};
    case SHOAL_DRAFT_CHOICE_NONE:
        break;
    }
    return (shoal_drafts){.kind = SHOAL_DRAFT_NONE};
}

/* Print `text` broken at spaces, continuation lines indented by `indent`. */
static void print_wrapped(FILE *out, const char *text, int indent)
{
    int column = indent;
    while (*text != '\0') {
        size_t n = strcspn(text, " ");
        if (column > indent && column + 1 + (int)n > 98) {
            fprintf(out, "\n%*s", indent, "");
            column = indent;
        } else if (column > indent) {
            fputc(' ', out);
            column++;
        }
        fprintf(out, "%.*s", (int)n, text);
        column += (int)n;
        text += n;
        text += strspn(text, " ");
    }
    fputc('\n', out);
}

void shoal_options_print(FILE *out, int32_t command)
{
    for (const shoal_option *o = table; o->name != NULL; o++) {
        if ((o->commands & command) == 0)
            continue;
        int n = fprintf(out, "  --%s%s%s", o->name, o->value != NULL ? " " : "",
                        o->value != NULL ? o->value : "");
        if (n > 30)
            n = fprintf(out, "\n") - 1;
        fprintf(out, "%*s", 32 - n, "");
        print_wrapped(out, o->help, 32);
    }
}
