/* ggml's Vulkan backend on the products of a Mixture of Experts, for a comparison with `vkmoe bench`.
 *
 *     cc -O2 -std=c11 ggml.c -o ggml-bench -lggml -lggml-base -lm        (Debian: libggml-dev libggml0-backend-vulkan)
 *
 * In single precision throughout, on a device of type CPU (which ggml uses only when it is named):
 *
 *     GGML_VK_VISIBLE_DEVICES=0 GGML_VK_DISABLE_F16=1 GGML_VK_DISABLE_COOPMAT=1 GGML_VK_DISABLE_COOPMAT2=1 ./ggml-bench
 *
 * A line per case: the median time of a graph of one operation, GFLOP/s, and the largest error of some elements as a part
 * of their sum of magnitudes, which tells single from half precision (1e-7 or so, 1e-4 or so). */
#define _POSIX_C_SOURCE 200809L
#include <ggml-alloc.h>
#include <ggml-backend.h>
#include <ggml.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { WARM_UP = 3, RUNS = 9, CHECKED = 64 };

/* c [n rows of m] = a times b over k. experts, used: of MUL_MAT_ID alone. */
struct bench_case {
    enum ggml_op op;
    int64_t m, n, k, experts, used;
};

static const struct bench_case cases[] = {
    {GGML_OP_MUL_MAT, 512, 512, 512, 0, 1},
    {GGML_OP_MUL_MAT, 1024, 1024, 1024, 0, 1},
    {GGML_OP_MUL_MAT_ID, 1024, 64, 256, 8, 2},
    {GGML_OP_MUL_MAT_ID, 1024, 512, 256, 8, 2},
    {GGML_OP_MUL_MAT_ID, 1024, 2048, 256, 8, 2},
    {GGML_OP_OUT_PROD, 512, 512, 512, 0, 1},
};

struct operands {
    struct ggml_tensor *a, *b, *ids, *out;
    float *a_host, *b_host;
    int32_t *ids_host;
};

static uint32_t random_bits(void)
{
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33);
}

static void *allocate(size_t bytes)
{
    void *memory = malloc(bytes);
    if (!memory)
        exit((fputs("out of memory\n", stderr), 1));
    return memory;
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int by_value(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static float *fill(struct ggml_tensor *t)
{
    int64_t count = ggml_nelements(t);
    float *x = allocate((size_t)count * sizeof *x);
    for (int64_t i = 0; i < count; i++)
        x[i] = (float)random_bits() / 2147483648.0f - 0.5f;
    ggml_backend_tensor_set(t, x, 0, ggml_nbytes(t));
    return x;
}

/* Each token's experts are distinct: the first at random, the others follow it. */
static int32_t *fill_ids(struct ggml_tensor *t, const struct bench_case *c)
{
    int32_t *ids = allocate(ggml_nbytes(t));
    for (int64_t i = 0; i < c->n; i++) {
        int64_t expert = random_bits() % c->experts, step = 1 + random_bits() % (c->experts / c->used);
        for (int64_t j = 0; j < c->used; j++)
            ids[i * c->used + j] = (int32_t)((expert + j * step) % c->experts);
    }
    ggml_backend_tensor_set(t, ids, 0, ggml_nbytes(t));
    return ids;
}

static struct operands operands_make(struct ggml_context *ctx, const struct bench_case *c)
{
    struct operands o = {0};
    if (c->op == GGML_OP_OUT_PROD) {
        o.a = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, c->m, c->k);
        o.b = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, c->n, c->k);
        o.out = ggml_out_prod(ctx, o.a, o.b);
    } else if (c->op == GGML_OP_MUL_MAT_ID) {
        o.a = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, c->k, c->m, c->experts);
        o.b = ggml_new_tensor_3d(ctx, GGML_TYPE_F32, c->k, 1, c->n);
        o.ids = ggml_new_tensor_2d(ctx, GGML_TYPE_I32, c->used, c->n);
        o.out = ggml_mul_mat_id(ctx, o.a, o.b, o.ids);
    } else {
        o.a = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, c->k, c->m);
        o.b = ggml_new_tensor_2d(ctx, GGML_TYPE_F32, c->k, c->n);
        o.out = ggml_mul_mat(ctx, o.a, o.b);
    }
    return o;
}

