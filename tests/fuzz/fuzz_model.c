/* A model's directory. What is read is written, read and written again, and both files are the same. */
#include <string.h>

#include "fuzz.h"
#include "nn/config.h"
#include "train/checkpoint.h"
#include "train/hf.h"

enum { MOST_TENSORS = 1 << 14 };

/* The files of an input, in their order. */
static const char *const names[] = {"model/config.json", "model/trainer.json", "model/checksums.xxh128"};

static void expect_same_file(const char *one, const char *other)
{
    char *a = fuzz_get(one), *b = fuzz_get(other);
    fuzz_require(strcmp(a, b) == 0);
    free(a);
    free(b);
}

static void check_config(void)
{
    struct vkmoe_model_config config, again;
    struct vkm_hf_tensor *tensors;
    size_t count;
    if (!fuzz_fine(vkm_hf_config_read(fuzz_log(), fuzz_path("model"), &config)))
        return;
    fuzz_require(vkm_config_check(NULL, &config, NULL) == VKMOE_OK);
    fuzz_require(vkm_hf_config_write(fuzz_log(), fuzz_path("once"), &config) == VKMOE_OK);
    fuzz_require(vkm_hf_config_read(fuzz_log(), fuzz_path("once"), &again) == VKMOE_OK);
    fuzz_require(vkm_hf_config_write(fuzz_log(), fuzz_path("twice"), &again) == VKMOE_OK);
    expect_same_file("once/config.json", "twice/config.json");
    if (config.layers * (16 + 3 * config.experts) > MOST_TENSORS)
        return;
    fuzz_require(vkm_hf_tensors(fuzz_log(), &config, &tensors, &count) == VKMOE_OK && count <= MOST_TENSORS);
    free(tensors);
}

static void check_trainer(void)
{
    struct vkmoe_model_config model;
    struct vkmoe_train_config train;
    struct vkm_run_state state;
    if (!fuzz_fine(vkm_trainer_json_read(fuzz_log(), fuzz_path("model"), &model, &train, &state)))
        return;
    fuzz_require(vkm_config_check(NULL, &model, &train) == VKMOE_OK);
    fuzz_require(vkm_trainer_json_write(fuzz_log(), fuzz_path("once"), &model, &train, &state) == VKMOE_OK);
    fuzz_require(vkm_trainer_json_read(fuzz_log(), fuzz_path("once"), &model, &train, &state) == VKMOE_OK);
    fuzz_require(vkm_trainer_json_write(fuzz_log(), fuzz_path("twice"), &model, &train, &state) == VKMOE_OK);
    expect_same_file("once/trainer.json", "twice/trainer.json");
}

static void check_directory(void)
{
    char *json;
    fuzz_fine(vkm_checkpoint_verify(fuzz_log(), fuzz_path("model"), VKM_VERIFY_CONFIG));
    if (fuzz_fine(vkmoe_inspect(*fuzz_log(), fuzz_path("model"), &json)))
        fuzz_require(json[0] == '{');
    vkmoe_text_free(json);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
    static bool begun;
    struct fuzz_part parts[FUZZ_PARTS];
    fuzz_parts(data, bytes, parts);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        fuzz_put(names[i], &parts[i]);
    if (!begun) {
        fuzz_put("once/x", &parts[0]);
        fuzz_put("twice/x", &parts[0]);
        begun = true;
    }
    check_config();
    check_trainer();
    check_directory();
    return 0;
}
