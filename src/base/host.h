/* What the host has to give. */
#ifndef VKM_BASE_HOST_H
#define VKM_BASE_HOST_H

#include <stdint.h>

/* Bytes of memory that a process can still get. MemAvailable counts the page cache as free, which sysconf does not. */
uint64_t vkm_host_memory_available(void);

/* Processors that are online; at least 1. */
uint32_t vkm_host_processors(void);

#endif
