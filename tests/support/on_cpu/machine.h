// A stand-in for a GPU: runs a kernel on a processor, one fiber a thread. Fibers are resumed in a
// random order and warps fall behind others by several barriers, so that a missing barrier changes
// results; with every fourth seed some fall behind by a whole exchange, or begin late. language.h
// declares what kernels call. Of that, synchronization.h has the threads of a block, mailboxes.h
// what blocks of a cluster send each other, global_memory.h what blocks store for others.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <array>
#include <cstdint>
#include <cstring>
#include <limits>
#include <memory>
#include <random>
#include <string>
#include <unordered_map>
#include <vector>

#include "language.h"

namespace machine {

// Number of phases of each mailbox of a block whose contents a thread sees.
typedef std::array<long, 8> Seen;

void join(Seen& all, const Seen& more) {
    for (std::size_t box = 0; box < all.size(); box++) all[box] = std::max(all[box], more[box]);
}

struct Barrier {
    int size, waiting = 0;
    long generation = 0;
    Seen arriving{}, released{};  // what the waiting threads see, and all of them afterwards
    long view_arriving = 0, view_released = 0;  // the same for global memory
};

struct Thread;
struct Block;

// A value that a thread has stored to global memory, until it gets there.
struct Stored {
    void* at;
    std::size_t size;
    unsigned char bytes[8];
    const Thread* owner;
    bool ordered = false;   // its owner has met the block at a barrier since
};

// The value of a place in global memory before its last change.
struct Change {
    unsigned char before[8];
    long version;
    const Block* by;
};

struct Mailbox {
    std::ptrdiff_t place;   // in the block's shared memory
    long phases = 0;        // that have ended
    long bytes = 0;         // arrived, less those expected
    bool expecting = false;
};

// A value that has arrived, for the threads that have waited for the phase of its mailbox.
struct Arrived {
    std::ptrdiff_t place;
    float value;            // what is not in memory now: the new value, or the old one
    std::size_t box;
    long phase;
    bool shown = false;
};

struct Warp {
    Barrier barrier{32};
    float values[32];
};

struct Block {
    Barrier barrier{0};
    std::vector<float> memory;
    std::vector<Mailbox> boxes;
    std::vector<Arrived> arrived;
    std::vector<Stored> stored;
    Seen shown{};
    int running = 0;
    std::vector<Warp> warps;
    std::vector<Barrier> teams{16, Barrier{0}};
    bool flag = false;
    int any[2] = {0, 0};
    long votes = 0;
    Index index;
};

struct Thread {
    ucontext_t beginning;
    jmp_buf place;
    bool begun = false;
    std::unique_ptr<char[]> stack;
    Index index;
    int rank;               // of its block among those that run together
    Block* block;
    long votes = 0;
    Seen seen{};
    long view = 0;          // changes of global memory up to this version are seen
    long observed = 0;      // what would be seen after a fence
    long released = 0;      // what others see that acquire the next atomic
    bool announced = false;
    bool done = false;
};

struct Letter {
    int rank;               // of the block it goes to
    std::ptrdiff_t place;
    Four values;
    std::size_t box;
    bool early;             // the values are there before the mailbox counts them
};

std::vector<Letter> letters;
std::mt19937 randomness;
std::string fault;      // why the run was stopped
long events;            // grows unless all threads wait in vain
std::vector<Block> blocks;
std::vector<std::unique_ptr<Thread>> threads;
Thread* current;
jmp_buf scheduler;
int cluster;            // blocks of a cluster
std::vector<Barrier> cluster_barriers;
std::unordered_map<const void*, Change> changes;
std::unordered_map<const void*, long> counters;  // versions that an acquire gives
long version;           // number of changes of global memory
const void *changed_from, *changed_to;
void (*body)(const void*);  // what every thread calls
const void* arguments;      // with this

// swapcontext would ask the kernel for the signal mask each time, which takes longer than the rest.
void yield() {
    if (_setjmp(current->place) == 0) _longjmp(scheduler, 1);
}

// Puts into memory what a thread with these waits behind it sees.
void show(Block& block, const Seen& seen) {
    if (block.shown == seen) return;
    block.shown = seen;
    auto turn = [&](Arrived& one, bool visible) {
        if ((seen[one.box] > one.phase) != visible || one.shown == visible) return;
        std::swap(block.memory[one.place], one.value);
        one.shown = visible;
    };
    for (std::size_t i = block.arrived.size(); i-- > 0;) turn(block.arrived[i], false);
    for (Arrived& one : block.arrived) turn(one, true);
}

[[noreturn]] void stop(const char* reason) {
    fault = reason;
    _longjmp(scheduler, 1);
}

void resume(Thread* thread) {
    current = thread;
    show(*thread->block, thread->seen);
    if (_setjmp(scheduler) != 0) return;
    if (thread->begun) _longjmp(thread->place, 1);
    thread->begun = true;
    setcontext(&thread->beginning);
}

void forget_what_all_see(Block& block);

Barrier& cluster_barrier() { return cluster_barriers[current->rank / cluster]; }

// Values that a block has stored reach global memory, those of one place in their order.
template <class Choose> void send_to_memory(Block& block, Choose chosen) {
    std::vector<Stored> later;
    for (const Stored& one : block.stored) {
        const bool waits = std::any_of(later.begin(), later.end(),
                                       [&](const Stored& other) { return other.at == one.at; });
        if (waits || !chosen(one)) {
            later.push_back(one);
            continue;
        }
        Change& change = changes[one.at];
        std::memcpy(change.before, one.at, one.size);
        change.version = ++version;
        change.by = &block;
        std::memcpy(one.at, one.bytes, one.size);
    }
    block.stored.swap(later);
}

// Barriers of a block order memory: what one thread has waited for, all see. Shuffles do not.
void wait(Barrier& barrier, bool orders_memory = false) {
    const long generation = barrier.generation;
    if (orders_memory) {
        join(barrier.arriving, current->seen);
        barrier.view_arriving = std::max(barrier.view_arriving, current->view);
        for (Stored& one : current->block->stored) one.ordered |= one.owner == current;
    }
    if (++barrier.waiting == barrier.size) {
        barrier.waiting = 0;
        barrier.generation++;
        barrier.released = barrier.arriving;
        barrier.view_released = barrier.view_arriving;
        events++;
    }
    while (barrier.generation == generation) yield();
    if (!orders_memory) return;
    current->view = std::max(current->view, barrier.view_released);
    join(current->seen, barrier.released);
    show(*current->block, current->seen);
    forget_what_all_see(*current->block);
}

void enter() {
    body(arguments);
    current->done = true;
    current->block->running--;
    events++;
    yield();
}

Warp& warp() { return current->block->warps[current->index.x / 32]; }

float exchange(float value, int source) {
    Warp& all = warp();
    all.values[current->index.x % 32] = value;
    wait(all.barrier);
    const float received = all.values[source];
    wait(all.barrier);
    return received;
}

void forget_what_all_see(Block& block) {
    if (block.arrived.empty()) return;
    Seen least = current->seen;
    for (auto& thread : threads)
        if (thread->block == &block)
            for (std::size_t box = 0; box < least.size(); box++)
                least[box] = std::min(least[box], thread->seen[box]);
    std::erase_if(block.arrived, [&](const Arrived& one) { return least[one.box] > one.phase; });
}

void end_phase_if_complete(Mailbox& box) {
    if (!box.expecting) return;
    if (box.bytes > 0) fault = "a mailbox got more bytes than it expected";
    if (box.bytes != 0) return;
    box.phases++;
    box.expecting = false;
    events++;
}

void write(Block& block, const Letter& letter) {
    for (int i = 0; i < 4; i++) block.memory[letter.place + i] = letter.values.at[i];
}

// Some letters arrive. Their values show to threads that wait for them, and early ones to all.
void deliver_some() {
    std::vector<Letter> later;
    for (const Letter& letter : letters) {
        if (randomness() % 2) {
            later.push_back(letter);
            continue;
        }
        Block& block = blocks[letter.rank];
        if (block.running == 0) fault = "values arrived at a block that has ended";
        Mailbox& box = block.boxes[letter.box];
        if (!letter.early)
            for (int i = 0; i < 4; i++)
                block.arrived.push_back(
                    {letter.place + i, letter.values.at[i], letter.box, box.phases});
        box.bytes += 16;
        end_phase_if_complete(box);
        events++;
    }
    letters.swap(later);
}

// Shared memory is followed by this many values that nobody may write.
constexpr int GUARD = 64;

void run_together(void (*thread_body)(const void*), const void* given, int first, int count,
                  int block_size, int shared_bytes, unsigned seed, int blocks_of_a_cluster) {
    if (!fault.empty()) return;
    body = thread_body;
    arguments = given;
    cluster = blocks_of_a_cluster;
    changes.clear();
    counters.clear();
    version = 0;
    changed_from = (const void*)UINTPTR_MAX;
    changed_to = nullptr;
    std::mt19937& random = randomness;
    random.seed(seed);
    letters.clear();
    blocks.clear();
    blocks.resize(count);
    threads.clear();
    cluster_barriers.assign(count / cluster, Barrier{cluster * block_size});
    for (int c = 0; c < count; c++) {
        Block& block = blocks[c];
        block.barrier.size = block_size;
        block.running = block_size;
        block.memory.assign(shared_bytes / 4 + GUARD, std::numeric_limits<float>::quiet_NaN());
        block.warps.resize(block_size / 32);
        block.index = {first + c};
        for (int t = 0; t < block_size; t++) {
            threads.push_back(std::make_unique<Thread>());
            Thread& thread = *threads.back();
            thread.stack = std::make_unique_for_overwrite<char[]>(1 << 17);
            thread.index = {t};
            thread.rank = c;
            thread.block = &block;
            getcontext(&thread.beginning);
            thread.beginning.uc_stack.ss_sp = thread.stack.get();
            thread.beginning.uc_stack.ss_size = 1 << 17;
            thread.beginning.uc_link = nullptr;
            makecontext(&thread.beginning, enter, 0);
        }
    }
    std::vector<Thread*> alive;
    for (auto& thread : threads) alive.push_back(thread.get());
    // Some warps sleep for a while, as if they waited for memory: the others run ahead of them.
    std::vector<bool> asleep(count * block_size / 32);
    std::vector<int> wakes(asleep.size());
    const bool long_sleeps = seed % 4 == 3;
    if (long_sleeps)  // and some blocks begin late
        for (int c = 0; c < count; c++)
            if (random() % 4 == 0)
                std::fill_n(wakes.begin() + c * block_size / 32, block_size / 32, 800);
    long last_events = events, last_turn = 0;
    for (int turn = 0; !alive.empty() && fault.empty(); turn++) {
        deliver_some();
        for (Block& block : blocks)
            send_to_memory(block, [&](const Stored&) { return random() % 16 == 0; });
        if (events != last_events) {
            last_events = events;
            last_turn = turn;
        }
        if (turn - last_turn > 4000) fault = "all threads wait in vain";
        if (turn % 8 == 0)
            for (std::size_t w = 0; w < asleep.size(); w++) {
                if (long_sleeps && turn > wakes[w] && random() % 64 == 0) wakes[w] = turn + 800;
                asleep[w] = turn < wakes[w] || random() % 2;
            }
        std::shuffle(alive.begin(), alive.end(), random);
        for (Thread* thread : alive) {
            if (asleep[(thread->rank * block_size + thread->index.x) / 32]) continue;
            resume(thread);
            if (!fault.empty()) return;
        }
        std::erase_if(alive, [](Thread* thread) { return thread->done; });
    }
    for (Block& block : blocks) send_to_memory(block, [](const Stored&) { return true; });
    if (!letters.empty()) fault = "values arrived at a block that has ended";
    for (const Block& block : blocks)
        for (int i = 0; i < GUARD; i++)
            if (block.memory[shared_bytes / 4 + i] == block.memory[shared_bytes / 4 + i])
                fault = "a block wrote beyond its shared memory";
}

}  // namespace machine

// Why the last runs were stopped, or an empty text; the next run may begin.
extern "C" const char* taken_fault() {
    static std::string taken;
    taken.clear();
    taken.swap(machine::fault);
    return taken.c_str();
}
