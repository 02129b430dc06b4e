/* Files that are not what they seem: their sizes, and those that they name, are no reason to allocate or to wait. */
#define _XOPEN_SOURCE 700
#include "base/json.h"
#include "gpu/pipeline_cache.h"
#include "gpu/tuning.h"
#include "nn/config.h"
#include "scratch.h"
#include "stack/file.h"
#include "stack/stack.h"
#include "train/data.h"
#include "train/hf.h"
#include "train/metrics.h"
#include "train/trainer_json.h"

#include <sys/resource.h>

TestSuite(hostile, .init = scratch_begin, .fini = scratch_end, .timeout = 60);

static const off_t hole = (off_t)100 << 30;

/* From here on this process gets no more than so much. A sanitizer has taken terabytes of addresses already. */
static void limit_memory(rlim_t bytes)
{
#if defined(__SANITIZE_ADDRESS__)
    (void)bytes;
#else
    unsigned long pages = 0;
    FILE *file = fopen("/proc/self/statm", "r");
    cr_assert(file && fscanf(file, "%lu", &pages) == 1);
    fclose(file);
    const rlim_t most = (rlim_t)pages * (rlim_t)sysconf(_SC_PAGESIZE) + bytes;
    cr_assert_eq(setrlimit(RLIMIT_AS, &(struct rlimit){most, most}), 0);
#endif
}

/* 100 GB of zeros, behind the text. */
static void put_hole(const char *name, const char *text)
{
    put(name, text);
    cr_assert_eq(truncate(at(name), hole), 0, "no room for a hole");
}

static enum vkmoe_status open_text(const char *path, struct vkmoe_data **data)
{
    return vkmoe_data_open(&(struct vkmoe_data_desc){.log = test_log, .train = &path, .train_count = 1}, data);
}

static const struct vkmoe_model_config model = {.layers = 1, .experts = 2};

static enum vkmoe_status resume(void)
{
    struct vkm_metrics *metrics;
    const enum vkmoe_status status = vkm_metrics_open(&test_log, scratch, &model, 10, false, &metrics);
    vkm_metrics_close(metrics);
    return status;
}

Test(hostile, holes)
{
    struct vkmoe_data *data;
    struct vkmoe_model_config config;
    struct vkmoe_train_config train;
    struct vkm_run_state state;
    struct vkm_safetensors *tensors;
    struct vkm_stack_file stack;
    struct vkmoe_context ctx = {.info = {.uuid = "00", .driver = "a driver"}};
    const uint8_t driver[VK_UUID_SIZE] = "a driver";
    uint64_t sum;
    size_t bytes;
    limit_memory(256 << 20);

    put_hole("hole", "It begins as text.\n");
    expect_failure(open_text(at("hole"), &data), VKMOE_ERROR_FORMAT, "offset 19");
    make_dir("texts");
    put("texts/a", "This one is text.");
    put_hole("texts/b", "And this begins so.");
    cr_assert_eq(mkfifo(at("texts/c"), 0666), 0);
    cr_assert(symlink(".", at("texts/d")) == 0 && symlink("e", at("texts/e")) == 0);
    assert_ok(open_text(at("texts"), &data));
    cr_expect(vkmoe_data_info(data).files == 1 && vkm_data_tokens(data, VKM_SPLIT_ALL) == 17);
    vkmoe_data_close(data);

    put_hole("config.json", "{");
    expect_failure(vkm_hf_config_read(&test_log, scratch, &config), VKMOE_ERROR_FORMAT, "at most");
    put_hole("trainer.json", "{");
    expect_failure(vkm_trainer_json_read(&test_log, scratch, &config, &train, &state), VKMOE_ERROR_FORMAT, "at most");
    put_hole("metrics.jsonl", "{\"step\":1}\n");
    expect_failure(resume(), VKMOE_ERROR_FORMAT, "16 MiB");
    put_hole("tensors", "\xff\xff\xef\x05"); /* a header of 99.6 MB */
    expect_failure(vkm_safetensors_open(&test_log, at("tensors"), &tensors), VKMOE_ERROR_FORMAT, "not valid JSON");
    expect_failure(vkm_stack_file_open(&test_log, at("tensors"), &stack), VKMOE_ERROR_FORMAT, "not valid JSON");
    put_hole("tuning-00.json", "{");
    cr_expect_eq(vkm_tuning_load(&ctx, scratch), VKMOE_OK);
    put_hole("pipelines", "vkmoePC1a driver");
    cr_expect_null(vkm_pipeline_data_read(at("pipelines"), driver, &bytes, &sum));
}

/* It says that a gigabyte follows. */
Test(hostile, pipelines)
{
    const uint8_t driver[VK_UUID_SIZE] = "a driver";
    const char text[] = "vkmoePC1a driver\0\0\0\0\0\0\0\0\0\0\0\x40\0\0\0\0SUM WORD";
    uint64_t sum;
    size_t bytes;
    limit_memory(256 << 20);
    put_bytes("pipelines", text, sizeof text);
    cr_expect_null(vkm_pipeline_data_read(at("pipelines"), driver, &bytes, &sum));
    cr_assert(remove(at("pipelines")) == 0 && mkfifo(at("pipelines"), 0666) == 0);
    cr_expect_null(vkm_pipeline_data_read(at("pipelines"), driver, &bytes, &sum));
    cr_assert(vkm_pipeline_data_write(at("good"), driver, (const uint8_t *)"some", 4));
    uint8_t *data = vkm_pipeline_data_read(at("good"), driver, &bytes, &sum);
    cr_assert(data && bytes == 4 && memcmp(data, "some", 4) == 0);
    free(data);
}

