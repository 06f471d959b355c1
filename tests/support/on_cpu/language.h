// The CUDA language and primitives.cuh for machine.h. Arithmetic flushes subnormal numbers where a
// GPU does.
#pragma once

#define threadIdx (machine::current->index)
#define blockIdx (machine::current->block->index)
#define SHARED_FLOATS (machine::current->block->memory.data())
#define SHARED_FLAG (machine::current->block->flag)

inline void __syncthreads() { machine::wait(machine::current->block->barrier, true); }

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

inline void team_barrier(u32 barrier, u32 threads) {
    machine::Barrier& team = machine::current->block->teams[barrier];
    team.size = threads;
    machine::wait(team, true);
}
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
template <class T> void forget(T&) {}
inline void forget_memory() {}
inline void wait_for_predecessor() {}

inline u32 cluster_rank() { return machine::current->rank % machine::cluster; }
