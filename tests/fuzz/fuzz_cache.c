/* What is kept of a device between runs: the tuning and the compiled pipelines. An input is taken for either. */
#include <string.h>

#include "fuzz.h"
#include "gpu/pipeline_cache.h"
#include "gpu/tuning.h"

static void check_tuning(const struct fuzz_part *whole)
{
    struct vkmoe_context ctx = {.info = {.uuid = "00", .driver = "driver"}}, again;
    char *path;
    ctx.log = *fuzz_log();
    fuzz_put("cache/tuning-00.json", whole);
    fuzz_require(fuzz_fine(vkm_tuning_load(&ctx, fuzz_path("cache"))));
    again = ctx;
    fuzz_require(fuzz_fine(vkm_tuning_save(&ctx, fuzz_path("cache"), &path)));
    free(path);
    fuzz_require(fuzz_fine(vkm_tuning_load(&again, fuzz_path("cache"))));
    fuzz_require(memcmp(&again.tuning, &ctx.tuning, sizeof ctx.tuning) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static const uint8_t driver[VK_UUID_SIZE] = "driver";
    const struct fuzz_part whole = {data, bytes};
    uint64_t sum;
    size_t size = 0;
    check_tuning(&whole);
    fuzz_put("pipelines", &whole);
    uint8_t *pipelines = vkm_pipeline_data_read(fuzz_path("pipelines"), driver, &size, &sum);
    fuzz_require(!pipelines || (size > 0 && size < bytes && memcmp(pipelines, data + bytes - size, size) == 0));
    free(pipelines);
    return 0;
}
