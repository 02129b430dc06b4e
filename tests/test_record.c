/* Stacks recorded into a command buffer of a host's, between its own commands. */
#include "gpu/submit.h"
#include "host_fixture.h"
#include "stack_fixture.h"

/* A host with a context, a command buffer, and arrays of its own between which it copies: upload -> rows -> steps ->
 * results -> download. */
struct app {
    struct host h;
    struct vkmoe_context *ctx;
    VkCommandPool pool;
    VkCommandBuffer commands;
    struct vkm_arena *up, *there, *down;
    struct vkm_buf upload, rows, results, download; /* of the host's rows: in, target; out, experts, gates */
};

enum { PITCH = 8 }; /* words from a row to the next: in at 0, target at IN + 1 */

static void app_begin(struct app *a)
{
    host_begin(&a->h);
    host_open(&a->h, a->h.needs->liked, true);
    const struct vkmoe_vulkan_desc desc = host_desc(&a->h, a->h.needs->liked, true);
    assert_ok(vkmoe_context_adopt(&desc, &a->ctx));
    const VkCommandPoolCreateInfo pool = {.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO,
                                          .flags = VK_COMMAND_POOL_CREATE_RESET_COMMAND_BUFFER_BIT,
                                          .queueFamilyIndex = a->h.needs->queue_family};
    cr_assert_eq(a->h.vk.CreateCommandPool(a->h.vk.device, &pool, NULL, &a->pool), VK_SUCCESS);
    const VkCommandBufferAllocateInfo one = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO, .commandPool = a->pool,
                                             .level = VK_COMMAND_BUFFER_LEVEL_PRIMARY, .commandBufferCount = 1};
    cr_assert_eq(a->h.vk.AllocateCommandBuffers(a->h.vk.device, &one, &a->commands), VK_SUCCESS);
    a->up = arena(a->ctx, VKM_MEMORY_UPLOAD);
    a->there = arena(a->ctx, VKM_MEMORY_DEVICE);
    a->down = arena(a->ctx, VKM_MEMORY_READBACK);
    vkm_arena_reserve(a->up, "upload", 4 * ALL * PITCH, &a->upload);
    vkm_arena_reserve(a->there, "rows", 4 * ALL * PITCH, &a->rows);
    vkm_arena_reserve(a->there, "results", 4 * ALL * 64, &a->results);
    vkm_arena_reserve(a->down, "download", 4 * ALL * 64, &a->download);
    assert_ok(vkm_arena_commit(a->up));
    assert_ok(vkm_arena_commit(a->there));
    assert_ok(vkm_arena_commit(a->down));
}

static void app_end(struct app *a)
{
    vkm_arena_destroy(a->up);
    vkm_arena_destroy(a->there);
    vkm_arena_destroy(a->down);
    a->h.vk.DestroyCommandPool(a->h.vk.device, a->pool, NULL);
    vkmoe_context_destroy(a->ctx);
    host_end(&a->h);
}

static void record_begin(struct app *a)
{
    const VkCommandBufferBeginInfo begin = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO};
    cr_assert_eq(a->h.vk.BeginCommandBuffer(a->commands, &begin), VK_SUCCESS);
}

static void submit(struct app *a)
{
    uint64_t ticket;
    assert_ok(vkm_submit(a->ctx, &(struct vkm_work){.commands = a->commands, .name = "host"}, &ticket));
    assert_ok(vkm_wait(a->ctx, ticket));
}

static void record_end(struct app *a)
{
    cr_assert_eq(a->h.vk.EndCommandBuffer(a->commands), VK_SUCCESS);
}

static void copy(struct app *a, struct vkm_buf from, struct vkm_buf to)
{
    const VkBufferCopy region = {.srcOffset = from.offset, .dstOffset = to.offset, .size = from.bytes};
    a->h.vk.CmdCopyBuffer(a->commands, from.handle, to.handle, 1, &region);
}

static void fill_rows(struct app *a, const struct batch *b)
{
    float *words = a->upload.host;
    memset(words, 0xff, a->upload.bytes); /* NaN between the rows */
    for (int r = 0; r < ALL; r++) {
        memcpy(words + r * PITCH, b->in + r * IN, IN * sizeof *words);
        memcpy(words + r * PITCH + IN + 1, b->target + r * OUT, OUT * sizeof *words);
    }
}

