// What the tests call to run one launch of streaming.cu; the arguments are those of the kernel.
extern "C" void run(const void* scores, void* out, const float* class_marginal,
                    const float* sample_marginal, float* potentials, float* chunk_sums,
                    float* group_sums, u32* counters, i64 problem_stride, i64 row_stride,
                    i64 num_samples, i64 num_classes, i64 chunks, i64 chunks_per_group,
                    i64 class_stride, i64 sample_stride, double scale, double power, int problems,
                    int block_size, int shared_bytes, unsigned seed) {
    const auto kernel = [=] {
        sinkhorn_streaming(scores, out, class_marginal, sample_marginal, potentials, chunk_sums,
                           group_sums, counters, problem_stride, row_stride, num_samples,
                           num_classes, chunks, chunks_per_group, class_stride, sample_stride,
                           scale, power);
    };
    for (int p = 0; p < problems; p++)
        machine::run_together(kernel, p * chunks, chunks, block_size, shared_bytes, seed + p, 1);
}
