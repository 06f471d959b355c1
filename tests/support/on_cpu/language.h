// What a kernel is compiled against on a processor: the CUDA language and primitives.cuh.
// machine.cpp, which is compiled once, has the functions; their templates would take longer than a
// kernel. Arithmetic flushes subnormal numbers where a GPU does.
#pragma once
#include <float.h>
#include <math.h>
#include <stddef.h>
#include <string.h>

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

struct alignas(16) Four { float at[4]; };

#define __device__
#define __global__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__
#define INF __builtin_inff()
#define ALL_LANES 0xffffffffu

namespace machine {

struct Index { int x; };

// Of the thread that calls.
Index thread_index();
Index block_index();
float* shared_floats();
bool& shared_flag();

void store(void* at, const void* value, size_t size);
void load(const void* at, void* value, size_t size);
void load_read_only(const void* at);

// Runs the blocks [first, first + count) together, in clusters of so many blocks. Every thread
// calls body(arguments).
void run_together(void (*body)(const void*), const void* arguments, int first, int count,
                  int block_size, int shared_bytes, unsigned seed, int blocks_of_a_cluster);

template <class Kernel>
void run_together(const Kernel& kernel, int first, int count, int block_size, int shared_bytes,
                  unsigned seed, int blocks_of_a_cluster) {
    run_together([](const void* given) { (*(const Kernel*)given)(); }, &kernel, first, count,
                 block_size, shared_bytes, seed, blocks_of_a_cluster);
}

}  // namespace machine

#define threadIdx (machine::thread_index())
#define blockIdx (machine::block_index())
#define SHARED_FLOATS (machine::shared_floats())
#define SHARED_FLAG (machine::shared_flag())

void __syncthreads();
int __syncthreads_or(int value);
float __shfl_sync(u32 lanes, float value, int source);
float __shfl_xor_sync(u32 lanes, float value, int mask);
bool __any_sync(u32 lanes, bool value);
void team_barrier(u32 barrier, u32 threads);
void wait_a_moment();
u32 cluster_rank();

void open_mailbox(u64* box);
void announce_mailboxes();
void wait_for_mailboxes();
void expect_mail(u64* box, u32 bytes);
void send(Four values, float* place, u64* box, u32 rank);
void wait_for_mail(u64* box, u32 parity);

void __threadfence();
u32 atomicInc(u32* at, u32 largest);
u32 atomicAdd(u32* at, u32 more);
void add_release(u32* at);
u32 load_acquire(const u32* at);

template <class T> void __stcg(T* at, T value) {
    static_assert(sizeof(T) <= 8);
    machine::store(at, &value, sizeof(T));
}
template <class T> T __ldcg(const T* at) {
    T value = *at;
    machine::load(at, &value, sizeof(T));
    return value;
}
template <class T> T __ldg(const T* at) {
    machine::load_read_only(at);
    return *at;
}

inline int min(int a, int b) { return a < b ? a : b; }
inline int max(int a, int b) { return a > b ? a : b; }
inline float __uint_as_float(u32 bits) { float y; memcpy(&y, &bits, 4); return y; }

inline float flushed(float x) { return fabsf(x) < FLT_MIN ? 0.0f : x; }
inline float exp2_fast(float x) { return flushed(exp2f(x)); }
inline float log2_fast(float x) { return log2f(x); }
// As in primitives.cuh, Newton step and all: a subnormal x gives NaN there, and so it does here.
inline float reciprocal(float x) {
    const float y = flushed(1.0f / flushed(x));
    return fmaf(y, fmaf(-x, y, 1.0f), y);
}
inline float float_from_half(u16 bits) { _Float16 y; memcpy(&y, &bits, 2); return (float)y; }
inline u16 half_from_float(float x) {
    const _Float16 y = (_Float16)x;
    u16 bits;
    memcpy(&bits, &y, 2);
    return bits;
}
inline u16 bfloat_from_float(float x) {
    u32 bits;
    memcpy(&bits, &x, 4);
    if (x != x) return 0x7fff;
    return (u16)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}
template <class T> void forget(T&) {}
inline void forget_memory() {}
inline void wait_for_predecessor() {}
