// The iterations between the first class step and the result, in one launch, from a short copy of
// the plan: for problems too large for resident.cu, where streaming.cu would read all scores from
// memory once an iteration. It runs between step 0 and step 3 of streaming.cu, which are made
// from the scores themselves: rounding reaches the result through the class potentials alone.
//
// Entry (i, j) is kept as E_ij = 2^((x_ij - X_j) * scale + h_j - R_i) in bfloat16, with R_i such
// that the largest entry of a row is 1. An iteration is then two multiply-adds an entry: row
// sums of E v, column sums of E / row sum. If a factor v_j wanders far, it is moved into h_j and E
// is built again from the scores, as in resident.cu; all blocks see the same factors and agree.
//
// BLOCKS blocks share a problem, all resident at once (a cooperative launch). TEAM warps share a
// row. The first KEPT rows of a team are in registers, the next SHARED in shared memory, the
// others in global memory, where the second-level cache has room for what is left.
//
// With CLUSTER above 1 the class masses are added within a cluster first: each block adds up a
// share of the classes for the blocks of its cluster, in exchanges like those of resident.cu. Then
// it meets the blocks of the other clusters that have the same share, in the only barrier of an
// iteration, reads what they added up, and sends the new factors of its share to its cluster. Sums
// in global memory have two slots in turn: a block writes a slot again after the next barrier,
// which the others reach after they have read it. Inbox and mailboxes need one slot. A block sends
// masses after it has received all factors, which its peers sent after they had read their inbox;
// and it sends factors after it has received all masses, which its peers sent after their last use
// of the old factors.
//
// With CLUSTER 1 each block adds up its share of the classes for all blocks. This takes a barrier
// of all blocks before and another one after.
//
// Compile-time: WARPS, TEAM, QUADS (groups of 8 columns a lane), KEPT, SHARED (both multiples of
// 4), BLOCKS, CLUSTER, WEIGHTED (sample marginal given), SCORE_TYPE.

#define THREADS (WARPS * 32)
#define TEAMS (WARPS / TEAM)
#define TC (8 * QUADS)
#define MP (TC * TEAM * 32)
#define SCRATCH (MP > THREADS ? MP : THREADS)
#define BATCH 4
#define CLUSTERS (BLOCKS / CLUSTER)
#define SHARE (MP / CLUSTER)     /* classes that a block adds up for its cluster */
#define LARGEST_DRIFT 1048576.0f /* 2^20 */

// Eight entries of one row, moved at once; only the thread that wrote them reads them.
struct alignas(16) Quad {
    u32 pair[4];
};

__device__ __forceinline__ float entry(const Quad* row, int k) {
    const u32 pair = row[k / 8].pair[k / 2 % 4];
    return __uint_as_float(k % 2 ? pair & 0xffff0000u : pair << 16);
}

// Keeps the compiler from holding entries unpacked, in twice as many registers, for a second use.
__device__ __forceinline__ void stay_packed(Quad* row) {
#pragma unroll
    for (int q = 0; q < QUADS; q++)
#pragma unroll
        for (int k = 0; k < 4; k++) asm volatile("" : "+r"(row[q].pair[k]));
}