static struct vkmoe_vulkan_array array(struct vkm_buf buf, uint64_t offset, uint64_t stride, enum vkmoe_vulkan_type type)
{
    return (struct vkmoe_vulkan_array){.address = buf.addr + offset, .bytes = buf.bytes - offset, .stride = stride, .type = type};
}

/* What the host does around: transfers before and after. */
static const struct vkmoe_vulkan_scope copies_before = {VK_PIPELINE_STAGE_2_COPY_BIT, VK_ACCESS_2_TRANSFER_WRITE_BIT};
static const struct vkmoe_vulkan_scope copies_after = {VK_PIPELINE_STAGE_2_COPY_BIT,
                                                       VK_ACCESS_2_TRANSFER_READ_BIT | VK_ACCESS_2_TRANSFER_WRITE_BIT};

/* Steps whose rows lie among others' in the host's buffer, one command buffer submitted again and again, with transfers of
 * the host's around them; then outputs, experts and gates: all the bits of the library's own submission. */
Test(record, records_the_bits_of_its_own_submission)
{
    struct app a;
    app_begin(&a);
    struct vkmoe_context *own_ctx = open_context();
    struct vkmoe_stack *own = create(own_ctx, small), *recorded = create(a.ctx, small);
    const struct vkmoe_vulkan_array in = array(a.rows, 0, 4 * PITCH, VKMOE_VULKAN_32),
                                    target = array(a.rows, 4 * (IN + 1), 4 * PITCH, VKMOE_VULKAN_32);
    struct vkmoe_vulkan_record where = {.commands = a.commands, .before = copies_before, .after = copies_after};
    struct vkmoe_stack_report report;
    record_begin(&a);
    copy(&a, a.upload, a.rows);
    assert_ok(vkmoe_vulkan_record_step(recorded, &where, &in, &target));
    record_end(&a);
    for (uint32_t i = 0; i < 10; i++) {
        const struct batch b = batch_of(i);
        fill_rows(&a, &b);
        submit(&a);
    }
    assert_ok(vkmoe_vulkan_report(recorded, &report));
    const struct vkmoe_stack_report want = train(own, 0, 10);
    cr_expect_eq(report.step, 10);
    cr_expect(report.loss == want.loss && report.grad_norm == want.grad_norm && report.simbal_loss == want.simbal_loss);
    cr_expect_eq(memcmp(report.expert_tokens, want.expert_tokens, LAYERS * 4 * sizeof(uint32_t)), 0);

    const struct batch b = batch_of(1000000);
    enum { E = ALL * OUT, G = E + LAYERS * ALL * TOP_K, END = G + LAYERS * ALL * TOP_K };
    float out[ALL * OUT], gates[LAYERS * ALL * TOP_K];
    uint32_t experts[LAYERS * ALL * TOP_K];
    const struct vkmoe_vulkan_forward forward = {
        .rows = ALL, .in = in, .out = array(a.results, 0, 0, VKMOE_VULKAN_32),
        .experts = array(a.results, 4 * E, 0, VKMOE_VULKAN_32), .gates = array(a.results, 4 * G, 0, VKMOE_VULKAN_32)};
    fill_rows(&a, &b);
    record_begin(&a);
    copy(&a, a.upload, a.rows);
    where.before = where.after = (struct vkmoe_vulkan_scope){0};
    assert_ok(vkmoe_vulkan_record_forward(recorded, &where, &forward));
    copy(&a, a.results, a.download);
    record_end(&a);
    submit(&a);
    assert_ok(vkmoe_stack_forward(own, ALL, b.in, out, experts, gates));
    const float *got = a.download.host;
    cr_expect_eq(memcmp(got, out, sizeof out), 0);
    cr_expect_eq(memcmp(got + E, experts, sizeof experts), 0);
    cr_expect_eq(memcmp(got + G, gates, sizeof gates), 0);

    /* its own loss: the gradient is what lies in `target` */
    struct vkmoe_vulkan_forward kept = {.rows = ROWS, .kept = true, .in = in};
    const struct vkmoe_vulkan_array dout = target, din = array(a.results, 4 * END, 0, VKMOE_VULKAN_32);
    record_begin(&a);
    assert_ok(vkmoe_vulkan_record_forward(recorded, &where, &kept));
    assert_ok(vkmoe_vulkan_record_backward(recorded, &where, &dout, &din));
    assert_ok(vkmoe_vulkan_record_update(recorded, &where));
    copy(&a, a.results, a.download);
    record_end(&a);
    submit(&a);
    float own_din[ROWS * IN];
    assert_ok(vkmoe_stack_forward_kept(own, b.in, NULL));
    assert_ok(vkmoe_stack_backward(own, b.target, own_din));
    assert_ok(vkmoe_stack_update(own, NULL));
    cr_expect_eq(memcmp(got + END, own_din, sizeof own_din), 0);
    expect_same(own, recorded);
    vkmoe_stack_destroy(own);
    vkmoe_stack_destroy(recorded);
    close_context(own_ctx, 0);
    app_end(&a);
}

