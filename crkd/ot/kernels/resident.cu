// One launch for a whole solve: a cluster of CLUSTER blocks keeps one problem on the chip.
//
// Entry (i, j) is held as E_ij = 2^((x_ij - X_j) * scale + h_j - R_i), where X_j is the largest
// score of class j, so that the first class step is absorbed exactly. One iteration is
// then two multiply-adds an entry: row sums of E v, column sums of u E. R_i is 0 for rows whose
// sum stays in range; a row that falls out of it (one far below all others, or one of no weight)
// is read again and given its own R_i. If a factor v_j wanders far, it is moved into h_j and all
// rows are rebuilt; by the bound ln(1 / min a) on one step this takes several iterations.
//
// Layout: a warp holds LR = 32 / LC rows at a time, LC lanes to a row; lane l owns the columns
// l, l + LC, ... (TC of them) of TR row steps. The first TRR row steps are in registers, the
// others in shared memory that the owning thread alone touches.
//
// The blocks of a cluster send each other their class masses. With SPLIT 0 every block adds up all
// classes: one exchange, CLUSTER values arrive for a class. With SPLIT 1 every block adds up its own
// share of the classes and sends the new factors to all blocks: two exchanges, but only two values
// a class pass between any block and the others, however large the cluster.
//
// An exchange is a phase of a mailbox, not a barrier: a block waits only for bytes that it needs.
// Why nothing is overwritten too early: a block sends for exchange i + 1 after all its threads have
// read what exchange i brought, and it has received exchange i + 1 only when all blocks have sent
// for it. What arrives for exchange i + 2 may therefore take the place of exchange i, never of
// i + 1: inbox and mailboxes have two slots in turn. The factors v are replaced in place: their
// block has first received what this one sends after its last use of the old ones. At the end no
// block is waited for: what is sent to a block has arrived when the block leaves its last wait.
//
// Compile-time: WARPS, LC, TC, TR, TRR, CLUSTER, SPLIT, BLOCKS_PER_SM, WEIGHTED (sample marginal
// given), SCORE_TYPE, OUT_TYPE.

#define THREADS (WARPS * 32)
#define LR (32 / LC)
#define MP (TC * LC)
#define EACH_CLASS(j) \
    for (int pass_ = 0, j = tid; pass_ < (MP + THREADS - 1) / THREADS; pass_++, j += THREADS) \
        if (MP % THREADS == 0 || j < MP)
#if SPLIT
#define SHARE ((MP / 4 + CLUSTER - 1) / CLUSTER * 4)
#define EACH_SUMMED_CLASS(j) \
    for (int i_ = tid, j = rank * SHARE + tid; i_ < SHARE; i_ += THREADS, j += THREADS) \
        if (j < MP)
#else
#define SHARE MP
#define EACH_SUMMED_CLASS(j) EACH_CLASS(j)
#endif
#define BATCH (TR < 8 ? (TR < LC ? TR : LC) : (LC < 8 ? LC : 8))

#define LOWEST_ROW 8.470329e-22f   /* 2^-70: below it, entries that were flushed could matter */
#define LARGEST_DRIFT 1048576.0f   /* 2^20 */

__device__ __forceinline__ float sum_over_lane_rows(float value) {
#pragma unroll
    for (int offset = LC; offset < 32; offset *= 2)
        value += __shfl_xor_sync(ALL_LANES, value, offset);
    return value;
}

