// What the tests call to run resident.cu; the arguments are those of the kernel.
extern "C" void run(const void* scores, void* out, const float* class_marginal,
                    const float* sample_marginal, i64 problem_stride, i64 row_stride,
                    i64 num_samples, i64 num_classes, i64 num_iters, i64 class_stride,
                    i64 sample_stride, double scale, int problems, int block_size,
                    int shared_bytes, unsigned seed) {
    const auto kernel = [=] {
        sinkhorn_resident(scores, out, class_marginal, sample_marginal, problem_stride, row_stride,
                          num_samples, num_classes, num_iters, class_stride, sample_stride, scale);
    };
    for (int p = 0; p < problems; p++)
        machine::run_together(kernel, p * CLUSTER, CLUSTER, block_size, shared_bytes, seed + p,
                              CLUSTER);
}
