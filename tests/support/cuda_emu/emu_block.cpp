/* A grid: its blocks one after another, the threads of a block as fibers. */
#include "emu_private.h"

#include <sys/mman.h>

#include <cstdlib>
#include <utility>
#include <vector>

#if !defined(__x86_64__)
#include <ucontext.h>
#endif

__thread const emu_thread *emu__self;

namespace
{

enum state { READY, AT_BLOCK, AT_WARP, DONE };

struct async_copy {
    void *to;
    std::vector<unsigned char> bytes; /* as they were when the copy was asked for */
};

struct fiber {
    emu_thread self;
    state at;
    const char *what; /* the barrier or operation that it waits in */
    unsigned mask;    /* AT_WARP */
    void *brought;
    unsigned char *stack;
    void *fake_stack; /* AddressSanitizer's */
#if defined(__x86_64__)
    void *sp;
#else
    ucontext_t context;
#endif
    std::vector<std::vector<async_copy>> group; /* of cp.async; the last is not committed */
};

/* Which lanes of a warp there are, wait in an operation of the warp, and have ended. */
struct warp {
    unsigned exist, waiting, done;
};

struct block {
    const emu_launch *launch;
    std::vector<fiber> fibers;
    std::vector<warp> warps;
    uint64_t random;
    std::vector<int> ready;
    std::vector<unsigned char> shared_room;
    unsigned char *shared;
    int vote; /* of __syncthreads_or */
    int vote_result;
    bool failed;
};

#if defined(__SANITIZE_ADDRESS__)
constexpr size_t stack_bytes = 256 << 10;
#else
constexpr size_t stack_bytes = 64 << 10;
#endif
constexpr size_t shared_zone = 256;

thread_local block *running;
thread_local fiber *current;
thread_local std::vector<unsigned char *> stacks; /* kept from block to block */
#if defined(__x86_64__)
thread_local void *scheduler_sp;
#else
thread_local ucontext_t scheduler_context;
#endif
#if defined(__SANITIZE_ADDRESS__)
thread_local const void *scheduler_stack;
thread_local size_t scheduler_stack_bytes;
#endif

std::string place(const fiber &f)
{
    auto triple = [](const dim3 &d) {
        return "(" + std::to_string(d.x) + "," + std::to_string(d.y) + "," + std::to_string(d.z) +
               ")";
    };
    return "thread " + triple(f.self.thread) + " of block " + triple(f.self.block);
}

void fail(const std::string &text)
{
    if (!running->failed)
        emu__problem(std::string(running->launch->name) + ": " + text);
    running->failed = true;
}

#if defined(__x86_64__)
extern "C" void emu_switch(void **save_sp, void *sp);
asm(R"(
.text
.globl emu_switch
.type emu_switch, @function
emu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
.size emu_switch, .-emu_switch
)");
#endif

void to_scheduler(bool for_good)
{
    fiber *f = current;
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_start_switch_fiber(for_good ? nullptr : &f->fake_stack, scheduler_stack,
                                   scheduler_stack_bytes);
#else
    (void)for_good;
#endif
#if defined(__x86_64__)
    emu_switch(&f->sp, scheduler_sp);
#else
    swapcontext(&f->context, &scheduler_context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(f->fake_stack, nullptr, nullptr);
#endif
}

void fiber_main()
{
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_stack_bytes);
#endif
    running->launch->body();
    if (!current->group.empty() && !(current->group.size() == 1 && current->group[0].empty()))
        fail(place(*current) + " ends with a cp.async that nobody has waited for");
    current->at = DONE;
    running->warps[(size_t)current->self.warp].done |= 1U << current->self.lane;
    to_scheduler(true);
}

void begin(fiber *f, size_t i)
{
    if (stacks.size() <= i) {
        void *memory =
            mmap(nullptr, stack_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED)
            abort();
        stacks.push_back(static_cast<unsigned char *>(memory));
    }
    f->stack = stacks[i];
    ASAN_UNPOISON_MEMORY_REGION(f->stack, stack_bytes);
#if defined(__x86_64__)
    void **top = reinterpret_cast<void **>(f->stack + stack_bytes);
    *--top = nullptr; /* where fiber_main would return to */
    *--top = reinterpret_cast<void *>(&fiber_main);
    for (int i_register = 0; i_register < 6; i_register++)
        *--top = nullptr;
    f->sp = top;
#else
    getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = stack_bytes;
    f->context.uc_link = nullptr;
    makecontext(&f->context, fiber_main, 0);
#endif
}

void resume(fiber *f)
{
    emu__counters.n_switch++;
    current = f;
    emu__self = &f->self;
#if defined(__SANITIZE_ADDRESS__)
    void *fake_stack = nullptr;
    __sanitizer_start_switch_fiber(&fake_stack, f->stack, stack_bytes);
#endif
#if defined(__x86_64__)
    emu_switch(&scheduler_sp, f->sp);
#else
    swapcontext(&scheduler_context, &f->context);
#endif
#if defined(__SANITIZE_ADDRESS__)
    __sanitizer_finish_switch_fiber(fake_stack, nullptr, nullptr);
#endif
    current = nullptr;
}

void release_block(block *b)
{
    b->vote_result = b->vote;
    b->vote = 0;
    for (size_t i = 0; i < b->fibers.size(); i++) {
        if (b->fibers[i].at == AT_BLOCK) {
            b->fibers[i].at = READY;
            b->ready.push_back((int)i);
        }
    }
}

/* Nobody can go on: a barrier that all have reached, the end, or a fault. */
bool settle(block *b)
{
    size_t n_done = 0, n_block = 0;
    const fiber *stuck = nullptr;
    for (const fiber &f : b->fibers) {
        n_done += f.at == DONE;
        n_block += f.at == AT_BLOCK;
        if (f.at == AT_WARP && stuck == nullptr)
            stuck = &f;
    }
    if (stuck != nullptr) {
        fail(place(*stuck) + " waits in " + stuck->what + " for lanes that never come");
        return false;
    }
    if (n_block == 0)
        return false;
    release_block(b);
    return n_done + n_block == b->fibers.size();
}

/* Below n: whose turn it is. The next of the block's own stream of numbers (Knuth's MMIX). */
size_t pick_of(block *b, size_t n)
{
    b->random = b->random * 6364136223846793005U + 1442695040888963407U;
    return (size_t)((b->random >> 32) * n >> 32);
}

void run_block(block *b, dim3 at)
{
    const emu_launch &launch = *b->launch;
    const dim3 dim = launch.block;
    if (!b->shared_room.empty())
        memset(b->shared_room.data(), EMU_FRESH, b->shared_room.size());
    b->ready.clear();
    for (warp &one : b->warps)
        one = {};
    for (size_t i = 0; i < b->fibers.size(); i++) {
        fiber *f = &b->fibers[i];
        b->warps[i / 32].exist |= 1U << i % 32;
        f->self.thread =
            dim3((unsigned)i % dim.x, (unsigned)i / dim.x % dim.y, (unsigned)i / dim.x / dim.y);
        f->self.block = at;
        f->self.block_dim = dim;
        f->self.grid_dim = launch.grid;
        f->self.lane = (int)(i % 32);
        f->self.warp = (int)(i / 32);
        f->at = READY;
        f->group.clear();
        begin(f, i);
        b->ready.push_back((int)i);
    }
    emu__counters.n_thread += b->fibers.size();
    while (!b->failed) {
        if (b->ready.empty() && !settle(b))
            break;
        const size_t pick = pick_of(b, b->ready.size());
        fiber *f = &b->fibers[(size_t)b->ready[pick]];
        b->ready[pick] = b->ready.back();
        b->ready.pop_back();
        resume(f);
    }
}

} // namespace

