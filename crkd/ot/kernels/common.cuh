// What all Sinkhorn kernels share. No header is included: NVRTC needs nothing but this text.
//
// Numbers: potentials are kept in base 2, so that ex2 and lg2 apply without a factor. "scale" is
// log2(e) / epsilon. Scores are float32, bfloat16 or float16 (SCORE_TYPE 0, 1, 2), the result
// likewise (OUT_TYPE); all arithmetic is float32.

typedef unsigned int u32;
typedef unsigned short u16;
typedef long long i64;
typedef unsigned long long u64;

#define INF __int_as_float(0x7f800000)
#define FULL 0xffffffffu

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

__device__ __forceinline__ float read_score(const void* scores, i64 at) {
#if SCORE_TYPE == 0
    return __ldg((const float*)scores + at);
#elif SCORE_TYPE == 1
    return __uint_as_float((u32)__ldg((const u16*)scores + at) << 16);
#else
    float y;
    asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(__ldg((const u16*)scores + at)));
    return y;
#endif
}

__device__ __forceinline__ void write_result(void* out, i64 at, float value) {
#if OUT_TYPE == 0
    ((float*)out)[at] = value;
#else
    u16 bits;
#if OUT_TYPE == 1
    asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#else
    asm("cvt.rn.f16.f32 %0, %1;" : "=h"(bits) : "f"(value));
#endif
    ((u16*)out)[at] = bits;
#endif
}

// Programmatic dependent launch: a kernel may be set up while its predecessor still runs, but
// touches memory only after that one has finished. Both are no-ops in an ordinary launch.
__device__ __forceinline__ void wait_for_predecessor() {
#if __CUDA_ARCH__ >= 900
    asm volatile("griddepcontrol.wait;" ::: "memory");
    asm volatile("griddepcontrol.launch_dependents;");
#endif
}

// A column that no sample reaches has maximum -inf; any finite shift serves it.
__device__ __forceinline__ float finite_shift(float maximum) {
    return maximum == -INF ? 0.0f : maximum;
}

// New scaling factor of a class; 0 where the class shall stay empty or nothing reaches it.
__device__ __forceinline__ float class_factor(float wanted, float mass) {
    if (mass != mass) return mass;
    return mass == 0.0f || wanted == 0.0f ? 0.0f : fminf(wanted / mass, 1e30f);
}
