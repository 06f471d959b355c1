// What all kernels take from the machine, one instruction or a few each. No header is included:
// NVRTC needs nothing but the kernels' own text. The tests put stand-ins in place of this file
// and run the kernels on a processor.

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;

#define INF __int_as_float(0x7f800000)
#define ALL_LANES 0xffffffffu

__device__ __forceinline__ float exp2_fast(float x) {
    float y;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

__device__ __forceinline__ float log2_fast(float x) {
    float y;
    asm("lg2.approx.f32 %0, %1;" : "=f"(y) : "f"(x));
    return y;
}

// 1 / x for normal x, without the branches of a division; one Newton step makes it exact enough.
__device__ __forceinline__ float reciprocal(float x) {
    float y;
    asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x));
    return fmaf(y, fmaf(-x, y, 1.0f), y);
}

__device__ __forceinline__ float float_from_half(u16 bits) {
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(bits));
    return y;
}

__device__ __forceinline__ u16 half_from_float(float x) {
    u16 bits;
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

__device__ __forceinline__ u16 bfloat_from_float(float x) {
    u16 bits;
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(x));
    return bits;
}

// Waits for the `threads` threads that name the same barrier, 1 to 15.
__device__ __forceinline__ void team_barrier(u32 barrier, u32 threads) {
    asm volatile("bar.sync %0, %1;" ::"r"(barrier), "r"(threads) : "memory");
}

// Reads what another block may write meanwhile; what that block wrote before is then visible.
__device__ __forceinline__ u32 load_acquire(const u32* at) {
    u32 value;
    asm volatile("ld.acquire.gpu.u32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}

// Between two looks at a value that another block will change.
__device__ __forceinline__ void wait_a_moment() { __nanosleep(20); }

// Programmatic dependent launch: a kernel may be set up while its predecessor still runs, but
// touches memory only after that one has finished. A no-op in an ordinary launch.
__device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

#if __CUDA_ARCH__ >= 900
__device__ __forceinline__ u32 cluster_rank() {
    u32 rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

__device__ __forceinline__ void cluster_arrive() {
    asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory");
}

__device__ __forceinline__ void cluster_wait() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Reads from block `rank` of the cluster what `mine` points to in this block's shared memory.
__device__ __forceinline__ float peer_value(const float* mine, u32 rank) {
    u32 local = (u32)__cvta_generic_to_shared(mine), remote;
    float value;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(remote) : "memory");
    return value;
}

// Writes to block `rank` of the cluster where `mine` points to in this block's shared memory.
__device__ __forceinline__ void set_peer_value(float* mine, u32 rank, float value) {
    u32 local = (u32)__cvta_generic_to_shared(mine), remote;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
    asm volatile("st.shared::cluster.f32 [%0], %1;" ::"r"(remote), "f"(value) : "memory");
}
#endif