/* Rows in f16, outputs in bf16. */
Test(record, reads_and_writes_16_bits)
{
    struct app a;
    app_begin(&a);
    if (a.ctx->caps.storage16) {
        struct vkmoe_stack *stack = create(a.ctx, small);
        uint16_t *halves = a.upload.host;
        float in[ROWS * IN], out[ROWS * OUT];
        for (int i = 0; i < ROWS * IN; i++) { /* (1 + i mod 8 / 8) 2^-1, exactly */
            halves[i] = (uint16_t)(14 << 10 | (i % 8) << 7);
            in[i] = (1 + (float)(i % 8) / 8) / 2;
        }
        const struct vkmoe_vulkan_forward forward = {.rows = ROWS, .in = array(a.upload, 0, 0, VKMOE_VULKAN_F16),
                                                     .out = array(a.download, 0, 0, VKMOE_VULKAN_BF16)};
        record_begin(&a);
        assert_ok(vkmoe_vulkan_record_forward(stack, &(struct vkmoe_vulkan_record){.commands = a.commands}, &forward));
        record_end(&a);
        submit(&a);
        assert_ok(vkmoe_stack_forward(stack, ROWS, in, out, NULL, NULL));
        for (int i = 0; i < ROWS * OUT; i++) {
            const uint32_t word = (uint32_t)((const uint16_t *)a.download.host)[i] << 16;
            float got;
            memcpy(&got, &word, sizeof got);
            cr_assert_leq(fabsf(got - out[i]), fabsf(out[i]) / 256, "%d: %g, %g", i, (double)got, (double)out[i]);
        }
        vkmoe_stack_destroy(stack);
    }
    app_end(&a);
}

/* Each argument that is wrong is named, and nothing of the call stands in the command buffer. */
Test(record, records_nothing_where_an_argument_is_wrong)
{
    struct app a;
    app_begin(&a);
    struct vkmoe_stack *stack = create(a.ctx, small);
    const struct vkmoe_vulkan_array in = array(a.rows, 0, 4 * PITCH, VKMOE_VULKAN_32),
                                    target = array(a.rows, 4 * (IN + 1), 4 * PITCH, VKMOE_VULKAN_32);
    const struct vkmoe_vulkan_record where = {.commands = a.commands}, nowhere = {0};
    struct vkmoe_vulkan_array bad = in;
    record_begin(&a);
    expect_failure(vkmoe_vulkan_record_step(stack, &nowhere, &in, &target), "commands");
    expect_failure(vkmoe_vulkan_record_step(stack, &where, NULL, &target), "in is required");
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &in, &(struct vkmoe_vulkan_array){0}), "target is required");
    bad.address += 2;
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &bad, &target), "in is misaligned");
    bad = in;
    bad.stride = 4 * PITCH + 2;
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &bad, &target), "in is misaligned");
    bad.stride = 4 * IN - 4;
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &bad, &target), "stride");
    bad = target;
    bad.bytes = (ROWS - 1) * 4 * PITCH + 4 * OUT - 1;
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &in, &bad), "target is too small");
    bad.type = (enum vkmoe_vulkan_type)9;
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &in, &bad), "type");
    bad = in;
    bad.stride = UINT64_C(1) << 32;
    expect_failure(vkmoe_vulkan_record_step(stack, &where, &bad, &target), "2^32");
    struct vkmoe_vulkan_forward forward = {.rows = 0, .in = in};
    expect_failure(vkmoe_vulkan_record_forward(stack, &where, &forward), "rows");
    forward.rows = ROWS - 1;
    forward.kept = true;
    expect_failure(vkmoe_vulkan_record_forward(stack, &where, &forward), "batch");
    forward.rows = ROWS;
    forward.experts = in;
    forward.experts.type = VKMOE_VULKAN_F16;
    expect_failure(vkmoe_vulkan_record_forward(stack, &where, &forward), "experts");
    expect_failure(vkmoe_vulkan_record_backward(stack, &where, NULL, NULL), "dout");
    record_end(&a);
    submit(&a);
    struct vkmoe_stack_report report;
    assert_ok(vkmoe_vulkan_report(stack, &report));
    cr_expect_eq(report.step, 0);
    struct vkmoe_stack *fresh = create(a.ctx, small);
    expect_same(stack, fresh);
    vkmoe_stack_destroy(fresh);
    vkmoe_stack_destroy(stack);
    app_end(&a);
}

