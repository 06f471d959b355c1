// Mailboxes of a simulated cluster, with as much of the memory model as a missing wait needs.
//
// A value that a block sends may change memory at once, before its mailbox counts it: so that one
// that comes too early destroys what a slow thread still reads. Or it changes memory only for
// threads that have waited for the phase that counts it, and for those that met such a thread at a
// barrier of their block: all others read the old value, however late. Chance decides. A run stops
// with the reason if a mailbox is used before it is open, if it gets more than it expects, if a
// block has ended before all that is sent to it has arrived, and if all threads wait in vain.
#pragma once

namespace machine {

std::ptrdiff_t place_of(const void* pointer) {
    return (const float*)pointer - current->block->memory.data();
}

std::size_t index_of(const Block& block, std::ptrdiff_t place) {
    for (std::size_t i = 0; i < block.boxes.size(); i++)
        if (block.boxes[i].place == place) return i;
    stop("a mailbox is used before it is open");
}

}  // namespace machine

void open_mailbox(u64* box) {
    machine::current->block->boxes.push_back({machine::place_of(box)});
}

void announce_mailboxes() {
    machine::Barrier& barrier = machine::cluster_barrier();
    machine::current->announced = true;
    machine::events++;
    if (++barrier.waiting == barrier.size) barrier.generation++;
}

void wait_for_mailboxes() {
    if (!machine::current->announced) machine::stop("a thread waits that has not arrived");
    while (machine::cluster_barrier().generation == 0) machine::yield();
}

void expect_mail(u64* box, u32 bytes) {
    machine::Block& block = *machine::current->block;
    machine::Mailbox& mailbox = block.boxes[machine::index_of(block, machine::place_of(box))];
    if (mailbox.expecting) machine::stop("two expectations in one phase");
    mailbox.expecting = true;
    mailbox.bytes -= bytes;
    machine::end_phase_if_complete(mailbox);
}

void send(Four values, float* place, u64* box, u32 rank) {
    const int to = machine::current->rank / machine::cluster * machine::cluster + (int)rank;
    machine::Block& block = machine::blocks[to];
    const std::size_t index = machine::index_of(block, machine::place_of(box));
    if (block.running == 0) machine::stop("values arrived at a block that has ended");
    machine::letters.push_back({to, machine::place_of(place), values, index,
                                machine::randomness() % 2 == 0});
    if (machine::letters.back().early) machine::write(block, machine::letters.back());
}

void wait_for_mail(u64* box, u32 parity) {
    machine::Thread& thread = *machine::current;
    machine::Block& block = *thread.block;
    const std::size_t index = machine::index_of(block, machine::place_of(box));
    while ((block.boxes[index].phases & 1) == parity) machine::yield();
    thread.seen[index] = std::max(thread.seen[index], block.boxes[index].phases);
    machine::show(block, thread.seen);
    machine::events++;
}
