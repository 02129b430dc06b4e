/* Two threads, each with a context of its own, train at the same time, and get the bits that one gets alone. A program without
 * a test framework, so that it runs under ThreadSanitizer.
 *   threads TEXT */
#include <vkmoe/stack.h>

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { THREADS = 2, STEPS = 8, ROWS = 32, IN = 2, OUT = 1, LAYERS = 2, EXPERTS = 4 };

static const struct vkmoe_stack_config stack_config = {
    .d_in = IN, .d_out = OUT, .d_model = 16, .layers = LAYERS, .experts = EXPERTS, .top_k = 2, .d_expert = 12, .batch = ROWS,
    .seed = 3, .lr = 5e-3f};
static const struct vkmoe_model_config model = {
    .layers = 1, .d_model = 16, .heads = 2, .experts = EXPERTS, .top_k = 2, .d_expert = 12, .seq = 16, .vocab = 264,
    .rope_theta = 1e4f, .norm_eps = 1e-5f, .norm_topk = true};
static const struct vkmoe_train_config train = {
    .seed = 7, .steps = STEPS, .batch = 2, .accum = 2, .warmup = 2, .lr = 3e-3f, .weight_decay = 0.1f, .clip = 1};

/* What one thread does, and what comes of it. */
struct job {
    const char *text;
    float stack_loss[STEPS], loss[STEPS], out[ROWS * OUT];
    double validation;
    char said[512];                 /* the first error */
    bool good;
};

static void on_log(void *user, enum vkmoe_log_level level, const char *line)
{
    struct job *j = user;
    if (level == VKMOE_LOG_ERROR && !j->said[0])
        snprintf(j->said, sizeof j->said, "%s", line);
}

static enum vkmoe_status train_stack(struct vkmoe_context *ctx, struct job *j)
{
    struct vkmoe_stack *stack;
    struct vkmoe_stack_report report;
    float in[ROWS * IN], target[ROWS * OUT];
    for (int r = 0; r < ROWS; r++) {
        in[r * IN] = (float)(r % 8) / 4 - 1;
        in[r * IN + 1] = (float)(r / 8) / 2 - 1;
        target[r] = in[r * IN] * in[r * IN + 1];
    }
    enum vkmoe_status status = vkmoe_stack_create(ctx, &stack_config, &stack);
    for (int i = 0; i < STEPS && !status; i++)
        if (!(status = vkmoe_stack_step(stack, in, target, &report)))
            j->stack_loss[i] = report.loss;
    if (!status)
        status = vkmoe_stack_forward(stack, ROWS, in, j->out, NULL, NULL);
    vkmoe_stack_destroy(stack);
    return status;
}

static enum vkmoe_status train_model(struct vkmoe_context *ctx, struct job *j)
{
    struct vkmoe_data *data = NULL;
    struct vkmoe_trainer *trainer = NULL;
    struct vkmoe_step_report report;
    struct vkmoe_validation validation;
    const struct vkmoe_log log = {on_log, j};
    enum vkmoe_status status =
        vkmoe_data_open(&(struct vkmoe_data_desc){.log = log, .train = &j->text, .train_count = 1}, &data);
    if (!status)
        status = vkmoe_trainer_create(ctx, &(struct vkmoe_trainer_desc){.model = model, .train = train, .data = data}, &trainer);
    for (int i = 0; i < STEPS && !status; i++)
        if (!(status = vkmoe_trainer_step(trainer, &report)))
            j->loss[i] = report.loss;
    if (!status && !(status = vkmoe_trainer_evaluate(trainer, 64, &validation)))
        j->validation = validation.loss;
    vkmoe_trainer_destroy(trainer);
    vkmoe_data_close(data);
    return status;
}

static void *run(void *user)
{
    struct job *j = user;
    struct vkmoe_context *ctx;
    const struct vkmoe_context_desc desc = {.log = {on_log, j}};
    j->good = !vkmoe_context_create(&desc, &ctx) && !train_stack(ctx, j) && !train_model(ctx, j);
    vkmoe_context_destroy(ctx);
    return NULL;
}

static bool same(const struct job *a, const struct job *b)
{
    return !memcmp(a->stack_loss, b->stack_loss, sizeof a->stack_loss) && !memcmp(a->loss, b->loss, sizeof a->loss) &&
           !memcmp(a->out, b->out, sizeof a->out) && !memcmp(&a->validation, &b->validation, sizeof a->validation);
}

int main(int argc, char **argv)
{
    struct job alone = {.text = argc > 1 ? argv[1] : __FILE__}, jobs[THREADS];
    pthread_t threads[THREADS];
    int failed = 0;
    run(&alone);
    if (!alone.good && !getenv("VKMOE_REQUIRE_DEVICE")) {
        printf("not tested: %s\n", alone.said);
        return 77; /* meson: skipped */
    }
    for (int i = 0; i < THREADS; i++) {
        jobs[i] = (struct job){.text = alone.text};
        if (pthread_create(&threads[i], NULL, run, &jobs[i]))
            abort();
    }
    for (int i = 0; i < THREADS; i++) {
        pthread_join(threads[i], NULL);
        if (jobs[i].good && same(&jobs[i], &alone))
            continue;
        printf("thread %d: %s\n", i, jobs[i].good ? "other bits than alone" : jobs[i].said);
        failed++;
    }
    if (!alone.good || !(alone.loss[1] > 0) || alone.loss[STEPS - 1] == alone.loss[1]) { /* [0]: no step was read yet */
        printf("alone: %s\n", alone.good ? "its loss stays" : alone.said);
        failed++;
    }
    printf("%d passed, %d failed\n", THREADS + 1 - failed, failed);
    return failed != 0;
}
