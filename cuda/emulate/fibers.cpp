// SPDX-License-Identifier: Apache-2.0
#include "fibers.h"

#include <csetjmp>
#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include <sys/mman.h>
#if !defined(__x86_64__) || defined(DEBLURGS_UCONTEXT)
#include <ucontext.h>
#endif

#include "device.h"

Size3 threadIdx, blockIdx, blockDim, gridDim;

extern char __start_emulated_shared[], __stop_emulated_shared[];

namespace emulated {
namespace {

constexpr size_t kStack = 128 * 1024, kGuard = 4096;
constexpr unsigned kWarp = 32;

#if defined(__x86_64__) && !defined(DEBLURGS_UCONTEXT)
// Saves what a call must keep, changes stacks, takes up what was saved there. The signal mask stays, which is what makes
// it a hundred times faster than swapcontext.
struct Context {
    void* stack = nullptr;
};
extern "C" void deblurgs_switch(void** save, void* load);
asm(R"(
.text
.globl deblurgs_switch
.hidden deblurgs_switch
.type deblurgs_switch,@function
deblurgs_switch:
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
.size deblurgs_switch,.-deblurgs_switch
)");
void start(Context& c, char* stack, void (*entry)()) {
    void** top = (void**)(stack + kStack);
    *--top = nullptr; // keeps the stack aligned as after a call
    *--top = (void*)entry;
    for (int i = 0; i < 6; ++i) *--top = nullptr;
    c.stack = top;
}
void change(Context& from, Context& to) { deblurgs_switch(&from.stack, to.stack); }
#else
struct Context {
    ucontext_t context;
};
void start(Context& c, char* stack, void (*entry)()) {
    getcontext(&c.context);
    c.context.uc_stack.ss_sp = stack;
    c.context.uc_stack.ss_size = kStack;
    c.context.uc_link = nullptr;
    makecontext(&c.context, entry, 0);
}
void change(Context& from, Context& to) { swapcontext(&from.context, &to.context); }
#endif

struct Warp {
    uint64_t deposited[kWarp], seen[2][kWarp];
    unsigned lanes, arrived, finished;
    Collective kind;
    int round;
};
struct Fiber {
    Context context;
    char* stack = nullptr;
    Size3 index;
};

std::vector<Fiber> fibers;
std::vector<Warp> warps;
std::vector<unsigned> ready; // fibers that may run
Context scheduler;
unsigned current, num_threads, at_barrier, finished;
uint64_t random_state;
const std::function<void()>* body_of_block;
const char* failure;
char failure_text[256];
sigjmp_buf escape;
volatile sig_atomic_t running = 0;

uint64_t draw() {
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state;
}

void pause_current() {
    change(fibers[current].context, scheduler);
    threadIdx = fibers[current].index;
}

[[noreturn]] void fail(const char* what) {
    std::snprintf(failure_text, sizeof failure_text, "%s (block %u,%u,%u thread %u)", what, blockIdx.x, blockIdx.y,
                  blockIdx.z, current);
    failure = failure_text;
    change(fibers[current].context, scheduler); // The block is given up: nobody returns here.
    std::abort();
}

void release_barrier() {
    // Threads that have ended count as arrived, as on the device.
    if (!at_barrier || at_barrier + finished < num_threads) return;
    at_barrier = 0;
    for (unsigned i = 0; i < num_threads; ++i)
        if (fibers[i].index.z == 1) {
            fibers[i].index.z = 0;
            ready.push_back(i);
        }
}

void fiber_main() {
    threadIdx = fibers[current].index;
    (*body_of_block)();
    ++finished;
    ++warps[current / kWarp].finished;
    release_barrier();
    change(fibers[current].context, scheduler);
    std::abort();
}

void on_bad_access(int, siginfo_t* info, void*) {
    if (!running) {
        std::signal(SIGSEGV, SIG_DFL);
        return;
    }
    std::snprintf(failure_text, sizeof failure_text, "memory out of bounds at %p (block %u,%u,%u thread %u)",
                  info->si_addr, blockIdx.x, blockIdx.y, blockIdx.z, current);
    siglongjmp(escape, 1);
}

} // namespace

void sync_threads() {
    ++at_barrier;
    fibers[current].index.z = 1; // marks who waits; blocks have one dimension here
    release_barrier();
    pause_current();
}

const uint64_t* exchange(Collective kind, unsigned mask, uint64_t number, unsigned* lanes) {
    Warp& warp = warps[current / kWarp];
    if (mask != 0xffffffffu) fail("a collective with a partial mask");
    if (warp.finished) fail("a collective after a lane of the warp has ended");
    if (warp.arrived && warp.kind != kind) fail("lanes of a warp meet at different collectives");
    warp.kind = kind;
    warp.deposited[current % kWarp] = number;
    *lanes = warp.lanes;
    const int round = warp.round;
    if (++warp.arrived < warp.lanes) {
        pause_current();
    } else {
        std::memcpy(warp.seen[round], warp.deposited, sizeof warp.deposited);
        warp.arrived = 0;
        warp.round ^= 1;
        const unsigned first = current / kWarp * kWarp;
        for (unsigned l = 0; l < warp.lanes; ++l)
            if (first + l != current) ready.push_back(first + l);
        // Not necessarily the first to go on.
        ready.push_back(current);
        pause_current();
    }
    return warps[current / kWarp].seen[round];
}

const char* run_block(const Block& block, uint64_t seed, const std::function<void()>& body) {
    gridDim = {block.grid[0], block.grid[1], block.grid[2]};
    blockDim = {block.block[0], block.block[1], block.block[2]};
    blockIdx = {block.index[0], block.index[1], block.index[2]};
    if (block.block[1] != 1 || block.block[2] != 1) return "blocks have one dimension here";
    num_threads = block.block[0];
    if (num_threads == 0 || num_threads > 1024 || num_threads % kWarp) return "a block is 1 to 32 whole warps";
    random_state = seed * 0x9e3779b97f4a7c15ull + 0x2545f4914f6cdd1dull;
    body_of_block = &body;
    failure = nullptr;
    at_barrier = finished = 0;
    std::memset(__start_emulated_shared, 0xff, (size_t)(__stop_emulated_shared - __start_emulated_shared)); // NaN
    if (fibers.size() < num_threads) fibers.resize(num_threads);
    warps.assign(num_threads / kWarp, Warp{});
    ready.clear();
    for (unsigned i = 0; i < num_threads; ++i) {
        Fiber& f = fibers[i];
        if (!f.stack) {
            char* memory = (char*)mmap(nullptr, kStack + kGuard, PROT_READ | PROT_WRITE,
                                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
            if (memory == MAP_FAILED) return "no memory for the stacks of a block";
            mprotect(memory, kGuard, PROT_NONE);
            f.stack = memory + kGuard;
        }
        f.index = {i, 0, 0};
        warps[i / kWarp].lanes = kWarp;
        start(f.context, f.stack, fiber_main);
        ready.push_back(i);
    }

    // A handler of its own for as long as the block runs: memory out of bounds ends the block, not the process.
    static char signal_stack[64 * 1024];
    stack_t own = {}, before_stack = {};
    own.ss_sp = signal_stack;
    own.ss_size = sizeof signal_stack;
    sigaltstack(&own, &before_stack);
    struct sigaction action = {}, before_segv = {}, before_bus = {};
    action.sa_sigaction = on_bad_access;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    sigaction(SIGSEGV, &action, &before_segv);
    sigaction(SIGBUS, &action, &before_bus);
    running = 1;
    if (sigsetjmp(escape, 1) == 0) {
        while (!ready.empty() && !failure) {
            const size_t pick = draw() % ready.size();
            current = ready[pick];
            ready[pick] = ready.back();
            ready.pop_back();
            change(scheduler, fibers[current].context);
        }
    } else {
        failure = failure_text;
    }
    running = 0;
    sigaction(SIGSEGV, &before_segv, nullptr);
    sigaction(SIGBUS, &before_bus, nullptr);
    sigaltstack(&before_stack, nullptr);
    if (!failure && finished < num_threads) {
        std::snprintf(failure_text, sizeof failure_text,
                      "%u of %u threads wait for others that never come (block %u,%u,%u)", num_threads - finished,
                      num_threads, blockIdx.x, blockIdx.y, blockIdx.z);
        failure = failure_text;
    }
    return failure;
}

} // namespace emulated
