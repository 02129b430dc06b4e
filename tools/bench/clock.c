#include "bench/clock.h"

#include <dlfcn.h>
#include <glob.h>
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "gpu/features.h"

/* Where Linux's drivers tell it, under a GPU's directory (the kernel's documentation of amdgpu, xe and i915). */
static const struct place {
    const char *files;
    double mhz;
} gpu_places[] = {
    {"hwmon/hwmon*/freq1_input", 1e-6},       /* amdgpu: of its shaders, in Hz */
    {"tile0/gt0/freq0/act_freq", 1},          /* xe */
    {"drm/card*/gt/gt0/rps_act_freq_mhz", 1}, /* i915 */
    {"drm/card*/gt_act_freq_mhz", 1},         /* i915 of older kernels */
};
static const struct place cpu_place = {"devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq", 1e-3};

/* The highest number in the files; 0: there is none. */
static double highest(const char *files)
{
    glob_t found = {0};
    double most = 0;
    if (glob(files, 0, NULL, &found) == 0)
        for (size_t i = 0; i < found.gl_pathc; i++) {
            FILE *file = fopen(found.gl_pathv[i], "r");
            double value;
            if (file && fscanf(file, "%lf", &value) == 1 && value > most)
                most = value;
            if (file)
                fclose(file);
        }
    globfree(&found);
    return most;
}

static bool exists(const char *files)
{
    glob_t found = {0};
    const bool some = glob(files, 0, NULL, &found) == 0;
    globfree(&found);
    return some;
}

/* NVIDIA's own driver has no file for it; its library is beside it wherever it is installed. */
static void open_nvml(const char *pci, struct bench_clock *clock)
{
    int (*begin)(void), (*find)(const char *pci, void **device);
    const struct {
        const char *name;
        void *function;
    } wanted[] = {{"nvmlInit_v2", &begin}, {"nvmlDeviceGetHandleByPciBusId_v2", &find},
                  {"nvmlDeviceGetClockInfo", &clock->read}, {"nvmlShutdown", &clock->end}};
    clock->nvml = dlopen("libnvidia-ml.so.1", RTLD_NOW | RTLD_LOCAL);
    bool whole = clock->nvml;
    for (size_t i = 0; whole && i < sizeof wanted / sizeof *wanted; i++) {
        void *symbol = dlsym(clock->nvml, wanted[i].name);
        memcpy(wanted[i].function, &symbol, sizeof symbol);
        whole = symbol;
    }
    whole = whole && begin() == 0;
    if (whole && find(pci, &clock->device) == 0)
        return;
    if (whole)
        clock->end();
    if (clock->nvml)
        dlclose(clock->nvml);
    clock->nvml = NULL;
}

void bench_clock_find(const char *sys, const char *pci, struct bench_clock *clock)
{
    const struct place *places = pci ? gpu_places : &cpu_place;
    const size_t count = pci ? sizeof gpu_places / sizeof *gpu_places : 1;
    *clock = (struct bench_clock){0};
    for (size_t i = 0; i < count; i++) {
        snprintf(clock->files, sizeof clock->files, "%s/%s%s%s%s", sys, pci ? "bus/pci/devices/" : "", pci ? pci : "",
                 pci ? "/" : "", places[i].files);
        clock->mhz = places[i].mhz;
        if (exists(clock->files))
            return;
    }
    clock->files[0] = '\0';
    if (pci)
        open_nvml(pci, clock);
}

void bench_clock_open(const struct vkmoe_context *ctx, struct bench_clock *clock)
{
    VkPhysicalDevicePCIBusInfoPropertiesEXT at = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PCI_BUS_INFO_PROPERTIES_EXT};
    VkPhysicalDeviceProperties2 props = {.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2, .pNext = &at};
    struct vkm_features features;
    char pci[32];
    if (ctx->caps.cpu) {
        bench_clock_find("/sys", NULL, clock);
        return;
    }
    *clock = (struct bench_clock){0};
    if (!vkm_features_query(&features, &ctx->vk, ctx->physical) ||
        !vkm_features_extension(&features, VK_EXT_PCI_BUS_INFO_EXTENSION_NAME))
        return;
    ctx->vk.GetPhysicalDeviceProperties2(ctx->physical, &props);
    snprintf(pci, sizeof pci, "%04x:%02x:%02x.%x", at.pciDomain, at.pciBus, at.pciDevice, at.pciFunction);
    bench_clock_find("/sys", pci, clock);
}

double bench_clock_mhz(const struct bench_clock *clock)
{
    enum { NVML_CLOCK_SM = 1 };
    unsigned sm = 0;
    double mhz = 0;
    if (clock->nvml)
        mhz = clock->read(clock->device, NVML_CLOCK_SM, &sm) == 0 ? sm : 0;
    else if (clock->files[0])
        mhz = clock->mhz * highest(clock->files);
    return mhz > 0 ? mhz : NAN;
}

void bench_clock_close(struct bench_clock *clock)
{
    if (clock->nvml) {
        clock->end();
        dlclose(clock->nvml);
    }
    *clock = (struct bench_clock){0};
}
