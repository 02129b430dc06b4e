#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "train/guard.h"

enum { PIECE = 1 << 20 };           /* elements downloaded at a time */

struct search {
    struct vkmoe_trainer *trainer;
    float *piece;                   /* [PIECE] */
    enum vkmoe_status status;
    bool found;
    char *text;
};

static bool finite(struct search *s, struct vkm_buf buf)
{
    for (uint64_t at = 0; at < buf.bytes && !s->status; at += PIECE * sizeof *s->piece) {
        const uint64_t left = buf.bytes - at, bytes = left < PIECE * sizeof *s->piece ? left : PIECE * sizeof *s->piece;
        s->status = vkm_buf_download(s->trainer->ctx, vkm_buf_slice(buf, at, bytes), s->piece, bytes);
        for (uint64_t i = 0; i < bytes / sizeof *s->piece && !s->status; i++)
            if (!isfinite(s->piece[i]))
                return false;
    }
    return true;
}

/* Whether the search ends here: buf has such a number, which the words then tell, or it cannot be read. */
static bool ends(struct search *s, struct vkm_buf buf, const char *format, ...) VKM_PRINTF(3, 4);
static bool ends(struct search *s, struct vkm_buf buf, const char *format, ...)
{
    va_list words;
    s->found = !finite(s, buf);
    va_start(words, format);
    if (s->found)
        vsnprintf(s->text, VKM_DIAGNOSIS, format, words);
    va_end(words);
    return s->found || s->status;
}

static void search_weights(struct search *s)
{
    const struct vkm_params *params = &s->trainer->net->params;
    for (uint32_t i = 0; i < params->count; i++)
        if (params->list[i].count && ends(s, params->list[i].weight, "the weights %s are not", params->list[i].name))
            return;
}

/* What a block gives to the next stands in that one's x; x_mid is kept for each block unless they recompute. */
static void search_forward(struct search *s)
{
    const struct vkm_net *net = s->trainer->net;
    const uint32_t layers = net->config.layers;
    if (ends(s, net->layers[0].x, "the embeddings are not"))
        return;
    for (uint32_t l = 0; l < layers; l++) {
        if (!net->recompute && ends(s, net->layers[l].x_mid, "layer %u is the first that is not, in its attention", l))
            return;
        if (ends(s, l + 1 < layers ? net->layers[l + 1].x : net->x_out, "layer %u is the first that is not%s", l,
                  net->recompute ? "" : ", in its experts"))
            return;
    }
}

/* Gradients were used up by the update: they are made again from the tokens that are still there. */
static void search_backward(struct search *s)
{
    struct vkmoe_trainer *t = s->trainer;
    const struct vkm_params *params = &t->net->params;
    const int slot = (int)((t->submitted * t->train.accum + t->train.accum - 1) % VKM_SLOTS);
    uint64_t ticket;
    if ((s->status = vkm_rec_submit(t->micro[slot], &ticket)) || (s->status = vkm_wait(t->ctx, ticket)))
        return;
    for (uint32_t i = params->count; i-- > 0;) /* from the output down, as the backward goes */
        if (params->list[i].count &&
            ends(s, params->list[i].grad, "the gradient of %s is the first that is not", params->list[i].name))
            return;
}

enum vkmoe_status vkm_diagnose(struct vkmoe_trainer *t, char text[VKM_DIAGNOSIS])
{
    struct search s = {.trainer = t, .piece = malloc(PIECE * sizeof *s.piece), .text = text};
    snprintf(text, VKM_DIAGNOSIS, "the loss is not, or an overflow in 16 bits");
    if (!s.piece)
        return vkm_fail_memory(&t->ctx->log);
    if (!(s.status = vkm_wait(t->ctx, t->ctx->submitted)))
        search_weights(&s);
    if (!s.status && !s.found)
        search_forward(&s);
    if (!s.status && !s.found)
        search_backward(&s);
    free(s.piece);
    return s.status;
}
