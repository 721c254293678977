// What CUDA sources need, on the host: the threads of a block are fibers that take turns at barriers, or real threads
// (HOST_THREADS), of all blocks at once, so that a race detector sees those between threads and between blocks.
#pragma once

#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#ifdef HOST_THREADS
#include <condition_variable>
#include <mutex>
#include <thread>
#else
#include <ucontext.h>
#endif
#ifdef __SANITIZE_ADDRESS__
#include <sanitizer/common_interface_defs.h>
#endif

#define __global__
#define __device__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __align__(n) alignas(n)
#define SPARSEACC_SHARED(name) unsigned char *const name = host::me->block->shared.get()

#ifndef FIRST_BLOCK
#define FIRST_BLOCK 0u // to run the last block of a large grid alone
#endif

namespace host {

struct index {
    unsigned x, y, z;
};

struct block_state {
    std::unique_ptr<unsigned char[]> shared; // of the exact size, so that bounds can be checked, aligned to 16 bytes by new
    unsigned threads, waiting = 0, finished = 0, generation = 0;
#ifdef HOST_THREADS
    std::mutex lock;
    std::condition_variable all_here;
#endif
};

struct thread_state {
    index thread, block_index;
    block_state *block;
};

inline thread_local thread_state *me;
inline index block_dim, grid_dim;

[[noreturn]] inline void fail(const char *message)
{
    std::fprintf(stderr, "host: %s\n", message);
    std::abort();
}

inline std::unique_ptr<unsigned char[]> shared_memory(unsigned bytes)
{
    auto memory = std::unique_ptr<unsigned char[]>(new unsigned char[bytes]);
    std::memset(memory.get(), 0xff, bytes); // what is read before it is written is NaN
    return memory;
}

#ifdef HOST_THREADS

inline void barrier()
{
    block_state &block = *me->block;
    std::unique_lock<std::mutex> hold(block.lock);
    const unsigned generation = block.generation;
    if (++block.waiting == block.threads) {
        block.waiting = 0;
        ++block.generation;
        block.all_here.notify_all();
    } else
        block.all_here.wait(hold, [&] { return block.generation != generation; });
}

inline void run(unsigned blocks_x, unsigned blocks_y, unsigned threads, unsigned shared, const std::function<void()> &body)
{
    block_dim = {threads, 1, 1};
    grid_dim = {blocks_x, blocks_y, 1};
    std::vector<std::unique_ptr<block_state>> blocks;
    std::vector<std::thread> all;
    for (unsigned b = 0; b < blocks_x * blocks_y; ++b) {
        blocks.emplace_back(new block_state);
        blocks.back()->shared = shared_memory(shared);
        blocks.back()->threads = threads;
        for (unsigned t = 0; t < threads; ++t)
            all.emplace_back([&body, block = blocks.back().get(), b, blocks_x, t] {
                thread_state state{{t, 0, 0}, {b % blocks_x, b / blocks_x, 0}, block};
                me = &state;
                body();
            });
    }
    for (auto &each : all)
        each.join();
}

#else

constexpr std::size_t STACK = 256 * 1024;

struct fiber : thread_state {
    ucontext_t context;
    std::unique_ptr<char[]> stack{new char[STACK]};
    bool finished = false;
};

inline ucontext_t scheduler;
inline const std::function<void()> *running;

#ifdef __SANITIZE_ADDRESS__
inline void *scheduler_fake;
inline const void *scheduler_stack;
inline std::size_t scheduler_size;
#endif

inline void leave(fiber *f, bool forever)
{
#ifdef __SANITIZE_ADDRESS__
    void *fake = nullptr;
    __sanitizer_start_switch_fiber(forever ? nullptr : &fake, scheduler_stack, scheduler_size);
    swapcontext(&f->context, &scheduler);
    __sanitizer_finish_switch_fiber(fake, &scheduler_stack, &scheduler_size);
#else
    (void)forever;
    swapcontext(&f->context, &scheduler);
#endif
}

inline void enter(fiber *f)
{
    me = f;
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_start_switch_fiber(&scheduler_fake, f->stack.get(), STACK);
    swapcontext(&scheduler, &f->context);
    __sanitizer_finish_switch_fiber(scheduler_fake, nullptr, nullptr);
#else
    swapcontext(&scheduler, &f->context);
#endif
}

inline void first_entry()
{
#ifdef __SANITIZE_ADDRESS__
    __sanitizer_finish_switch_fiber(nullptr, &scheduler_stack, &scheduler_size);
#endif
    fiber *const f = static_cast<fiber *>(me);
    (*running)();
    f->finished = true;
    leave(f, true);
}

inline void barrier()
{
    ++me->block->waiting;
    leave(static_cast<fiber *>(me), false);
}

inline void run(unsigned blocks_x, unsigned blocks_y, unsigned threads, unsigned shared, const std::function<void()> &body)
{
    block_dim = {threads, 1, 1};
    grid_dim = {blocks_x, blocks_y, 1};
    running = &body;
    std::vector<fiber> fibers(threads);
    for (unsigned b = 0; b < blocks_x * blocks_y; ++b) {
        block_state block;
        block.shared = shared_memory(shared);
        block.threads = threads;
        for (unsigned t = 0; t < threads; ++t) {
            fiber &f = fibers[t];
            f.thread = {t, 0, 0};
            f.block_index = {FIRST_BLOCK + b % blocks_x, b / blocks_x, 0};
            f.block = &block;
            f.finished = false;
            getcontext(&f.context);
            f.context.uc_stack.ss_sp = f.stack.get();
            f.context.uc_stack.ss_size = STACK;
            f.context.uc_link = nullptr;
            makecontext(&f.context, first_entry, 0);
        }
        for (unsigned finished = 0; finished < threads;) {
            block.waiting = 0;
            for (fiber &f : fibers)
                if (!f.finished) {
                    enter(&f);
                    finished += f.finished;
                }
            if (block.waiting && finished)
                fail("some threads of a block wait at a barrier that others never reach");
        }
    }
}

#endif

template <typename... A, std::size_t... I>
void call(void (*kernel)(A...), void *const *arguments, std::index_sequence<I...>)
{
    kernel(*static_cast<A *>(arguments[I])...);
}

// Launches a kernel; `arguments` are pointers to its arguments, as for cuLaunchKernel.
template <typename... A>
void launch(void (*kernel)(A...), const unsigned *geometry, void *const *arguments)
{
    run(geometry[0], geometry[1], geometry[2], geometry[3],
        [=] { call(kernel, arguments, std::index_sequence_for<A...>()); });
}

} // namespace host

#define threadIdx (host::me->thread)
#define blockIdx (host::me->block_index)
#define blockDim host::block_dim
#define gridDim host::grid_dim

inline void __syncthreads() { host::barrier(); }

inline float __int_as_float(int x)
{
    float y;
    std::memcpy(&y, &x, 4);
    return y;
}

inline int __float_as_int(float x)
{
    int y;
    std::memcpy(&y, &x, 4);
    return y;
}
