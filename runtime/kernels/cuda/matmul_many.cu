/* Many products in as few launches as there are kinds among them. A kind is a form of the product,
 * a format, and the number of tokens that a block of it takes at once; the blocks of its items lie
 * behind each other in one grid, and each finds its item by its number. Up to 8 items travel with
 * the launch, as its argument; more are copied ahead of it. */
#include "runtime/kernels/cuda/matmul.cuh"

namespace
{

enum form { FEW, FEW_INT8, TILES, TILES_INT8, N_FORM };
enum { N_CLASS = 4, N_KIND = N_FORM * SHOAL_N_FORMAT * N_CLASS }; /* 1, 2, 4, 8 tokens at once */

bool takes_int8(const shoal_matmul_item *item)
{
    return item->x_int8 != nullptr && shoal_format_is_quantised(item->w->format);
}

form form_of(const shoal_matmul_item *item, bool precise)
{
    const shoal_format format = item->w->format;
    const bool many = item->n_token > SHOAL__FEW;
    if (takes_int8(item))
        return many ? TILES_INT8 : FEW_INT8;
    const bool tensor = format == SHOAL_FORMAT_BF16 || format == SHOAL_FORMAT_FP8_BLOCK;
    return many && tensor && !precise ? TILES : FEW;
}

bool is_tiles(form f)
{
    return f == TILES || f == TILES_INT8;
}

/* -1: there is nothing to do. */
int32_t kind_of(const shoal_matmul_item *item, bool precise)
{
    if (item->n_token < 1 || item->w->n_row < 1)
        return -1;
    const form f = form_of(item, precise);
    const int32_t n_token = item->n_token;
    const int32_t size = is_tiles(f) || n_token > 4 ? 3 : n_token > 2 ? 2 : n_token - 1;
    return ((int32_t)f * SHOAL_N_FORMAT + (int32_t)item->w->format) * N_CLASS + size;
}

form form_of_kind(int32_t kind)
{
    return (form)(kind / N_CLASS / SHOAL_N_FORMAT);
}

int32_t blocks_of(const shoal_matmul_item *item, form f)
{
    const int32_t n_band = shoal_matrix_n_band(item->w);
    return is_tiles(f) ? (n_band + SHOAL__N_WARP - 1) / SHOAL__N_WARP : n_band;
}

shoal_cuda_item on_device(const shoal_matmul_item *item, int32_t block0)
{
    const shoal_matrix *w = item->w;
    return {w->data,         w->scale,   w->format,
            w->n_row,        w->n_col,   item->n_token,
            item->x,         item->ld_x, takes_int8(item) ? item->x_int8 : nullptr,
            item->ld_x_int8, item->y,    item->ld_y,
            item->bias,      block0};
}

/* The items of one kind, at [first, first + n) of the room. */
struct group {
    int32_t first, n, n_block, n_token;
};

cudaError_t launch_group(const shoal_cuda_items *room, const group &g, int32_t kind,
                         cudaStream_t stream)
{
    shoal__matmul_launch l = {};
    l.items.n = g.n;
    if (g.n > SHOAL__N_CARRIED)
        l.items.many = room->device + g.first;
    for (int32_t i = 0; g.n <= SHOAL__N_CARRIED && i < g.n; i++)
        l.items.few[i] = room->host[g.first + i];
    l.n_block = g.n_block;
    l.n_token = g.n_token;
    l.stream = stream;
    const shoal_format format = (shoal_format)(kind / N_CLASS % SHOAL_N_FORMAT);
    switch (form_of_kind(kind)) {
    case FEW:
        return shoal__cuda_matmul_few(&l, format);
    case FEW_INT8:
        return shoal__cuda_matmul_few_int8(&l, format);
    case TILES:
        return shoal__cuda_matmul_tiles(&l, format);
    case TILES_INT8:
        return shoal__cuda_matmul_tiles_int8(&l, format);
    case N_FORM:
        break;
    }
    return cudaErrorInvalidValue;
}

} // namespace

cudaError_t shoal_cuda_matmul_many(const shoal_cuda_items *room, const shoal_matmul_item *item,
                                   int32_t n_item, bool precise, cudaStream_t stream)
{
    group kinds[N_KIND] = {};
    for (int32_t i = 0; i < n_item; i++) {
        const int32_t kind = kind_of(&item[i], precise);
        if (kind >= 0)
            kinds[kind].n++;
    }
    int32_t n = 0;
    bool copied = false;
    for (group &g : kinds) {
        g.first = n;
        n += g.n;
        copied = copied || g.n > SHOAL__N_CARRIED;
        g.n = 0;
    }
    for (int32_t i = 0; i < n_item; i++) {
        const int32_t kind = kind_of(&item[i], precise);
        if (kind < 0)
            continue;
        group *g = &kinds[kind];
        room->host[g->first + g->n++] = on_device(&item[i], g->n_block);
        g->n_block += blocks_of(&item[i], form_of_kind(kind));
        g->n_token = item[i].n_token > g->n_token ? item[i].n_token : g->n_token;
    }
    cudaError_t error = cudaSuccess;
    if (copied)
        error = cudaMemcpyAsync(room->device, room->host, (size_t)n * sizeof *room->host,
                                cudaMemcpyHostToDevice, stream);
    for (int32_t kind = 0; kind < N_KIND && error == cudaSuccess; kind++)
        if (kinds[kind].n > 0)
            error = launch_group(room, kinds[kind], kind, stream);
    return error;
}
