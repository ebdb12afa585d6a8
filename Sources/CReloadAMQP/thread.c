#include "CReloadAMQP.h"

#include <sys/eventfd.h>

int creload_amqp_wake_open(void) { return eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK); }

void creload_amqp_wake_signal(int descriptor) { eventfd_write(descriptor, 1); }

void creload_amqp_wake_clear(int descriptor) {
    eventfd_t count;
    eventfd_read(descriptor, &count);
}
