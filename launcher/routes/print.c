/* The summary of a routing trace as people and as programs read it. */
#include "launcher/routes/summary.h"

#include <inttypes.h>
#include <string.h>

enum { N_PAIR = 10 };

static const char *const kind_name[] = {
    [SHOAL_ROUTES_PROMPT] = "prompt", [SHOAL_ROUTES_DECODE] = "decode"};

/* ---- JSON ---- */

static void set_int(shoal_json *o, const char *key, int64_t value)
{
    shoal_json_set(o, key, shoal_json_new_int(value));
}

static void set_number(shoal_json *o, const char *key, double value)
{
    shoal_json_set(o, key, shoal_json_new_number(value));
}

static shoal_json *named_json(const shoal_routes_stats *s, int32_t layer, const int32_t *expert,
                              int32_t n)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < n; i++) {
        shoal_json *o = shoal_json_new_object();
        set_int(o, "expert", expert[i]);
        set_int(o, "rows", s->load[(size_t)layer * (size_t)s->header.n_expert + (size_t)expert[i]]);
        shoal_json_append(list, o);
    }
    return list;
}

static shoal_json *layers_json(const shoal_routes_stats *s)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t layer = 0; layer < s->header.n_layer; layer++) {
        const shoal_routes_layer v = shoal_routes_layer_of(s, layer);
        shoal_json *o = shoal_json_new_object();
        set_int(o, "layer", s->header.layer[layer]);
        set_number(o, "max_over_mean", v.max_over_mean);
        set_number(o, "entropy", v.entropy);
        set_int(o, "unused", v.n_unused);
        shoal_json_set(o, "most_used", named_json(s, layer, v.most, v.n_named));
        shoal_json_set(o, "least_used", named_json(s, layer, v.least, v.n_named));
        if (layer + 1 < s->header.n_layer) {
            set_number(o, "next_hit", v.next_hit);
            set_number(o, "next_hit_by_load", v.next_hit_by_load);
        }
        shoal_json_append(list, o);
    }
    return list;
}

static shoal_json *splits_json(const shoal_routes_stats *s)
{
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < s->n_split; i++) {
        const shoal_routes_balance v = shoal_routes_balance_of(s, &s->split[i]);
        shoal_json *o = shoal_json_new_object();
        set_int(o, "ranks", s->split[i].n_rank);
        set_number(o, "load_max_over_mean", v.load_max_over_mean);
        set_number(o, "window_max_over_mean", v.window_max_over_mean);
        for (int32_t kind = 0; kind < SHOAL_ROUTES_N_KIND; kind++) {
            if (s->n_row[kind] == 0)
                continue;
            shoal_json *k = shoal_json_new_object();
            set_number(k, "ranks_per_row", v.ranks_per_row[kind]);
            set_number(k, "row_max_over_mean", v.row_max_over_mean[kind]);
            shoal_json_set(o, kind_name[kind], k);
        }
        set_number(o, "uniform_ranks_per_row", v.uniform_ranks_per_row);
        shoal_json_append(list, o);
    }
    return list;
}

static shoal_json *pairs_json(const shoal_routes_stats *s, bool next)
{
    shoal_routes_pair pair[N_PAIR];
    const int32_t n = shoal_routes_top_pairs(pair, N_PAIR, s, next);
    shoal_json *list = shoal_json_new_array();
    for (int32_t i = 0; i < n; i++) {
        shoal_json *o = shoal_json_new_object();
        set_int(o, "layer", s->header.layer[pair[i].layer]);
        if (next)
            set_int(o, "next_layer", s->header.layer[pair[i].layer + 1]);
        const int32_t experts[2] = {pair[i].a, pair[i].b};
        shoal_json_set(o, "experts", shoal_json_new_ints(experts, 2));
        set_int(o, "rows", pair[i].n_row);
        set_number(o, "excess", pair[i].excess);
        set_number(o, "lift", pair[i].lift);
        shoal_json_append(list, o);
    }
    return list;
}

shoal_json *shoal_routes_json(const shoal_routes_stats *stats, bool complete)
{
    const shoal_routes_header *h = &stats->header;
    char identity[24];
    snprintf(identity, sizeof identity, "%016" PRIx64, h->identity);
    shoal_json *o = shoal_json_new_object();
    shoal_json_set(o, "model", shoal_json_new_string(h->model, strlen(h->model)));
    shoal_json_set(o, "identity", shoal_json_new_string(identity, strlen(identity)));
    set_int(o, "moe_layers", h->n_layer);
    set_int(o, "experts", h->n_expert);
    set_int(o, "top_k", h->top_k);
    set_int(o, "groups", h->n_group);
    set_int(o, "top_groups", h->top_group);
    shoal_json_set(o, "complete", shoal_json_new_bool(complete));
    set_int(o, "sequences", stats->n_sequence);
    set_int(o, "prompt_rows", stats->n_row[SHOAL_ROUTES_PROMPT]);
    set_int(o, "decode_rows", stats->n_row[SHOAL_ROUTES_DECODE]);
    set_int(o, "windows", stats->n_window);
    shoal_json_set(o, "layers", layers_json(stats));
    shoal_json_set(o, "ranks", splits_json(stats));
    shoal_json_set(o, "pairs", pairs_json(stats, false));
    shoal_json_set(o, "next_layer_pairs", pairs_json(stats, true));
    return o;
}

