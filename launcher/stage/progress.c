#include "launcher/report.h"
#include "launcher/stage/stage.h"
#include "runtime/base/clock.h"

#include <string.h>
#include <unistd.h>

enum { DRAW_INTERVAL_US = 100000, LINES_MAX = 24 };

/* bytes / us / 1e3 */
static double gb_per_s(uint64_t n_bytes, int64_t us)
{
    return (double)n_bytes / 1e3 / (double)(us > 0 ? us : 1);
}

static bool is_visible(const shoal__stage *s)
{
    const shoal_log *log = s->log;
    return s->rank == 0 && log->out != NULL && log->level <= SHOAL_LOG_INFO &&
           isatty(fileno(log->out)) == 1;
}

static void draw_line(const shoal__stage *s, const char *name, const shoal__stage_node *node)
{
    char done[SHOAL_BYTES_TEXT], all[SHOAL_BYTES_TEXT];
    const int64_t us = node->done_us > 0 ? node->done_us : shoal_clock_us() - s->start_us;
    fprintf(s->log->out, "\r\033[K%-16.32s %lld of %lld units, %s of %s, %.2f GB/s\n", name,
            (long long)node->word.n_stored, (long long)node->n_missing,
            shoal_bytes_text(done, node->word.stored_bytes),
            shoal_bytes_text(all, node->missing_bytes), gb_per_s(node->word.stored_bytes, us));
}

/* Nodes added up. */
static shoal__stage_node sum_of(const shoal__stage *s)
{
    shoal__stage_node sum = {0};
    for (int32_t n = 0; n < s->n_node; n++) {
        const shoal__stage_node *node = &s->node[n];
        sum.n_wanted += node->n_wanted;
        sum.n_missing += node->n_missing;
        sum.wanted_bytes += node->wanted_bytes;
        sum.missing_bytes += node->missing_bytes;
        sum.word.n_stored += node->word.n_stored;
        sum.word.stored_bytes += node->word.stored_bytes;
        sum.done_us = node->done_us > sum.done_us ? node->done_us : sum.done_us;
    }
    return sum;
}

void shoal__stage_draw(shoal__stage *s)
{
    const int64_t now_us = shoal_clock_us();
    if (now_us - s->drawn_us < DRAW_INTERVAL_US || !is_visible(s))
        return;
    s->drawn_us = now_us;
    if (s->n_drawn > 0)
        fprintf(s->log->out, "\033[%dA", (int)s->n_drawn);
    s->n_drawn = 0;
    for (int32_t n = 0; n < s->n_node && s->n_node <= LINES_MAX; n++, s->n_drawn++)
        draw_line(s, shoal_comm_host(s->comm, s->node[n].leader), &s->node[n]);
    if (s->n_node > LINES_MAX) {
        const shoal__stage_node sum = sum_of(s);
        draw_line(s, "all nodes", &sum);
        s->n_drawn = 1;
    }
    fflush(s->log->out);
}

void shoal__stage_undraw(shoal__stage *s)
{
    if (s->n_drawn == 0)
        return;
    fprintf(s->log->out, "\033[%dA\033[J", (int)s->n_drawn);
    fflush(s->log->out);
    s->n_drawn = 0;
}

/* "fish2 (rank 1)", "fish3 (ranks 2 to 5)". */
static const char *name_of(char text[96], const shoal__stage *s, int32_t n)
{
    int32_t n_rank = 0, last = 0;
    for (int32_t r = 0; r < s->n_rank; r++) {
        n_rank += s->node_of_rank[r] == n ? 1 : 0;
        last = s->node_of_rank[r] == n ? r : last;
    }
    const int32_t first = s->node[n].leader;
    const char *host = shoal_comm_host(s->comm, first);
    if (n_rank == 1)
        snprintf(text, 96, "%s (rank %d)", host, (int)first);
    else if (n_rank == last - first + 1)
        snprintf(text, 96, "%s (ranks %d to %d)", host, (int)first, (int)last);
    else
        snprintf(text, 96, "%s (%d ranks from %d on)", host, (int)n_rank, (int)first);
    return text;
}

void shoal__stage_say_plan(const shoal__stage *s)
{
    if (s->rank != 0)
        return;
    char all[SHOAL_BYTES_TEXT], less[SHOAL_BYTES_TEXT], name[96];
    const shoal__stage_node sum = sum_of(s);
    shoal_log_info(s->log, "%s, --weights %s, to %d node%s: %s, of which %s are there; %s",
                   s->options->model, shoal_weights_text((shoal_weights_choice)s->options->weights),
                   (int)s->n_node, s->n_node == 1 ? "" : "s",
                   shoal_bytes_text(all, sum.wanted_bytes),
                   shoal_bytes_text(less, sum.wanted_bytes - sum.missing_bytes),
                   s->n_node == 1 ? "rank 0 reads MODEL"
                   : s->shared    ? "each node reads MODEL itself"
                                  : "rank 0 reads MODEL and sends");
    for (int32_t n = 0; n < s->n_node; n++) {
        const shoal__stage_node *node = &s->node[n];
        shoal_log_info(s->log, "%s: wants %lld units, %s; %s are there, %s to come",
                       name_of(name, s, n), (long long)node->n_wanted,
                       shoal_bytes_text(all, node->wanted_bytes),
                       shoal_bytes_text(less, node->wanted_bytes - node->missing_bytes),
                       node->n_missing > 0 ? "the others" : "nothing is");
    }
}

void shoal__stage_say_done(const shoal__stage *s)
{
    if (s->rank != 0)
        return;
    char got[SHOAL_BYTES_TEXT], all[SHOAL_BYTES_TEXT], name[96];
    for (int32_t n = 0; n < s->n_node; n++) {
        const shoal__stage_node *node = &s->node[n];
        if (node->n_missing > 0)
            shoal_log_info(s->log, "%s: %lld units, %s in %.1f s, %.2f GB/s; %s in all",
                           name_of(name, s, n), (long long)node->n_missing,
                           shoal_bytes_text(got, node->missing_bytes), (double)node->done_us / 1e6,
                           gb_per_s(node->missing_bytes, node->done_us),
                           shoal_bytes_text(all, node->wanted_bytes));
    }
    const shoal__stage_node sum = sum_of(s);
    shoal_log_info(s->log, "staged: %s in %.1f s, %.2f GB/s%s; now: shoal generate %s%s%s ...",
                   shoal_bytes_text(got, sum.missing_bytes), (double)sum.done_us / 1e6,
                   gb_per_s(sum.missing_bytes, sum.done_us),
                   s->options->verify ? ", and all checksums compared" : "", s->options->to,
                   s->options->weights != SHOAL_WEIGHTS_NATIVE ? " --weights " : "",
                   s->options->weights != SHOAL_WEIGHTS_NATIVE
                       ? shoal_weights_text((shoal_weights_choice)s->options->weights)
                       : "");
}
