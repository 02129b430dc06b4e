/* Where bench finds a device's clock: trees of files as Linux's drivers have them, and a library as NVIDIA's (fake_nvml.c). */
#include <math.h>

#include "bench/clock.h"
#include "scratch_dir.h"

/* What a file of the scratch directory, which stands for /sys, says. */
static void say(const char *file, const char *text)
{
    char dir[256];
    snprintf(dir, sizeof dir, "%s", at(file));
    *strrchr(dir, '/') = '\0';
    cr_assert_eq(vkm_dir_create(&(struct vkmoe_log){0}, dir), VKMOE_OK);
    put(file, text);
}

static double found(const char *pci)
{
    struct bench_clock clock;
    bench_clock_find(scratch, pci, &clock);
    const double mhz = bench_clock_mhz(&clock);
    bench_clock_close(&clock);
    return mhz;
}

Test(clock, of_each_driver_and_of_none, .init = scratch_begin, .fini = scratch_end)
{
    static const struct {
        const char *pci, *file, *text;
        double mhz;
    } cases[] = {
        {"0000:03:00.0", "bus/pci/devices/0000:03:00.0/hwmon/hwmon4/freq1_input", "2482000000\n", 2482},
        {"0000:04:00.0", "bus/pci/devices/0000:04:00.0/tile0/gt0/freq0/act_freq", "2450\n", 2450},
        {"0000:05:00.0", "bus/pci/devices/0000:05:00.0/drm/card1/gt/gt0/rps_act_freq_mhz", "1300\n", 1300},
        {"0000:06:00.0", "bus/pci/devices/0000:06:00.0/drm/card2/gt_act_freq_mhz", "1150\n", 1150},
        {NULL, "devices/system/cpu/cpu11/cpufreq/scaling_cur_freq", "3700000\n", 3700},
    };
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        cr_expect(isnan(found(cases[i].pci)), "%s: nothing there yet", cases[i].file);
        say(cases[i].file, cases[i].text);
        cr_expect_float_eq(found(cases[i].pci), cases[i].mhz, 1e-6, "%s", cases[i].file);
    }
    say("devices/system/cpu/cpu3/cpufreq/scaling_cur_freq", "4100000\n");
    cr_expect_float_eq(found(NULL), 4100, 1e-6, "the highest of the processors");
    say(cases[0].file, "");
    cr_expect(isnan(found(cases[0].pci)), "a file that says nothing");
    cr_expect(isnan(found("0000:99:00.0")), "no such device");
    cr_expect_float_eq(found("0000:07:00.0"), 1980, 1e-6, "by NVIDIA's library");
}
