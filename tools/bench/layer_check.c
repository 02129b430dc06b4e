/* What a layer left behind, stage by stage: each from what the stage before it left, as the device holds that. Stages and arrays
 * are those of nn/moe.c, letters those of a shape: d, n, E, K; R = T K rows. */
#include "bench/layer.h"

#include <stdlib.h>

#include "bench/check.h"
#include "cases/narrow.h"

enum { TOKENS = 2 }; /* that are looked at: the first and the last */

struct sample {
    const struct layer *l;
    const struct layer_shape *s;
    const char *what, *shape;
    uint32_t *idx;                    /* [T,K] */
    uint32_t *offset, *row_of, *token_of;
};

/* An operand of a product of the layer's type, that lies in memory in f32. */
static struct num *operand(const struct sample *m, struct num *x, size_t count)
{
    for (size_t i = 0; i < count && m->l->net->type != TYPE_F32; i++)
        x[i] = narrow_operand(m->l->net->type, x[i]);
    return x;
}

static void begin(const struct sample *m, struct check *c)
{
    check_begin(c, m->l->net->ctx, m->what, m->shape);
}

/* Columns `at`, at + 1, ... of x [.,width] as rows: [columns,count], of its rows `rows`; NULL: the first ones */
static struct num *columns_of(struct check *c, const float *x, size_t width, size_t at, size_t columns, const uint32_t *rows,
                              size_t count)
{
    struct num *y = check_new(c, columns * count);
    for (size_t i = 0; i < columns; i++)
        for (size_t r = 0; r < count; r++)
            y[i * count + r] = num_exact((double)x[(rows ? rows[r] : r) * width + at + i]);
    return y;
}

static uint32_t token_of_sample(const struct sample *m, uint32_t i)
{
    return i * (m->s->T - 1) / (TOKENS - 1);
}

/* ---- forward ---------------------------------------------------------------------------------------------------- */

/* h = norm(x), p and g from its logits: the router's rows are unit vectors, so they are h's first E numbers, exactly. */
static enum vkmoe_status check_router(const struct sample *m, uint32_t t)
{
    const struct vkm_net *net = m->l->net;
    const struct vkm_layer *layer = &net->layers[0];
    const size_t d = m->s->d, E = m->s->E, K = m->s->K;
    const struct vkm_param *norm = vkm_net_param(net, VKM_PARAM_MOE_NORM, 0);
    const struct ref_gate gate = {.T = 1, .E = E, .K = K, .norm_topk = net->config.norm_topk};
    struct check c;
    begin(m, &c);
    struct num *h = check_new(&c, d), *p = check_new(&c, E), *g = check_new(&c, K);
    const struct num *x = check_read(&c, layer->x_mid, TYPE_F32, (uint64_t)t * d, d);
    ref_rmsnorm(1, d, x, check_read(&c, norm->weight, TYPE_F32, 0, d), net->config.norm_eps, h, NULL);
    check_expect(&c, "h", net->scratch.h, TYPE_F32, (uint64_t)t * d, h, d);
    check_expect(&c, "h", vkm_net_input(net), net->type, (uint64_t)t * d, h, d);
    ref_gate(&gate, true, check_read(&c, net->scratch.h, TYPE_F32, (uint64_t)t * d, E), p, &m->idx[t * K], g, NULL);
    check_expect(&c, "p", layer->gate.z, TYPE_F32, (uint64_t)t * E, p, E);
    check_expect(&c, "g", layer->gate.g, TYPE_F32, t * K, g, K);
    return check_end(&c);
}

/* h13, act = silu(h1) h3 and the expert's output, in some columns of row r, which is token t's */
static enum vkmoe_status check_expert(const struct sample *m, uint32_t t, uint32_t r, uint32_t e, int place)
{
    const struct vkm_net *net = m->l->net;
    const struct vkm_layer *layer = &net->layers[0];
    const uint64_t d = m->s->d, n = m->s->n, row = r;
    const size_t hidden = check_window(n), columns = check_window(d);
    const uint64_t f = check_place(n, hidden, place), j = check_place(d, columns, place);
    const struct vkm_buf w13 = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W13, 0));
    const struct vkm_buf w2 = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W2, 0));
    struct check c;
    begin(m, &c);
    const struct num *h = check_read(&c, vkm_net_input(net), net->type, t * d, d);
    struct num *h13 = check_new(&c, 2 * hidden), *act = check_new(&c, hidden);
    for (size_t half = 0; half < 2; half++) {
        const struct num *w = check_read(&c, w13, net->type, ((2 * e + half) * n + f) * d, hidden * d);
        const struct num *sums = check_product(&c, net->type, hidden, d, h, w);
        check_expect(&c, "h13", layer->h13, net->type, (2 * row + half) * n + f, sums, hidden);
        for (size_t i = 0; i < hidden; i++)
            h13[half * hidden + i] = sums[i];
    }
    ref_swiglu(1, hidden, h13, act);
    check_expect(&c, "act", net->scratch.act, net->type, row * n + f, act, hidden);
    const struct num *a = check_read(&c, net->scratch.act, net->type, row * n, n);
    const struct num *w = check_read(&c, w2, net->type, (e * d + j) * n, columns * n);
    check_expect(&c, "rows", net->scratch.rows, net->type, row * d + j, check_product(&c, net->type, columns, n, a, w), columns);
    return check_end(&c);
}

