// Global memory of a simulated GPU, with as much of the memory model as a missing fence needs.
//
// What a block stores by __stcg reaches memory late and in any order, at the latest when a thread
// releases it: its own stores, and those of threads that it met at a barrier of the block. A thread
// is sure to read the new value only after it has acquired a counter that was released after the
// store, or has met such a thread at a barrier; before, chance gives it the new value or the one
// before. A read-only load of memory that the launch itself stores to stops the run.
#pragma once

namespace machine {

bool visible(const Stored& one) { return one.ordered || one.owner == current; }

// The newest value of `at` that the current thread's block has stored and not yet sent to memory.
const Stored* pending(const void* at) {
    const std::vector<Stored>& all = current->block->stored;
    for (std::size_t i = all.size(); i-- > 0;)
        if (all[i].at == at && visible(all[i])) return &all[i];
    return nullptr;
}

bool may_have_changed(const void* at) { return at >= changed_from && at <= changed_to; }

void store(void* at, const void* value, std::size_t size) {
    Stored one{at, size, {}, current};
    std::memcpy(one.bytes, value, size);
    current->block->stored.push_back(one);
    changed_from = std::min<const void*>(changed_from, at);
    changed_to = std::max<const void*>(changed_to, at);
}

// Changes the value in memory to the one that the current thread reads.
void load(const void* at, void* value, std::size_t size) {
    if (!may_have_changed(at)) return;
    if (const Stored* own = pending(at)) {
        std::memcpy(value, own->bytes, size);
        return;
    }
    const auto found = changes.find(at);
    if (found == changes.end()) return;
    const Change& change = found->second;
    const bool sure = change.version <= current->view || change.by == current->block;
    if (!sure && randomness() % 2) std::memcpy(value, change.before, size);
}

void load_read_only(const void* at) {
    if (may_have_changed(at) && (pending(at) || changes.count(at)))
        stop("a read-only load of memory that the launch stores to");
}

}  // namespace machine

// A fence releases and acquires: together with an atomic before or after it.
void __threadfence() {
    machine::Thread& thread = *machine::current;
    machine::send_to_memory(*thread.block, [](const machine::Stored& one) {
        return machine::visible(one);
    });
    thread.released = machine::version;
    thread.view = std::max(thread.view, thread.observed);
}

// What every atomic does to the versions; alone it neither releases nor acquires.
u32 changed_atomically(u32* at, u32 value) {
    machine::events++;
    long& carried = machine::counters[at];
    machine::Thread& thread = *machine::current;
    thread.observed = std::max(thread.observed, carried);
    carried = std::max(carried, thread.released);
    const u32 old = *at;
    *at = value;
    return old;
}
u32 atomicInc(u32* at, u32 largest) {
    return changed_atomically(at, *at >= largest ? 0 : *at + 1);
}
u32 atomicAdd(u32* at, u32 more) { return changed_atomically(at, *at + more); }
void add_release(u32* at) {
    machine::Thread& thread = *machine::current;
    const long view = thread.view;
    __threadfence();
    thread.view = view;  // it releases only
    atomicAdd(at, 1);
}
u32 load_acquire(const u32* at) {
    machine::current->view = std::max(machine::current->view, machine::counters[at]);
    return *at;
}
