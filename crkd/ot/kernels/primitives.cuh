// What all kernels take from the machine, one instruction or a few each. No header is included:
// NVRTC needs nothing but the kernels' own text. The tests put stand-ins in place of this file
// and run the kernels on a processor.

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

// Four values that are moved at once.
struct alignas(16) Four {
    float at[4];
};

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

// Adds 1 to what other blocks wait for. Who reads the sum by load_acquire sees what this thread
// wrote before, and what others wrote before they met it at a barrier of the block.
__device__ __forceinline__ void add_release(u32* at) {
    asm volatile("red.release.gpu.global.add.u32 [%0], 1;" ::"l"(at) : "memory");
}

// Between two looks at a value that another block will change.
__device__ __forceinline__ void wait_a_moment() { __nanosleep(20); }

// Keep the compiler from holding values in registers for a second use: those read by __ldg there,
// those computed from this number, and those of shared memory. They are no instructions.
template <class T> __device__ __forceinline__ void forget(const T*& from) {
    asm volatile("" : "+l"(from));
}
__device__ __forceinline__ void forget(int& number) { asm volatile("" : "+r"(number)); }
__device__ __forceinline__ void forget_memory() { asm volatile("" ::: "memory"); }

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

// A mailbox is an mbarrier in shared memory. It counts the bytes that blocks of the cluster send to
// its block. A phase ends when as many bytes have arrived as the block expects. Phases alternate in
// parity, beginning with 0.
__device__ __forceinline__ void open_mailbox(u64* box) {
    const u32 at = (u32)__cvta_generic_to_shared(box);
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;" ::"r"(at) : "memory");
}

// Between them, all blocks of the cluster have begun and opened their mailboxes. All threads call
// both. The fence of the opening thread suffices: the barrier itself orders no other memory.
__device__ __forceinline__ void announce_mailboxes() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("barrier.cluster.arrive.relaxed.aligned;" ::: "memory");
}

__device__ __forceinline__ void wait_for_mailboxes() {
    asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory");
}

// Begins to count a phase; one thread calls it once in each phase.
__device__ __forceinline__ void expect_mail(u64* box, u32 bytes) {
    const u32 at = (u32)__cvta_generic_to_shared(box);
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes)
                 : "memory");
}

// Writes to block `rank` of the cluster where `place` points to in this block's shared memory. The
// block sees the values after the end of the phase of its `box` that counts these 16 bytes.
__device__ __forceinline__ void send(Four values, float* place, u64* box, u32 rank) {
    const u32 local = (u32)__cvta_generic_to_shared(place);
    const u32 local_box = (u32)__cvta_generic_to_shared(box);
    u32 to, counter;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(to) : "r"(local), "r"(rank));
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(counter) : "r"(local_box), "r"(rank));
    asm volatile(
        "st.async.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];"
        ::"r"(to), "f"(values.at[0]), "f"(values.at[1]), "f"(values.at[2]), "f"(values.at[3]),
        "r"(counter)
        : "memory");
}

// Waits for the end of a phase of this parity. The calling thread then sees what was sent.
__device__ __forceinline__ void wait_for_mail(u64* box, u32 parity) {
    const u32 at = (u32)__cvta_generic_to_shared(box);
    u32 ended;
    do {
        asm volatile(
            "{\n\t.reg .pred p;\n\t"
            "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\n\t"
            "selp.u32 %0, 1, 0, p;\n\t}"
            : "=r"(ended)
            : "r"(at), "r"(parity)
            : "memory");
    } while (!ended);
}
#endif
