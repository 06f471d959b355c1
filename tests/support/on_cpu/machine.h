// A stand-in for primitives.cuh and the CUDA language: runs a kernel on a processor, one fiber a
// thread. Fibers are resumed in a random order and warps fall behind others by several barriers,
// so that a missing barrier changes results. Arithmetic flushes subnormal numbers where a GPU does.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <limits>
#include <memory>
#include <random>
#include <vector>

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define INF std::numeric_limits<float>::infinity()
#define ALL_LANES 0xffffffffu

namespace machine {

struct Index { int x; };

struct Barrier {
    int size, waiting = 0;
    long generation = 0;
};

struct Warp {
    Barrier barrier{32};
    float values[32];
};

struct Block {
    Barrier barrier{0};
    std::vector<float> memory;
    std::vector<Warp> warps;
    std::vector<Barrier> teams{16, Barrier{0}};
    bool flag = false;
    int any[2] = {0, 0};
    long votes = 0;
    Index index;
};

struct Thread {
    ucontext_t beginning;
    jmp_buf place;
    bool begun = false;
    std::unique_ptr<char[]> stack;
    Index index;
    int rank;
    Block* block;
    long votes = 0;
    bool done = false;
};

inline std::vector<Block> blocks;
inline std::vector<std::unique_ptr<Thread>> threads;
inline Thread* current;
inline jmp_buf scheduler;
inline Barrier cluster_barrier{0};
inline std::function<void()> body;

// swapcontext would ask the kernel for the signal mask each time, which takes longer than the rest.
inline void yield() {
    if (_setjmp(current->place) == 0) _longjmp(scheduler, 1);
}

inline void resume(Thread* thread) {
    current = thread;
    if (_setjmp(scheduler) != 0) return;
    if (thread->begun) _longjmp(thread->place, 1);
    thread->begun = true;
    setcontext(&thread->beginning);
}

inline void wait(Barrier& barrier) {
    const long generation = barrier.generation;
    if (++barrier.waiting == barrier.size) {
        barrier.waiting = 0;
        barrier.generation++;
        return;
    }
    while (barrier.generation == generation) yield();
}

inline void enter() {
    body();
    current->done = true;
    yield();
}

inline Warp& warp() { return current->block->warps[current->index.x / 32]; }

inline float exchange(float value, int source) {
    Warp& all = warp();
    all.values[current->index.x % 32] = value;
    wait(all.barrier);
    const float received = all.values[source];
    wait(all.barrier);
    return received;
}

// Runs the blocks [first, first + count) together, as one cluster.
inline void run_together(int first, int count, int block_size, int shared_bytes, unsigned seed) {
    std::mt19937 random(seed);
    blocks.clear();
    blocks.resize(count);
    threads.clear();
    cluster_barrier = {count * block_size};
    for (int c = 0; c < count; c++) {
        Block& block = blocks[c];
        block.barrier.size = block_size;
        block.memory.assign(shared_bytes / 4, std::numeric_limits<float>::quiet_NaN());
        block.warps.resize(block_size / 32);
        block.index = {first + c};
        for (int t = 0; t < block_size; t++) {
            threads.push_back(std::make_unique<Thread>());
            Thread& thread = *threads.back();
            thread.stack = std::make_unique<char[]>(1 << 17);
            thread.index = {t};
            thread.rank = c;
            thread.block = &block;
            getcontext(&thread.beginning);
            thread.beginning.uc_stack.ss_sp = thread.stack.get();
            thread.beginning.uc_stack.ss_size = 1 << 17;
            thread.beginning.uc_link = nullptr;
            makecontext(&thread.beginning, enter, 0);
        }
    }
    std::vector<Thread*> alive;
    for (auto& thread : threads) alive.push_back(thread.get());
    // Some warps sleep for a while, as if they waited for memory: the others run ahead of them.
    std::vector<bool> asleep(count * block_size / 32);
    for (int turn = 0; !alive.empty(); turn++) {
        if (turn % 8 == 0)
            for (std::size_t w = 0; w < asleep.size(); w++) asleep[w] = random() % 2;
        std::shuffle(alive.begin(), alive.end(), random);
        for (Thread* thread : alive) {
            if (asleep[(thread->rank * block_size + thread->index.x) / 32]) continue;
            resume(thread);
        }
        std::erase_if(alive, [](Thread* thread) { return thread->done; });
    }
}

}  // namespace machine