extern "C" __global__ void __launch_bounds__(THREADS, BLOCKS_PER_SM)
sinkhorn_resident(const void* scores, void* out, const float* class_marginal,
                  const float* sample_marginal, i64 problem_stride, i64 row_stride,
                  i64 num_samples, i64 num_classes, i64 num_iters, i64 class_stride,
                  i64 sample_stride, double scale_) {
    extern __shared__ __align__(16) float shared[];
    float* const partial = shared;              // [WARPS][MP]
    float* const X = partial + WARPS * MP;      // largest score of a class
    float* const v = X + MP;                    // factor of a class
    float* const v_base = v + MP;               // that factor when E was built
    float* const h = v_base + MP;               // base-2 logarithm already inside E
    float* const b = h + MP;                    // class marginal
    float* const top = b + MP;                  // largest score within this block
    float* const weights = top + MP;            // [TR][WARPS * LR] of the rows, if given
    float* const next = weights + TR * WARPS * LR;
#if CLUSTER > 1
    float* const mass = next;                   // what this block adds to a class
    float* const shrink = mass + MP;            // 2^((top - X) * scale)
    float* const inbox = shrink + MP;           // [2][CLUSTER][SHARE] what each block adds
    float* const top_inbox = inbox + 2 * CLUSTER * SHARE;   // [CLUSTER][SHARE] top of each block
    u64* const sums_box = (u64*)(top_inbox + CLUSTER * SHARE);  // [2]
    u64* const factors_box = sums_box + 2;      // [2], for SPLIT
    float* const stored = (float*)(factors_box + 2);  // [(TR - TRR) * TC][THREADS]
#else
    float* const stored = next;                 // [(TR - TRR) * TC][THREADS]
#endif

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
    const int rows_per_block = (n + CLUSTER - 1) / CLUSTER;
    const int first_row = rank * rows_per_block;
    const int rows_here = max(0, min(rows_per_block, n - first_row));
    const int own_row = warp * LR + lane_row;   // row of step t: own_row + t * WARPS * LR
    const bool last_column = lane_col + (TC - 1) * LC < m;

    auto has_row = [&](int t) { return own_row + t * (WARPS * LR) < rows_here; };
    // Out of range, rows and columns are read at the last valid place and then overwritten:
    // loads without branches are issued back to back.
    const score_t* const block_scores =
        (const score_t*)scores + problem * problem_stride + first_row * row_stride + lane_col;
    auto row_scores = [&](int t) {
        const int row = min(own_row + t * (WARPS * LR), max(rows_here - 1, 0));
        return block_scores + (rows_here > 0 ? row * row_stride : -first_row * row_stride);
    };
    const int last_offset = last_column ? (TC - 1) * LC : m - 1 - lane_col;
    auto score_at = [&](const score_t* row, int k) {
        return to_float(__ldg(row + (k < TC - 1 ? k * LC : last_offset)));
    };
    float e[TRR > 0 ? TRR : 1][TC];
    auto entry = [&](int t, int k) -> float& {
        return t < TRR ? e[t < TRR ? t : 0][k] : stored[((t - TRR) * TC + k) * THREADS + tid];
    };
    auto column = [&](int k) { return lane_col + k * LC; };

#if CLUSTER > 1
    if (tid == 0)
        for (int box = 0; box < 4; box++) open_mailbox(sums_box + box);
    announce_mailboxes();
#endif
    wait_for_predecessor();
#pragma unroll
    for (int t = 0; t < TR; t++) {
        const score_t* const row = row_scores(t);
        const bool inside = has_row(t);
#pragma unroll
        for (int k = 0; k < TC; k++) {
            const float x = score_at(row, k);
            entry(t, k) = inside && (k < TC - 1 || last_column) ? x : -INF;
        }
    }
    EACH_CLASS(j) {
        b[j] = j >= m ? 0.0f
               : class_marginal ? __ldg(class_marginal + problem * class_stride + j)
                                : reciprocal((float)m);
    }
#if WEIGHTED
    // Rows of no weight take no part in the first class step; 0 there sends them to the rebuild.
    // Registers are short: the weights stay in shared memory, each for the lanes of its row alone.
    float* const my_weights = weights + tid / LC;
#pragma unroll
    for (int t = 0; t < TR; t++) {
        const int row = first_row + own_row + t * (WARPS * LR);
        if (lane_col == 0)
            my_weights[t * (WARPS * LR)] =
                has_row(t) ? __ldg(sample_marginal + problem * sample_stride + row) : 0.0f;
    }
    __syncthreads();
#define WEIGHT(t) my_weights[(t) * (WARPS * LR)]
#define COUNTED(t) (WEIGHT(t) > 0.0f)
#else
#define WEIGHT(t) 1.0f
#define COUNTED(t) true
#endif

#pragma unroll
    for (int k = 0; k < TC; k++) {
        float largest = -INF;
#pragma unroll
        for (int t = 0; t < TR; t++) largest = fmaxf(largest, COUNTED(t) ? entry(t, k) : -INF);
#pragma unroll
        for (int offset = LC; offset < 32; offset *= 2)
            largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, offset));
        if (lane_row == 0) partial[warp * MP + column(k)] = largest;
    }
    __syncthreads();
    EACH_CLASS(j) {
        float largest = -INF;
#pragma unroll
        for (int w = 0; w < WARPS; w++) largest = fmaxf(largest, partial[w * MP + j]);
        top[j] = finite_shift(largest);
    }
    __syncthreads();