/* Rows of all experts of token t, whole. */
static struct num *rows_of(const struct sample *m, struct check *c, uint32_t t)
{
    const size_t d = m->s->d, K = m->s->K;
    const struct vkm_net *net = m->l->net;
    struct num *rows = check_new(c, K * d);
    for (size_t k = 0; k < K; k++) {
        const struct num *row = check_read(c, net->scratch.rows, net->type, (uint64_t)m->row_of[t * K + k] * d, d);
        for (size_t i = 0; i < d; i++)
            rows[k * d + i] = row[i];
    }
    return rows;
}

static enum vkmoe_status check_output(const struct sample *m, uint32_t t)
{
    const struct vkm_net *net = m->l->net;
    const struct vkm_layer *layer = &net->layers[0];
    const uint64_t d = m->s->d, K = m->s->K;
    struct check c;
    begin(m, &c);
    struct num *y = check_combined(&c, K, d, check_read(&c, layer->gate.g, TYPE_F32, t * K, K), rows_of(m, &c, t));
    ref_add(d, y, check_read(&c, layer->x_mid, TYPE_F32, t * d, d), y);
    check_expect(&c, "y", net->x_out, TYPE_F32, t * d, y, d);
    return check_end(&c);
}

static enum vkmoe_status check_forward(const struct sample *m)
{
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < TOKENS && !status; i++) {
        const uint32_t t = token_of_sample(m, i), K = m->s->K;
        status = check_router(m, t);
        for (uint32_t k = 0; k < K && !status; k++)
            status = check_expert(m, t, m->row_of[t * K + k], m->idx[t * K + k], (int)(k % CHECK_PLACES));
        if (!status)
            status = check_output(m, t);
    }
    return status;
}

/* ---- backward --------------------------------------------------------------------------------------------------- */

/* From da' = dy W2: act becomes g act, h13 its gradient, and *dg gets <da', act>. before: h13 [2n] as the forward left it. */
static void check_hidden_gradient(const struct sample *m, struct check *c, uint32_t t, uint32_t slot, const struct num *before,
                                  struct num *dg)
{
    const struct vkm_net *net = m->l->net;
    const struct vkm_layer *layer = &net->layers[0];
    const uint64_t d = m->s->d, n = m->s->n, row = m->row_of[slot], e = m->idx[slot];
    const struct vkm_buf w2 = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W2, 0));
    const struct num g = *check_read(c, layer->gate.g, TYPE_F32, slot, 1);
    const struct num *dy = operand(m, check_read(c, m->l->dy, TYPE_F32, t * d, d), d);
    const struct num *w = columns_of(c, check_read_floats(c, w2, net->type, e * d * n, d * n), n, 0, n, NULL, d);
    const struct num *raw = check_product(c, net->type, n, d, dy, w);
    struct num *act = check_new(c, n), *da = check_new(c, n), *dh13 = check_new(c, 2 * n);
    const uint32_t first = 0;
    ref_swiglu(1, n, before, act);
    ref_gate_gradient(1, 1, n, &first, raw, act, dg);
    for (size_t i = 0; i < n; i++) {
        da[i] = num_mul(g, raw[i]);
        act[i] = num_mul(g, act[i]);
    }
    ref_swiglu_backward(1, n, before, da, dh13);
    check_expect(c, "dh13", layer->h13, net->type, row * 2 * n, dh13, 2 * n);
    check_expect(c, "g act", net->scratch.act, net->type, row * n, act, n);
}

