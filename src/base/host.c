#include "base/host.h"

#include <stdio.h>
#include <unistd.h>

uint64_t vkm_host_memory_available(void)
{
    unsigned long long kib = 0;
    char line[128];
    FILE *file = fopen("/proc/meminfo", "r");
    if (file) {
        while (!kib && fgets(line, sizeof line, file))
            sscanf(line, "MemAvailable: %llu kB", &kib);
        fclose(file);
    }
    if (kib)
        return (uint64_t)kib * 1024;
    long pages = -1, page = sysconf(_SC_PAGESIZE);
#ifdef _SC_AVPHYS_PAGES
    pages = sysconf(_SC_AVPHYS_PAGES);
#endif
    return pages > 0 && page > 0 ? (uint64_t)pages * (uint64_t)page : UINT64_MAX;
}

uint32_t vkm_host_processors(void)
{
    const long processors = sysconf(_SC_NPROCESSORS_ONLN);
    return processors > 1 ? (uint32_t)processors : 1;
}