bool emu__run_grid(const emu_launch &launch)
{
    block b{};
    b.launch = &launch;
    b.fibers.resize((size_t)launch.block.x * launch.block.y * launch.block.z);
    b.warps.resize((b.fibers.size() + 31) / 32);
    b.random = emu__random();
    b.shared_room.resize(launch.shared_bytes + 2 * shared_zone + 128);
    const uintptr_t room =
        (reinterpret_cast<uintptr_t>(b.shared_room.data()) + shared_zone + 127) / 128 * 128;
    b.shared = reinterpret_cast<unsigned char *>(room);
    unsigned char *room_end = b.shared_room.data() + b.shared_room.size();
    emu__counters.n_launch++;
    if ((uint64_t)emu__config.failing_launch == emu__counters.n_launch)
        return false; /* as if it had touched what is not there; that is wanted, no problem */
    running = &b;
    const size_t n_block = (size_t)launch.grid.x * launch.grid.y * launch.grid.z;
    const size_t first = (size_t)(emu__random() % n_block); /* blocks have no order either */
    for (size_t i = 0; i < n_block && !b.failed; i++) {
        const size_t at = (first + i) % n_block;
        run_block(&b, dim3((unsigned)(at % launch.grid.x),
                           (unsigned)(at / launch.grid.x % launch.grid.y),
                           (unsigned)(at / launch.grid.x / launch.grid.y)));
        for (const unsigned char *p = b.shared + launch.shared_bytes; p < room_end; p++) {
            if (*p != EMU_FRESH) {
                fail("a block writes behind its " + std::to_string(launch.shared_bytes) +
                     " bytes of shared memory");
                break;
            }
        }
    }
    running = nullptr;
    return !b.failed;
}

