#include "CReloadAMQP.h"

#include <sys/eventfd.h>

int creload_wake_open(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void creload_wake_signal(int descriptor) { eventfd_write(descriptor, 1); }

void creload_wake_clear(int descriptor) {
    eventfd_t count;
    eventfd_read(descriptor, &count);
}
