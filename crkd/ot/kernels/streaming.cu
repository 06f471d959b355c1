// Any number of problems and samples: one launch for the first class step, then one an
// iteration, the last of which writes the result. Only the class potentials are kept.
//
// Entry (i, j) of the plan is 2^(y_ij + h_j) up to a factor of its row, with
// y_ij = (x_ij - X_j) * scale and X_j the largest score of class j. Each block takes a chunk of
// the rows of one problem and adds up what they give to every class; the block that arrives last
// of a group of chunks adds those sums in fixed order, and the last group sets h. A launch works
// as softmax(y + h) row by row, which cannot leave the range; by the bound in docs/sinkhorn.md
// a class keeps at least b_j * min a of its mass in an exact step.
//
// STEP 0: first class step. STEP 1: row step and exact class step. STEP 2: row step and relaxed
// class step, as a log-sum-exp over rows since masses may vanish. STEP 3: row step, writes.
//
// Compile-time: STEP, TC columns a lane, TEAM warps a row, WEIGHTED (sample marginal given),
// SCORE_TYPE, OUT_TYPE.

#define WARPS (TEAM > 8 ? TEAM : 8)
#define THREADS (WARPS * 32)
#define TEAMS (WARPS / TEAM)
#define MP (TC * TEAM * 32)
#define PAIRS (STEP == 0 || STEP == 2)  // sums are kept as (exponent, factor) pairs
#define BATCH (TC <= 4 ? 4 : TC <= 8 ? 2 : 1)

// Adds 2^(exponent * unit) to sum * 2^(largest * unit): one exponential.
__device__ __forceinline__ void add_power(float& largest, float& sum, float exponent, float unit) {
    if (exponent == -INF) return;
    const float difference = exponent - largest;
    const float power = exp2_fast(-fabsf(difference) * unit);
    const bool larger = difference > 0.0f;
    sum = larger ? sum * power + 1.0f : sum + power;
    largest = larger ? exponent : largest;
}

__device__ __forceinline__ void add_pair(float& largest, float& sum, float top, float share,
                                         float unit) {
    const float wider = fmaxf(largest, top);
    if (wider == -INF) {
        sum += share;  // zero, or the NaN that must not get lost
        return;
    }
    sum = (largest == -INF ? sum : sum * exp2_fast((largest - wider) * unit)) +
          (top == -INF ? share : share * exp2_fast((top - wider) * unit));
    largest = wider;
}

// True for all threads of the block that arrives last of `expected`; resets the counter.
__device__ __forceinline__ bool last_to_arrive(u32* counter, u32 expected) {
    __shared__ bool last;
    __syncthreads();
    if (threadIdx.x == 0) {
        // Between the barriers a fence of one thread speaks for its block.
        __threadfence();
        last = atomicInc(counter, expected - 1) == expected - 1;
        __threadfence();
    }
    __syncthreads();
    return last;
}

// Sums `count` rows of column j in order; a row of pairs holds m factors, then m exponents.
__device__ __forceinline__ void sum_rows(const float* rows, int count, int m, int j, float unit,
                                         float& largest, float& sum) {
    largest = -INF;
    sum = 0.0f;
#pragma unroll 4
    for (int r = 0; r < count; r++) {
#if PAIRS
        const float* const row = rows + (i64)r * 2 * m + j;
        add_pair(largest, sum, __ldcg(row + m), __ldcg(row), unit);
#else
        sum += __ldcg(rows + (i64)r * m + j);
#endif
    }
}

