/* Trains a small Mixture-of-Experts model on a text through vkmoe's public header, saves it and samples from it.
 *
 *     cc train_text.c $(pkg-config --cflags --libs vkmoe) -o train_text && ./train_text my.txt my-model 200 */
#include <stdio.h>
#include <stdlib.h>
#include <vkmoe/vkmoe.h>

static void on_log(void *user, enum vkmoe_log_level level, const char *line)
{
    (void)user;
    if (level <= VKMOE_LOG_WARNING)
        fprintf(stderr, "%s\n", line);
}

static bool on_text(void *user, const char *bytes, size_t count)
{
    (void)user;
    return fwrite(bytes, 1, count, stdout) == count;
}

static enum vkmoe_status train(struct vkmoe_context *ctx, const struct vkmoe_data *data, const char *dir, uint32_t steps)
{
    struct vkmoe_trainer_desc desc = {.data = data, .run_dir = dir};
    struct vkmoe_step_report report;
    struct vkmoe_trainer *trainer;
    enum vkmoe_status status;
    struct vkmoe_validation validation;
    vkmoe_preset("demo", &desc.model, &desc.train);
    desc.train.steps = steps;
    if ((status = vkmoe_trainer_create(ctx, &desc, &trainer)))
        return status;
    while (!status && vkmoe_trainer_steps(trainer) < desc.train.steps) {
        status = vkmoe_trainer_step(trainer, &report);
        if (!status && report.step && report.step % 20 == 0)
            printf("step %u  loss %.3f  %.0f tokens/s\n", (unsigned)report.step, report.loss, report.tokens_per_second);
    }
    if (!status)
        status = vkmoe_trainer_evaluate(trainer, 0, &validation);
    if (!status)
        printf("validation loss %.3f nats per byte\n", validation.loss);
    if (!status)
        status = vkmoe_trainer_save(trainer);
    vkmoe_trainer_destroy(trainer);
    return status;
}

static enum vkmoe_status sample(struct vkmoe_context *ctx, const char *dir)
{
    const struct vkmoe_generate_desc desc = {.prompt = "The ", .max_tokens = 200, .temperature = 0.8f, .top_p = 0.95f};
    struct vkmoe_model *model;
    enum vkmoe_status status = vkmoe_model_load(ctx, dir, &model);
    if (status)
        return status;
    fputs(desc.prompt, stdout);
    status = vkmoe_model_generate(model, &desc, on_text, NULL);
    putchar('\n');
    vkmoe_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    const struct vkmoe_log log = {.fn = on_log};
    struct vkmoe_context *ctx = NULL;
    struct vkmoe_data *data = NULL;
    if (argc != 4 || atoi(argv[3]) < 1) {
        fprintf(stderr, "usage: %s TEXT MODEL-DIRECTORY STEPS\n", argv[0]);
        return 2;
    }
    const char *text = argv[1];
    enum vkmoe_status status = vkmoe_context_create(&(struct vkmoe_context_desc){.log = log}, &ctx);
    if (!status)
        status = vkmoe_data_open(&(struct vkmoe_data_desc){.log = log, .train = &text, .train_count = 1}, &data);
    if (!status)
        status = train(ctx, data, argv[2], (uint32_t)atoi(argv[3]));
    if (!status)
        status = sample(ctx, argv[2]);
    vkmoe_data_close(data);
    vkmoe_context_destroy(ctx);
    return status ? 1 : 0;
}
