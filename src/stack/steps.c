/* What a stack does, as recordings: rows of the host's come in and go out through vkm_op_host_read and _write alone. */
#include <stddef.h>

#include "stack/stack.h"

/* One field of the stats on the device. */
#define STAT(stack, field) vkm_buf_slice((stack)->stats, offsetof(struct vkm_stack_stats, step.field), sizeof(float))

static struct vkm_buf expert_tokens(const struct vkmoe_stack *s)
{
    return vkm_buf_slice(s->stats, sizeof(struct vkm_stack_stats), s->stats.bytes - sizeof(struct vkm_stack_stats));
}

/* Rows [first, first + count) of the host's, of a layer where it has layers behind each other. */
static struct vkm_host_rows part(const struct vkm_host_rows *host, uint32_t layer, uint32_t first, uint32_t count)
{
    struct vkm_host_rows rows = *host;
    const uint64_t row = (uint64_t)host->stride * (host->type == TYPE_F32 ? 4 : 2);
    rows.addr += ((uint64_t)layer * host->rows + first) * row;
    rows.rows = count;
    return rows;
}

/* Rows that a forward is at, for what it tells of its layers. */
struct window {
    const struct vkm_stack_arrays *arrays;
    uint32_t first, count;
};

static void write_routing(void *user, struct vkm_rec *rec, const struct vkm_net *net, uint32_t layer)
{
    const struct window *w = user;
    const struct vkm_gate *gate = &net->layers[layer].gate;
    if (w->arrays->experts.addr) {
        struct vkm_host_rows rows = part(&w->arrays->experts, layer, w->first, w->count);
        vkm_op_host_write(rec, gate->idx, &rows);
    }
    if (w->arrays->gates.addr) {
        struct vkm_host_rows rows = part(&w->arrays->gates, layer, w->first, w->count);
        vkm_op_host_write(rec, gate->g, &rows);
    }
}

/* The outputs [T,O]. */
static struct vkm_buf forward(struct vkm_rec *rec, const struct vkm_net *net, struct window w, struct vkm_buf counts)
{
    const struct vkm_observer observer = {write_routing, &w};
    struct vkm_host_rows in = part(&w.arrays->in, 0, w.first, w.count), out = part(&w.arrays->out, 0, w.first, w.count);
    vkm_op_host_read(rec, &in, net->ends.in ? net->in : net->layers[0].x, net->T);
    vkm_net_input_map(rec, net);
    vkm_net_blocks(rec, net, counts, &observer);
    struct vkm_buf result = vkm_net_output(rec, net);
    if (w.arrays->out.addr)
        vkm_op_host_write(rec, result, &out);
    return result;
}

void vkm_stack_forward(struct vkm_rec *rec, const struct vkmoe_stack *s, const struct vkm_stack_arrays *arrays)
{
    const uint32_t rows = arrays->in.rows, most = s->forward->T;
    for (uint32_t first = 0; first < rows; first += most) {
        uint32_t count = rows - first < most ? rows - first : most;
        forward(rec, s->forward, (struct window){arrays, first, count}, (struct vkm_buf){0});
    }
}

void vkm_stack_forward_kept(struct vkm_rec *rec, const struct vkmoe_stack *s, const struct vkm_stack_arrays *arrays)
{
    forward(rec, s->train, (struct window){arrays, 0, s->train->T}, expert_tokens(s));
}

/* From the output's gradient on. */
static void backward(struct vkm_rec *rec, const struct vkmoe_stack *s, bool input)
{
    const struct vkm_loss loss = {.balance = s->config.balance, .expert_tokens = expert_tokens(s), .lbl_sum = STAT(s, lbl),
                                  .router_z_sum = STAT(s, router_z)};
    vkm_net_gate_losses(rec, s->train, &loss);
    vkm_net_output_backward(rec, s->train);
    vkm_net_blocks_backward(rec, s->train, &loss);
    vkm_net_input_map_backward(rec, s->train, input);
}

void vkm_stack_backward(struct vkm_rec *rec, const struct vkmoe_stack *s, const struct vkm_host_rows *dout,
                        const struct vkm_host_rows *din)
{
    const struct vkm_net *net = s->train;
    struct vkm_buf gradient = vkm_net_output_grad(net);
    vkm_op_host_read(rec, dout, gradient, net->T);
    if (net->type == TYPE_F16)
        vkm_op_scale(rec, gradient, gradient, net->loss_scale, (uint64_t)net->T * dout->width);
    backward(rec, s, din->addr != 0);
    if (din->addr)
        vkm_op_host_write(rec, net->ends.in ? net->in : net->scratch.dx, din);
}

void vkm_stack_update(struct vkm_rec *rec, const struct vkmoe_stack *s)
{
    const struct vkmoe_stack_config *c = &s->config;
    const struct vkm_update update = {
        .balance = c->balance, .clip = c->clip, .beta1 = c->beta1, .beta2 = c->beta2, .eps = c->eps,
        .weight_decay = c->weight_decay, .control = s->control, .stats = s->stats, .partials = s->partials,
        .expert_tokens = expert_tokens(s)};
    const struct vkm_buf told = vkm_buf_slice(s->stats, offsetof(struct vkm_stack_stats, adam), sizeof(struct adam_state));
    vkm_update_norm(rec, s->train, &update);
    vkm_op_adam_advance(rec, s->adam, s->control, s->stats, s->lr, c->beta1, c->beta2);
    vkm_update_weights(rec, s->train, &update);
    vkm_rec_copy(rec, told, s->adam);
    vkm_rec_copy(rec, s->report, s->stats);
    vkm_rec_fill(rec, s->stats, 0);
}

void vkm_stack_gradient(struct vkm_rec *rec, const struct vkmoe_stack *s, const struct vkm_host_rows *in,
                        const struct vkm_host_rows *target)
{
    const struct vkm_net *net = s->train;
    const struct vkm_scratch *scratch = &net->scratch;
    const struct vkm_stack_arrays arrays = {.in = *in};
    const uint32_t T = net->T, O = vkm_stack_out(s);
    const float mean = 1 / (float)T;
    struct vkm_buf out = forward(rec, net, (struct window){&arrays, 0, T}, expert_tokens(s));
    vkm_op_host_read(rec, target, s->target, T);
    if (s->config.loss == VKMOE_STACK_CROSS_ENTROPY)
        vkm_op_xent(rec, out, s->target, scratch->loss, scratch->z_loss, net->loss_scale, T, O, 0, mean);
    else
        vkm_op_mse(rec, out, s->target, vkm_net_output_grad(net), scratch->loss, net->loss_scale, T, O, mean);
    vkm_op_sum(rec, scratch->loss, STAT(s, loss), T, mean);
    backward(rec, s, false);
}

void vkm_stack_step(struct vkm_rec *rec, const struct vkmoe_stack *s, const struct vkm_host_rows *in,
                    const struct vkm_host_rows *target)
{
    vkm_stack_gradient(rec, s, in, target);
    vkm_stack_update(rec, s);
}