/* The row's part of the input's gradient: dh13 W13 */
static void check_input_gradient(const struct sample *m, struct check *c, uint32_t slot, int place)
{
    const struct vkm_net *net = m->l->net;
    const uint64_t d = m->s->d, n = m->s->n, row = m->row_of[slot], e = m->idx[slot];
    const size_t columns = check_window(d);
    const uint64_t j = check_place(d, columns, place);
    const struct vkm_buf w13 = vkm_net_matrix(net, vkm_net_param(net, VKM_PARAM_W13, 0));
    const struct num *dh13 = check_read(c, net->layers[0].h13, net->type, row * 2 * n, 2 * n);
    const float *weights = check_read_floats(c, w13, net->type, e * 2 * n * d, 2 * n * d);
    const struct num *w = columns_of(c, weights, d, j, columns, NULL, 2 * n);
    check_expect(c, "input's rows", net->scratch.rows, net->type, row * d + j, check_product(c, net->type, columns, 2 * n, dh13, w),
                 columns);
}

/* dz from dg [K]; dh: the rows' parts together and the router's, which has unit vectors; dx = dy + norm's backward */
static enum vkmoe_status check_token_gradient(const struct sample *m, uint32_t t, const struct num *dg)
{
    const struct vkm_net *net = m->l->net;
    const struct vkm_param *norm = vkm_net_param(net, VKM_PARAM_MOE_NORM, 0);
    const uint64_t d = m->s->d, E = m->s->E, K = m->s->K;
    const struct ref_gate gate = {.T = 1, .E = E, .K = K, .norm_topk = net->config.norm_topk};
    struct check c;
    begin(m, &c);
    struct num *dz = check_new(&c, E), *dx = check_new(&c, d), *dh = check_combined(&c, K, d, NULL, rows_of(m, &c, t));
    ref_gate_backward(&gate, check_read(&c, net->scratch.h, TYPE_F32, t * d, E), &m->idx[t * K], dg, NULL, 0, dz);
    check_expect(&c, "dz", net->scratch.dz, TYPE_F32, t * E, dz, E);
    ref_add(E, dh, check_read(&c, net->scratch.dz, TYPE_F32, t * E, E), dh);
    check_expect(&c, "dh", net->scratch.dh, TYPE_F32, t * d, dh, d);
    ref_rmsnorm_backward(1, d, check_read(&c, net->layers[0].x_mid, TYPE_F32, t * d, d),
                         check_read(&c, norm->weight, TYPE_F32, 0, d), check_read(&c, net->scratch.dh, TYPE_F32, t * d, d),
                         net->config.norm_eps, dx, NULL);
    ref_add(d, dx, check_read(&c, m->l->dy, TYPE_F32, t * d, d), dx);
    check_expect(&c, "dx", net->scratch.dx, TYPE_F32, t * d, dx, d);
    return check_end(&c);
}

/* Some of an expert's part of the gradients of W13, W2 and the router: sums over its rows, and over all tokens. */
static enum vkmoe_status check_weights(const struct sample *m, uint32_t expert, int place)
{
    const struct vkm_net *net = m->l->net;
    const uint64_t d = m->s->d, n = m->s->n, T = m->s->T, E = m->s->E, e = expert, first = m->offset[e];
    const size_t rows = m->offset[e + 1] - m->offset[e], wide = check_window(d), hidden = check_window(n);
    const uint64_t j = check_place(d, wide, place), f = check_place(n, hidden, place);
    const uint64_t i13 = check_place(2 * n, 1, place), i2 = check_place(d, 1, place);
    const uint32_t *tokens = &m->token_of[first];
    struct check c;
    begin(m, &c);
    const float *h = check_read_floats(&c, net->scratch.h, TYPE_F32, 0, T * d);
    const float *in = check_read_floats(&c, vkm_net_input(net), net->type, 0, T * d);
    const float *dh13 = check_read_floats(&c, net->layers[0].h13, net->type, first * 2 * n, rows * 2 * n);
    const struct num *sums = check_product(&c, net->type, wide, rows, columns_of(&c, dh13, 2 * n, i13, 1, NULL, rows),
                                           columns_of(&c, in, d, j, wide, tokens, rows));
    check_expect(&c, "dW13", vkm_net_param(net, VKM_PARAM_W13, 0)->grad, TYPE_F32, (e * 2 * n + i13) * d + j, sums, wide);

    const float *dy = check_read_floats(&c, m->l->dy, TYPE_F32, 0, T * d);
    const float *act = check_read_floats(&c, net->scratch.act, net->type, first * n, rows * n);
    sums = check_product(&c, net->type, hidden, rows, operand(m, columns_of(&c, dy, d, i2, 1, tokens, rows), rows),
                         columns_of(&c, act, n, f, hidden, NULL, rows));
    check_expect(&c, "dW2", vkm_net_param(net, VKM_PARAM_W2, 0)->grad, TYPE_F32, (e * d + i2) * n + f, sums, hidden);