extern "C" __global__ void __launch_bounds__(THREADS)
sinkhorn_streaming(const void* scores, void* out, const float* class_marginal,
                   const float* sample_marginal, float* potentials, float* chunk_sums,
                   float* group_sums, u32* counters, i64 problem_stride, i64 row_stride,
                   i64 num_samples, i64 num_classes, i64 num_chunks, i64 chunks_per_group,
                   i64 class_stride, i64 sample_stride, double scale_, double power_) {
    extern __shared__ float shared[];
    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int team = warp / TEAM, member = warp % TEAM;
    const int n = (int)num_samples, m = (int)num_classes;
    const int chunks = (int)num_chunks, chunk = blockIdx.x % chunks;
    const i64 problem = blockIdx.x / chunks;
    const int rows_per_chunk = (n + chunks - 1) / chunks;
    const int first_row = chunk * rows_per_chunk;
    const int end_row = min(n, first_row + rows_per_chunk);
    const float scale = (float)scale_;

    wait_for_predecessor();
    float* const my_shift = potentials + problem * 2 * m;
    float* const my_potential = my_shift + m;
    auto column = [&](int k) { return (k * TEAM + member) * 32 + lane; };
    auto wanted = [&](int j) {
        return class_marginal ? __ldg(class_marginal + problem * class_stride + j)
                              : reciprocal((float)m);
    };
#if WEIGHTED
    auto weight = [&](int row) {
        return row < end_row ? __ldg(sample_marginal + problem * sample_stride + row) : 0.0f;
    };
    const float unit_weight = 1.0f;
#else
    auto weight = [&](int row) { return row < end_row ? 1.0f : 0.0f; };
    const float unit_weight = STEP == 0 ? 1.0f : reciprocal((float)n);
#endif
    // Out of range, rows and columns are read at the last valid place and then overwritten:
    // loads without branches are issued back to back.
    auto score_at = [&](int row, int k) {
        const score_t* const from =
            (const score_t*)scores + problem * problem_stride + min(row, n - 1) * row_stride;
        const float x = to_float(__ldg(from + min(column(k), m - 1)));
        return row < end_row && column(k) < m ? x : -INF;
    };

#if STEP != 0
    float X[TC], h[TC];
#pragma unroll
    for (int k = 0; k < TC; k++) {
        X[k] = column(k) < m ? __ldcg(my_shift + column(k)) : 0.0f;
        h[k] = column(k) < m ? __ldcg(my_potential + column(k)) : -INF;
    }
#endif
#if STEP != 3
    float sum[TC], largest[TC];
#pragma unroll
    for (int k = 0; k < TC; k++) {
        sum[k] = 0.0f;
        largest[k] = -INF;
    }
#endif
#if STEP != 0 && TEAM > 1
    int parity = 0;
#endif

    // All teams make the same number of rounds, since teams of several warps synchronize.
    for (int round = first_row; round < end_row; round += TEAMS * BATCH) {
        float x[BATCH][TC];
#pragma unroll
        for (int r = 0; r < BATCH; r++) {
            const int row = round + r * TEAMS + team;
#pragma unroll
            for (int k = 0; k < TC; k++) x[r][k] = score_at(row, k);
        }
#pragma unroll
        for (int r = 0; r < BATCH; r++) {
            const int row = round + r * TEAMS + team;
#if STEP == 0
            if (weight(row) > 0.0f) {
#pragma unroll
                for (int k = 0; k < TC; k++) add_power(largest[k], sum[k], x[r][k], scale);
            }
#else
            float part[TC], top = -INF, row_sum = 0.0f;
#pragma unroll
            for (int k = 0; k < TC; k++) {
                part[k] = fmaf(x[r][k] - X[k], scale, h[k]);
                top = fmaxf(top, part[k]);
            }
#pragma unroll
            for (int offset = 16; offset >= 1; offset /= 2)
                top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, offset));
            top = finite_shift(top);
#pragma unroll
            for (int k = 0; k < TC; k++) {
                part[k] = exp2_fast(part[k] - top);
                row_sum += part[k];
            }
#pragma unroll
            for (int offset = 16; offset >= 1; offset /= 2)
                row_sum += __shfl_xor_sync(ALL_LANES, row_sum, offset);
#if TEAM > 1
            // Each warp knows its own part of the row; one exchange merges the pairs.
            float* const slot = shared + parity * WARPS * 2;
            parity ^= 1;
            if (lane == 0) {
                slot[2 * warp] = row_sum == 0.0f ? -INF : top;
                slot[2 * warp + 1] = row_sum;
            }
            __syncthreads();
            const float own_top = top, own_sum = row_sum;
            top = -INF;
            row_sum = 0.0f;
#pragma unroll
            for (int w = 0; w < TEAM; w++) {
                const float* const pair = slot + 2 * (team * TEAM + w);
                add_pair(top, row_sum, pair[0], pair[1], 1.0f);
            }
            top = finite_shift(top);
            const float own = own_sum == 0.0f ? 0.0f : exp2_fast(own_top - top);
#else
            const float own = 1.0f;
#endif
            const bool empty = row_sum == 0.0f;
#if STEP == 1
            const float factor = empty ? 0.0f : own * weight(row) * reciprocal(row_sum);
#pragma unroll
            for (int k = 0; k < TC; k++) sum[k] = fmaf(part[k], factor, sum[k]);
#elif STEP == 2
            const float a = weight(row), f = log2_fast(a) - top - log2_fast(row_sum);
            if (a > 0.0f && !empty) {
#pragma unroll
                for (int k = 0; k < TC; k++)
                    add_power(largest[k], sum[k], fmaf(x[r][k] - X[k], scale, f), 1.0f);
            }
#else
            const float factor = empty ? 0.0f : own * reciprocal(row_sum);
            if (row < end_row) {
                result_t* const to = (result_t*)out + (problem * n + row) * m;
#pragma unroll
                for (int k = 0; k < TC; k++)
                    if (column(k) < m)
                        to[column(k)] = from_float(empty ? wanted(column(k)) : part[k] * factor);
            }
#endif
#endif
        }
    }