#pragma unroll
    for (int k = 0; k < TC; k++) {
        const float shift = top[column(k)];
        float sum = 0.0f;
#pragma unroll
        for (int t = 0; t < TR; t++) {
            const float value = COUNTED(t) ? exp2_fast((entry(t, k) - shift) * scale) : 0.0f;
            entry(t, k) = value;
            sum += value;
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
    const float unit = WEIGHTED ? 1.0f : reciprocal((float)n);
#if CLUSTER > 1
    const int first_own = SPLIT ? rank * SHARE : 0;   // classes that this block adds up
    const int own_classes = max(0, min(SHARE, MP - first_own));
    auto expect = [&](u64* box, int values) {
        if (tid == 0) expect_mail(box, 4 * values);
    };
    // Sends the values of all classes to the blocks that add them up.
    auto send_to_adders = [&](const float* values, float* place, u64* box) {
#pragma unroll 1
        for (int i = tid; i < MP / 4 * (SPLIT ? 1 : CLUSTER); i += THREADS) {
            const int j = i % (MP / 4) * 4;
            // Blocks begin with different peers, so that no peer receives everything at once.
            const int peer = SPLIT ? j / SHARE : (rank + i / (MP / 4)) % CLUSTER;
            send(*(const Four*)(values + j), place + rank * SHARE + j % SHARE, box, peer);
        }
    };
#if SPLIT
    // Sends the values of the own classes to all blocks, into the same place.
    auto send_to_all = [&](float* values, u64* box) {
#pragma unroll 1
        for (int i = tid; i < own_classes / 4 * CLUSTER; i += THREADS) {
            float* const place = values + first_own + i / CLUSTER * 4;
            send(*(const Four*)place, place, box, i % CLUSTER);
        }
    };
#endif
#endif

#if CLUSTER > 1
    expect(sums_box, 2 * CLUSTER * own_classes);
    EACH_CLASS(j) mass[j] = block_mass(j);
    __syncthreads();
    wait_for_mailboxes();
    send_to_adders(mass, inbox, sums_box);
    send_to_adders(top, top_inbox, sums_box);
    wait_for_mail(sums_box, 0);
    EACH_SUMMED_CLASS(j) {
        const int place = j - first_own;
        float largest = -INF, sum = 0.0f;
        // A block that holds nothing of this class has no say in its largest score.
#pragma unroll 4
        for (int c = 0; c < CLUSTER; c++)
            if (inbox[c * SHARE + place] != 0.0f)
                largest = fmaxf(largest, top_inbox[c * SHARE + place]);
        largest = finite_shift(largest);
#pragma unroll 4
        for (int c = 0; c < CLUSTER; c++) {
            const float part = inbox[c * SHARE + place], part_top = top_inbox[c * SHARE + place];
            sum += part == 0.0f ? 0.0f : part * exp2_fast((part_top - largest) * scale);
        }
        X[j] = largest;
        v[j] = class_factor(b[j], sum);
    }
#if SPLIT
    expect(factors_box, 2 * MP);
    __syncthreads();
    send_to_all(X, factors_box);
    send_to_all(v, factors_box);
    wait_for_mail(factors_box, 0);
#endif
    EACH_CLASS(j) {
        v_base[j] = v[j];
        h[j] = 0.0f;
        shrink[j] = mass[j] == 0.0f ? 0.0f : exp2_fast((top[j] - X[j]) * scale);
    }
    __syncthreads();
#pragma unroll
    for (int k = 0; k < TC; k++) {
        const float factor = shrink[column(k)];
#pragma unroll
        for (int t = 0; t < TR; t++) entry(t, k) *= factor;
    }
#else
    EACH_CLASS(j) {
        X[j] = top[j];
        v[j] = v_base[j] = class_factor(b[j], block_mass(j));
        h[j] = 0.0f;
    }
    __syncthreads();
#endif

    float inverse[TR];  // 1 / row sum; 0 marks a row without any reachable class
    bool rebuild = false;
    for (int iteration = 1;; iteration++) {
        forget_memory();
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
                for (int i = 0; i < BATCH; i++) sums[i] = fmaf(entry(start + i, k), factor, sums[i]);
            }
            const float mine = sum_over_lanes<BATCH, LC>(sums, lane);
            // 0 asks for the rebuild below; a subnormal sum has no reciprocal either.
            const float mine_inverse = mine < LOWEST_ROW ? 0.0f : reciprocal(mine);
            suspicious |= mine < LOWEST_ROW && has_row(start + (lane & (BATCH - 1)));
#pragma unroll
            for (int i = 0; i < BATCH; i++)
                inverse[start + i] = __shfl_sync(ALL_LANES, mine_inverse, (lane & ~(LC - 1)) | i);
        }

        // The factors shall not stay in registers, which are short, until the result.
        forget_memory();
        if (__any_sync(ALL_LANES, suspicious)) {
#pragma unroll 1
            for (int step = 0; step < TR; step++) {
                float old = 0.0f;
#pragma unroll
                for (int t = 0; t < TR; t++) old = t == step ? inverse[t] : old;
                const bool redo = has_row(step) && (rebuild || old == 0.0f);
                if (!__any_sync(ALL_LANES, redo)) continue;
                const score_t* row = row_scores(step);
                forget(row);  // or the scores would be kept from the start of the kernel
                auto exponent = [&](int k) {
                    const int j = column(k);
                    return v[j] == 0.0f ? -INF : fmaf(score_at(row, k) - X[j], scale, h[j]);
                };
                float largest = -INF, sum = 0.0f;
#pragma unroll
                for (int k = 0; k < TC; k++) {
                    const float factor = v[column(k)];
                    largest = fmaxf(largest, exponent(k) + (factor == 0.0f ? 0.0f
                                                                           : log2_fast(factor)));
                }
#pragma unroll
                for (int offset = 1; offset < LC; offset *= 2)
                    largest = fmaxf(largest, __shfl_xor_sync(ALL_LANES, largest, offset));
                largest = finite_shift(largest);
                forget(row);
                forget_memory();
#pragma unroll
                for (int k = 0; k < TC; k++) {
                    const float value = exp2_fast(exponent(k) - largest);
                    sum = fmaf(value, v[column(k)], sum);
#pragma unroll
                    for (int t = 0; t < TR; t++)
                        if (t == step && redo) entry(t, k) = value;
                }
#pragma unroll
                for (int offset = 1; offset < LC; offset *= 2)
                    sum += __shfl_xor_sync(ALL_LANES, sum, offset);
#pragma unroll
                for (int t = 0; t < TR; t++)
                    if (t == step && redo) inverse[t] = sum == 0.0f ? 0.0f : reciprocal(sum);
            }
        }
        if (iteration == num_iters) break;

#pragma unroll
        for (int t = 0; t < TR; t++) inverse[t] *= WEIGHT(t);
#pragma unroll
        for (int k = 0; k < TC; k++) {
            float sum = 0.0f;
#pragma unroll
            for (int t = 0; t < TR; t++) sum = fmaf(inverse[t], entry(t, k), sum);
            sum = sum_over_lane_rows(sum);
            if (lane_row == 0) partial[warp * MP + column(k)] = sum;
        }
        __syncthreads();
#if CLUSTER > 1
        const int turn = iteration & 1;
        const u32 parity = iteration >> 1 & 1;
        float* const slot = inbox + turn * CLUSTER * SHARE;
        expect(sums_box + turn, CLUSTER * own_classes);
        EACH_CLASS(j) mass[j] = block_mass(j) * unit;
        __syncthreads();
        send_to_adders(mass, slot, sums_box + turn);
        wait_for_mail(sums_box + turn, parity);
#endif
        EACH_SUMMED_CLASS(j) {
#if CLUSTER > 1
            float sum = 0.0f;
#pragma unroll
            for (int c = 0; c < CLUSTER; c++) sum += slot[c * SHARE + j - first_own];
#else
            const float sum = block_mass(j) * unit;
#endif
            v[j] = class_factor(b[j], sum);
        }
#if SPLIT
        expect(factors_box + turn, MP);
        __syncthreads();
        send_to_all(v, factors_box + turn);
        wait_for_mail(factors_box + turn, parity);
#endif
        bool drifted = false;
        EACH_CLASS(j) {
            const float factor = v[j], base = v_base[j];
            drifted |= factor > base * LARGEST_DRIFT || factor * LARGEST_DRIFT < base;
        }
        rebuild = __syncthreads_or(drifted);
        if (rebuild) {
            EACH_CLASS(j) {
                h[j] += v[j] == 0.0f ? 0.0f : log2_fast(v[j]);
                v[j] = v_base[j] = v[j] == 0.0f ? 0.0f : v[j] == v[j] ? 1.0f : v[j];
            }
            __syncthreads();
        }
    }

    result_t* const block_out = (result_t*)out + (problem * n + first_row) * m + lane_col;
#pragma unroll
    for (int t = 0; t < TR; t++) {
        if (!has_row(t)) continue;
        result_t* const row = block_out + (i64)(own_row + t * (WARPS * LR)) * m;
        const bool empty = inverse[t] == 0.0f;
#pragma unroll
        for (int k = 0; k < TC; k++) {
            const float plan = entry(t, k) * v[column(k)] * inverse[t];
            if (k < TC - 1 || last_column) row[k * LC] = from_float(empty ? b[column(k)] : plan);
        }
    }
}
