// SPDX-License-Identifier: Apache-2.0
//
// A small pool. A region is open while tasks are left; a worker that wakes up after it was closed is not waited for, so
// an oversubscribed machine costs no latency. Workers spin for some microseconds between regions and then sleep.
#include "threads.h"

#include <pthread.h>
#include <sched.h>

#include <atomic>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

namespace deblurgs {
namespace {

inline void relax() {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

class Pool {
  public:
    void run(int threads, int64_t num_tasks, void (*task)(void*, int64_t, int), void* context) {
        std::lock_guard<std::mutex> one_at_a_time(callers_);
        grow(threads - 1);
        task_ = task;
        context_ = context;
        num_tasks_ = num_tasks;
        next_.store(0, std::memory_order_relaxed);
        finished_.store(0, std::memory_order_relaxed);
        seats_.store(threads - 1, std::memory_order_relaxed);
        {
            // The lock orders the opening against a worker that is about to sleep.
            std::lock_guard<std::mutex> lock(sleep_);
            const uint64_t generation = (state_.load(std::memory_order_relaxed) >> 32) + 1;
            state_.store(generation << 32 | kOpen, std::memory_order_release);
        }
        if (sleepers_.load(std::memory_order_acquire) > 0) wake_.notify_all();
        work(0);
        const uint64_t closed = state_.fetch_and(~kOpen, std::memory_order_acq_rel);
        const int joined = (int)(closed & kJoinedMask);
        for (int spins = 0; finished_.load(std::memory_order_acquire) < joined; ++spins) {
            if (spins < 2000)
                relax();
            else
                sched_yield();
        }
    }

  private:
    static constexpr uint64_t kOpen = 1u << 16, kJoinedMask = 0xffff;
    static constexpr int kSpins = 600;

    void grow(int workers) {
        while ((int)threads_.size() < workers) {
            const int index = (int)threads_.size() + 1;
            threads_.emplace_back([this, index] { loop(index); });
            threads_.back().detach();
        }
    }

    void work(int worker) {
        for (;;) {
            const int64_t i = next_.fetch_add(1, std::memory_order_relaxed);
            if (i >= num_tasks_) return;
            task_(context_, i, worker);
        }
    }

    void loop(int index) {
        (void)index;
        uint64_t seen = 0;
        for (;;) {
            uint64_t state = state_.load(std::memory_order_acquire);
            for (int spins = 0; spins < kSpins && (state >> 32 == seen || !(state & kOpen)); ++spins) {
                relax();
                state = state_.load(std::memory_order_acquire);
            }
            if (state >> 32 == seen || !(state & kOpen)) {
                std::unique_lock<std::mutex> lock(sleep_);
                sleepers_.fetch_add(1, std::memory_order_acq_rel);
                wake_.wait(lock, [&] {
                    state = state_.load(std::memory_order_acquire);
                    return state >> 32 != seen && (state & kOpen);
                });
                sleepers_.fetch_sub(1, std::memory_order_acq_rel);
            }
            // Join the region unless it was closed meanwhile or has all the hands it asked for.
            bool joined = false;
            while (state & kOpen) {
                if (state_.compare_exchange_weak(state, state + 1, std::memory_order_acq_rel)) {
                    joined = true;
                    break;
                }
            }
            seen = state >> 32;
            if (!joined) continue;
            const int seat = seats_.fetch_sub(1, std::memory_order_acq_rel);
            if (seat > 0) work(seat);
            finished_.fetch_add(1, std::memory_order_acq_rel);
        }
    }

    std::mutex callers_, sleep_;
    std::condition_variable wake_;
    std::vector<std::thread> threads_;
    std::atomic<uint64_t> state_{0}; // generation << 32 | open << 16 | workers joined
    std::atomic<int> finished_{0}, sleepers_{0}, seats_{0};
    std::atomic<int64_t> next_{0};
    int64_t num_tasks_ = 0;
    void (*task_)(void*, int64_t, int) = nullptr;
    void* context_ = nullptr;
};

// Never destroyed: its detached threads may outlive static destruction. A forked child has none of the threads, so it
// starts with a pool of its own.
std::atomic<Pool*> g_pool{nullptr};

Pool& pool() {
    Pool* p = g_pool.load(std::memory_order_acquire);
    if (p) return *p;
    static std::mutex mutex;
    std::lock_guard<std::mutex> lock(mutex);
    p = g_pool.load(std::memory_order_acquire);
    if (!p) {
        static std::once_flag once;
        std::call_once(once, [] { pthread_atfork(nullptr, nullptr, [] { g_pool.store(nullptr); }); });
        p = new Pool;
        g_pool.store(p, std::memory_order_release);
    }
    return *p;
}

} // namespace

void parallel_for(int threads, int64_t num_tasks, void (*task)(void*, int64_t, int), void* context) {
    if (threads > kMaxThreads) threads = kMaxThreads;
    if (threads > num_tasks) threads = (int)num_tasks;
    if (threads <= 1) {
        for (int64_t i = 0; i < num_tasks; ++i) task(context, i, 0);
        return;
    }
    pool().run(threads, num_tasks, task, context);
}

} // namespace deblurgs
