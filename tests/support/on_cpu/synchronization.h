// The threads of a block for machine.h: places, barriers, shuffles and votes.
#pragma once

namespace machine {

Index thread_index() { return current->index; }
Index block_index() { return current->block->index; }
float* shared_floats() { return current->block->memory.data(); }
bool& shared_flag() { return current->block->flag; }

}  // namespace machine

void __syncthreads() { machine::wait(machine::current->block->barrier, true); }

int __syncthreads_or(int value) {
    machine::Block& block = *machine::current->block;
    const long turn = machine::current->votes++ & 1;
    block.any[turn] |= value;
    __syncthreads();
    const int result = block.any[turn];
    __syncthreads();
    block.any[turn] = 0;
    __syncthreads();
    return result;
}

float __shfl_sync(u32, float value, int source) { return machine::exchange(value, source); }
float __shfl_xor_sync(u32, float value, int mask) {
    return machine::exchange(value, (machine::current->index.x % 32) ^ mask);
}
bool __any_sync(u32, bool value) {
    machine::Warp& warp = machine::warp();
    warp.values[machine::current->index.x % 32] = value;
    machine::wait(warp.barrier);
    bool any = false;
    for (float one : warp.values) any |= one != 0;
    machine::wait(warp.barrier);
    return any;
}

void team_barrier(u32 barrier, u32 threads) {
    machine::Barrier& team = machine::current->block->teams[barrier];
    team.size = threads;
    machine::wait(team, true);
}
void wait_a_moment() { machine::yield(); }

u32 cluster_rank() { return machine::current->rank % machine::cluster; }