#if STEP != 3
    const i64 width = PAIRS ? 2 * (i64)m : m;
    const float unit = STEP == 0 ? scale : 1.0f;
    float* const my_chunk = chunk_sums + (problem * chunks + chunk) * width;
    auto store = [&](float* row, int j, float top, float total) {
        __stcg(row + j, total);
#if PAIRS
        __stcg(row + m + j, top);
#endif
    };
#if TEAMS > 1
    float* const block_sum = shared + 4 * WARPS;
    float* const block_top = block_sum + TEAMS * MP;
#pragma unroll
    for (int k = 0; k < TC; k++) {
        block_sum[team * MP + column(k)] = sum[k];
#if PAIRS
        block_top[team * MP + column(k)] = largest[k];
#endif
    }
    __syncthreads();
    for (int j = tid; j < m; j += THREADS) {
        float total = 0.0f, top = -INF;
#pragma unroll
        for (int t = 0; t < TEAMS; t++) {
#if PAIRS
            add_pair(top, total, block_top[t * MP + j], block_sum[t * MP + j], unit);
#else
            total += block_sum[t * MP + j];
#endif
        }
        store(my_chunk, j, top, total * unit_weight);
    }
#else
#pragma unroll
    for (int k = 0; k < TC; k++)
        if (column(k) < m) store(my_chunk, column(k), largest[k], sum[k] * unit_weight);
#endif

    const int groups = (chunks + (int)chunks_per_group - 1) / (int)chunks_per_group;
    const int group = chunk / (int)chunks_per_group;
    const int first_chunk = group * (int)chunks_per_group;
    const int group_size = min((int)chunks_per_group, chunks - first_chunk);
    u32* const counter = counters + problem * (groups + 1);
    if (!last_to_arrive(counter + 1 + group, group_size)) return;
    float* const my_group = group_sums + (problem * groups + group) * width;
    for (int j = tid; j < m; j += THREADS) {
        float total, top;
        sum_rows(chunk_sums + (problem * chunks + first_chunk) * width, group_size, m, j, unit,
                 top, total);
        store(my_group, j, top, total);
    }
    if (!last_to_arrive(counter, groups)) return;
    const float power = (float)power_;
    for (int j = tid; j < m; j += THREADS) {
        float total, top;
        sum_rows(group_sums + problem * groups * width, groups, m, j, unit, top, total);
        const float target = wanted(j);
        float next = power * (log2_fast(target) - log2_fast(total));
#if STEP == 0
        const float shift = finite_shift(top);
        __stcg(my_shift + j, shift);
#elif STEP == 1
        next += __ldcg(my_potential + j);
#else
        const float shift = __ldcg(my_shift + j);
        next -= power * top;
#endif
#if PAIRS
        // h is counted from X_j, yet a relaxed step scales the whole potential.
        if (power != 1.0f) next = fmaf((1.0f - power) * shift, scale, next);
#endif
        if (target == 0.0f || total == 0.0f) next = -INF;
        __stcg(my_potential + j, total != total ? total : next);
    }
#endif
}
