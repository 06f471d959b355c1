// One launch for a whole solve: a cluster of CLUSTER blocks keeps one problem on the chip.
//
// Entry (i, j) is held as E_ij = 2^((x_ij - X_j) * scale + h_j - R_i), where X_j is the largest
// score of class j, so that the first class step is absorbed exactly. One iteration is then two
// multiply-adds an entry: row sums of E v, column sums of u E. R_i is 0 for rows whose sum stays
// in range; a row that falls out of it (one far below all others, or one of no weight) is read
// again and given its own R_i. If a factor v_j wanders far, it is moved into h_j and all rows
// are rebuilt; by the bound ln(1 / min a) on one step this takes several iterations.
//
// Layout: a warp holds LR = 32 / LC rows at a time, LC lanes to a row; lane l owns the columns
// l, l + LC, ... (TC of them) of TR row steps. The first TRR row steps lie in registers, the
// others in shared memory that the owning thread alone touches.
//
// Compile-time: WARPS, LC, TC, TR, TRR, CLUSTER, BLOCKS_PER_SM, SCORE_TYPE, OUT_TYPE.

#define THREADS (WARPS * 32)
#define LR (32 / LC)
#define MP (TC * LC)
#define BATCH (TR < LC ? (TR < 8 ? TR : 8) : (LC < 8 ? LC : 8))

#define LOWEST_ROW 8.470329e-22f   /* 2^-70: below it, entries that were flushed could matter */
#define LARGEST_DRIFT 1048576.0f   /* 2^20 */

