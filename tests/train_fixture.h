/* A small model, a text of few words, and training it: for tests of the trainer. */
#ifndef TRAIN_FIXTURE_H
#define TRAIN_FIXTURE_H

#include "gpu_fixture.h"
#include "scratch_dir.h"

static const struct vkmoe_model_config model = {
    .layers = 2, .d_model = 16, .heads = 2, .experts = 4, .top_k = 2, .d_expert = 12, .seq = 16, .vocab = 264,
    .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = true};
static const struct vkmoe_train_config train = {
    .seed = 7, .steps = 20, .batch = 3, .accum = 2, .warmup = 4, .lr = 3e-3f, .weight_decay = 0.1f, .clip = 1, .z_loss = 1e-4f,
    .log_every = 5};

/* Sentences of a small grammar: a model learns some of it within a few steps. */
static inline struct vkmoe_data *text(void)
{
    static const char *const words[] = {"the cat ", "a dog ", "sees ", "hears ", "the bird. ", "a fish. "};
    struct vkmoe_data *data;
    FILE *file = fopen(at("text"), "w");
    cr_assert(file);
    for (unsigned i = 0; i < 3000; i++)
        fprintf(file, "%s%s%s", words[i * 7 % 5 % 2], words[2 + i * 3 % 7 % 2], words[4 + i * 5 % 11 % 2]);
    fclose(file);
    const char *path = at("text");
    cr_assert_eq(vkmoe_data_open(&(struct vkmoe_data_desc){.log = test_log, .train = &path, .train_count = 1}, &data), VKMOE_OK,
                 "%s", seen.last);
    return data;
}

static inline struct vkmoe_trainer *trainer(struct vkmoe_context *ctx, const struct vkmoe_trainer_desc *desc)
{
    struct vkmoe_trainer *out;
    cr_assert_eq(vkmoe_trainer_create(ctx, desc, &out), VKMOE_OK, "%s", seen.last);
    return out;
}

static inline struct vkmoe_step_report steps(struct vkmoe_trainer *t, unsigned count)
{
    struct vkmoe_step_report report = {0};
    for (unsigned i = 0; i < count; i++)
        cr_assert_eq(vkmoe_trainer_step(t, &report), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkmoe_trainer_finish(t, &report), VKMOE_OK, "%s", seen.last);
    return report;
}

static inline bool same_file(const char *a, const char *b)
{
    char *x, *y;
    size_t x_bytes, y_bytes;
    cr_assert_eq(vkm_file_read(&test_log, a, 1 << 26, &x, &x_bytes), VKMOE_OK, "%s", seen.last);
    cr_assert_eq(vkm_file_read(&test_log, b, 1 << 26, &y, &y_bytes), VKMOE_OK, "%s", seen.last);
    bool same = x_bytes == y_bytes && memcmp(x, y, x_bytes) == 0;
    free(x);
    free(y);
    return same;
}

#endif
