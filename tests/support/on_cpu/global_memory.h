// Global memory of a simulated GPU, with as much of the memory model as a missing fence needs.
//
// What a block stores by __stcg reaches memory late and in any order, at the latest when a thread
// releases it: its own stores, and those of threads that it met at a barrier of the block. A thread
// is sure to read the new value only after it has acquired a counter that was released after the
// store, or has met such a thread at a barrier; before, chance gives it the new value or the one
// before. A read-only load of memory that the launch itself stores to stops the run.
#pragma once

namespace machine {

template <class T> void copy_to(void* to, const T& value) { std::memcpy(to, &value, sizeof(T)); }

inline bool visible(const Stored& one) { return one.ordered || one.owner == current; }

// The newest value of `at` that the current thread's block has stored and not yet sent to memory.
inline const Stored* pending(const void* at) {
    const std::vector<Stored>& all = current->block->stored;
    for (std::size_t i = all.size(); i-- > 0;)
        if (all[i].at == at && visible(all[i])) return &all[i];
    return nullptr;
}

}  // namespace machine

template <class T> void __stcg(T* at, T value) {
    static_assert(sizeof(T) <= sizeof(machine::Stored::bytes));
    machine::Stored one{at, sizeof(T), {}, machine::current};
    machine::copy_to(one.bytes, value);
    machine::current->block->stored.push_back(one);
    machine::changed_from = std::min<const void*>(machine::changed_from, at);
    machine::changed_to = std::max<const void*>(machine::changed_to, at);
}

template <class T> T __ldcg(const T* at) {
    T value = *at;
    if (at < machine::changed_from || at > machine::changed_to) return value;
    if (const machine::Stored* own = machine::pending(at)) {
        std::memcpy(&value, own->bytes, sizeof(T));
        return value;
    }
    const auto found = machine::changes.find(at);
    if (found == machine::changes.end()) return value;
    const machine::Change& change = found->second;
    const bool sure = change.version <= machine::current->view ||
                      change.by == machine::current->block;
    if (!sure && machine::randomness() % 2) std::memcpy(&value, change.before, sizeof(T));
    return value;
}

template <class T> T __ldg(const T* at) {
    if (at >= machine::changed_from && at <= machine::changed_to &&
        (machine::pending(at) || machine::changes.count(at)))
        machine::stop("a read-only load of memory that the launch stores to");
    return *at;
}

// A fence releases and acquires: together with an atomic before or after it.
inline void __threadfence() {
    machine::Thread& thread = *machine::current;
    machine::send_to_memory(*thread.block, [](const machine::Stored& one) {
        return machine::visible(one);
    });
    thread.released = machine::version;
    thread.view = std::max(thread.view, thread.observed);
}

// What every atomic does to the versions; alone it neither releases nor acquires.
inline u32 changed_atomically(u32* at, u32 value) {
    machine::events++;
    long& carried = machine::counters[at];
    machine::Thread& thread = *machine::current;
    thread.observed = std::max(thread.observed, carried);
    carried = std::max(carried, thread.released);
    const u32 old = *at;
    *at = value;
    return old;
}
inline u32 atomicInc(u32* at, u32 largest) {
    return changed_atomically(at, *at >= largest ? 0 : *at + 1);
}
inline u32 atomicAdd(u32* at, u32 more) { return changed_atomically(at, *at + more); }
inline void add_release(u32* at) {
    machine::Thread& thread = *machine::current;
    const long view = thread.view;
    __threadfence();
    thread.view = view;  // it releases only
    atomicAdd(at, 1);
}
inline u32 load_acquire(const u32* at) {
    machine::current->view = std::max(machine::current->view, machine::counters[at]);
    return *at;
}
