// The simulated GPU, compiled once and linked to every kernel.
#include "machine.h"

#include "global_memory.h"
#include "mailboxes.h"
#include "synchronization.h"
