/* Makes the nth allocation or Vulkan call of the library fail. The linker sends its allocations here (--wrap), a host that adopts
 * with fault_instance_proc its calls. */
#ifndef VKMOE_TESTS_FAULT_FIXTURE_H
#define VKMOE_TESTS_FAULT_FIXTURE_H

#include <stdatomic.h>
#include <stdbool.h>

#include "gpu/vk.h"

extern struct fault {
    atomic_long left;           /* opportunities before the one that fails; below 0: nothing fails */
    const char *what;           /* failed */
    const char *only;           /* nothing else fails; NULL: anything does */
    PFN_vkGetInstanceProcAddr get_instance_proc_addr; /* the host's */
    PFN_vkGetDeviceProcAddr get_device_proc_addr;
    const char *lost_in;        /* the call that finds the device lost, when `left` is reached */
    bool lost;                  /* since then */
} fault;

/* Counts an opportunity; true: this one fails. */
bool fault_due(const char *what);

VKAPI_ATTR PFN_vkVoidFunction VKAPI_CALL fault_instance_proc(VkInstance instance, const char *name);

#endif
