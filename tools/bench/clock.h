/* The clock that a device runs at, from its driver's side of the operating system: Vulkan does not tell. */
#ifndef VKMOE_BENCH_CLOCK_H
#define VKMOE_BENCH_CLOCK_H

#include "gpu/context.h"

struct bench_clock {
    char files[256]; /* a pattern of glob(7); "": none is known */
    double mhz;      /* that a number in them stands for */
    void *nvml;      /* NVIDIA's library, or NULL; with it: */
    void *device;
    int (*read)(void *device, int which, unsigned *mhz);
    int (*end)(void);
};

/* Finds out where the clock of a context's device can be read, if at all. */
void bench_clock_open(const struct vkmoe_context *ctx, struct bench_clock *clock);
/* Likewise of the GPU at a PCI address ("0000:03:00.0"), of a CPU device with NULL; sys is "/sys". */
void bench_clock_find(const char *sys, const char *pci, struct bench_clock *clock);
/* At this moment: of several files the highest. NAN: not known. */
double bench_clock_mhz(const struct bench_clock *clock);
void bench_clock_close(struct bench_clock *clock);

#endif