/* A step of the library's own waits for a semaphore of the host's, and a submission of the host's for that step: in this order,
 * though neither is waited for by the host before. */
Test(record, waits_for_the_host_on_the_device)
{
    struct app a;
    app_begin(&a);
    struct vkmoe_stack *stack = create(a.ctx, small);
    const VkSemaphoreTypeCreateInfo type = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_TYPE_CREATE_INFO,
                                            .semaphoreType = VK_SEMAPHORE_TYPE_TIMELINE};
    const VkSemaphoreCreateInfo info = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_CREATE_INFO, .pNext = &type};
    VkSemaphore mine, theirs;
    uint64_t value, reached;
    cr_assert_eq(a.h.vk.CreateSemaphore(a.h.vk.device, &info, NULL, &mine), VK_SUCCESS);
    record_begin(&a);
    copy(&a, a.upload, a.rows);
    record_end(&a);
    const VkCommandBufferSubmitInfo commands = {.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_SUBMIT_INFO, .commandBuffer = a.commands};
    const VkSemaphoreSubmitInfo signal = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO, .semaphore = mine, .value = 1,
                                          .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    VkSubmitInfo2 submit_info = {.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO_2, .commandBufferInfoCount = 1,
                                 .pCommandBufferInfos = &commands, .signalSemaphoreInfoCount = 1, .pSignalSemaphoreInfos = &signal};
    cr_assert_eq(a.h.vk.QueueSubmit2(a.h.queue, 1, &submit_info, VK_NULL_HANDLE), VK_SUCCESS);
    vkmoe_vulkan_wait_for(a.ctx, mine, 1);
    train(stack, 0, 1);
    cr_assert_eq(a.h.vk.GetSemaphoreCounterValue(a.h.vk.device, mine, &reached), VK_SUCCESS);
    cr_expect_eq(reached, 1);
    vkmoe_vulkan_timeline(a.ctx, &theirs, &value);
    const VkSemaphoreSubmitInfo wait = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO, .semaphore = theirs, .value = value,
                                        .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    const VkSemaphoreSubmitInfo again = {.sType = VK_STRUCTURE_TYPE_SEMAPHORE_SUBMIT_INFO, .semaphore = mine, .value = 2,
                                         .stageMask = VK_PIPELINE_STAGE_2_ALL_COMMANDS_BIT};
    submit_info.waitSemaphoreInfoCount = 1;
    submit_info.pWaitSemaphoreInfos = &wait;
    submit_info.pSignalSemaphoreInfos = &again;
    cr_assert_eq(a.h.vk.QueueSubmit2(a.h.queue, 1, &submit_info, VK_NULL_HANDLE), VK_SUCCESS);
    vkmoe_vulkan_wait_for(a.ctx, mine, 2);
    train(stack, 1, 2); /* the second of them waits for nothing any more */
    vkmoe_stack_destroy(stack);
    a.h.vk.DestroySemaphore(a.h.vk.device, mine, NULL);
    app_end(&a);
}