#define threadIdx (machine::current->index)
#define blockIdx (machine::current->block->index)
#define SHARED_FLOATS (machine::current->block->memory.data())
#define SHARED_FLAG (machine::current->block->flag)

inline void __syncthreads() { machine::wait(machine::current->block->barrier); }

inline int __syncthreads_or(int value) {
    machine::Block& block = *machine::current->block;
    const long turn = machine::current->votes++ & 1;
    block.any[turn] |= value;
    __syncthreads();
    const int result = block.any[turn];
    __syncthreads();
    block.any[turn] = 0;
    __syncthreads();
    return result;
}

inline float __shfl_sync(u32, float value, int source) { return machine::exchange(value, source); }
inline float __shfl_xor_sync(u32, float value, int mask) {
    return machine::exchange(value, (machine::current->index.x % 32) ^ mask);
}
inline bool __any_sync(u32, bool value) {
    machine::Warp& warp = machine::warp();
    warp.values[machine::current->index.x % 32] = value;
    machine::wait(warp.barrier);
    bool any = false;
    for (float one : warp.values) any |= one != 0;
    machine::wait(warp.barrier);
    return any;
}

inline void __threadfence() {}
template <class T> T __ldg(const T* at) { return *at; }
template <class T> T __ldcg(const T* at) { return *at; }
template <class T> void __stcg(T* at, T value) { *at = value; }
inline u32 atomicInc(u32* at, u32 largest) {
    const u32 old = *at;
    *at = old >= largest ? 0 : old + 1;
    return old;
}
inline u32 atomicAdd(u32* at, u32 more) {
    const u32 old = *at;
    *at += more;
    return old;
}
inline void team_barrier(u32 barrier, u32 threads) {
    machine::Barrier& team = machine::current->block->teams[barrier];
    team.size = threads;
    machine::wait(team);
}
inline u32 load_acquire(const u32* at) { return *at; }
inline void wait_a_moment() { machine::yield(); }
inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float __uint_as_float(u32 bits) { float y; std::memcpy(&y, &bits, 4); return y; }

inline float flushed(float x) {
    return std::fabs(x) < std::numeric_limits<float>::min() ? 0.0f : x;
}
inline float exp2_fast(float x) { return flushed(exp2f(x)); }
inline float log2_fast(float x) { return log2f(x); }
// As in primitives.cuh, Newton step and all: a subnormal x gives NaN there, and so it does here.
inline float reciprocal(float x) {
    const float y = flushed(1.0f / flushed(x));
    return fmaf(y, fmaf(-x, y, 1.0f), y);
}
inline float float_from_half(u16 bits) { _Float16 y; std::memcpy(&y, &bits, 2); return (float)y; }
inline u16 half_from_float(float x) {
    const _Float16 y = (_Float16)x;
    u16 bits;
    std::memcpy(&bits, &y, 2);
    return bits;
}
inline u16 bfloat_from_float(float x) {
    u32 bits;
    std::memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff;
    return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
inline void wait_for_predecessor() {}

inline u32 cluster_rank() { return machine::current->rank; }
inline void cluster_arrive() {}
inline void cluster_wait() { machine::wait(machine::cluster_barrier); }
inline float peer_value(const float* mine, u32 rank) {
    return machine::blocks[rank].memory.data()[mine - machine::current->block->memory.data()];
}
inline void set_peer_value(float* mine, u32 rank, float value) {
    machine::blocks[rank].memory.data()[mine - machine::current->block->memory.data()] = value;
}