static double error(const struct operands *o, const struct bench_case *c)
{
    bool outer = c->op == GGML_OP_OUT_PROD;
    int64_t rows = c->n * c->used;
    double worst = 0;
    for (int i = 0; i < CHECKED; i++) {
        int64_t x = random_bits() % c->m, y = random_bits() % rows, row = y / c->used;
        const float *a = outer ? o->a_host + x : o->a_host + ((o->ids ? o->ids_host[y] * c->m : 0) + x) * c->k;
        const float *b = outer ? o->b_host + row : o->b_host + row * c->k;
        double sum = 0, magnitude = 0;
        float got;
        for (int64_t j = 0; j < c->k; j++) {
            double product = (double)a[outer ? j * c->m : j] * b[outer ? j * c->n : j];
            sum += product;
            magnitude += fabs(product);
        }
        ggml_backend_tensor_get(o->out, &got, (size_t)(y * c->m + x) * sizeof got, sizeof got);
        worst = fmax(worst, fabs(got - sum) / magnitude);
    }
    return worst;
}

static double median_time(ggml_backend_t backend, struct ggml_cgraph *graph)
{
    double seconds[RUNS];
    for (int i = -WARM_UP; i < RUNS; i++) {
        double start = now();
        if (ggml_backend_graph_compute(backend, graph) != GGML_STATUS_SUCCESS)
            exit((fputs("ggml_backend_graph_compute failed\n", stderr), 1));
        ggml_backend_synchronize(backend);
        if (i >= 0)
            seconds[i] = now() - start;
    }
    qsort(seconds, RUNS, sizeof *seconds, by_value);
    return seconds[RUNS / 2];
}

static void measure(ggml_backend_t backend, const struct bench_case *c)
{
    struct ggml_context *ctx = ggml_init((struct ggml_init_params){
        .mem_size = 8 * ggml_tensor_overhead() + ggml_graph_overhead(), .no_alloc = true});
    struct operands o = operands_make(ctx, c);
    printf("%-10s  m %4d  n %4d  k %4d  experts %d/%d  ", ggml_op_name(c->op), (int)c->m, (int)c->n, (int)c->k, (int)c->used,
           c->experts ? (int)c->experts : 1);
    if (ggml_backend_supports_op(backend, o.out)) {
        struct ggml_cgraph *graph = ggml_new_graph(ctx);
        ggml_backend_buffer_t buffer = ggml_backend_alloc_ctx_tensors(ctx, backend);
        if (!buffer)
            exit((fputs("out of device memory\n", stderr), 1));
        ggml_build_forward_expand(graph, o.out);
        o.a_host = fill(o.a);
        o.b_host = fill(o.b);
        o.ids_host = o.ids ? fill_ids(o.ids, c) : NULL;
        double seconds = median_time(backend, graph);
        printf("%9.3f ms  %8.2f GFLOP/s  error %.1e\n", 1e3 * seconds,
               2e-9 * (double)(c->m * c->n * c->k * c->used) / seconds, error(&o, c));
        free(o.a_host);
        free(o.b_host);
        free(o.ids_host);
        ggml_backend_buffer_free(buffer);
    } else {
        puts("not supported by this backend");
    }
    fflush(stdout);
    ggml_free(ctx);
}

static ggml_backend_dev_t vulkan_device(void)
{
    for (size_t i = 0; i < ggml_backend_dev_count(); i++) {
        ggml_backend_dev_t device = ggml_backend_dev_get(i);
        if (strcmp(ggml_backend_reg_name(ggml_backend_dev_backend_reg(device)), "Vulkan") == 0)
            return device;
    }
    return NULL;
}

int main(void)
{
    ggml_backend_load_all();
    ggml_backend_dev_t device = vulkan_device();
    ggml_backend_t backend = device ? ggml_backend_dev_init(device, NULL) : NULL;
    if (!backend) {
        fputs("no Vulkan device (one of type CPU needs GGML_VK_VISIBLE_DEVICES=0)\n", stderr);
        return 1;
    }
    printf("ggml %s, %s\n", ggml_version(), ggml_backend_dev_description(device));
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        measure(backend, &cases[i]);
    ggml_backend_free(backend);
    return 0;
}