void *emu_shared()
{
    return running->shared;
}

void emu_sync_block(const char *where)
{
    current->at = AT_BLOCK;
    current->what = where;
    to_scheduler(false);
}

int emu_sync_block_or(int predicate)
{
    running->vote |= predicate != 0;
    emu_sync_block("__syncthreads_or");
    return running->vote_result;
}

void emu_async_copy(void *to, const void *from, int n_bytes)
{
    if (current->group.empty())
        current->group.emplace_back();
    const unsigned char *bytes = static_cast<const unsigned char *>(from);
    current->group.back().push_back({to, std::vector<unsigned char>(bytes, bytes + n_bytes)});
}

void emu_async_commit()
{
    current->group.emplace_back();
}

void emu_async_wait(int n_left)
{
    /* The last group is the open one: it is never waited for. */
    while ((int)current->group.size() - 1 > n_left) {
        for (const async_copy &copy : current->group.front())
            memcpy(copy.to, copy.bytes.data(), copy.bytes.size());
        current->group.erase(current->group.begin());
    }
}

void emu_warp_meet(const char *what, unsigned mask, void *brought, emu_resolve_fn *resolve)
{
    fiber *me = current;
    block *b = running;
    const size_t first = (size_t)me->self.warp * 32;
    me->what = what;
    me->mask = mask;
    me->brought = brought;
    me->at = AT_WARP;
    warp *w = &b->warps[(size_t)me->self.warp];
    w->waiting |= 1U << me->self.lane;
    if ((mask >> me->self.lane & 1U) == 0)
        fail(place(*me) + " calls " + what + " with a mask that it is not in");
    else if ((mask & ~w->exist) != 0)
        fail(place(*me) + " calls " + what + " with lanes that the block does not have");
    else if ((mask & w->done) != 0)
        fail(place(*me) + " waits in " + what + " for a lane that has ended");
    if (b->failed || (w->waiting & mask) != mask) {
        to_scheduler(false);
        return;
    }
    void *each[32] = {};
    for (int lane = 0; lane < 32; lane++) {
        if ((mask >> lane & 1U) == 0)
            continue;
        const fiber &other = b->fibers[first + (size_t)lane];
        each[lane] = other.brought;
        if (other.mask != mask || (other.what != what && strcmp(other.what, what) != 0))
            fail(place(*me) + " is in " + what + " while a lane of its mask is in " + other.what +
                 (other.mask != mask ? " with another mask" : ""));
    }
    if (b->failed) {
        to_scheduler(false);
        return;
    }
    w->waiting &= ~mask;
    resolve(each, mask);
    for (int lane = 0; lane < 32; lane++) {
        if ((mask >> lane & 1U) == 0)
            continue;
        fiber *other = &b->fibers[first + (size_t)lane];
        other->at = READY;
        if (other != me)
            b->ready.push_back((int)(first + (size_t)lane));
    }
}
