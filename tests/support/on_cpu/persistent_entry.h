// What the tests call to run persistent.cu; the arguments are those of the kernel.
extern "C" void run(const void* scores, const float* class_marginal, const float* sample_marginal,
                    float* potentials, void* stored, float* sums, float* factors,
                    u32* counters, i64 problem_stride, i64 row_stride,
                    i64 num_samples, i64 num_classes, i64 num_steps, i64 class_stride,
                    i64 sample_stride, i64 first_problem, double scale, int problems,
                    int block_size, int shared_bytes, unsigned seed) {
    const auto kernel = [=] {
        sinkhorn_persistent(scores, class_marginal, sample_marginal, potentials, (Quad*)stored,
                            sums, factors, counters, problem_stride, row_stride, num_samples,
                            num_classes, num_steps, class_stride, sample_stride,
                            first_problem, scale);
    };
    machine::run_together(kernel, 0, problems * BLOCKS, block_size, shared_bytes, seed, CLUSTER);
}