static void expect_text(const char *name, const char *wanted)
{
    char *text;
    size_t bytes;
    assert_ok(vkm_file_read(&test_log, at(name), 1 << 20, &text, &bytes));
    cr_expect_str_eq(text, wanted);
    free(text);
}

Test(hostile, metrics_of_a_resumed_run)
{
    enum { LONG = 300000 }; /* several times what is read at once */
    put("metrics.jsonl", "{\"step\":1}\n{\"step\":11}\n{\"step\":10,\"x\":[]}\nhalf\n\n{\"step\":-1}\n{\"step\":12}\n{\"step\":1");
    assert_ok(resume());
    expect_text("metrics.jsonl", "{\"step\":1}\n{\"step\":10,\"x\":[]}\n");
    assert_ok(resume());
    expect_text("metrics.jsonl", "{\"step\":1}\n{\"step\":10,\"x\":[]}\n");
    cr_expect(access(at("metrics.jsonl.tmp"), F_OK) != 0);
    put("metrics.jsonl", "");
    assert_ok(resume());
    expect_text("metrics.jsonl", "");

    char *text = malloc(2 * LONG), *at_end = text + LONG;
    cr_assert(text);
    memset(text, ' ', LONG);
    memcpy(text, "{\"step\":3", 9);
    strcpy(at_end, "}\n{\"step\":11}\n{\"step\":4}\n");
    put("metrics.jsonl", text);
    assert_ok(resume());
    strcpy(at_end, "}\n{\"step\":4}\n");
    expect_text("metrics.jsonl", text);
    free(text);

    cr_assert_eq(remove(at("metrics.jsonl")), 0);
    assert_ok(resume()); /* a log that was removed is no reason not to go on; a warning tells it */
    expect_text("metrics.jsonl", "");
    cr_assert_eq(remove(at("metrics.jsonl")), 0);
    cr_assert_eq(mkfifo(at("metrics.jsonl"), 0666), 0);
    expect_failure(resume(), VKMOE_ERROR_IO, "a pipe");
}

/* The tensors are those of `held`. */
static void put_stack(const char *name, const struct vkmoe_stack_config *config, const struct vkmoe_stack_config *held, float scale)
{
    const struct vkm_stack_state state = {.loss_scale = scale, .lr = 1e-3f};
    const struct vkmoe_model_config layers = vkm_stack_model(held);
    const struct vkm_ends ends = {held->d_in, held->d_out};
    static const float zeros[1024];
    struct vkm_safetensors_writer *writer;
    struct vkm_params params;
    assert_ok(vkm_params_create(&test_log, &layers, &ends, &params));
    assert_ok(vkm_stack_file_create(&test_log, at(name), config, &state, &params, &writer));
    for (int t = 0; t < (config->no_training ? 1 : 3); t++)
        for (uint32_t i = 0; i < params.count; i++)
            assert_ok(vkm_safetensors_append(writer, zeros, params.list[i].count));
    assert_ok(vkm_safetensors_commit(writer));
    vkm_safetensors_destroy(writer);
    vkm_params_destroy(&params);
}

Test(hostile, stacks)
{
    const struct vkmoe_stack_config small = {
        .d_in = 3, .d_out = 2, .d_model = 4, .layers = 1, .experts = 2, .top_k = 1, .d_expert = 4, .norm_eps = 1e-6f, .batch = 4,
        .rows = 4, .seed = 3, .lr = 1e-3f, .beta1 = 0.9f, .beta2 = 0.95f, .eps = 1e-8f};
    struct vkmoe_stack_config config = small;
    struct vkm_stack_file file;
    put_stack("stack", &small, &small, 1);
    assert_ok(vkm_stack_file_open(&test_log, at("stack"), &file));
    cr_expect(file.config.d_model == 4 && file.state.loss_scale == 1);
    vkm_stack_file_close(&file);
    put_stack("stack", &small, &small, 0);
    expect_failure(vkm_stack_file_open(&test_log, at("stack"), &file), VKMOE_ERROR_FORMAT, "loss_scale");
    config.layers = VKM_MAX_LAYERS;
    put_stack("stack", &config, &small, 1);
    expect_failure(vkm_stack_file_open(&test_log, at("stack"), &file), VKMOE_ERROR_FORMAT, "\"layers.1.moe_norm\" is missing");
    config = small;
    config.experts = 1024;
    config.d_expert = 1 << 16;
    put_stack("stack", &config, &small, 1);
    expect_failure(vkm_stack_file_open(&test_log, at("stack"), &file), VKMOE_ERROR_FORMAT, "\"layers.0.router\" is F32 [2, 4]");
    config = small;
    config.no_training = true;
    put_stack("stack", &config, &small, 1);
    assert_ok(vkm_stack_file_open(&test_log, at("stack"), &file));
    vkm_stack_file_close(&file);
    cr_expect_null(file.tensors);
}