// Waits until blocks have come here `arrivals` times. What they wrote before is then visible.
__device__ __forceinline__ void wait_for_blocks(u32* counter, u32 arrivals) {
    __syncthreads();
    if (threadIdx.x == 0) {
        add_release(counter);
        while (load_acquire(counter) < arrivals) wait_a_moment();
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, 1)
sinkhorn_persistent(const void* scores, const float* class_marginal, const float* sample_marginal,
                    float* potentials, Quad* stored, float* sums, float* factors, u32* counters,
                    i64 problem_stride, i64 row_stride, i64 num_samples, i64 num_classes,
                    i64 num_steps, i64 class_stride, i64 sample_stride, i64 first_problem,
                    double scale_) {
    extern __shared__ __align__(16) float shared[];
    Quad* const shared_rows = (Quad*)shared;                    // [SHARED][QUADS][THREADS]
    float* const h = shared + SHARED * QUADS * 4 * THREADS;     // logarithm inside E
    float* const v = h + MP;                                    // factor of a class
    float* const total = v + MP;                                // what this block adds to a class
    float* const slots = total + SCRATCH;                       // [2][WARPS][BATCH]
#if CLUSTER > 1
    float* const inbox = slots + 2 * WARPS * BATCH;             // [CLUSTER][SHARE]
    u64* const sums_box = (u64*)(inbox + MP);
    u64* const factors_box = sums_box + 1;
#endif

    const int tid = threadIdx.x, lane = tid & 31, warp = tid >> 5;
    const int team = warp / TEAM, member = warp % TEAM;
    const int n = (int)num_samples, m = (int)num_classes;
    const int block = blockIdx.x % BLOCKS, place = blockIdx.x / BLOCKS;
    const i64 problem = first_problem + place;
    // Registers are short: what is needed once in an iteration is computed again from this.
    auto block_here = [] {
        int here = blockIdx.x;
        forget(here);
        return here;
    };
    const int rows_per_block = (n + BLOCKS - 1) / BLOCKS;
    const int first_row = block * rows_per_block;
    const int end_row = min(n, first_row + rows_per_block);
    const int team_rows = (rows_per_block + TEAMS * BATCH - 1) / (TEAMS * BATCH) * BATCH;
    const int stored_rows = max(0, team_rows - KEPT - SHARED);
    const float scale = (float)scale_;
#if CLUSTER > 1
    if (tid == 0) {
        open_mailbox(sums_box);
        open_mailbox(factors_box);
    }
    announce_mailboxes();
#else
    u32* const counter = counters + problem;
    float* const my_sums = sums + (i64)place * BLOCKS * m;        // [BLOCKS][m]
    float* const my_factors = factors + (i64)place * m;
#endif
    Quad* const my_stored = stored + (i64)blockIdx.x * stored_rows * QUADS * THREADS + tid;

    wait_for_predecessor();
    // The largest score of each class, and its potential.
    const float* const my_shift = potentials + problem * 2 * num_classes;
    float* const my_potential = potentials + (problem * 2 + 1) * num_classes;
    for (int j = tid; j < MP; j += THREADS) {
        h[j] = j < m ? __ldcg(my_potential + j) : -INF;
        v[j] = 1.0f;
    }
    __syncthreads();

    auto column = [&](int k) { return 2 * ((k / 2 * TEAM + member) * 32 + lane) + k % 2; };
    auto row_of = [&](int r) {
        int first = first_row;
        forget(first);
        return first + r * TEAMS + team;
    };
    auto weight = [&](int r) {
#if WEIGHTED
        return row_of(r) < end_row ? __ldg(sample_marginal + problem * sample_stride + row_of(r))
                                   : 0.0f;
#else
        return 1.0f;
#endif
    };
    // What the warps of a team tell each other goes through two slots in turn. Every warp keeps to
    // its own BATCH places of a slot: teams wait for each other nowhere in between.
    int parity = 0;
    auto next_slot = [&] {
        parity ^= 1;
        return slots + parity * WARPS * BATCH;
    };

    auto build_row = [&](int r, Quad* to) {
        const int row = row_of(r);
        const score_t* const from =
            (const score_t*)scores + problem * problem_stride + min(row, n - 1) * row_stride;
        const float* shift = my_shift;
        float exponent[TC], top = -INF;
        int last = m - 1;
        forget(last);
        forget(shift);  // or it would be kept in registers for all rows
#pragma unroll
        for (int k = 0; k < TC; k++) {
            const int j = column(k), inside = min(j, last);
            const float x = to_float(__ldg(from + inside)) - __ldg(shift + inside);
            exponent[k] = row < end_row ? fmaf(x, scale, h[j]) : -INF;
            top = fmaxf(top, exponent[k]);
        }
#pragma unroll
        for (int offset = 16; offset >= 1; offset /= 2)
            top = fmaxf(top, __shfl_xor_sync(ALL_LANES, top, offset));
#if TEAM > 1
        float* const slot = next_slot();
        if (lane == 0) slot[warp * BATCH] = top;
        team_barrier(1 + team, 32 * TEAM);
#pragma unroll
        for (int w = 0; w < TEAM; w++) top = fmaxf(top, slot[(team * TEAM + w) * BATCH]);
#endif
        top = finite_shift(top);
#pragma unroll
        for (int k = 0; k < TC; k += 2)
            to[k / 8].pair[k / 2 % 4] = bfloat_from_float(exp2_fast(exponent[k] - top)) |
                                        (u32)bfloat_from_float(exp2_fast(exponent[k + 1] - top))
                                            << 16;
    };

    Quad kept[KEPT][QUADS];
    auto build = [&] {
#pragma unroll 1
        for (int r = 0; r < max(team_rows, KEPT + SHARED); r++) {
            Quad row[QUADS];
            build_row(r, row);
            if (r < KEPT) {
                // Registers have no addresses: the row is put into each in turn, or is not.
#pragma unroll
                for (int to = 0; to < KEPT; to++)
#pragma unroll
                    for (int q = 0; q < QUADS; q++)
                        if (to == r) kept[to][q] = row[q];
                continue;
            }
            Quad* const to = r < KEPT + SHARED
                                 ? shared_rows + (r - KEPT) * QUADS * THREADS + tid
                                 : my_stored + (i64)(r - KEPT - SHARED) * QUADS * THREADS;
#pragma unroll
            for (int q = 0; q < QUADS; q++) to[q * THREADS] = row[q];
        }
    };

    // The factors of a row are read from shared memory for each batch: registers are short.
    float sum[TC];
    auto add_rows = [&](Quad (*rows)[QUADS], int first) {
        float parts[BATCH];
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            parts[i] = 0.0f;
            stay_packed(rows[i]);
#pragma unroll
            for (int k = 0; k < TC; k++) parts[i] = fmaf(entry(rows[i], k), v[column(k)], parts[i]);
        }
        float mine = sum_over_lanes<BATCH, 32>(parts, lane);
#if TEAM > 1
        float* const slot = next_slot();
        if (lane < BATCH) slot[warp * BATCH + lane] = mine;
        team_barrier(1 + team, 32 * TEAM);
        mine = 0.0f;
#pragma unroll
        for (int w = 0; w < TEAM; w++) mine += slot[(team * TEAM + w) * BATCH + lane % BATCH];
#endif
        mine = mine == 0.0f ? 0.0f : weight(first + lane % BATCH) * reciprocal(mine);
#pragma unroll
        for (int i = 0; i < BATCH; i++) {
            const float row_factor = __shfl_sync(ALL_LANES, mine, i);
            stay_packed(rows[i]);
#pragma unroll
            for (int k = 0; k < TC; k++) sum[k] = fmaf(entry(rows[i], k), row_factor, sum[k]);
        }
    };
    auto add_stored_rows = [&](const Quad* from, int first) {
        Quad rows[BATCH][QUADS];
#pragma unroll
        for (int i = 0; i < BATCH; i++)
#pragma unroll
            for (int q = 0; q < QUADS; q++) rows[i][q] = from[(i * QUADS + q) * THREADS];
        add_rows(rows, first);
    };

    const float unit = WEIGHTED ? 1.0f : reciprocal((float)n);
    auto wanted = [&](int j) {
        const i64 row = (first_problem + block_here() / BLOCKS) * class_stride;
        int classes = m;
        forget(classes);
        return class_marginal ? __ldg(class_marginal + row + j) : reciprocal((float)classes);
    };
    // A share of the classes for each block. Registers are short: computed at each use.
    auto own_classes = [&](int& first, int& end) {
        int classes = m;
        forget(classes);
        const int share = (classes + BLOCKS - 1) / BLOCKS;
        first = block * share;
        end = min(m, first + share);
    };
#if CLUSTER > 1
    wait_for_mailboxes();
#endif
    bool stale = true;
    for (int step = 0; step < num_steps; step++) {
        if (stale) build();
#pragma unroll
        for (int k = 0; k < TC; k++) sum[k] = 0.0f;
#pragma unroll
        for (int r = 0; r < KEPT; r += BATCH) add_rows(kept + r, r);
        int first_shared = 0;
        forget(first_shared);  // a loop of one turn would be merged with the rows above
#pragma unroll 1
        for (int r = first_shared; r < SHARED; r += BATCH)
            add_stored_rows(shared_rows + r * QUADS * THREADS + tid, KEPT + r);
        const Quad* from = my_stored;
#pragma unroll 1
        for (int r = 0; r < stored_rows; r += BATCH, from += BATCH * QUADS * THREADS)
            add_stored_rows(from, KEPT + SHARED + r);

        for (int t = 0; t < TEAMS; t++) {
            if (team == t) {
#pragma unroll
                for (int k = 0; k < TC; k++)
                    total[column(k)] = t == 0 ? sum[k] : total[column(k)] + sum[k];
            }
            __syncthreads();
        }
#if CLUSTER > 1
        const u32 parity = step & 1;
        const int here = block_here();
        const int rank = here % CLUSTER, cluster = here % BLOCKS / CLUSTER;
        if (tid == 0) expect_mail(sums_box, 4 * MP);
#pragma unroll 1
        for (int j = 4 * tid; j < MP; j += 4 * THREADS)
            send(*(const Four*)(total + j), inbox + rank * SHARE + j % SHARE, sums_box, j / SHARE);
        wait_for_mail(sums_box, parity);
        // [problem][2][CLUSTERS][m]
        float* const slot = sums + ((here / BLOCKS) * 2 + (i64)parity) * CLUSTERS * num_classes;
#pragma unroll 1
        for (int i = tid, j = rank * SHARE + tid; i < SHARE && j < m; i += THREADS, j += THREADS) {
            float mass = 0.0f;
#pragma unroll
            for (int c = 0; c < CLUSTER; c++) mass += inbox[c * SHARE + i];
            __stcg(slot + cluster * m + j, mass * unit);
        }
        u32* const counter = counters + (first_problem + here / BLOCKS) * CLUSTER + rank;
        wait_for_blocks(counter, (step + 1) * CLUSTERS);

#pragma unroll 1
        for (int i = tid, j = rank * SHARE + tid; i < SHARE; i += THREADS, j += THREADS) {
            float mass = 0.0f;
#pragma unroll
            for (int c = 0; c < CLUSTERS; c++) mass += j < m ? __ldcg(slot + c * m + j) : 0.0f;
            v[j] = j < m ? class_factor(wanted(j), mass) : 0.0f;
        }
        if (tid == 0) expect_mail(factors_box, 4 * MP);
        __syncthreads();
#pragma unroll 1
        for (int i = tid; i < MP / 4; i += THREADS) {
            float* const factors_at = v + rank * SHARE + i / CLUSTER * 4;
            send(*(const Four*)factors_at, factors_at, factors_box, i % CLUSTER);
        }
        wait_for_mail(factors_box, parity);
#else
        for (int j = tid; j < m; j += THREADS)
            __stcg(my_sums + (i64)block * m + j, total[j] * unit);
        wait_for_blocks(counter, (2 * step + 1) * BLOCKS);

        // Warp w adds up the blocks w, w + WARPS, ...
        int first_class, end_class;
        own_classes(first_class, end_class);
        for (int first = first_class; first < end_class; first += 32) {
            const int j = first + lane;
            float mass = 0.0f;
            for (int other = warp; j < end_class && other < BLOCKS; other += WARPS)
                mass += __ldcg(my_sums + (i64)other * m + j);
            total[warp * 32 + lane] = mass;
            __syncthreads();
            if (warp == 0 && j < end_class) {
                mass = 0.0f;
                for (int w = 0; w < WARPS; w++) mass += total[w * 32 + lane];
                __stcg(my_factors + j, class_factor(wanted(j), mass));
            }
            __syncthreads();
        }
        wait_for_blocks(counter, (2 * step + 2) * BLOCKS);
        for (int j = tid; j < m; j += THREADS) v[j] = __ldcg(my_factors + j);
#endif

        bool drifted = false;
#pragma unroll 1
        for (int j = tid; j < m; j += THREADS)
            drifted |= v[j] > LARGEST_DRIFT || (v[j] != 0.0f && v[j] * LARGEST_DRIFT < 1.0f);
        stale = __syncthreads_or(drifted);
        if (stale || step + 1 == num_steps) {
            for (int j = tid; j < m; j += THREADS) {
                h[j] += v[j] == 0.0f ? -INF : log2_fast(v[j]);
                v[j] = 1.0f;
            }
            __syncthreads();
        }
    }
    int first_class, end_class;
    own_classes(first_class, end_class);
    for (int j = first_class + tid; j < end_class; j += THREADS) __stcg(my_potential + j, h[j]);
}
