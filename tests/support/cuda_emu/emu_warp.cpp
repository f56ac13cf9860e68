/* What the lanes of a warp do together, on top of emu_warp_meet. */
#include "emu_private.h"

namespace
{

struct word {
    uint32_t in, out;
    int source;
};

void resolve_nothing(void *const *, unsigned)
{
}

void resolve_ballot(void *const brought[32], unsigned mask)
{
    uint32_t votes = 0;
    for (int lane = 0; lane < 32; lane++)
        if ((mask >> lane & 1U) != 0 && static_cast<word *>(brought[lane])->in != 0)
            votes |= 1U << lane;
    for (int lane = 0; lane < 32; lane++)
        if ((mask >> lane & 1U) != 0)
            static_cast<word *>(brought[lane])->out = votes;
}

void resolve_shuffle(void *const brought[32], unsigned mask)
{
    for (int lane = 0; lane < 32; lane++) {
        if ((mask >> lane & 1U) == 0)
            continue;
        word *w = static_cast<word *>(brought[lane]);
        /* From a lane outside of the mask: undefined, so it is nothing that anyone could like. */
        w->out = brought[w->source] != nullptr ? static_cast<word *>(brought[w->source])->in
                                               : 0x7fc0dead;
    }
}

} // namespace

void __syncwarp(unsigned mask)
{
    emu_warp_meet("__syncwarp", mask, nullptr, resolve_nothing);
}

unsigned __ballot_sync(unsigned mask, int predicate)
{
    word w = {predicate != 0, 0, 0};
    emu_warp_meet("__ballot_sync", mask, &w, resolve_ballot);
    return w.out;
}

int __any_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) != 0;
}

int __all_sync(unsigned mask, int predicate)
{
    return __ballot_sync(mask, predicate) == mask;
}

uint32_t emu_shuffle(const char *what, unsigned mask, uint32_t value, int source_lane)
{
    word w = {value, 0, source_lane};
    emu_warp_meet(what, mask, &w, resolve_shuffle);
    return w.out;
}
