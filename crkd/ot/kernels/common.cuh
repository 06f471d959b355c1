// What all Sinkhorn kernels share. Potentials are kept in base 2, so that exp2 and log2 apply
// without a factor; "scale" is log2(e) / epsilon. Scores are float32, bfloat16 or float16
// (SCORE_TYPE 0, 1, 2), the result likewise (OUT_TYPE); all arithmetic is float32.

#if SCORE_TYPE == 0
typedef float score_t;
__device__ __forceinline__ float to_float(score_t x) { return x; }
#else
typedef u16 score_t;
#if SCORE_TYPE == 1
__device__ __forceinline__ float to_float(score_t x) { return __uint_as_float((u32)x << 16); }
#else
__device__ __forceinline__ float to_float(score_t x) { return float_from_half(x); }
#endif
#endif

#if OUT_TYPE == 0
typedef float result_t;
__device__ __forceinline__ result_t from_float(float x) { return x; }
#else
typedef u16 result_t;
#if OUT_TYPE == 1
__device__ __forceinline__ result_t from_float(float x) { return bfloat_from_float(x); }
#else
__device__ __forceinline__ result_t from_float(float x) { return half_from_float(x); }
#endif
#endif

// A class that no sample reaches has maximum -inf; any finite shift serves it.
__device__ __forceinline__ float finite_shift(float maximum) {
    return maximum == -INF ? 0.0f : maximum;
}

// New scaling factor of a class; 0 where the class shall stay empty or nothing reaches it.
__device__ __forceinline__ float class_factor(float wanted, float mass) {
    if (mass != mass) return mass;
    return mass < 1e-37f || wanted == 0.0f ? 0.0f : fminf(wanted * reciprocal(mass), 1e30f);
}

// Sums COUNT values each over groups of LANES lanes. Lane l ends with the sum of value
// (l & (COUNT - 1)); halving the set at each exchange needs far fewer shuffles than COUNT sums.
template <int COUNT, int LANES>
__device__ __forceinline__ float sum_over_lanes(float (&value)[COUNT], int lane) {
    int offset = 1;
#pragma unroll
    for (int half = COUNT / 2; half >= 1; half /= 2, offset *= 2) {
        const bool upper = lane & offset;
#pragma unroll
        for (int i = 0; i < half; i++) {
            // Values of even index stay with lanes whose bit is 0, odd ones with the others.
            const float give = upper ? value[2 * i] : value[2 * i + 1];
            const float keep = upper ? value[2 * i + 1] : value[2 * i];
            value[i] = keep + __shfl_xor_sync(ALL_LANES, give, offset);
        }
    }
    float sum = value[0];
#pragma unroll
    for (; offset < LANES; offset *= 2) sum += __shfl_xor_sync(ALL_LANES, sum, offset);
    return sum;
}
