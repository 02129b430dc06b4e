/* A stack's file: one that opens holds every value that its configuration's parameters have. */
#include "fuzz.h"
#include "nn/config.h"
#include "stack/file.h"
#include "stack/stack.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    const struct fuzz_part whole = {data, bytes};
    struct vkm_stack_file file;
    struct vkm_params params;
    fuzz_put("file", &whole);
    if (!fuzz_fine(vkm_stack_file_open(fuzz_log(), fuzz_path("file"), &file))) {
        fuzz_require(!file.tensors);
        return 0;
    }
    fuzz_require(vkm_config_check_stack(NULL, &file.config) == VKMOE_OK);
    const struct vkmoe_model_config model = vkm_stack_model(&file.config);
    const struct vkm_ends ends = {file.config.d_in, file.config.d_out};
    fuzz_require(vkm_params_create(NULL, &model, &ends, &params) == VKMOE_OK);
    fuzz_require(vkm_params_total(&params) * sizeof(float) * (file.config.no_training ? 1 : 3) < bytes);
    vkm_params_destroy(&params);
    vkm_stack_file_close(&file);
    return 0;
}