/* ---- text ---- */

static const char *experts_text(char text[64], const int32_t *expert, int32_t n)
{
    int used = 0;
    text[0] = '\0';
    for (int32_t i = 0; i < n && used < 56; i++)
        used += snprintf(text + used, 64 - (size_t)used, "%s%d", i > 0 ? " " : "", (int)expert[i]);
    return text;
}

static void print_layers(FILE *out, const shoal_routes_stats *s)
{
    fputs("\nload of the experts, by layer (mean: rows * top_k / experts)\n"
          "layer  max/mean  entropy  unused  most used            least used           next hit  "
          "by load\n",
          out);
    for (int32_t layer = 0; layer < s->header.n_layer; layer++) {
        const shoal_routes_layer v = shoal_routes_layer_of(s, layer);
        char most[64], least[64];
        fprintf(out, "%5d  %8.2f  %7.3f  %6d  %-19s  %-19s", (int)s->header.layer[layer],
                v.max_over_mean, v.entropy, (int)v.n_unused, experts_text(most, v.most, v.n_named),
                experts_text(least, v.least, v.n_named));
        if (layer + 1 < s->header.n_layer)
            fprintf(out, "  %6.1f %%  %5.1f %%", 100 * v.next_hit, 100 * v.next_hit_by_load);
        fputc('\n', out);
    }
}

static void print_splits(FILE *out, const shoal_routes_stats *s)
{
    fputs("\nimbalance over ranks, uniform placement (max/mean: slots of the fullest rank over the "
          "mean)\n"
          "       max/mean of              max/mean of one row  ranks that a row goes to\n"
          "ranks  the trace  prompt steps  prompt     decode    prompt  decode  if uniform\n",
          out);
    for (int32_t i = 0; i < s->n_split; i++) {
        const shoal_routes_balance v = shoal_routes_balance_of(s, &s->split[i]);
        char cell[5][16];
        const double value[5] = {v.window_max_over_mean, v.row_max_over_mean[0],
                                 v.row_max_over_mean[1], v.ranks_per_row[0], v.ranks_per_row[1]};
        for (int32_t c = 0; c < 5; c++) {
            if (value[c] > 0)
                snprintf(cell[c], sizeof cell[c], "%.2f", value[c]);
            else
                snprintf(cell[c], sizeof cell[c], "-");
        }
        fprintf(out, "%5d  %9.2f  %12s  %6s     %6s    %6s  %6s  %10.2f\n", (int)s->split[i].n_rank,
                v.load_max_over_mean, cell[0], cell[1], cell[2], cell[3], cell[4],
                v.uniform_ranks_per_row);
    }
}

static void print_pairs(FILE *out, const shoal_routes_stats *s, bool next)
{
    shoal_routes_pair pair[N_PAIR];
    const int32_t n = shoal_routes_top_pairs(pair, N_PAIR, s, next);
    const double n_row = (double)(s->n_row[SHOAL_ROUTES_PROMPT] + s->n_row[SHOAL_ROUTES_DECODE]);
    if (n == 0)
        return;
    fputs(next
              ? "\nchosen one after the other in neighbouring MoE layers, most above chance first\n"
                "layers    experts      rows    of all  lift\n"
              : "\nchosen together, most above chance first\n"
                "layer     experts      rows    of all  lift\n",
          out);
    for (int32_t i = 0; i < n; i++) {
        const shoal_routes_pair *p = &pair[i];
        char layer[24], experts[24];
        if (next)
            snprintf(layer, sizeof layer, "%d, %d", (int)s->header.layer[p->layer],
                     (int)s->header.layer[p->layer + 1]);
        else
            snprintf(layer, sizeof layer, "%d", (int)s->header.layer[p->layer]);
        snprintf(experts, sizeof experts, "%d, %d", (int)p->a, (int)p->b);
        fprintf(out, "%-8s  %-9s  %6" PRId64 "  %6.2f %%  %4.2f\n", layer, experts, p->n_row,
                100 * (double)p->n_row / n_row, p->lift);
    }
}

void shoal_routes_print(FILE *out, const shoal_routes_stats *stats, bool complete)
{
    const shoal_routes_header *h = &stats->header;
    fprintf(out, "%s, %016" PRIx64 ": %d MoE layers, %d experts, top %d", h->model, h->identity,
            (int)h->n_layer, (int)h->n_expert, (int)h->top_k);
    if (h->n_group > 1)
        fprintf(out, " of %d of %d groups", (int)h->top_group, (int)h->n_group);
    fprintf(out,
            "\n%" PRId64 " rows of prompts and %" PRId64 " of decoding, of %" PRId64
            " sequences%s\n",
            stats->n_row[SHOAL_ROUTES_PROMPT], stats->n_row[SHOAL_ROUTES_DECODE], stats->n_sequence,
            complete ? "" : "; the run did not come to its end");
    if (stats->n_row[SHOAL_ROUTES_PROMPT] + stats->n_row[SHOAL_ROUTES_DECODE] == 0)
        return;
    print_layers(out, stats);
    print_splits(out, stats);
    print_pairs(out, stats, false);
    print_pairs(out, stats, true);
}