#if CLUSTER > 1
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
__device__ __forceinline__ float peer_value(const float* mine, u32 rank) {
    u32 local = (u32)__cvta_generic_to_shared(mine), remote;
    float value;
    asm("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(remote) : "r"(local), "r"(rank));
    asm volatile("ld.shared::cluster.f32 %0, [%1];" : "=f"(value) : "r"(remote) : "memory");
    return value;
}
#endif

// Sums COUNT values each over the LC lanes of a row. Lane l ends with the sum of value
// (l & (COUNT - 1)); halving the set at each exchange needs far fewer shuffles than COUNT sums.
template <int COUNT>
__device__ __forceinline__ float sum_over_row(float (&value)[COUNT], int lane) {
    int offset = 1;
#pragma unroll
    for (int half = COUNT / 2; half >= 1; half /= 2, offset *= 2) {
        const bool upper = lane & offset;
#pragma unroll
        for (int i = 0; i < half; i++) {
            // Values of even index stay with lanes whose bit is 0, odd ones with the others.
            const float give = upper ? value[2 * i] : value[2 * i + 1];
            const float keep = upper ? value[2 * i + 1] : value[2 * i];
            value[i] = keep + __shfl_xor_sync(FULL, give, offset);
        }
    }
    float sum = value[0];
#pragma unroll
    for (; offset < LC; offset *= 2) sum += __shfl_xor_sync(FULL, sum, offset);
    return sum;
}

__device__ __forceinline__ float sum_over_lane_rows(float value) {
#pragma unroll
    for (int offset = LC; offset < 32; offset *= 2) value += __shfl_xor_sync(FULL, value, offset);
    return value;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
sinkhorn_resident(const void* scores, void* out, const float* class_marginal,
                  const float* sample_marginal, i64 problem_stride, i64 row_stride,
                  i64 num_samples, i64 num_classes, i64 num_iters, i64 class_stride,
                  i64 sample_stride, double scale_) {
    extern __shared__ float shared[];
    float* const partial = shared;              // [WARPS][MP]
    float* const X = partial + WARPS * MP;      // largest score of a class
    float* const v = X + MP;                    // its factor
    float* const v_base = v + MP;               // that factor when E was built
    float* const h = v_base + MP;               // base-2 logarithm already inside E
    float* const b = h + MP;                    // class marginal
    float* const top = b + MP;                  // largest score within this block
    float* const mass = top + MP;               // [2][MP] what this block adds to a class
    float* const stored = mass + 2 * MP;        // [(TR - TRR) * TC][THREADS]

    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int lane_col = lane % LC, lane_row = lane / LC;
    const int n = (int)num_samples, m = (int)num_classes;
    const float scale = (float)scale_;
#if CLUSTER > 1
    const int rank = (int)cluster_rank();
#else
    const int rank = 0;
#endif
    const i64 problem = blockIdx.x / CLUSTER;
    const int rows_here = (n + CLUSTER - 1) / CLUSTER;
    const int first_row = rank * rows_here;

    wait_for_predecessor();
    const i64 score_base = problem * problem_stride;
    const i64 out_base = problem * (i64)n * m;

    float e[TRR > 0 ? TRR : 1][TC];
    auto entry = [&](int t, int k) -> float& {
        return t < TRR ? e[t < TRR ? t : 0][k] : stored[((t - TRR) * TC + k) * THREADS + tid];
    };
    auto column = [&](int k) { return lane_col + k * LC; };
    auto has_column = [&](int k) { return k < TC - 1 || column(k) < m; };
    auto local_row = [&](int t) { return (t * WARPS + warp) * LR + lane_row; };
    auto has_row = [&](int t) {
        return local_row(t) < rows_here && first_row + local_row(t) < n;
    };
    auto weight = [&](int t) -> float {
        if (!has_row(t)) return 0.0f;
        if (!sample_marginal) return 1.0f / n;
        return __ldg(sample_marginal + problem * sample_stride + first_row + local_row(t));
    };
    auto score_at = [&](int t, int k) {
        return read_score(scores, score_base + (first_row + local_row(t)) * row_stride + column(k));
    };

#pragma unroll
    for (int t = 0; t < TR; t++) {
        const bool row = has_row(t);
#pragma unroll
        for (int k = 0; k < TC; k++) entry(t, k) = row && has_column(k) ? score_at(t, k) : -INF;
    }
    for (int j = tid; j < MP; j += THREADS) {
        b[j] = j < m ? (class_marginal ? __ldg(class_marginal + problem * class_stride + j)
                                       : 1.0f / m)
                     : 0.0f;
    }

    // Rows of no weight take no part in the first class step; 0 there sends them to the rebuild.
    u32 counted = 0;
#pragma unroll
    for (int t = 0; t < TR; t++) counted |= (u32)(has_row(t) && weight(t) > 0.0f) << t;

#pragma unroll
    for (int k = 0; k < TC; k++) {
        float largest = -INF;
#pragma unroll
        for (int t = 0; t < TR; t++)
            largest = fmaxf(largest, counted >> t & 1 ? entry(t, k) : -INF);
#pragma unroll
        for (int offset = LC; offset < 32; offset *= 2)
            largest = fmaxf(largest, __shfl_xor_sync(FULL, largest, offset));
        if (lane_row == 0) partial[warp * MP + column(k)] = largest;
    }
    __syncthreads();
    for (int j = tid; j < MP; j += THREADS) {
        float largest = -INF;
#pragma unroll
        for (int w = 0; w < WARPS; w++) largest = fmaxf(largest, partial[w * MP + j]);
        top[j] = largest;
    }
    __syncthreads();

#pragma unroll
    for (int k = 0; k < TC; k++) {
        const float shift = finite_shift(top[column(k)]);
        float sum = 0.0f;
#pragma unroll
        for (int t = 0; t < TR; t++) {
            const float value = exp2_fast((entry(t, k) - shift) * scale);
            entry(t, k) = counted >> t & 1 ? value : 0.0f;
            sum += counted >> t & 1 ? value : 0.0f;
        }
        sum = sum_over_lane_rows(sum);
        if (lane_row == 0) partial[warp * MP + column(k)] = sum;
    }
    __syncthreads();

    auto block_mass = [&](int j) {
        float sum = 0.0f;
#pragma unroll
        for (int w = 0; w < WARPS; w++) sum += partial[w * MP + j];
        return sum;
    };

#if CLUSTER > 1
    for (int j = tid; j < MP; j += THREADS) mass[j] = block_mass(j);
    cluster_arrive();
    cluster_wait();
    for (int j = tid; j < MP; j += THREADS) {
        float tops[CLUSTER], largest = -INF, sum = 0.0f;
#pragma unroll
        for (int c = 0; c < CLUSTER; c++) {
            tops[c] = peer_value(top + j, c);
            largest = fmaxf(largest, tops[c]);
        }
#pragma unroll
        for (int c = 0; c < CLUSTER; c++) {
            const float share = peer_value(mass + j, c);
            sum += tops[c] == -INF ? share : share * exp2_fast((tops[c] - largest) * scale);
        }
        X[j] = finite_shift(largest);
        v[j] = v_base[j] = class_factor(b[j], sum);
        h[j] = 0.0f;
        mass[MP + j] = top[j] == -INF ? 1.0f : exp2_fast((top[j] - largest) * scale);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < TC; k++) {
        const float shrink = mass[MP + column(k)];
#pragma unroll
        for (int t = 0; t < TR; t++) entry(t, k) *= shrink;
    }
#else
    for (int j = tid; j < MP; j += THREADS) {
        X[j] = finite_shift(top[j]);
        v[j] = v_base[j] = class_factor(b[j], block_mass(j));
        h[j] = 0.0f;
    }
    __syncthreads();
#endif

    float inverse[TR];  // 1 / row sum; 0 marks a row without any reachable class
    bool rebuild = false;
    for (int iteration = 1;; iteration++) {
        bool suspicious = rebuild;
#pragma unroll
        for (int start = 0; start < TR; start += BATCH) {
            float sums[BATCH];
#pragma unroll
            for (int i = 0; i < BATCH; i++) sums[i] = 0.0f;
#pragma unroll
            for (int k = 0; k < TC; k++) {
                const float factor = v[column(k)];
#pragma unroll
                for (int i = 0; i < BATCH; i++) sums[i] += entry(start + i, k) * factor;
            }
            const float mine = sum_over_row<BATCH>(sums, lane);
            const int owned = start + (lane & (BATCH - 1));
            const float mine_inverse = mine == 0.0f ? 0.0f : 1.0f / mine;
            suspicious |= mine < LOWEST_ROW && has_row(owned);
#pragma unroll
            for (int i = 0; i < BATCH; i++)
                inverse[start + i] = __shfl_sync(FULL, mine_inverse, (lane & ~(LC - 1)) | i);
        }

        if (__any_sync(FULL, suspicious)) {
            for (int step = 0; step < TR; step++) {
                float old = 0.0f;
#pragma unroll
                for (int t = 0; t < TR; t++) old = t == step ? inverse[t] : old;
                const bool row = has_row(step);
                const bool redo = row && (rebuild || old == 0.0f || old > 1.0f / LOWEST_ROW);
                if (!__any_sync(FULL, redo)) continue;
                float fresh[TC], largest = -INF, sum = 0.0f;
#pragma unroll
                for (int k = 0; k < TC; k++) {
                    const int j = column(k);
                    const bool used = row && has_column(k) && v[j] != 0.0f;
                    fresh[k] = used ? (score_at(step, k) - X[j]) * scale + h[j] : -INF;
                    largest = fmaxf(largest, fresh[k] + (used ? log2_fast(v[j]) : 0.0f));
                }
#pragma unroll
                for (int offset = 1; offset < LC; offset *= 2)
                    largest = fmaxf(largest, __shfl_xor_sync(FULL, largest, offset));
                largest = finite_shift(largest);
#pragma unroll
                for (int k = 0; k < TC; k++) {
                    fresh[k] = exp2_fast(fresh[k] - largest);
                    sum += fresh[k] * v[column(k)];
                }
#pragma unroll
                for (int offset = 1; offset < LC; offset *= 2)
                    sum += __shfl_xor_sync(FULL, sum, offset);
#pragma unroll
                for (int t = 0; t < TR; t++) {
                    if (t == step && redo) {
                        inverse[t] = sum == 0.0f ? 0.0f : 1.0f / sum;
#pragma unroll
                        for (int k = 0; k < TC; k++) entry(t, k) = fresh[k];
                    }
                }
            }
        }
        if (iteration == num_iters) break;

        float u[TR];
#pragma unroll
        for (int t = 0; t < TR; t++) u[t] = inverse[t] == 0.0f ? 0.0f : weight(t) * inverse[t];
#pragma unroll
        for (int k = 0; k < TC; k++) {
            float sum = 0.0f;
#pragma unroll
            for (int t = 0; t < TR; t++) sum += u[t] * entry(t, k);
            sum = sum_over_lane_rows(sum);
            if (lane_row == 0) partial[warp * MP + column(k)] = sum;
        }
        __syncthreads();
#if CLUSTER > 1
        // Two slots in turn: a peer may still read the last one while this one is filled.
        float* const slot = mass + (iteration & 1) * MP;
        for (int j = tid; j < MP; j += THREADS) slot[j] = block_mass(j);
        cluster_arrive();
        cluster_wait();
#endif
        bool drifted = false;
        for (int j = tid; j < MP; j += THREADS) {
#if CLUSTER > 1
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < CLUSTER; c++) sum += peer_value(slot + j, c);
#else
            const float sum = block_mass(j);
#endif
            const float factor = class_factor(b[j], sum), base = v_base[j];
            drifted |= factor > base * LARGEST_DRIFT || factor * LARGEST_DRIFT < base;
            v[j] = factor;
        }
        rebuild = __syncthreads_or(drifted);
        if (rebuild) {
            for (int j = tid; j < MP; j += THREADS) {
                h[j] += v[j] == 0.0f ? 0.0f : log2_fast(v[j]);
                v[j] = v_base[j] = v[j] == 0.0f ? 0.0f : v[j] / v[j];
            }
            __syncthreads();
        }
    }

#if CLUSTER > 1
    cluster_arrive();
#endif
#pragma unroll
    for (int t = 0; t < TR; t++) {
        if (!has_row(t)) continue;
        const i64 base = out_base + (i64)(first_row + local_row(t)) * m;
#pragma unroll
        for (int k = 0; k < TC; k++) {
            if (!has_column(k)) continue;
            const int j = column(k);
            const float plan = entry(t, k) * v[j] * inverse[t];
            write_result(out, base + j, inverse[t] == 0.0f ? b[j] : plan);
        }
    }
#if CLUSTER > 1
    cluster_wait();  // no block may leave while a peer can still read its shared memory
#endif
}
