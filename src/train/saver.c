#include "train/saver.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/host.h"

enum { LINES = 8, LINE = 1024, PARTS = VKM_PART_MOMENT2 + 1 };

struct vkm_saver {
    struct vkm_net *net;
    const char *dir;
    const struct vkmoe_train_config *train;
    struct vkm_run_state state;
    float *values;                  /* [PARTS][elements of all parameters] */
    uint64_t *first;                /* [parameters] where each begins in a part */
    uint64_t count;                 /* elements of a part */
    pthread_t thread;
    enum vkmoe_status status;       /* the thread's, once done */
    atomic_bool done;
    struct {
        enum vkmoe_log_level level;
        char text[LINE];
    } lines[LINES];                 /* said by the thread, told by vkm_saver_finish */
    unsigned said;
};

static float *place(const struct vkm_saver *s, const struct vkm_param *param, int part)
{
    return s->values + (uint64_t)part * s->count + s->first[param - s->net->params.list];
}

static enum vkmoe_status fetch(void *user, const struct vkm_param *param, enum vkm_checkpoint_part part, uint64_t first,
                               uint64_t count, float *values)
{
    memcpy(values, place(user, param, (int)part) + first, (size_t)count * sizeof *values);
    return VKMOE_OK;
}

static void note(void *user, enum vkmoe_log_level level, const char *line)
{
    struct vkm_saver *s = user;
    if (s->said == LINES)
        return;
    s->lines[s->said].level = level;
    snprintf(s->lines[s->said++].text, LINE, "%s", line);
}

static void *work(void *user)
{
    struct vkm_saver *s = user;
    const struct vkmoe_log log = {.fn = note, .user = s};
    s->status = vkm_run_save(&log, s->dir, &s->net->config, s->train, &s->state, &s->net->params, fetch, s);
    atomic_store(&s->done, true);
    return NULL;
}

static void release(struct vkm_saver *s)
{
    free(s->values);
    free(s->first);
    free(s);
}

static enum vkmoe_status copy(struct vkm_saver *s)
{
    const struct vkm_params *params = &s->net->params;
    enum vkmoe_status status = VKMOE_OK;
    for (uint32_t i = 0; i < params->count; i++) {
        const struct vkm_param *p = &params->list[i];
        const struct vkm_buf parts[PARTS] = {p->weight, p->moment1, p->moment2};
        for (int part = 0; part < PARTS && p->count && !status; part++)
            status = vkm_buf_download(s->net->ctx, parts[part], place(s, p, part), p->count * sizeof(float));
    }
    return status;
}

enum vkmoe_status vkm_saver_start(struct vkm_net *net, const char *dir, const struct vkmoe_train_config *train,
                                  const struct vkm_run_state *state, struct vkm_saver **out)
{
    const struct vkm_params *params = &net->params;
    *out = NULL;
    struct vkm_saver *s = calloc(1, sizeof *s);
    if (!s)
        return vkm_fail_memory(&net->ctx->log);
    s->net = net;
    s->dir = dir;
    s->train = train;
    s->state = *state;
    atomic_init(&s->done, false);
    s->first = calloc(params->count, sizeof *s->first);
    for (uint32_t i = 0; i < params->count && s->first; i++) {
        s->first[i] = s->count;
        s->count += params->list[i].count;
    }
    const uint64_t bytes = PARTS * s->count * sizeof *s->values;
    if (s->first && bytes < vkm_host_memory_available() / 2)
        s->values = malloc(bytes);
    enum vkmoe_status status = s->values ? copy(s) : VKMOE_OK;
    if (status || !s->values || pthread_create(&s->thread, NULL, work, s) != 0)
        release(s);
    else
        *out = s;
    return status;
}

bool vkm_saver_done(const struct vkm_saver *s)
{
    return atomic_load(&s->done);
}

enum vkmoe_status vkm_saver_finish(struct vkm_saver *s)
{
    const struct vkmoe_log *log = &s->net->ctx->log;
    pthread_join(s->thread, NULL);
    for (unsigned i = 0; i < s->said; i++)
        vkm_log(log, s->lines[i].level, "%s", s->lines[i].text);
    const enum vkmoe_status status = s->status;
    release(s);
    return status;
}