    const float *dz = check_read_floats(&c, net->scratch.dz, TYPE_F32, 0, T * E);
    sums = check_product(&c, TYPE_F32, wide, T, columns_of(&c, dz, E, e, 1, NULL, T), columns_of(&c, h, d, j, wide, NULL, T));
    check_expect(&c, "router's gradient", vkm_net_param(net, VKM_PARAM_ROUTER, 0)->grad, TYPE_F32, e * d + j, sums, wide);
    return check_end(&c);
}

/* What the backward of a token overwrites: h13 of its rows [K,2n]. */
static struct num *keep_hidden(const struct sample *m, struct check *c, uint32_t t)
{
    const size_t n = m->s->n, K = m->s->K;
    struct num *kept = check_new(c, K * 2 * n);
    for (size_t k = 0; k < K; k++) {
        const uint64_t row = m->row_of[t * K + k];
        const struct num *h13 = check_read(c, m->l->net->layers[0].h13, m->l->net->type, row * 2 * n, 2 * n);
        for (size_t i = 0; i < 2 * n; i++)
            kept[k * 2 * n + i] = h13[i];
    }
    return kept;
}

static enum vkmoe_status check_backward(const struct sample *m, struct num *const kept[TOKENS])
{
    const uint32_t K = m->s->K;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < TOKENS && !status; i++) {
        const uint32_t t = token_of_sample(m, i);
        struct num *dg = ref_new(K);
        for (uint32_t k = 0; k < K && !status; k++) {
            struct check c;
            begin(m, &c);
            check_hidden_gradient(m, &c, t, t * K + k, &kept[i][2 * k * m->s->n], &dg[k]);
            check_input_gradient(m, &c, t * K + k, (int)(k % CHECK_PLACES));
            status = check_end(&c);
        }
        if (!status)
            status = check_token_gradient(m, t, dg);
        free(dg);
        if (!status)
            status = check_weights(m, m->idx[t * K], (int)(i * (CHECK_PLACES - 1)));
    }
    return status;
}

/* ---- both ------------------------------------------------------------------------------------------------------- */

/* After a forward, with gradients of weights from zero on. */
static enum vkmoe_status run_backward(const struct layer *l)
{
    static const enum vkm_param_id weights[] = {VKM_PARAM_ROUTER, VKM_PARAM_W13, VKM_PARAM_W2};
    struct vkm_rec *rec;
    const enum vkmoe_status status = vkm_rec_create(l->net->ctx, "bench check", &rec);
    if (status)
        return status;
    for (size_t i = 0; i < sizeof weights / sizeof *weights; i++)
        vkm_rec_fill(rec, vkm_net_param(l->net, weights[i], 0)->grad, 0);
    vkm_rec_copy(rec, l->net->scratch.dx, l->dy);
    vkm_moe_backward(rec, l->net, 0, &l->loss);
    return vkm_rec_run_once(rec);
}

enum vkmoe_status layer_check(const struct layer *l, const struct layer_shape *s, bool backward, const char *what,
                              const char *shape)
{
    const size_t T = s->T, E = s->E, K = s->K, R = T * K;
    const struct vkm_routing *routing = &l->net->layers[0].routing;
    struct num *kept[TOKENS];
    struct check c;
    enum vkmoe_status status = layer_forward(l);
    if (status)
        return status;
    check_begin(&c, l->net->ctx, what, shape);
    struct sample m = {.l = l, .s = s, .what = what, .shape = shape, .idx = check_read_words(&c, routing->idx, s->E),
                       .offset = check_new_words(&c, E + 1), .row_of = check_new_words(&c, R), .token_of = check_new_words(&c, R)};
    ref_dispatch(T, E, K, m.idx, check_new_words(&c, E), m.offset, m.row_of, m.token_of, check_new_words(&c, R));
    check_expect_words(&c, "row_of", routing->row_of, 0, m.row_of, R);
    check_expect_words(&c, "token_of", routing->token_of, 0, m.token_of, R);
    if (!c.status)
        c.status = check_forward(&m);
    for (uint32_t i = 0; i < TOKENS; i++)
        kept[i] = keep_hidden(&m, &c, token_of_sample(&m, i));
    if (!c.status && backward && !(c.status = run_backward(l)))
        c.status = check_backward(&m, kept);
    return check_end(&c);
}
